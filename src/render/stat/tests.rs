//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{
    CpuReading, CpuSet, CpuUsage, Nsec, Numbering, Policies, TaskCounts, TimeReading, host::HostStatLine,
};
use crate::view::{CpuAccount, shown, stat_view};

fn host() -> HostStat {
    let line = |text: &str| HostStatLine {
        key: text.split(' ').next().unwrap_or("").into(),
        columns: text.split(' ').count() - 1,
        text: text.into(),
    };
    HostStat {
        cpu_columns: 10,
        lines: [
            "intr 236716 0 15",
            "ctxt 381190",
            "btime 1795498128",
            "processes 11220",
            "procs_running 3",
            "procs_blocked 1",
            "softirq 129807 0 7",
            "novelty 5 6",
        ]
        .map(line)
        .to_vec(),
        btime: 1_795_498_128,
    }
}

/// Ten seconds on CPUs 1 and 3, 5.005 s of them user.
fn rendered(host: &HostStat, policies: &Policies) -> String {
    let reading = CpuReading {
        cpuset: CpuSet::parse("1,3").ok(),
        online: CpuSet::first(4),
        usage: CpuUsage::Total { user: Usec(5_005_000), system: Usec(2_000_000), nice: Usec(1_000_000) },
        ..Default::default()
    };
    let time = TimeReading { boottime: Nsec(10_000_000_000), ..Default::default() };
    let shown = shown(&reading, policies);
    let mut account = CpuAccount::default();
    account.advance(&reading, &shown, &time);
    let tasks = TaskCounts { last_pid: 42, running: 2, blocked: 7, total: 20 };
    let mut out = Vec::new();
    stat(host, &stat_view(&mut account, &shown, &tasks, &time, host, policies), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn s12_the_kernels_lines_with_the_containers_numbers() {
    let expected = "cpu  400 100 200 1299 0 0 0 0 0 0\n\
        cpu1 200 50 100 649 0 0 0 0 0 0\n\
        cpu3 200 50 100 649 0 0 0 0 0 0\n\
        intr 0 0 0\n\
        ctxt 0\n\
        btime 1795498128\n\
        processes 42\n\
        procs_running 2\n\
        procs_blocked 7\n\
        softirq 0 0 0\n\
        novelty 0 0\n";
    assert_eq!(rendered(&host(), &Policies::default()), expected);
}

#[test]
fn s12_policy_host_passes_the_machines_counters_through() {
    let policies = Policies { counters: CountersPolicy::Host, ..Default::default() };
    let text = rendered(&host(), &policies);
    for line in
        ["intr 236716 0 15\n", "ctxt 381190\n", "softirq 129807 0 7\n", "processes 42\n", "novelty 0 0\n"]
    {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn s13_tasks_are_the_containers() {
    let text = rendered(&host(), &Policies::default());
    for line in ["processes 42\n", "procs_running 2\n", "procs_blocked 7\n"] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn s14_as_many_columns_as_the_kernel_has() {
    let four = rendered(&HostStat { cpu_columns: 4, ..host() }, &Policies::default());
    assert!(four.starts_with("cpu  400 100 200 1299\ncpu1 200 50 100 649\n"), "{four}");
    let twelve = rendered(&HostStat { cpu_columns: 12, ..host() }, &Policies::default());
    assert!(twelve.starts_with("cpu  400 100 200 1299 0 0 0 0 0 0 0 0\n"), "{twelve}");
}

#[test]
fn c5_compact_numbers() {
    let policies = Policies { numbering: Numbering::Compact, ..Default::default() };
    let text = rendered(&host(), &policies);
    assert!(text.contains("\ncpu0 200 ") && text.contains("\ncpu1 200 ") && !text.contains("cpu3"), "{text}");
}
