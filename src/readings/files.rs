//! The files below `proc/`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::reader::ReaderTime;
use super::subject::{Held, Subject};
use super::{disks, kernel, load, machine, pages, pressure};
use crate::host::{Host, HostError};
use crate::model::{
    CountersPolicy, CpuReading, HostMeminfo, MemoryReading, Policies, PressureResource, TimeReading,
};
use crate::render::{self, ProcFile};
use crate::view::{self, CpuAccount, ShownCpus};

/// The bytes that the container's `/proc` file holds now for its init, appended to `out`: see [`render_to`].
pub fn render(
    file: ProcFile,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    render_to(ReaderTime::Init, file, subject, host, policies, out)
}

/// The bytes that the container's `/proc` file holds now for a reader, appended to `out`.
///
/// Fails only where the host's own file cannot be read. For a container that is the host itself (the root
/// group everywhere) use [`host_file`].
pub fn render_to(
    reader: ReaderTime,
    file: ProcFile,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    if is_hosts(file, subject) {
        return host_file(file, host, out);
    }
    match file {
        ProcFile::Meminfo => {
            let (reading, meminfo) = memory(subject, host)?;
            render::meminfo(&meminfo, &view::memory::memory(&reading, &meminfo, policies), out);
        }
        ProcFile::Cpuinfo => {
            let (_, shown) = cpus(subject, host, policies)?;
            render::cpuinfo(&*host.cpuinfo()?, &shown, out);
        }
        ProcFile::Stat => stat(reader, subject, host, policies, out)?,
        ProcFile::Uptime => uptime(reader, subject, host, policies, out)?,
        ProcFile::Loadavg => load::loadavg(subject, host, out)?,
        ProcFile::Swaps => pages::swaps(subject, host, policies, out)?,
        ProcFile::Vmstat => pages::vmstat(subject, host, policies, out)?,
        ProcFile::Zoneinfo => pages::zoneinfo(subject, host, policies, out)?,
        ProcFile::Buddyinfo => pages::buddyinfo(subject, host, policies, out)?,
        ProcFile::Slabinfo => pages::slabinfo(host, out)?,
        ProcFile::Diskstats => disks::diskstats(subject, host, out)?,
        ProcFile::Partitions => disks::partitions(out),
        ProcFile::PressureCpu => pressure::pressure(PressureResource::Cpu, subject, host, out)?,
        ProcFile::PressureMemory => pressure::pressure(PressureResource::Memory, subject, host, out)?,
        ProcFile::PressureIo => pressure::pressure(PressureResource::Io, subject, host, out)?,
        ProcFile::PressureIrq => pressure::pressure(PressureResource::Irq, subject, host, out)?,
        ProcFile::Schedstat => machine::schedstat(subject, host, policies, out)?,
        ProcFile::Softirqs => machine::softirqs(subject, host, policies, out)?,
        ProcFile::Interrupts => machine::interrupts(subject, host, policies, out)?,
        ProcFile::Locks => {} // F1
        ProcFile::Modules => kernel::modules(host, out)?,
        ProcFile::Cgroups => kernel::cgroups(host, out)?,
        ProcFile::BootId => kernel::boot_id(subject, host, out)?,
        ProcFile::FileNr
        | ProcFile::InodeNr
        | ProcFile::InodeState
        | ProcFile::DentryState
        | ProcFile::AioNr => kernel::fs_counters(file, host, out)?,
    }
    Ok(())
}

/// Whether the file is the host's: nobody's container (a reader in the host's pid namespace), and in the root group
/// as far as this file is concerned. On v1 and hybrid hosts a login or a service is in a group of one hierarchy and
/// in the root of the others.
pub(super) fn is_hosts(file: ProcFile, subject: &Subject) -> bool {
    subject.init.is_none()
        && match file {
            ProcFile::Meminfo
            | ProcFile::Swaps
            | ProcFile::Vmstat
            | ProcFile::Zoneinfo
            | ProcFile::Buddyinfo
            | ProcFile::Slabinfo => subject.groups.is_memory_root(),
            ProcFile::Cpuinfo
            | ProcFile::Stat
            | ProcFile::Uptime
            | ProcFile::Loadavg
            | ProcFile::Schedstat
            | ProcFile::Softirqs
            | ProcFile::Interrupts => subject.groups.is_cpu_root(),
            // They say nothing of one resource: whoever is in the root of those that have limits is no container.
            ProcFile::Partitions
            | ProcFile::Locks
            | ProcFile::Modules
            | ProcFile::Cgroups
            | ProcFile::BootId
            | ProcFile::FileNr
            | ProcFile::InodeNr
            | ProcFile::InodeState
            | ProcFile::DentryState
            | ProcFile::AioNr => subject.groups.is_memory_root() && subject.groups.is_cpu_root(),
            ProcFile::Diskstats => subject.groups.is_io_root(),
            ProcFile::PressureCpu
            | ProcFile::PressureMemory
            | ProcFile::PressureIo
            | ProcFile::PressureIrq => subject.groups.is_pressure_root(),
        }
}

/// Opens the pressure file that a trigger of this container is written to: its own group's, or the host's for those
/// whose container is the host. `privileged`: the writer's own rights, which the kernel judges the trigger by.
pub fn open_pressure(
    file: ProcFile,
    subject: Option<&Subject>,
    host: &Host,
    privileged: bool,
) -> Result<OwnedFd, Errno> {
    let resource = file.pressure().ok_or(Errno::ACCESS)?;
    pressure::with_rights(privileged, || match subject {
        Some(subject) if !is_hosts(file, subject) => subject.groups.open_pressure(resource),
        _ => host.open_pressure(resource),
    })
}

/// The host's own file as it is, for those whose container is the host. The kernel lets root alone read some of
/// them, which anyone can read here: of these nothing more is shown than to everybody.
pub fn host_file(file: ProcFile, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    match file {
        ProcFile::Locks => Ok(()), // F1
        ProcFile::Slabinfo => pages::slabinfo(host, out),
        ProcFile::Modules => kernel::host_modules(host, out),
        _ => host.raw(file.name(), out),
    }
}

/// Whether the running kernel has the file; one that is only not to be had just now is there.
#[must_use]
pub fn host_has(file: ProcFile, host: &Host) -> bool {
    file == ProcFile::Locks || host.has(file.name())
}

/// What meminfo is made of.
pub fn memory(subject: &Subject, host: &Host) -> Result<(MemoryReading, Arc<HostMeminfo>), HostError> {
    let meminfo = host.meminfo()?;
    let mut reading = subject.groups.memory_with(meminfo.swap_total.0 > 0);
    if has_huge_pages(&meminfo.text) {
        reading.hugetlb = subject.groups.hugetlb();
    }
    Ok((reading, meminfo))
}

/// Whether the host has any huge page: without, no group's limit on them shows anywhere.
fn has_huge_pages(meminfo: &str) -> bool {
    // the line stands near the end
    let line = meminfo.lines().rev().find_map(|line| line.strip_prefix("Hugetlb:"));
    line.is_some_and(|value| value.trim() != "0 kB")
}

/// The limits on its CPUs (no counters) and those that it is shown.
pub fn cpus(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<(CpuReading, ShownCpus), HostError> {
    let reading = subject.groups.cpu_limits(&host.online()?);
    let shown = view::shown(&reading, policies);
    Ok((reading, shown))
}

fn stat(
    reader: ReaderTime,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let fresh;
    let shape;
    let host_stat = match policies.counters {
        CountersPolicy::Host => {
            fresh = host.stat()?;
            &fresh
        }
        CountersPolicy::Zero => {
            shape = host.stat_shape()?;
            &*shape
        }
    };
    // The walk comes before the counters, so that the time it takes is not between them and their clock.
    let tasks = subject.tasks(host, host.clocks().monotonic);
    let (time, shown, mut account) = accounted(reader, subject, host, policies)?;
    let view = view::stat_view(&mut account, &shown, &tasks, &time, host_stat, policies);
    render::stat(host_stat, &view, out);
    Ok(())
}

fn uptime(
    reader: ReaderTime,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let (time, _, account) = accounted(reader, subject, host, policies)?;
    let idle = account.idle();
    drop(account);
    render::uptime(&view::uptime(&time, idle, policies), out);
    Ok(())
}

/// The clocks of a reader, the CPUs that are shown, and the container's CPU time up to now, locked: whoever has it reads
/// nothing more.
pub(super) fn accounted<'a>(
    reader: ReaderTime,
    subject: &'a Subject,
    host: &Host,
    policies: &Policies,
) -> Result<(TimeReading, ShownCpus, Held<'a, CpuAccount>), HostError> {
    let online = host.online()?;
    let time = subject.time(host.clocks(), reader);
    let reading = subject.groups.cpu(&online);
    let shown = view::shown(&reading, policies);
    let mut account = subject.account();
    account.advance(&reading, &shown, &time);
    Ok((time, shown, account))
}
