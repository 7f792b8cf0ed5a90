//! Names of registered containers.

use serde::{Deserialize, Serialize};

/// Slots of registered containers are below this (they are part of inode numbers): a container gets one once, and none
/// is ever used twice while a host is up.
pub const MAX_SLOT: u32 = 1 << 26;

/// A container's name: `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`, not all digits (those are pids on the command line).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a container name: 1 to 128 of A-Z a-z 0-9 _ . -, the first a letter or digit, not digits alone"
)]
pub struct NameError(String);

impl ContainerName {
    /// Checks the rule above.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let bytes = name.as_bytes();
        let good = (1..=128).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
            && !bytes.iter().all(u8::is_ascii_digit);
        if good { Ok(Self(name.to_owned())) } else { Err(NameError(name.chars().take(140).collect())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl std::fmt::Display for ContainerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule() {
        for good in ["web", "a", "0a", "a.b_c-d", "1.2", &"x".repeat(128)] {
            assert!(ContainerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "123", "a b", "a\n", "\u{e9}", &"x".repeat(129)] {
            assert!(ContainerName::new(bad).is_err(), "{bad}");
        }
    }
}
