//! Block I/O of one container, disk by disk.

use super::units::Bytes;

/// A block device by its numbers, as the kernel prints them: `MAJ:MIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId {
    /// Its driver (12 bits in the kernel).
    pub major: u32,
    /// Its number there (20 bits).
    pub minor: u32,
}

/// One direction of the traffic with one disk, since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes moved or discarded.
    pub bytes: Bytes,
    /// Requests.
    pub operations: u64,
}

/// What a group and all below it did to one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// `rbytes`, `rios`; v1 `Read`.
    pub read: Transfer,
    /// `wbytes`, `wios`; v1 `Write`.
    pub write: Transfer,
    /// `dbytes`, `dios`; v1 `Discard`.
    pub discard: Transfer,
}

impl Transfer {
    fn plus(self, other: Self) -> Self {
        let operations = self.operations.saturating_add(other.operations);
        Self { bytes: self.bytes.plus(other.bytes), operations }
    }
}

impl DiskUse {
    /// Each number of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            read: self.read.plus(other.read),
            write: self.write.plus(other.write),
            discard: self.discard.plus(other.discard),
        }
    }

    /// Nothing at all.
    pub const NONE: Self = Self { read: NO_TRANSFER, write: NO_TRANSFER, discard: NO_TRANSFER };
}

const NO_TRANSFER: Transfer = Transfer { bytes: Bytes::ZERO, operations: 0 };

/// The host's own `/proc/diskstats`: its shape, and what its disks are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDisks {
    /// Numbers after the name: 11, 15 since Linux 4.18, 17 since 5.5.
    pub columns: usize,
    /// Every disk and partition in the file's order.
    pub names: Vec<(DiskId, String)>,
}
