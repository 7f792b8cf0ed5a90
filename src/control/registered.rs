//! What the registry holds and says, in the words of the control socket.

use super::message::{ContainerInfo, Refusal, RefusalKind};
use crate::containers::{Entry, RegistryError};

impl Entry {
    /// The entry as clients are told of it. A group's path that is not UTF-8 is told approximately.
    #[must_use]
    pub fn info(&self) -> ContainerInfo {
        ContainerInfo {
            name: self.name.clone(),
            pid: self.init,
            slot: self.slot,
            groups: self.group_dirs.iter().map(|path| path.to_string_lossy().into_owned().into()).collect(),
            policies: self.policies.get(),
            start: self.init_start,
        }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let kind = match error {
            RegistryError::NameTaken { .. } => RefusalKind::NameTaken,
            RegistryError::NoSuchContainer(_) => RefusalKind::NotFound,
            RegistryError::Verify(_) => RefusalKind::BadDescriptor,
            RegistryError::Policy(_) => RefusalKind::Malformed,
            RegistryError::Cgroup(_) | RegistryError::Full | RegistryError::Io { .. } => RefusalKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}
