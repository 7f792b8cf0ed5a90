//! What a case is, and how it fails.

use std::fmt;

/// One case of the list.
pub struct Case {
    /// Unique; the lists of `select.rs` use it.
    pub name: &'static str,
    /// Whether its subject depends on the cgroup version: such a case runs in the v2 machine for each change.
    pub on_cgroups: bool,
    /// What the machine must have for the case to mean anything.
    pub needs: Needs,
    /// The case itself.
    pub run: fn() -> Outcome,
}

/// What a case asks of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing that a test machine may lack.
    Nothing,
    /// That many CPUs.
    Cpus(usize),
    /// That many NUMA nodes.
    Nodes(usize),
    /// The virtual machine of the tests: what is changed for all of the machine harms nobody.
    OwnMachine,
    /// Swap.
    Swap,
    /// All controllers in one v2 hierarchy.
    V2,
}

/// Result of a case, and of every helper.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a case failed, for a human to read.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `Failure` is no `Error` itself, so that `?` turns every error into one.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    /// `what` in front of the reason.
    fn doing(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|e| Failure(format!("{what}: {e}")))
    }
}

impl<T> Doing<T> for Option<T> {
    fn doing(self, what: impl fmt::Display) -> Outcome<T> {
        self.ok_or_else(|| Failure(format!("{what}: nothing there")))
    }
}

/// Fails the case with a message.
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::case::Failure(format!($($text)*))) };
}

/// Fails the case unless a condition holds.
macro_rules! check {
    ($cond:expr, $($text:tt)*) => { if $cond {} else { $crate::case::fail!($($text)*); } };
}

/// Fails the case unless two values are equal.
macro_rules! check_eq {
    ($got:expr, $want:expr, $($text:tt)*) => {
        match (&$got, &$want) {
            (got, want) => if got != want {
                $crate::case::fail!("{}: got {got:?}, want {want:?}", format_args!($($text)*));
            },
        }
    };
}

/// Fails the case unless a number lies in a range (both ends in).
macro_rules! check_in {
    ($got:expr, $range:expr, $($text:tt)*) => {
        match ($got, $range) {
            (got, range) => if !range.contains(&got) {
                $crate::case::fail!("{}: {got:?} is not within {range:?}", format_args!($($text)*));
            },
        }
    };
}

pub(crate) use {check, check_eq, check_in, fail};
