//! Why a file of the host could not be read.

use std::path::PathBuf;

use crate::cgroup::ParseError;

/// Errors of reading the host's files.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
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
    /// A path that leads out of the tree, or through a link.
    #[error("{} is not a path below the directory", path.display())]
    Outside {
        /// The path as given.
        path: PathBuf,
    },
}

impl HostError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }

    /// The error number to answer a request with; EIO where there is none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Parse { .. } => libc::EIO,
            Self::Outside { .. } => libc::ENOENT,
        }
    }
}
