//! NUMA nodes, and what the CPU directory does not tell.

use super::Row;
use crate::case::Needs::{Nodes, Nothing};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::groups::Group;
use crate::parse::{cpu_list, value};
use crate::shell::{Shell, launched};

pub const CASES: &[Row] = &[
    ("node_of_a_container", Nothing, of_a_container),
    ("node_memory_is_that_of_meminfo", Nothing, memory),
    ("node_by_reader", Nothing, by_reader),
    ("node_lscpu_and_numactl", Nothing, programs),
    ("node_host_state_is_hidden", Nothing, hidden),
    ("node_two_are_shown_as_the_cpuset_allows", Nodes(2), two),
];

const DIR: &str = "/sys/devices/system/node";

/// CPU 1 alone, and the node that it belongs to.
fn of_a_container() -> Outcome {
    let mut shell = Shell::launch(&["-m", "200M", "--cpuset-cpus", "1"])?;
    for file in ["online", "has_memory", "has_normal_memory"] {
        let host = std::fs::read_to_string(format!("{DIR}/{file}"))?;
        check_eq!(shell.run(&format!("cat {DIR}/{file}"))?, host, "{file} without a limit on nodes");
    }
    let node = shell.run(&format!("cat {DIR}/has_cpu"))?.trim().to_owned();
    check_eq!(shell.run(&format!("cat {DIR}/node{node}/cpulist"))?, "1\n", "cpulist of node {node}");
    let names = shell.run(&format!("ls {DIR}/node{node}"))?;
    let cpus: Vec<&str> = names
        .lines()
        .filter(|name| name.starts_with("cpu") && !["cpulist", "cpumap"].contains(name))
        .collect();
    check_eq!(cpus, ["cpu1"], "links to CPUs in {names}");
    check!(!names.contains("memory") && !names.contains("compact"), "nothing but the list: {names}");
    let id = shell.run(&format!("cat {DIR}/node{node}/cpu1/topology/core_cpus_list"))?;
    check_eq!(id, "1\n", "a file behind the link to CPU 1");
    let back = shell.run(&format!("readlink /sys/devices/system/cpu/cpu1/node{node}"))?;
    check_eq!(back, format!("../../node/node{node}\n"), "the link of CPU 1 to its node");
    Ok(())
}

/// The lines of all nodes add up to those of /proc/meminfo.
fn memory() -> Outcome {
    let mut shell = Shell::launch(&["-m", "200M"])?;
    let text = shell.run(&format!("cat /proc/meminfo; cat {DIR}/node*/meminfo"))?;
    let sum = |key: &str| -> u64 {
        let of_nodes = text.lines().filter(|line| line.starts_with("Node ")).filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            (words.next() == Some(key)).then(|| words.next()?.parse::<u64>().ok())?
        });
        of_nodes.sum()
    };
    let whole =
        |key: &str| crate::parse::Meminfo::parse(&meminfo_part(&text)).map(|meminfo| meminfo.get(key));
    check_eq!(sum("MemTotal:"), 204_800, "MemTotal of all nodes");
    check_eq!(sum("MemFree:") + sum("MemUsed:"), 204_800, "MemFree and MemUsed of all nodes");
    for key in ["MemFree", "AnonPages", "Slab"] {
        let (nodes, whole) = (sum(&format!("{key}:")), whole(key)?);
        check!(nodes.abs_diff(whole) <= 4096, "{key}: {nodes} of all nodes, {whole} in meminfo");
    }
    Ok(())
}

fn meminfo_part(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("Node ")).map(|line| format!("{line}\n")).collect()
}

fn by_reader() -> Outcome {
    let group = Group::create("small")?;
    group.set_quota(100)?;
    group.set_memory(64)?;
    let dir = crate::daemon::shared("sys/devices/system/node")?;
    let dir = dir.display();
    let mut readers = [Shell::in_group(&group)?, Shell::in_pid_namespace(&group, &[])?];
    for reader in &mut readers {
        let text =
            reader.run(&format!("cat {dir}/node*/meminfo | grep MemTotal; cat {dir}/node*/cpulist"))?;
        let totals = text.lines().filter(|line| line.contains("MemTotal"));
        let total: u64 = totals.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
        check_eq!(total, 65_536, "MemTotal of all nodes");
        let cpus: usize = text
            .lines()
            .filter(|line| !line.contains("MemTotal"))
            .map(|line| cpu_list(line).map(|cpus| cpus.len()))
            .sum::<Outcome<usize>>()?;
        check_eq!(cpus, 1, "CPUs of all nodes under a quota of 1 CPU");
    }
    Ok(())
}

fn programs() -> Outcome {
    let limits = ["-m", "200M", "--cpuset-cpus", "1"];
    let text =
        launched(&limits, "lscpu; echo ==; numactl --hardware; echo ==; numastat -m; vmstat -s >/dev/null")?;
    let parts: Vec<&str> = text.split("==\n").collect();
    let [lscpu, numactl, numastat] = parts[..] else {
        crate::case::fail!("three parts: {text}");
    };
    let nodes = cpu_list(&std::fs::read_to_string(format!("{DIR}/online"))?)?.len();
    check_eq!(value(lscpu, "NUMA node(s)")?, nodes.to_string(), "NUMA node(s) of lscpu");
    let of_node = lscpu.lines().filter(|line| line.starts_with("NUMA node") && line.contains("CPU(s):"));
    let shown: Vec<&str> = of_node.filter_map(|line| line.split_whitespace().nth(3)).collect();
    check_eq!(shown, ["1"], "CPUs of nodes in lscpu: {lscpu}");
    let words: Vec<Vec<&str>> = numactl.lines().map(|line| line.split_whitespace().collect()).collect();
    let sizes = words.iter().filter(|words| words.get(2) == Some(&"size:"));
    let mib: u64 = sizes.filter_map(|words| words.get(3)?.parse::<u64>().ok()).sum();
    check_in!(mib, 199..=200, "MB of all nodes in numactl --hardware: {numactl}");
    let cpus: Vec<&str> = words
        .iter()
        .filter(|words| words.get(2) == Some(&"cpus:"))
        .flat_map(|words| &words[3..])
        .copied()
        .collect();
    check_eq!(cpus, ["1"], "CPUs of nodes in numactl --hardware: {numactl}");
    let total =
        numastat.lines().find(|line| line.starts_with("MemTotal")).doing("MemTotal of numastat -m")?;
    check!(total.trim_end().ends_with(" 200.00"), "MemTotal of numastat -m: {total}");
    Ok(())
}

/// Frequencies, idle states and the like of the host; for nobody, whether listed or not.
fn hidden() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1"])?;
    let own = "/sys/devices/system/cpu";
    let names = shell.run(&format!("ls {own} {own}/cpu0 {own}/cpu0/topology {own}/cpu0/cache"))?;
    let shared = crate::daemon::shared("sys/devices/system/cpu")?;
    for hidden in [
        "cpuidle",
        "cpufreq",
        "power",
        "hotplug",
        "microcode",
        "crash_notes",
        "thermal_throttle",
        "firmware_node",
        "ppin",
    ] {
        check!(!names.lines().any(|name| name == hidden), "{hidden} is listed: {names}");
        for base in [own.to_owned(), format!("{own}/cpu0"), format!("{own}/cpu0/topology")] {
            let (code, said) = shell.status(&format!("ls -d {base}/{hidden}"))?;
            check!(code != 0 && said.contains("No such file"), "{base}/{hidden}: code {code}, {said:?}");
        }
        check!(!shared.join(hidden).exists(), "{hidden} is there for a reader on the host");
        check!(!shared.join("cpu0").join(hidden).exists(), "cpu0/{hidden} is there for a reader on the host");
    }
    for shown in ["vulnerabilities", "cpu0", "online", "uevent", "kernel_max"] {
        check!(names.lines().any(|name| name == shown), "{shown} is not listed: {names}");
    }
    Ok(())
}

/// A machine of two nodes: a container on one of them, one on both, one whose CPU and memory are apart.
fn two() -> Outcome {
    let nodes = cpu_list(&std::fs::read_to_string(format!("{DIR}/online"))?)?;
    let (first, second) = (nodes[0], nodes[1]);
    let cpus_of = |node: usize| -> Outcome<Vec<usize>> {
        cpu_list(&std::fs::read_to_string(format!("{DIR}/node{node}/cpulist"))?)
    };
    let cpu = cpus_of(second)?.first().copied().doing("a CPU of the second node")?.to_string();
    let (first, second) = (first.to_string(), second.to_string());
    let seen = |args: &[&str]| -> Outcome<Vec<String>> {
        let script =
            format!("cd {DIR}; ls -d node*; cat has_cpu has_memory; grep -h MemTotal: node*/meminfo");
        Ok(launched(args, &script)?.lines().map(str::to_owned).collect())
    };
    let one = seen(&["-m", "100M", "--cpuset-cpus", &cpu, "--cpuset-mems", &second])?;
    check_eq!(one[..3], [format!("node{second}"), second.clone(), second.clone()], "one node: {one:?}");
    check!(one[3].ends_with(" 102400 kB"), "all memory is on the one node: {one:?}");
    let apart = seen(&["-m", "100M", "--cpuset-cpus", &cpu, "--cpuset-mems", &first])?;
    check_eq!(apart[2..4], [second.clone(), first.clone()], "CPU and memory apart: {apart:?}");
    check!(apart[4].ends_with(" 102400 kB") && apart[5].ends_with(" 0 kB"), "memory of the first: {apart:?}");
    let both = seen(&["-m", "100M"])?;
    let parts: Vec<u64> = both
        .iter()
        .filter_map(|line| line.strip_prefix("Node ")?.split_whitespace().nth(2)?.parse().ok())
        .collect();
    check!(parts.len() == nodes.len() && parts.iter().sum::<u64>() == 102_400, "both: {both:?}");
    Ok(())
}
