//! The whole path on the running kernel. Needs root.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::{Subject, host_file, render, sys_cpu_file, sys_cpu_list_dir};
use crate::cgroup::testing::{Running, TestGroup, wait_for};
use crate::cgroup::walk::WalkLimits;
use crate::host::Host;
use crate::model::{HostPid, Nsec, Policies, TimensOffset};
use crate::render::ProcFile;

fn host() -> Host {
    Host::open(Path::new("/")).unwrap()
}

fn subject(group: &TestGroup, below: &str, init: &Running, host: &Host) -> Subject {
    Subject::of_init(Arc::new(group.open(below)), pid(init), host)
}

fn pid(process: &Running) -> HostPid {
    HostPid::new(i32::try_from(process.0.id()).unwrap()).unwrap()
}

fn text(file: ProcFile, subject: &Subject, host: &Host) -> String {
    let mut out = Vec::new();
    render(file, subject, host, &Policies::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// user + system of the `cpu` line, in ticks.
fn used(stat: &str) -> u64 {
    let fields: Vec<u64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    fields[0] + fields[1] + fields[2]
}

#[test]
fn a_limited_container() {
    let group = TestGroup::new();
    group.make("web");
    group.set_memory("", 200 << 20);
    group.set_cpuset("", "0");
    group.set_cpuset("web", "0");
    let host = host();
    let init = group.shell("web", "while :; do :; done");
    let web = subject(&group, "web", &init, &host);
    wait_for(|| used(&text(ProcFile::Stat, &web, &host)) >= 30);
    assert!(text(ProcFile::Meminfo, &web, &host).starts_with("MemTotal:         204800 kB\n"));
    let stat = text(ProcFile::Stat, &web, &host);
    assert!(stat.contains("\ncpu0 ") && !stat.contains("\ncpu1 "), "{stat}");
    assert!(stat.contains("\nprocs_running 1\n"), "{stat}");
    assert_eq!(text(ProcFile::Cpuinfo, &web, &host).matches("processor\t:").count(), 1);
    let uptime: f64 = text(ProcFile::Uptime, &web, &host).split(' ').next().unwrap().parse().unwrap();
    assert!((0.3..60.0).contains(&uptime), "{uptime}");
    let mut online = Vec::new();
    sys_cpu_file(Path::new("online"), &web, &host, &Policies::default(), &mut online).unwrap();
    assert_eq!(online, b"0\n");
    let entries = sys_cpu_list_dir(Path::new(""), &web, &host, &Policies::default()).unwrap();
    assert!(entries.iter().any(|e| e.name == "cpu0") && !entries.iter().any(|e| e.name == "cpu1"));

    // a neighbour's work is not the container's
    group.make("neighbour");
    group.set_cpuset("neighbour", "0");
    let burner = group.shell("neighbour", "while :; do :; done");
    let neighbour = subject(&group, "neighbour", &burner, &host);
    drop(init);
    let before = used(&text(ProcFile::Stat, &web, &host));
    wait_for(|| used(&text(ProcFile::Stat, &neighbour, &host)) >= 50);
    drop(burner);
    assert!(used(&text(ProcFile::Stat, &web, &host)) <= before + 1);

    // gone between two reads: the last good counters stay
    for dir in group.dirs("web") {
        crate::cgroup::testing::remove(&dir);
    }
    let after = used(&text(ProcFile::Stat, &web, &host));
    assert!(after >= before && after <= before + 1, "{before} {after}");
    assert!(text(ProcFile::Meminfo, &web, &host).starts_with("MemTotal:         204800 kB\n"));
    assert!(web.groups.is_gone());
}

#[test]
fn limits_changed_live() {
    let group = TestGroup::new();
    let host = host();
    let init = group.shell("", "while :; do sleep 1; done");
    let subject = subject(&group, "", &init, &host);
    let total = |mib: u64| format!("MemTotal:{:>15} kB\n", mib << 10);
    for mib in [300, 100, 200] {
        group.set_memory("", mib << 20);
        assert!(text(ProcFile::Meminfo, &subject, &host).starts_with(&total(mib)), "{mib}");
    }
    group.set_quota("", 50_000);
    assert_eq!(text(ProcFile::Cpuinfo, &subject, &host).matches("processor\t:").count(), 1);
    group.set_quota("", 200_000);
    assert_eq!(text(ProcFile::Cpuinfo, &subject, &host).matches("processor\t:").count(), 2);
}

/// An init whose name has blanks and a parenthesis, in a time namespace of its own.
#[test]
fn processes() {
    let host = host();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("a b) c");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let before = host.clocks().boottime;
    // unshare --fork: the parent has a namespace for its children only, the child lives in it
    let parent = Running(
        Command::new("unshare")
            .args(["--time", "--boottime", "1000", "--pid", "--fork", "--kill-child"])
            .arg(&program)
            .arg("60")
            .spawn()
            .unwrap(),
    );
    let children = format!("/proc/{0}/task/{0}/children", parent.0.id());
    let child = || std::fs::read_to_string(&children).unwrap().trim().parse().ok().and_then(HostPid::new);
    wait_for(|| {
        let stat = child().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stat.is_some_and(|stat| stat.contains("(a b) c) "))
    });
    let init = host.process(child().unwrap()).unwrap();
    let start = init.start().unwrap();
    let after = host.clocks().boottime;
    assert!(start.plus(Nsec(20_000_000)) >= before && start <= after, "{before:?} {start:?} {after:?}");
    let timens = init.timens(&host).unwrap();
    assert_eq!(timens.boottime, TimensOffset { nanos: 1_000_000_000_000 });
    assert_eq!(Some(timens.inode), init.namespace("time"));
    assert_eq!(init.innermost_pid(), Some(1));
    assert_ne!(init.namespace("pid"), host.process(pid(&parent)).unwrap().namespace("pid"));
    let parent_process = host.process(pid(&parent)).unwrap();
    assert_ne!(parent_process.namespace("time"), parent_process.namespace("time_for_children"));
    assert_eq!(parent_process.timens(&host), None, "the offsets are its children's");
    drop(parent);
    wait_for(|| init.stat().is_none());
    assert_eq!((init.start(), init.timens(&host), init.cgroup()), (None, None, None));
}

/// The cached parts agree with the files themselves.
#[test]
fn the_hosts_own_files() {
    let host = host();
    let mut cpuinfo = Vec::new();
    host_file(ProcFile::Cpuinfo, &host, &mut cpuinfo).unwrap();
    let parsed = host.cpuinfo().unwrap();
    assert_eq!(parsed.blocks.len(), host.online().unwrap().len());
    let rebuilt: String = parsed.blocks.iter().map(|block| format!("{}\n", block.text)).collect();
    assert_eq!(rebuilt.len(), cpuinfo.len(), "all but clock rates is the same");
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    assert!(stat.contains(&format!("\nbtime {}\n", host.btime().unwrap())));
    assert_eq!(host.stat().unwrap().cpu_columns, 10);
    assert!(host.present().unwrap().len() <= host.possible().unwrap().len());
    assert!(host.kernel_max().unwrap() >= host.online().unwrap().last().unwrap() as u64);
}

/// A container with more threads than a read looks at: bounded, and the second count within a second is free.
#[test]
fn many_tasks() {
    let group = TestGroup::new();
    group.make("big");
    let host = host();
    let init = group.shell("big", "i=0; while [ $i -lt 600 ]; do sleep 100 & i=$((i+1)); done; wait");
    let big = subject(&group, "big", &init, &host);
    let mut threads = Vec::new();
    let walk = |threads: &mut Vec<HostPid>, most| {
        big.groups.threads(WalkLimits { directories: 64, threads: most }, threads)
    };
    wait_for(|| !walk(&mut threads, 600));
    let first = big.tasks(&host, Nsec(1));
    assert_eq!(first.total, 601, "all are counted, though not all are looked at");
    assert!(first.last_pid > 0);
    assert_eq!(big.tasks(&host, Nsec(999_999_999)), first);
    assert!(big.tasks(&host, Nsec(2_000_000_000)).last_pid >= first.last_pid);
    drop(init);
    wait_for(|| {
        walk(&mut threads, 1000);
        for sleeper in &threads {
            let pid = rustix::process::Pid::from_raw(sleeper.get()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM); // it may have ended
        }
        threads.is_empty()
    });
}
