//! Its block I/O: `diskstats`, `partitions`.

use std::collections::BTreeMap;

use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::model::{DiskId, DiskUse};
use crate::render;

/// `/proc/diskstats`.
pub(super) fn diskstats(subject: &Subject, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    let listed = host.disks()?;
    let mut uses = BTreeMap::<DiskId, DiskUse>::new();
    subject.groups.io(|disk, part| {
        let used = uses.entry(disk).or_default();
        *used = used.plus(part);
    });
    let mut account = subject.disks();
    uses.into_iter().for_each(|(disk, used)| account.advance(disk, used));
    render::diskstats(listed.columns, &account.view(&listed, |disk| host.disk_name(disk)), out);
    Ok(())
}

/// `/proc/partitions`, in the form of a kernel that has disks.
pub(super) fn partitions(out: &mut Vec<u8>) {
    render::partitions(out);
}
