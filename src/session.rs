//! Mounting, serving and ending: the life of one mount point.

use std::path::PathBuf;
use std::time::Duration;

/// What `ownproc serve` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// End, unmounting, this long after the last container went; `None` = serve until told to end.
    pub idle_exit: Option<Duration>,
}

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Not written yet.
    #[error("serving is not part of this build")]
    Missing,
}

/// Serves until told to end.
pub fn serve(_options: &Options) -> Result<(), SessionError> {
    Err(SessionError::Missing)
}
