//! Which CPUs are shown: cpuset, quota, the hierarchy, pins; one set in every file.

use super::Row;
use crate::case::Needs::{Cpus, Nothing, V2};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::groups::Group;
use crate::parse::{Meminfo, Stat, cpu_list, processors, uptime};
use crate::shell::{Shell, launched};

pub const CASES: &[Row] = &[
    ("cpu_the_main_job", Nothing, the_main_job),
    ("cpu_quota_is_rounded_up", Nothing, quota_is_rounded_up),
    ("cpu_small_quota_shows_one", Nothing, small_quota),
    ("cpu_no_limit_shows_all", Nothing, no_limit),
    ("cpu_quota_on_an_ancestor", Nothing, quota_on_an_ancestor),
    ("cpu_cpuset_of_an_ancestor", Cpus(4), cpuset_of_an_ancestor),
    ("cpu_effective_set_not_the_requested", V2, effective_not_requested),
    ("cpu_cpuset_and_quota_together", Cpus(4), cpuset_and_quota),
    ("cpu_two_pins_share_none", Nothing, two_pins),
    ("cpu_four_pins_share_none", Cpus(4), four_pins),
    ("cpu_pin_rounds_up", Cpus(4), pin_rounds_up),
];

/// Every file that names CPUs must show the same ones; returns them.
pub fn shown(shell: &mut Shell) -> Outcome<Vec<usize>> {
    let in_stat = shell.stat()?.numbers();
    check_eq!(processors(&shell.read("cpuinfo")?)?, in_stat, "processors of cpuinfo against cpuN of stat");
    for file in ["online", "present"] {
        check_eq!(cpu_list(&shell.read_cpu(file)?)?, in_stat, "sys {file} against cpuN of stat");
    }
    check_eq!(shell.listed_cpus()?, in_stat, "cpuN in the cpu directory against cpuN of stat");
    Ok(in_stat)
}

fn all_cpus() -> Outcome<Vec<usize>> {
    cpu_list(&std::fs::read_to_string("/sys/devices/system/cpu/online")?)
}

/// The command of the README, with a cpuset: all files at once.
fn the_main_job() -> Outcome {
    let script = "cat /proc/uptime; echo ==; cat /proc/meminfo; echo ==; cat /proc/cpuinfo; echo ==; cat /proc/stat; echo ==; \
        cat /sys/devices/system/cpu/online; echo ==; ls -d /sys/devices/system/cpu/cpu[0-9]*; echo ==; nproc";
    let text = launched(&["-m", "256M", "--cpus", "1", "--cpuset-cpus", "1"], script)?;
    let parts: Vec<&str> = text.split("==\n").collect();
    let [up, meminfo, cpuinfo, stat, online, listing, nproc] = parts[..] else {
        crate::case::fail!("seven parts, got {}: {text}", parts.len());
    };
    check_in!(uptime(up)?.0, 0.0..5.0, "uptime of a new container");
    check_eq!(Meminfo::parse(meminfo)?.get("MemTotal"), 262_144, "MemTotal");
    check_eq!(processors(cpuinfo)?, [1], "processors");
    check_eq!(crate::parse::value(cpuinfo, "cpu cores").unwrap_or("1"), "1", "cpu cores");
    check_eq!(Stat::parse(stat)?.numbers(), [1], "cpuN lines");
    check_eq!(stat.lines().filter(|line| line.starts_with("cpu")).count(), 2, "cpu lines in stat");
    check_eq!(online, "1\n", "sys online");
    check_eq!(listing, "/sys/devices/system/cpu/cpu1\n", "listing of the cpu directory");
    check_eq!(nproc, "1\n", "nproc");
    Ok(())
}

fn quota_is_rounded_up() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1.5"])?;
    check_eq!(shown(&mut shell)?, all_cpus()?[..2], "CPUs shown under --cpus 1.5");
    Ok(())
}

fn small_quota() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "0.3"])?;
    check_eq!(shown(&mut shell)?, all_cpus()?[..1], "CPUs shown under --cpus 0.3");
    Ok(())
}

fn no_limit() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    check_eq!(shown(&mut shell)?, all_cpus()?, "CPUs shown without a limit");
    Ok(())
}

fn quota_on_an_ancestor() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_quota(100)?;
    let mut reader = Shell::in_group(&parent.child("child")?.child("leaf")?)?;
    check_eq!(shown(&mut reader)?, all_cpus()?[..1], "CPUs shown below a quota of 1 CPU");
    Ok(())
}

fn cpuset_of_an_ancestor() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_cpuset("0,2")?;
    let child = parent.child("child")?;
    let mut reader = Shell::in_group(&child.child("leaf")?)?;
    check_eq!(shown(&mut reader)?, [0, 2], "CPUs shown below a cpuset of 0,2");
    Ok(())
}

/// v1 refuses a request outside the parent's set; v2 takes it and resolves it.
fn effective_not_requested() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_cpuset("0,2")?;
    let child = parent.child("child")?;
    child.set_cpuset("0-3")?;
    check_eq!(shown(&mut Shell::in_group(&child)?)?, [0, 2], "CPUs shown for 0-3 below 0,2");
    child.set_cpuset("1,3")?;
    check_eq!(shown(&mut Shell::in_group(&child)?)?, [0, 2], "CPUs shown for 1,3 below 0,2");
    Ok(())
}

fn cpuset_and_quota() -> Outcome {
    let mut shell = Shell::launch(&["--cpuset-cpus", "1-3", "--cpus", "1.2"])?;
    check_eq!(shown(&mut shell)?, [1, 2], "CPUs shown for --cpuset-cpus 1-3 --cpus 1.2");
    Ok(())
}

fn pins(count: usize) -> Outcome {
    let mut used = Vec::new();
    let mut running = Vec::new();
    for _ in 0..count {
        let mut shell = Shell::launch(&["--cpus", "1", "--pin"])?;
        let cpus = shown(&mut shell)?;
        check_eq!(cpus.len(), 1, "CPUs shown under --cpus 1 --pin");
        check_eq!(shell.run("nproc")?, "1\n", "nproc under --cpus 1 --pin");
        check!(!used.contains(&cpus[0]), "CPU {} is shared: pinned so far {used:?}", cpus[0]);
        used.extend(cpus);
        running.push(shell);
    }
    Ok(())
}

fn two_pins() -> Outcome {
    pins(2)
}

fn four_pins() -> Outcome {
    pins(4)
}

fn pin_rounds_up() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1.5", "--pin"])?;
    check_eq!(shown(&mut shell)?.len(), 2, "CPUs shown under --cpus 1.5 --pin");
    let nproc: usize = shell.run("nproc")?.trim().parse().doing("nproc")?;
    check_eq!(nproc, 2, "nproc under --cpus 1.5 --pin");
    Ok(())
}
