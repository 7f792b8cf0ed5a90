//! `/proc/stat`.

use super::number::push;
use crate::model::{CountersPolicy, HostStat, Usec};
use crate::view::{CpuTimes, StatView};

/// Where the numbers of a line come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatLine {
    /// Machine-wide counters: 0, or the host's line under the policy `host`.
    Counters,
    /// Boot time.
    Btime,
    /// Forks since boot.
    Processes,
    /// Tasks in state R.
    Running,
    /// Tasks in state D.
    Blocked,
}

impl StatLine {
    /// The rule in `SEMANTICS.md`.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Counters => "S12",
            Self::Btime => "T4",
            Self::Processes | Self::Running | Self::Blocked => "S13",
        }
    }
}

/// One column of a cpu line.
#[derive(Clone, Copy)]
pub struct CpuColumn {
    /// Its name in proc_stat(5).
    pub name: &'static str,
    /// The rule in `SEMANTICS.md`, or `0`.
    pub rule: &'static str,
    show: fn(&CpuTimes) -> Usec,
}

const fn column(name: &'static str, rule: &'static str, show: fn(&CpuTimes) -> Usec) -> CpuColumn {
    CpuColumn { name, rule, show }
}

/// The columns of a cpu line in the kernel's order (`show_stat`, fs/proc/stat.c). Columns that a later kernel
/// adds are 0.
pub const CPU_COLUMNS: &[CpuColumn] = &[
    column("user", "S4", |times| times.user),
    column("nice", "S5", |times| times.nice),
    column("system", "S4", |times| times.system),
    column("idle", "S8", |times| times.idle),
    column("iowait", "0", |_| Usec::ZERO),
    column("irq", "0", |_| Usec::ZERO),
    column("softirq", "0", |_| Usec::ZERO),
    column("steal", "S6", |times| times.steal),
    column("guest", "0", |_| Usec::ZERO),
    column("guest_nice", "0", |_| Usec::ZERO),
];

/// The lines after the cpu lines that are known; all others are shown with 0.
pub const STAT_LINES: &[(&str, StatLine)] = &[
    ("intr", StatLine::Counters),
    ("ctxt", StatLine::Counters),
    ("btime", StatLine::Btime),
    ("processes", StatLine::Processes),
    ("procs_running", StatLine::Running),
    ("procs_blocked", StatLine::Blocked),
    ("softirq", StatLine::Counters),
];

/// The cpu lines of the container, then the host's lines in the host's order.
pub fn stat(host: &HostStat, view: &StatView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cpu ");
    cpu(&view.account.total(), host.cpu_columns, out);
    for number in view.shown.numbers().iter() {
        out.extend_from_slice(b"cpu");
        push(out, number as u64);
        cpu(&view.account.cpu(number), host.cpu_columns, out);
    }
    for line in &host.lines {
        let known = STAT_LINES.iter().find(|(key, _)| *key == line.key).map(|(_, known)| *known);
        if known == Some(StatLine::Counters) && view.counters == CountersPolicy::Host {
            out.extend_from_slice(line.text.as_bytes());
            out.push(b'\n');
            continue;
        }
        let first = match known {
            Some(StatLine::Btime) => view.btime,
            Some(StatLine::Processes) => view.processes,
            Some(StatLine::Running) => view.tasks.running,
            Some(StatLine::Blocked) => view.tasks.blocked,
            Some(StatLine::Counters) | None => 0,
        };
        out.extend_from_slice(line.key.as_bytes());
        for column in 0..line.columns {
            out.push(b' ');
            push(out, if column == 0 { first } else { 0 });
        }
        out.push(b'\n');
    }
}

fn cpu(times: &CpuTimes, columns: usize, out: &mut Vec<u8>) {
    for column in 0..columns {
        out.push(b' ');
        push(out, CPU_COLUMNS.get(column).map_or(0, |column| (column.show)(times).ticks().0));
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
