//! Why a group or the hierarchies could not be read.

use std::path::PathBuf;

use super::parse::ParseError;

/// Errors of setting up; single files that fail later never fail a reading (see [`super::GroupSet`]).
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory could not be opened or read.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file does not say what the kernel documents.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        source: ParseError,
    },
    /// No cgroup mount is listed, or none of those listed can be opened.
    #[error("no cgroup hierarchy is mounted according to {}", path.display())]
    NoHierarchy {
        /// The mount table that was read.
        path: PathBuf,
    },
    /// A directory that was passed in is not a group of the hierarchy it is said to belong to.
    #[error("the directory given is not a group below {}", mountpoint.display())]
    OutsideHierarchy {
        /// Where that hierarchy is mounted.
        mountpoint: PathBuf,
    },
    /// A directory was passed in for a hierarchy that does not exist.
    #[error("there is no hierarchy number {index}")]
    NoSuchHierarchy {
        /// The number given.
        index: usize,
    },
}

impl CgroupError {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::Io { doing, path: path.into(), source: source.into() }
    }
}
