//! What the fields' functions have in common: where a controller is, what a number means, and the writes so far.

use ownproc::cgroup::Version;

use super::{Missing, Plan, ResourceError, Write};
use crate::spec::limits::Max;

/// Largest device numbers that the kernel has: 12 and 20 bits.
const MAJOR_MAX: i64 = 0xfff;
const MINOR_MAX: i64 = 0xf_ffff;

/// Collects writes.
pub struct Planner<'a> {
    on: &'a dyn Fn(&str) -> Option<Version>,
    /// So far.
    pub plan: Plan,
}

impl<'a> Planner<'a> {
    /// With nothing planned yet.
    pub fn new(on: &'a dyn Fn(&str) -> Option<Version>) -> Self {
        Self { on, plan: Plan::default() }
    }

    /// Where a controller is. `None` when it is not there and not needed: the value asked for is `default`, what holds
    /// without it too.
    pub fn side(
        &self,
        field: &str,
        controller: &str,
        default: bool,
    ) -> Result<Option<Version>, ResourceError> {
        match (self.on)(controller) {
            None if !default => {
                Err(ResourceError::NoController { field: path_of(field), controller: controller.to_owned() })
            }
            side => Ok(side),
        }
    }

    /// Whether the host has nothing on v1, as far as the usual controllers say.
    pub fn pure_v2(&self) -> bool {
        let sides = || ["cgroup", "memory", "cpu", "cpuset", "pids", "io"].into_iter().map(self.on);
        sides().any(|side| side == Some(Version::V2)) && !sides().any(|side| side == Some(Version::V1))
    }

    /// Adds a write.
    pub fn write(&mut self, write: Write) {
        self.plan.writes.push(write);
    }

    /// Adds a note that a field changes nothing.
    pub fn note(&mut self, field: &str, why: &str) {
        self.plan.notes.push(format!("{} is ignored: {why}", path_of(field)));
    }
}

/// A write that must succeed. `field` is relative to `linux.resources`.
pub fn write(
    field: &str,
    controller: impl Into<String>,
    file: impl Into<String>,
    value: impl ToString,
) -> Write {
    Write {
        field: path_of(field),
        controller: controller.into(),
        file: file.into(),
        value: value.to_string(),
        missing: Missing::Error,
        again: false,
        not_below: None,
        may_be_invalid: false,
    }
}

impl Write {
    /// The same, but no error when the file is missing, if `may_be` holds.
    pub fn or_ignore(self, may_be: bool) -> Self {
        if may_be { Self { missing: Missing::Ignore, ..self } } else { self }
    }

    /// The same, to be tried once more later if the kernel refuses it, if `may_be` holds.
    pub fn or_again(self, may_be: bool) -> Self {
        Self { again: may_be, ..self }
    }

    /// The same, or `other` where the group has no such file.
    pub fn or_else(self, other: Self) -> Self {
        Self { missing: Missing::Else(Box::new(other)), ..self }
    }
}

/// The whole path of a field in the configuration.
pub fn path_of(field: &str) -> String {
    format!("linux.resources.{field}")
}

/// A value that cannot be.
pub fn refuse(field: &str, value: impl ToString, reason: impl Into<String>) -> ResourceError {
    ResourceError::Value { field: path_of(field), value: value.to_string(), reason: reason.into() }
}

/// A limit where 0 and absent mean that nothing is asked for.
pub fn limit(field: &str, value: Option<i64>) -> Result<Option<Max>, ResourceError> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => max(field, value).map(Some),
    }
}

/// A limit where 0 is one.
pub fn max(field: &str, value: i64) -> Result<Max, ResourceError> {
    match (value, u64::try_from(value)) {
        (-1, _) => Ok(Max::Unlimited),
        (_, Ok(value)) => Ok(Max::At(value)),
        (_, Err(_)) => Err(refuse(field, value, "is negative: only -1 (no limit) may be")),
    }
}

/// As the kernel writes a limit on that side.
pub fn text(limit: Max, side: Version) -> String {
    match (limit, side) {
        (Max::At(value), _) => value.to_string(),
        (Max::Unlimited, Version::V1) => "-1".to_owned(),
        (Max::Unlimited, Version::V2) => "max".to_owned(),
    }
}

/// A device as block files name it: `8:16`.
pub fn device(field: &str, major: i64, minor: i64) -> Result<String, ResourceError> {
    if !(0..=MAJOR_MAX).contains(&major) {
        return Err(refuse(&format!("{field}.major"), major, format!("is not from 0 to {MAJOR_MAX}")));
    }
    if !(0..=MINOR_MAX).contains(&minor) {
        return Err(refuse(&format!("{field}.minor"), minor, format!("is not from 0 to {MINOR_MAX}")));
    }
    Ok(format!("{major}:{minor}"))
}

/// A word that stands in a line between blanks: a name of an interface or of a device.
pub fn word<'v>(field: &str, value: &'v str) -> Result<&'v str, ResourceError> {
    if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(refuse(field, value, "is not one word"));
    }
    Ok(value)
}

/// A text that is written as it is.
pub fn line<'v>(field: &str, value: &'v str) -> Result<&'v str, ResourceError> {
    if value.contains(|c: char| c.is_control() && c != '\t') {
        return Err(refuse(field, value, "has control characters"));
    }
    Ok(value.trim())
}
