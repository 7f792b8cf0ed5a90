//! `ownproc limits TARGET`: what it may use, what it uses, what is left, and which file says so.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::LimitsArgs;
use super::failure::Failure;
use super::host::Look;
use super::output::{self, NONE};
use super::target::Target;
use crate::cgroup::{Controller, GroupSet};
use crate::host::HostError;
use crate::model::{Bytes, CpuReading, HostMeminfo, MemoryReading, Policies, SwapLevel};
use crate::readings::{self, Subject};
use crate::view::memory::{effective_memory_limit, effective_swap, memory_headroom, swap_headroom};
use crate::view::{self, ShownCpus};

const HEADERS: [&str; 5] = ["RESOURCE", "LIMIT", "USAGE", "HEADROOM", "IMPOSED BY"];

/// A quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Amount {
    /// A size.
    Bytes(Bytes),
    /// Thousandths of a CPU.
    Millicpus(u64),
    /// CPU numbers.
    Cpus(String),
    /// Processes and threads.
    Tasks(u64),
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(Bytes(number)) | Self::Millicpus(number) | Self::Tasks(number) => {
                serializer.serialize_u64(*number)
            }
            Self::Cpus(list) => serializer.serialize_str(list),
        }
    }
}

/// One line. What is `None` does not exist or is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    resource: &'static str,
    /// Of the three amounts.
    unit: &'static str,
    limit: Option<Amount>,
    usage: Option<Amount>,
    headroom: Option<Amount>,
    imposed_by: By,
}

/// Who imposes a limit: in JSON a path, `"host"` or null.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// A file of a group.
    File(PathBuf),
    /// No group: the machine has no more.
    Host,
    /// Nobody.
    Nobody,
}

impl Serialize for By {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => serializer.serialize_str(&path.to_string_lossy()),
            Self::Host => serializer.serialize_str("host"),
            Self::Nobody => serializer.serialize_none(),
        }
    }
}

impl By {
    fn file(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Host, Self::File)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    target: &'a str,
    limits: &'a [Row],
}

pub(super) fn run(args: &LimitsArgs) -> Result<(), Failure> {
    let look = Look::take(args.mount.paths())?;
    let target = look.find(&args.target)?;
    let rows = rows(&look, &target, &args.target)?;
    if args.format.json {
        return output::json(&Document { target: &args.target, limits: &rows });
    }
    let cells: Vec<[String; 5]> = rows.iter().map(|row| row.cells(args.format.bytes)).collect();
    output::table(HEADERS, &cells, args.format)
}

fn rows(look: &Look, target: &Target, text: &str) -> Result<Vec<Row>, Failure> {
    let contained = look.contained(target).ok_or_else(|| {
        Failure::NoTarget(format!("{text} cannot be looked at: it has ended, or its namespaces may not be read (CAP_SYS_PTRACE); `ownproc ls` lists containers"))
    })?;
    // A policy changes what is shown, not what may be used: hidden swap is a limit all the same.
    let (subject, policies) = (&contained.subject, &Policies::default());
    let failed = |error: HostError| Failure::error(error);
    let (memory, meminfo) = readings::memory(subject, &look.host).map_err(failed)?;
    let (cpu, shown) = readings::cpus(subject, &look.host, policies).map_err(failed)?;
    let groups = &subject.groups;
    Ok(vec![
        memory_row(groups, &memory, &meminfo),
        high_row(groups, &memory),
        swap_row(groups, &memory, &meminfo, policies),
        quota_row(groups, &cpu, &shown),
        cpuset_row(groups, &cpu, &shown),
        tasks_row(look, subject),
    ])
}

fn own_usage(memory: &MemoryReading, meminfo: &HostMeminfo) -> Bytes {
    memory.levels.first().map_or(meminfo.total.minus(meminfo.available), |level| level.usage)
}

fn memory_row(groups: &GroupSet, memory: &MemoryReading, meminfo: &HostMeminfo) -> Row {
    let limit = effective_memory_limit(&memory.levels, meminfo);
    Row {
        resource: "memory",
        unit: "bytes",
        limit: Some(Amount::Bytes(limit.value)),
        usage: Some(Amount::Bytes(own_usage(memory, meminfo))),
        headroom: Some(Amount::Bytes(memory_headroom(&memory.levels, meminfo).value)),
        imposed_by: By::file(limit.level.and_then(|level| groups.memory_limit_file(level))),
    }
}

/// memory.high: beyond it tasks are slowed down, not killed. The least over the levels; there is none on v1.
fn high_row(groups: &GroupSet, memory: &MemoryReading) -> Row {
    let levels = || memory.levels.iter().enumerate();
    let least = levels().filter_map(|(index, level)| Some((level.high?, index))).min();
    let headroom = levels().filter_map(|(_, level)| Some(level.high?.minus(level.usage))).min();
    Row {
        resource: "memory.high",
        unit: "bytes",
        limit: least.map(|(high, _)| Amount::Bytes(high)),
        usage: least.and(memory.levels.first()).map(|level| Amount::Bytes(level.usage)),
        headroom: headroom.map(Amount::Bytes),
        imposed_by: match least {
            Some((_, level)) => groups.memory_high_file(level).map_or(By::Nobody, By::File),
            None => By::Nobody,
        },
    }
}

fn swap_row(groups: &GroupSet, memory: &MemoryReading, meminfo: &HostMeminfo, policies: &Policies) -> Row {
    let limit = effective_swap(memory, meminfo, policies);
    let usage = match memory.levels.first() {
        None => Some(meminfo.swap_total.minus(meminfo.swap_free)),
        Some(level) => match level.swap {
            SwapLevel::Unknown => None,
            SwapLevel::Swap { usage, .. } => Some(usage),
            SwapLevel::MemoryAndSwap { usage, .. } => Some(usage.minus(level.usage)),
        },
    };
    Row {
        resource: "swap",
        unit: "bytes",
        limit: Some(Amount::Bytes(limit.value)),
        usage: usage.map(Amount::Bytes),
        headroom: Some(Amount::Bytes(swap_headroom(memory, meminfo, policies).value)),
        imposed_by: By::file(limit.level.and_then(|level| groups.swap_limit_file(level))),
    }
}

/// Usage of CPU time is a rate: it has no value in one moment.
fn quota_row(groups: &GroupSet, cpu: &CpuReading, shown: &ShownCpus) -> Row {
    let mask = (shown.mask.len() as u64).saturating_mul(1000);
    // Where there are fewer CPUs than the quota would fill, they are the limit.
    let quota = view::cpu::binding_quota(&cpu.levels).filter(|(_, quota)| quota.millicpus() < mask);
    Row {
        resource: "cpu",
        unit: "millicpus",
        limit: Some(Amount::Millicpus(quota.map_or(mask, |(_, quota)| quota.millicpus()))),
        usage: None,
        headroom: None,
        imposed_by: match quota {
            Some((level, _)) => By::file(groups.cpu_quota_file(level)),
            None if shown.mask == cpu.online => By::Host,
            None => By::file(groups.cpuset_file()),
        },
    }
}

fn cpuset_row(groups: &GroupSet, cpu: &CpuReading, shown: &ShownCpus) -> Row {
    let all = shown.mask == cpu.online;
    Row {
        resource: "cpuset",
        unit: "cpus",
        limit: Some(Amount::Cpus(shown.mask.to_string())),
        usage: None,
        headroom: None,
        imposed_by: if all { By::Host } else { By::file(groups.cpuset_file()) },
    }
}

/// pids.max over all levels; the host's limit is `kernel.threads-max` or `kernel.pid_max`, the lower.
fn tasks_row(look: &Look, subject: &Subject) -> Row {
    let number = |path: &Path| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let threads_max = procfs::sys::kernel::threads_max().ok().map(u64::from);
    let pid_max = procfs::sys::kernel::pid_max().ok().and_then(|max| u64::try_from(max).ok());
    let host = [threads_max, pid_max].into_iter().flatten().min();
    let mut row = Row {
        resource: "pids",
        unit: "tasks",
        limit: host.map(Amount::Tasks),
        usage: None,
        headroom: None,
        imposed_by: By::Host,
    };
    let Some(number_of) = look.layout.hierarchy_of(Controller::Pids) else { return row };
    let Some(hierarchy) = look.layout.get(number_of) else { return row };
    let (mut least, mut headroom) = (host, None::<u64>);
    for (index, level) in subject.groups.levels(number_of).iter().enumerate() {
        let file = |name: &str| hierarchy.file_path(level.path(), name);
        let usage = number(&file("pids.current"));
        if index == 0 {
            row.usage = usage.map(Amount::Tasks);
        }
        // `max` is no number: unlimited.
        let Some(max) = number(&file("pids.max")) else { continue };
        if least.is_none_or(|least| max < least) {
            least = Some(max);
            row.limit = Some(Amount::Tasks(max));
            row.imposed_by = By::File(file("pids.max"));
        }
        let left = max.saturating_sub(usage.unwrap_or(0));
        headroom = Some(headroom.map_or(left, |known| known.min(left)));
    }
    row.headroom = headroom.map(Amount::Tasks);
    row
}

impl Row {
    fn cells(&self, bytes: bool) -> [String; 5] {
        let cell = |amount: &Option<Amount>| match amount {
            None => NONE.to_owned(),
            Some(Amount::Bytes(size)) => output::size(*size, bytes),
            Some(Amount::Millicpus(value)) => output::cpus(*value),
            Some(Amount::Cpus(list)) => list.clone(),
            Some(Amount::Tasks(count)) => count.to_string(),
        };
        let by = match &self.imposed_by {
            By::File(path) => path.display().to_string(),
            By::Host => "host".to_owned(),
            By::Nobody => NONE.to_owned(),
        };
        [self.resource.to_owned(), cell(&self.limit), cell(&self.usage), cell(&self.headroom), by]
    }
}
