//! `/proc/stat`.

use super::number::push;
use crate::model::{CountersPolicy, HostStat};
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

/// user nice system idle iowait irq softirq steal guest guest_nice (`fs/proc/stat.c`).
fn cpu(times: &CpuTimes, columns: usize, out: &mut Vec<u8>) {
    let row = [times.user, times.nice, times.system, times.idle];
    let mut values = [0u64; 8];
    for (value, time) in values.iter_mut().zip(row) {
        *value = time.ticks().0;
    }
    values[7] = times.steal.ticks().0;
    for column in 0..columns {
        out.push(b' ');
        push(out, values.get(column).copied().unwrap_or(0));
    }
    out.push(b'\n');
}
