//! What is wrong with a configuration file: one line with the file, the line in it, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::{PolicyError, PolicyKey};

/// Why a configuration is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", Place(.file, *.line))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` where it is about the file as a whole.
    pub line: Option<usize>,
    /// What it is.
    pub problem: Problem,
}

impl ConfigError {
    /// Whether the file could not be read at all, as opposed to what stands in it.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        matches!(self.problem, Problem::Unreadable(_) | Problem::NotAFile)
    }
}

struct Place<'a>(&'a Path, Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may hold a line break; the message stays one line.
        write!(f, "{}", self.0.to_string_lossy().replace(char::is_control, "?"))?;
        self.1.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// The kinds of [`ConfigError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// open(2) or read(2) failed.
    #[error("cannot read the configuration: {0}")]
    Unreadable(String),
    /// A directory, a device, a pipe.
    #[error("the configuration is not a regular file: name one")]
    NotAFile,
    /// More than [`super::file::MOST_BYTES`].
    #[error("the configuration is larger than {} bytes", super::file::MOST_BYTES)]
    TooLarge,
    /// A line that no setting needs.
    #[error("the line is longer than {} bytes", super::parse::MOST_LINE)]
    LongLine,
    /// Bytes that are no text.
    #[error("the configuration is not UTF-8 text: save it as such")]
    NotUtf8,
    /// Not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key or a section that was there before.
    #[error("{0} stands twice: remove one of them")]
    Duplicate(String),
    /// A setting above the first section.
    #[error("{0} stands outside a section: write it below [defaults] or [containers.NAME]")]
    NoSection(String),
    /// There is no such section.
    #[error("[{0}] is no section: there are [defaults] and [containers.NAME]")]
    UnknownSection(String),
    /// A value where a section belongs.
    #[error("{0} is no section: write [{0}] on a line of its own, and below it KEY = \"VALUE\"")]
    NotASection(String),
    /// What stands after `containers.` is no name.
    #[error("[containers.{0:?}]: {1}")]
    Name(String, String),
    /// A name with a dot or a star that is not quoted.
    #[error("[containers.{0}]: a name with a dot or a star is quoted: [containers.\"{0}\"]")]
    Unquoted(String),
    /// An unknown key or value.
    #[error("{0}")]
    Policy(#[from] PolicyError),
    /// The value is no string.
    #[error("{key} = {text}: {found} where it must be {values}", key = .key.name(), values = crate::model::choices::alternatives(*.key))]
    Type {
        /// Of which policy.
        key: PolicyKey,
        /// What was written.
        text: String,
        /// What that is.
        found: &'static str,
    },
}
