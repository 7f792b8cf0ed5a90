//! Pressure stall information: `pressure/*`.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::model::PressureResource;
use crate::render;

/// `/proc/pressure/RESOURCE`.
pub(super) fn pressure(
    resource: PressureResource,
    subject: &Subject,
    host: &Host,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let shape = host.template(resource.host_file())?;
    let render = match resource {
        PressureResource::Cpu => render::pressure_cpu,
        _ => render::pressure,
    };
    if subject.groups.pressure(resource, |own| render(&shape, own, out)).is_none() {
        render::pressure(&shape, b"", out);
    }
    Ok(())
}

/// Runs `open` with CAP_SYS_RESOURCE in this thread's effective set only where `privileged`. The kernel lets those who
/// opened the file without it have windows of whole 2 s alone, which cost it no thread of its own (`psi_trigger_create`
/// in kernel/sched/psi.c); it shall judge a container's writer, not this daemon.
pub(super) fn with_rights<R>(privileged: bool, open: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    if privileged { open() } else { without(CapabilitySet::SYS_RESOURCE, open) }
}

/// Runs `open` without one capability, as far as this thread has it.
fn without<R>(right: CapabilitySet, open: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    let rights = capabilities(None)?;
    if !rights.effective.contains(right) {
        return open();
    }
    let mut fewer = rights;
    fewer.effective.remove(right);
    set_capabilities(None, fewer)?;
    let opened = open();
    if let Err(errno) = set_capabilities(None, rights) {
        log::error!("cannot take {right:?} back: {errno}");
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective() -> Result<CapabilitySet, Errno> {
        Ok(capabilities(None)?.effective)
    }

    #[test]
    fn p5_the_rights_of_the_writer() {
        let before = effective();
        assert_eq!(with_rights(true, effective), before);
        assert!(!with_rights(false, effective).unwrap().contains(CapabilitySet::SYS_RESOURCE));
        assert_eq!(effective(), before, "taken back");
        // a test machine may have no CAP_SYS_RESOURCE: the same with one that it has
        for right in before.unwrap().iter() {
            assert!(!without(right, effective).unwrap().contains(right));
            assert_eq!(without(right, || Err::<(), _>(Errno::NOENT)), Err(Errno::NOENT));
            assert_eq!(effective(), before, "taken back");
        }
    }
}
