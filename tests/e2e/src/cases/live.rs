//! Limits that change while the container runs show at the next read, also on a file that is kept open.

use super::Row;
use super::cpu::shown;
use crate::case::Needs::Nothing;
use crate::case::{Outcome, check, check_eq};
use crate::groups::Group;
use crate::parse::{Meminfo, Stat, processors};
use crate::programs::OWN_INSIDE;
use crate::shell::Shell;

pub const CASES: &[Row] = &[
    ("live_memory_limit", Nothing, memory),
    ("live_quota", Nothing, quota),
    ("live_cpuset", Nothing, cpuset),
    ("live_memory_limit_on_a_kept_file", Nothing, kept_meminfo),
    ("live_quota_on_a_kept_file", Nothing, kept_quota),
    ("live_cpuset_on_a_kept_file", Nothing, kept_cpuset),
    ("live_counters_never_go_down", Nothing, counters_never_go_down),
    ("live_stat_survives_a_change_of_cpus", Nothing, stat_over_changes),
];

fn memory() -> Outcome {
    let mut shell = Shell::launch(&["-m", "200M", "--memory-swap", "600M"])?;
    check_eq!(shell.meminfo()?.get("MemTotal"), 204_800, "MemTotal");
    let group = Group::of_container(shell.name())?;
    for (mib, kib) in [(300, 307_200), (100, 102_400)] {
        group.set_memory(mib)?;
        check_eq!(shell.meminfo()?.get("MemTotal"), kib, "MemTotal after the limit became {mib} MiB");
    }
    Ok(())
}

fn quota() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "2"])?;
    check_eq!(shown(&mut shell)?.len(), 2, "CPUs shown under --cpus 2");
    let group = Group::of_container(shell.name())?;
    group.set_quota(100)?;
    check_eq!(shown(&mut shell)?.len(), 1, "CPUs shown after the quota became 1 CPU");
    group.set_quota(150)?;
    check_eq!(shown(&mut shell)?.len(), 2, "CPUs shown after the quota became 1.5 CPUs");
    Ok(())
}

fn cpuset() -> Outcome {
    let mut shell = Shell::launch(&["--cpuset-cpus", "0-1"])?;
    check_eq!(shown(&mut shell)?, [0, 1], "CPUs shown");
    let group = Group::of_container(shell.name())?;
    group.set_cpuset("1")?;
    check_eq!(shown(&mut shell)?, [1], "CPUs shown after the cpuset became 1");
    group.set_cpuset("0")?;
    check_eq!(shown(&mut shell)?, [0], "CPUs shown after the cpuset became 0");
    Ok(())
}

/// A container whose shell has become a program that keeps `file` open and reads it again for each line.
pub fn keeping(args: &[&str], file: &str) -> Outcome<Shell> {
    let mut shell = Shell::launch(args)?;
    // From here on an answer comes from the program: it reads one line for one answer.
    shell.send(&format!("exec {OWN_INSIDE} tool reread /proc/{file}"))?;
    loop {
        if shell.line()? == "==end 0==\n" {
            return Ok(shell);
        }
    }
}

/// Reads the kept file once more, from its beginning.
pub fn again(shell: &mut Shell) -> Outcome<String> {
    shell.send("again")?;
    let mut text = String::new();
    loop {
        match shell.line()?.as_str() {
            "==end 0==\n" => break,
            line => text += line,
        }
    }
    text.pop();
    Ok(text)
}

fn kept_meminfo() -> Outcome {
    let mut shell = keeping(&["-m", "200M", "--memory-swap", "600M"], "meminfo")?;
    check_eq!(Meminfo::parse(&again(&mut shell)?)?.get("MemTotal"), 204_800, "MemTotal");
    Group::of_container(shell.name())?.set_memory(300)?;
    check_eq!(Meminfo::parse(&again(&mut shell)?)?.get("MemTotal"), 307_200, "MemTotal read again");
    Ok(())
}

fn kept_quota() -> Outcome {
    let mut shell = keeping(&["--cpus", "2"], "stat")?;
    check_eq!(Stat::parse(&again(&mut shell)?)?.cpus.len(), 2, "cpuN lines");
    Group::of_container(shell.name())?.set_quota(100)?;
    check_eq!(Stat::parse(&again(&mut shell)?)?.cpus.len(), 1, "cpuN lines read again");
    Ok(())
}

fn kept_cpuset() -> Outcome {
    let mut shell = keeping(&["--cpuset-cpus", "0-1"], "cpuinfo")?;
    check_eq!(processors(&again(&mut shell)?)?, [0, 1], "processors");
    Group::of_container(shell.name())?.set_cpuset("1")?;
    check_eq!(processors(&again(&mut shell)?)?, [1], "processors read again");
    Ok(())
}

/// The `cpu` line sums all CPUs ever shown: it goes on growing while the set shrinks and grows.
fn stat_over_changes() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "2"])?;
    let group = Group::of_container(shell.name())?;
    let mut last = shell.stat()?.total;
    for quota in [100, 200, 50, 150, 200] {
        shell.run(&format!("{OWN_INSIDE} tool burn --cpu-ms 200 >/dev/null"))?;
        group.set_quota(quota)?;
        let now = shell.stat()?.total;
        let used = now.since(&last)?.used();
        check!(used >= 15, "stat counted {used} of 20 ticks burned before the quota became {quota} %");
        last = now;
    }
    Ok(())
}

/// A short run of `soak counters`.
fn counters_never_go_down() -> Outcome {
    let report = crate::soak::counters(std::time::Duration::from_secs(8), u64::from(std::process::id()))?;
    eprintln!("{report}");
    Ok(())
}
