//! Pressure stall information: every v2 group but the root has it, with no controller at all.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::GroupSet;
use crate::cgroup::kept::{KeptFile, open_beneath};
use crate::model::PressureResource;

/// The files of one level.
#[derive(Debug)]
pub(in crate::cgroup) struct Files([KeptFile; 4]);

impl Files {
    pub(in crate::cgroup) fn new(_: Version, _: &GroupDir) -> Self {
        Self(PressureResource::ALL.map(|resource| KeptFile::new(resource.group_file())))
    }

    fn of(&self, resource: PressureResource) -> Option<&KeptFile> {
        self.0.iter().find(|file| file.name() == resource.group_file())
    }
}

impl GroupSet {
    /// Hands the text of the group's own file to `read`. `None` where there is none: no v2 hierarchy, the root
    /// group, the accounting switched off for the group (`cgroup.pressure`), a kernel without.
    pub fn pressure<R>(&self, resource: PressureResource, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (dir, files) = self.own(self.pressure.as_ref()?)?;
        self.value(dir, files.of(resource)?, |text| Ok(read(text)))
    }

    /// Opens the group's own file for a trigger. EOPNOTSUPP where there is none, as the kernel says without
    /// pressure stall information.
    pub fn open_pressure(&self, resource: PressureResource) -> Result<OwnedFd, Errno> {
        let (dir, _) =
            self.pressure.as_ref().and_then(|pressure| self.own(pressure)).ok_or(Errno::OPNOTSUPP)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        match open_beneath(dir.fd(), resource.group_file(), flags) {
            Err(Errno::NOENT) => Err(Errno::OPNOTSUPP),
            other => other,
        }
    }
}
