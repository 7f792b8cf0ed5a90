//! What a row of the matrix is.

use std::ops::RangeInclusive;

use super::facts::Facts;

/// A container in which programs are asked. All have the limits of [`super::facts`] and one CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// One CPU by quota alone: the scheduler still allows every CPU of the host.
    Quota,
    /// One CPU by quota, and a cpuset of that one CPU, which is not the host's first.
    Cpuset,
    /// The same, under the policy that numbers its CPUs from 0.
    Compact,
}

impl Container {
    /// In records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Cpuset => "cpuset",
            Self::Compact => "compact",
        }
    }
}

/// A program, how it is started, and what is read from what it prints.
pub struct Program {
    /// As the page names it.
    pub name: &'static str,
    /// The Debian package that it comes from; empty for what the tests bring along.
    pub package: &'static str,
    /// For `sh`, run in the container. Standard error is printed too.
    pub script: &'static str,
    pub rows: &'static [Row],
}

/// One question to a program.
pub struct Row {
    /// What was asked, in words; unique within the program.
    pub asked: &'static str,
    /// Finds the answer in what the program printed.
    pub take: fn(&str) -> Option<String>,
    /// The right answer.
    pub want: Want,
    /// Whether it is given on cgroup v1 or hybrid.
    pub v1: Verdict,
    /// Whether it is given on cgroup v2.
    pub v2: Verdict,
}

/// An answer.
#[derive(Clone, Copy)]
pub enum Want {
    /// This text.
    Is(&'static str),
    /// A text that depends on the machine, and what it is in words.
    Text(&'static str, fn(&Facts) -> String),
    /// A number within a range (both ends in), and what it is in words.
    Number(&'static str, fn(&Facts) -> RangeInclusive<f64>),
}

/// Whether a program prints what is right.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// It does; with a remark where files are not the reason.
    Right(&'static str),
    /// Only where the cpuset has no more CPUs than the quota; else it prints something else, for this reason.
    WithCpuset(Want, &'static str),
    /// Only where the container's CPUs are numbered from 0; with others it prints something else, for this reason.
    FromZero(Want, &'static str),
    /// No file makes it right: what it prints, and the reason.
    Never(Want, &'static str),
}

impl Program {
    /// Whether an answer depends on the numbers of the CPUs.
    pub fn goes_by_numbers(&self) -> bool {
        let depends = |verdict| matches!(verdict, Verdict::FromZero(..));
        self.rows.iter().any(|row| depends(row.v1) || depends(row.v2))
    }
}

impl Row {
    /// A question that is answered right.
    pub const fn new(asked: &'static str, take: fn(&str) -> Option<String>, want: Want) -> Self {
        Self { asked, take, want, v1: Verdict::Right(""), v2: Verdict::Right("") }
    }

    /// The same verdict on every machine.
    pub const fn but(mut self, verdict: Verdict) -> Self {
        self.v1 = verdict;
        self.v2 = verdict;
        self
    }

    /// Another verdict on cgroup v2.
    pub const fn on_v2(mut self, verdict: Verdict) -> Self {
        self.v2 = verdict;
        self
    }
}

impl Want {
    /// As the page names it.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Is(words) | Self::Text(words, _) | Self::Number(words, _) => words,
        }
    }

    /// Whether an answer is this one.
    pub fn meets(&self, answer: &str, facts: &Facts) -> bool {
        match self {
            Self::Is(text) => answer == *text,
            Self::Text(_, text) => answer == text(facts),
            Self::Number(_, range) => answer.parse().is_ok_and(|number: f64| range(facts).contains(&number)),
        }
    }

    /// What was expected on this machine, for a failure.
    pub fn here(&self, facts: &Facts) -> String {
        match self {
            Self::Is(text) => (*text).to_owned(),
            Self::Text(words, text) => format!("{} ({words})", text(facts)),
            Self::Number(words, range) => {
                let range = range(facts);
                format!("{} to {} ({words})", range.start(), range.end())
            }
        }
    }
}

impl Verdict {
    /// As the page names it.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Right(_) => "yes",
            Self::WithCpuset(..) => "with a cpuset",
            Self::FromZero(..) => "from 0",
            Self::Never(..) => "no",
        }
    }

    /// The reason, or the remark.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Right(why) | Self::WithCpuset(_, why) | Self::FromZero(_, why) | Self::Never(_, why) => why,
        }
    }

    /// What a row with this verdict must print in a container.
    pub fn expects(&self, right: Want, container: Container) -> Want {
        match (self, container) {
            (Self::Never(prints, _), _)
            | (Self::WithCpuset(prints, _), Container::Quota)
            | (Self::FromZero(prints, _), Container::Cpuset) => *prints,
            _ => right,
        }
    }
}

/// Expects that the numbers of CPUs have no gap.
pub const NUMBERS: &str = "takes CPU 1 without CPU 0 for two CPUs, or for CPU 0";
/// Asks sysinfo(2).
pub const SYSINFO: &str = "asks sysinfo(2), which the daemon answers";
/// Asks sched_getaffinity(2).
pub const AFFINITY: &str = "asks sched_getaffinity(2): a quota allows every CPU";
