//! `linux.resources.devices`: which device nodes a container may open or make.
//!
//! Rules are taken in their order, and for each of the three accesses (r, w, m for mknod) the last rule that names
//! the device and the access decides. Before the first rule nothing is allowed, and after the last come the
//! [`ALWAYS`] allowed: programs expect them, and a node that can be made but not opened harms nobody.
//!
//! [`v1()`] gives lines for the devices controller, [`program()`] an eBPF program for v2, which has no controller for
//! it; [`attach`] gives a group the program.

pub mod bpf;
pub mod program;
#[cfg(test)]
mod tests;
pub mod v1;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

pub use bpf::attach;
pub use program::{Instruction, program};
pub use v1::v1;

use super::ResourceError;
use super::planner::refuse;

/// Make a node: `BPF_DEVCG_ACC_MKNOD`.
pub const MKNOD: u8 = 1;
/// Open for reading: `BPF_DEVCG_ACC_READ`.
pub const READ: u8 = 2;
/// Open for writing: `BPF_DEVCG_ACC_WRITE`.
pub const WRITE: u8 = 4;
const EVERY_ACCESS: u8 = MKNOD | READ | WRITE;

/// What every container may use: kind, major and minor number (`None` is all of them), accesses.
pub const ALWAYS: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), EVERY_ACCESS), // null
    (Kind::Char, Some(1), Some(5), EVERY_ACCESS), // zero
    (Kind::Char, Some(1), Some(7), EVERY_ACCESS), // full
    (Kind::Char, Some(1), Some(8), EVERY_ACCESS), // random
    (Kind::Char, Some(1), Some(9), EVERY_ACCESS), // urandom
    (Kind::Char, Some(5), Some(0), EVERY_ACCESS), // tty
    (Kind::Char, Some(5), Some(1), EVERY_ACCESS), // console
    (Kind::Char, Some(5), Some(2), EVERY_ACCESS), // ptmx
    (Kind::Char, Some(136), None, EVERY_ACCESS),  // pts/0 to pts/1048575
];

/// Block or character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `BPF_DEVCG_DEV_BLOCK`.
    Block,
    /// `BPF_DEVCG_DEV_CHAR`.
    Char,
}

/// One rule, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Or deny.
    pub allow: bool,
    /// `None`: both kinds.
    pub kind: Option<Kind>,
    /// `None`: all.
    pub major: Option<u32>,
    /// `None`: all.
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`]; never 0.
    pub access: u8,
}

impl Rule {
    /// It decides about every access to every device.
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == EVERY_ACCESS
    }
}

/// The rules reduced to what matters: whether all is allowed to begin with, and the rules that follow, in their
/// order. What stands before a rule about everything is without effect. Ends with the [`ALWAYS`] allowed.
pub fn evaluate(rules: &[LinuxDeviceCgroup]) -> Result<(bool, Vec<Rule>), ResourceError> {
    let rules = rules.iter().enumerate().map(|(index, rule)| checked(index, rule));
    let mut rules = rules.collect::<Result<Vec<_>, _>>()?;
    let mut allow = false;
    if let Some(last) = rules.iter().rposition(Rule::is_total) {
        allow = rules.get(last).is_some_and(|rule| rule.allow);
        rules.drain(..=last);
    }
    rules.extend(ALWAYS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }));
    Ok((allow, rules))
}

fn checked(index: usize, rule: &LinuxDeviceCgroup) -> Result<Rule, ResourceError> {
    let field = |name: &str| format!("devices[{index}].{name}");
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C => Some(Kind::Char),
        other => return Err(refuse(&field("type"), other.as_str(), "is not a, b or c")),
    };
    let mut access = 0;
    let letters = rule.access().as_deref().unwrap_or_default();
    for letter in letters.chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            _ => return Err(refuse(&field("access"), letters, "has letters other than r, w and m")),
        };
    }
    if access == 0 {
        return Err(refuse(&field("access"), letters, "names none of r, w and m"));
    }
    let major = number(&field("major"), rule.major())?;
    let minor = number(&field("minor"), rule.minor())?;
    Ok(Rule { allow: rule.allow(), kind, major, minor, access })
}

/// A device number; absent and -1 are all of them. Numbers that no device has are harmless, but the program's
/// comparisons take signed ones.
fn number(field: &str, value: Option<i64>) -> Result<Option<u32>, ResourceError> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match i32::try_from(value).ok().and_then(|value| u32::try_from(value).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(refuse(field, value, "is no device number")),
        },
    }
}
