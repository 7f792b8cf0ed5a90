//! What `/proc/stat` is made of.

use super::account::CpuAccount;
use super::cpu::ShownCpus;
use super::time::btime;
use crate::model::{CountersPolicy, HostStat, Policies, TaskCounts, TimeReading};

/// What `/proc/stat` is made of.
#[derive(Clone, Copy, Debug)]
pub struct StatView<'a> {
    /// The container's CPU time.
    pub account: &'a CpuAccount,
    /// The CPUs that have a line.
    pub shown: &'a ShownCpus,
    /// `procs_running` and `procs_blocked`.
    pub tasks: TaskCounts,
    /// `processes`; never goes down.
    pub processes: u64,
    /// `btime`, seconds since 1970.
    pub btime: u64,
    /// `intr`, `ctxt` and `softirq`.
    pub counters: CountersPolicy,
}

/// The view of `/proc/stat`, after [`CpuAccount::advance`].
pub fn stat_view<'a>(
    account: &'a mut CpuAccount,
    shown: &'a ShownCpus,
    tasks: &TaskCounts,
    time: &TimeReading,
    host: &HostStat,
    policies: &Policies,
) -> StatView<'a> {
    let processes = account.processes(tasks);
    StatView {
        account,
        shown,
        tasks: *tasks,
        processes,
        btime: btime(time, host),
        counters: policies.counters,
    }
}
