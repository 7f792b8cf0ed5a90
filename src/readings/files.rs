//! The files below `proc/`.

use super::subject::Subject;
use std::sync::Arc;

use crate::host::{Host, HostError};
use crate::model::{CountersPolicy, CpuReading, HostMeminfo, MemoryReading, Policies};
use crate::render::{self, ProcFile};
use crate::view::{self, ShownCpus};

/// The bytes that the container's `/proc` file holds now, appended to `out`.
///
/// Fails only where the host's own file cannot be read. For a container that is the host itself (the root
/// group everywhere) use [`host_file`].
pub fn render(
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
        ProcFile::Stat => stat(subject, host, policies, out)?,
        ProcFile::Uptime => uptime(subject, host, policies, out)?,
    }
    Ok(())
}

/// Whether the file is the host's: nobody's container (a reader in the host's pid namespace), and in the root group
/// as far as this file is concerned. On v1 and hybrid hosts a login or a service is in a group of one hierarchy and
/// in the root of the others.
fn is_hosts(file: ProcFile, subject: &Subject) -> bool {
    subject.init.is_none()
        && match file {
            ProcFile::Meminfo => subject.groups.is_memory_root(),
            ProcFile::Cpuinfo | ProcFile::Stat | ProcFile::Uptime => subject.groups.is_cpu_root(),
        }
}

/// The host's own file as it is, for those whose container is the host.
pub fn host_file(file: ProcFile, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    let name = match file {
        ProcFile::Meminfo => "meminfo",
        ProcFile::Cpuinfo => "cpuinfo",
        ProcFile::Stat => "stat",
        ProcFile::Uptime => "uptime",
    };
    host.raw(name, out)
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

fn stat(subject: &Subject, host: &Host, policies: &Policies, out: &mut Vec<u8>) -> Result<(), HostError> {
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
    let online = host.online()?;
    let clocks = host.clocks();
    // The walk comes before the counters, so that the time it takes is not between them and their clock.
    let tasks = subject.tasks(host, clocks.monotonic);
    let time = subject.time(host.clocks());
    let reading = subject.groups.cpu(&online);
    let shown = view::shown(&reading, policies);
    let mut account = subject.account.lock();
    account.advance(&reading, &shown, &time);
    let view = view::stat_view(&mut account, &shown, &tasks, &time, host_stat, policies);
    render::stat(host_stat, &view, out);
    Ok(())
}

fn uptime(subject: &Subject, host: &Host, policies: &Policies, out: &mut Vec<u8>) -> Result<(), HostError> {
    let online = host.online()?;
    let time = subject.time(host.clocks());
    let reading = subject.groups.cpu(&online);
    let shown = view::shown(&reading, policies);
    let idle = {
        let mut account = subject.account.lock();
        account.advance(&reading, &shown, &time);
        account.idle()
    };
    render::uptime(&view::uptime(&time, idle, policies), out);
    Ok(())
}
