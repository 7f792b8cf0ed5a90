//! The block I/O controller: what the group and all below it moved, disk by disk.

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::GroupSet;
use crate::cgroup::kept::KeptFile;
use crate::cgroup::parse::io as parse;
use crate::model::{Bytes, DiskId, DiskUse, Transfer};

/// The files of one level.
#[derive(Debug)]
pub(in crate::cgroup) enum Files {
    /// Two files, that count only on disks where a throttle of any group was ever set.
    V1 { bytes: KeptFile, operations: KeptFile },
    /// One file for both.
    V2(KeptFile),
}

impl Files {
    pub(in crate::cgroup) fn new(version: Version, _: &GroupDir) -> Self {
        match version {
            Version::V1 => Self::V1 {
                bytes: KeptFile::new("blkio.throttle.io_service_bytes_recursive"),
                operations: KeptFile::new("blkio.throttle.io_serviced_recursive"),
            },
            Version::V2 => Self::V2(KeptFile::new("io.stat")),
        }
    }
}

impl GroupSet {
    /// Hands every number of the group itself to `visit`; a disk may come more than once, with a part of its
    /// numbers each time and 0 for the others. Never an ancestor's: those are the siblings' too.
    pub fn io(&self, mut visit: impl FnMut(DiskId, DiskUse)) {
        let Some((dir, files)) = self.io.as_ref().and_then(|io| self.own(io)) else { return };
        match files {
            Files::V2(stat) => {
                self.value(dir, stat, |text| {
                    parse::stat(text).for_each(|(disk, used)| visit(disk, used));
                    Ok(())
                });
            }
            Files::V1 { bytes, operations } => {
                let mut each = |file: &KeptFile, transfer: fn(u64) -> Transfer| {
                    self.value(dir, file, |text| {
                        for (disk, operation, number) in parse::throttle(text) {
                            visit(disk, operation.only(transfer(number)));
                        }
                        Ok(())
                    });
                };
                each(bytes, |number| Transfer { bytes: Bytes(number), operations: 0 });
                each(operations, |number| Transfer { bytes: Bytes::ZERO, operations: number });
            }
        }
    }
}
