//! What the kernel says of itself: `modules`, `cgroups`, counters below `sys/fs`, the boot id.

use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::render::{self, ProcFile};
use crate::view;

/// `/proc/modules`.
pub(super) fn modules(host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::modules(&host.template("modules")?, out);
    Ok(())
}

/// `/proc/modules` of the host itself.
pub(super) fn host_modules(host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::host_modules(&host.template("modules")?, out);
    Ok(())
}

/// `/proc/cgroups`.
pub(super) fn cgroups(host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::cgroups(&host.template("cgroups")?, out);
    Ok(())
}

/// `/proc/sys/kernel/random/boot_id`.
pub(super) fn boot_id(subject: &Subject, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::boot_id(view::boot_id(host.boot_id()?, &subject.identity()), out);
    Ok(())
}

/// One of the counters below `/proc/sys/fs`.
pub(super) fn fs_counters(file: ProcFile, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    let mut text = Vec::with_capacity(64);
    host.raw(file.name(), &mut text)?;
    render::fs_counters(file, &String::from_utf8_lossy(&text), out);
    Ok(())
}
