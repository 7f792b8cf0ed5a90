//! Finding or starting the daemon, and registering with it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ownproc::model::ContainerName;

use crate::args::ServeArgs;
use crate::spec::Spec;

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Not built in yet.
    #[error("the daemon is not part of this build")]
    Missing,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Daemon;

/// Connects to the daemon of the spec's mount point.
pub fn find_or_start(_spec: &Spec) -> Result<Daemon, DaemonError> {
    Ok(Daemon)
}

impl Daemon {
    /// Registers the container and returns its directory in the tree.
    pub fn register(
        &mut self,
        _name: &ContainerName,
        _init: BorrowedFd<'_>,
        _groups: &[OwnedFd],
    ) -> Result<Option<PathBuf>, DaemonError> {
        Ok(None)
    }

    /// Ends the registration.
    pub fn unregister(&mut self, _name: &ContainerName) {}
}

/// `__serve`.
pub fn serve(_args: &ServeArgs) -> Result<u8, DaemonError> {
    Err(DaemonError::Missing)
}
