//! loadavg, and the tables per CPU: softirqs, interrupts, schedstat.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon;
use crate::groups::Group;
use crate::programs::OWN_INSIDE;
use crate::shell::{Shell, launched};

pub const CASES: &[Row] = &[
    ("load_rises_with_two_burners", Nothing, two_burners),
    ("load_first_read_knows_the_past", Nothing, first_read),
    ("load_counts_its_tasks", Nothing, counts_its_tasks),
    ("load_of_a_group_and_of_the_host", Nothing, group_and_host),
    ("load_softirqs_and_interrupts", Nothing, softirqs_and_interrupts),
    ("load_programs_accept_the_tables", Nothing, programs),
    ("load_schedstat", Nothing, schedstat),
];

/// What `/proc/loadavg` says: averages, running, total, last pid.
fn parse(text: &str) -> Outcome<([f64; 3], u64, u64, u64)> {
    let line = text.strip_suffix('\n').doing(format!("line end of loadavg {text:?}"))?;
    let words: Vec<&str> = line.split(' ').collect();
    check_eq!(words.len(), 5, "fields of loadavg {line:?}");
    for word in &words[..3] {
        check_eq!(word.split_once('.').map(|(_, d)| d.len()), Some(2), "decimals in loadavg {line:?}");
    }
    let (running, total) = words[3].split_once('/').doing(line)?;
    let averages = [words[0].parse()?, words[1].parse()?, words[2].parse()?];
    Ok((averages, running.parse()?, total.parse()?, words[4].parse()?))
}

fn loadavg(shell: &mut Shell) -> Outcome<[f64; 3]> {
    Ok(parse(&shell.read("loadavg")?)?.0)
}

/// The loadavg of a container as the host sees it: reading it makes nothing run there.
fn from_outside(shell: &Shell) -> Outcome<([f64; 3], u64, u64, u64)> {
    let file = daemon::shared(&format!("containers/{}/proc/loadavg", shell.name()))?;
    parse(&std::fs::read_to_string(&file).doing(file.display())?)
}

fn two_burners() -> Outcome {
    let mut neighbour = Shell::launch(&[])?;
    let mut shell = Shell::launch(&[])?;
    check_in!(loadavg(&mut neighbour)?[0], 0.0..=0.6, "1-minute average of a new container");
    let seed = loadavg(&mut shell)?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 70 >/dev/null 2>&1 &"))?;
    let began = Instant::now();
    let mut last = seed;
    while began.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_secs(10));
        let now = from_outside(&shell)?.0;
        check!(now[0] >= last[0] && now[0] <= 2.5, "rises steadily: {last:?} {now:?}");
        last = now;
    }
    let (found, running, ..) = from_outside(&shell)?;
    let gone = began.elapsed().as_secs_f64();
    for (index, minutes) in [60.0, 300.0, 900.0].into_iter().enumerate() {
        let kept = f64::exp(-gone / minutes);
        let expected = 2.0 * (1.0 - kept) + seed[index] * kept;
        check_in!(
            found[index],
            expected * 0.85..=expected * 1.15 + 0.01,
            "average over {minutes} s of two burners after {gone:.1} s, seed {seed:?}, all {found:?}"
        );
    }
    check_in!(running, 2..=3, "tasks that run");
    let quiet = from_outside(&neighbour)?.0;
    check_in!(quiet[0], 0.0..=0.3, "1-minute average of the neighbour");

    for program in ["uptime", "w", "top -b -n 1"] {
        let text = shell.run(program)?;
        let averages = text.lines().next().and_then(|line| line.split("load average:").nth(1));
        let averages: Vec<f64> = averages
            .doing(format!("load average of {program}: {text}"))?
            .split(',')
            .filter_map(|word| word.trim().parse().ok())
            .collect();
        check_eq!(averages.len(), 3, "averages of {program}: {text}");
        check_in!(averages[0], found[0] - 0.05..=2.5, "1-minute average of {program}");
    }
    Ok(())
}

fn first_read() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let mut idle = Shell::launch(&[])?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 10 >/dev/null"))?;
    let up: f64 = shell.read("uptime")?.split(' ').next().unwrap_or_default().parse()?;
    let used = Group::of_container(shell.name())?.cpu_usec()? as f64 / 1e6;
    let found = from_outside(&shell)?.0;
    // The burners have ended: the count of this moment is nothing.
    let at_most = used / up * (1.0 - f64::exp(-up / 60.0));
    let expected = at_most * f64::exp(-5.0 / 60.0);
    check!(expected > 0.1, "two burners used {used} s in {up} s");
    check_in!(
        found[0],
        expected * 0.9..=at_most + 0.17, // one task may have been caught running
        "1-minute average at the first read, {used} s used in {up} s"
    );
    check!(found[0] >= found[1] && found[1] >= found[2], "a burst weighs less in the longer ones: {found:?}");
    check_in!(loadavg(&mut idle)?[0], 0.0..=0.25, "1-minute average of a container that did nothing");
    Ok(())
}

fn counts_its_tasks() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let (_, running, before, first_pid) = from_outside(&shell)?;
    check_eq!(running, 1, "tasks that run in an idle container");
    check_in!(before, 2..=4, "tasks of an idle container");
    shell.run(&format!("{OWN_INSIDE} tool sleepers 10 >/dev/null &"))?;
    // The counts are a second old at most, more where looking at the tasks takes long.
    let deadline = Instant::now() + Duration::from_secs(15);
    let (_, running, total, last_pid) = loop {
        std::thread::sleep(Duration::from_millis(1100));
        let found = from_outside(&shell)?;
        if found.2 == before + 11 && found.1 == 1 || Instant::now() > deadline {
            break found;
        }
    };
    check_eq!(running, 1, "tasks that run where eleven threads sleep");
    check_eq!(total, before + 11, "tasks, ten of them sleeping threads of one process");
    check_in!(last_pid, first_pid + 10..=first_pid + 20, "last pid");
    let highest = shell.run("ls -d /proc/[0-9]*/task/[0-9]* | sed 's,.*/,,' | sort -n | tail -n 1")?;
    check!(last_pid <= highest.trim().parse()?, "last pid {last_pid} in numbers of the container: {highest}");
    std::thread::sleep(Duration::from_secs(5));
    let inside = parse(&shell.read("loadavg")?)?;
    check_in!(inside.2, total..=total + 2, "tasks with the reader");
    Ok(())
}

/// A group in the host's namespaces has a load of its own; the host's is the kernel's.
fn group_and_host() -> Outcome {
    let group = Group::create("load")?;
    let mut reader = Shell::in_group(&group)?;
    let (averages, running, total, _) = parse(&reader.read("loadavg")?)?;
    check_in!(averages[0], 0.0..=0.5, "1-minute average of a new group");
    check_in!(total, 2..=4, "tasks of a group with a shell and a cat");
    check_in!(running, 1..=2, "tasks that run there");
    let host = std::fs::read_to_string(daemon::shared("proc/loadavg")?)?;
    let kernel = parse(&std::fs::read_to_string("/proc/loadavg")?)?;
    let host = parse(&host)?;
    check_in!(host.0[2] - kernel.0[2], -0.2..=0.2, "15-minute average of the host");
    check_in!(host.2, kernel.2.saturating_sub(30)..=kernel.2 + 30, "tasks of the host");
    Ok(())
}

/// Rows of a table: label, numbers, what follows.
fn rows(text: &str) -> Outcome<Vec<(String, Vec<u64>, String)>> {
    let mut rows = Vec::new();
    for line in text.lines().skip(1) {
        let (label, rest) = line.split_once(':').doing(format!("row {line:?}"))?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).collect();
        let what = words[numbers.len()..].join(" ");
        rows.push((label.trim().to_owned(), numbers, what));
    }
    Ok(rows)
}

fn softirqs_and_interrupts() -> Outcome {
    let mut shell = Shell::launch(&["--cpuset-cpus", "1"])?;
    for file in ["softirqs", "interrupts"] {
        let text = shell.read(file)?;
        let kernel = std::fs::read_to_string(Path::new("/proc").join(file))?;
        check!(!text.is_empty(), "{file} is served, not masked");
        let header = text.lines().next().unwrap_or_default();
        check_eq!(header.trim(), "CPU1", "CPUs of {file}");
        let indent = |line: &str| line.len() - line.trim_start().len();
        check_eq!(indent(header), indent(kernel.lines().next().unwrap_or_default()), "indent of {file}");
        let of_kernel: Vec<_> = rows(&kernel)?
            .into_iter()
            .filter(|(label, ..)| file == "softirqs" || label.parse::<u64>().is_err())
            .map(|(label, _, what)| (label, what))
            .collect();
        let found = rows(&text)?;
        for (label, numbers, _) in &found {
            check_eq!(numbers[..], [0], "numbers of {label} in {file}");
        }
        let found: Vec<_> = found.into_iter().map(|(label, _, what)| (label, what)).collect();
        check_eq!(found, of_kernel, "rows of {file}");
        check!(!found.is_empty(), "{file} has rows");
    }
    Ok(())
}

fn programs() -> Outcome {
    // mpstat takes a CPU for offline whose times in stat are all 0, as they are in a container's
    // first 10 ms.
    let mpstat = launched(&["--cpuset-cpus", "1"], "sleep 0.1; mpstat -I ALL -P ALL 1 1")?;
    // All CPUs: sadc 12.6 goes beyond its memory where /proc/net/softnet_stat, which no mount can cover, has more lines than
    // there are CPUs.
    let sar = launched(&[], "sar -I ALL 1 1 >/dev/null && sar -q 1 1")?;
    for name in ["LOC/s", "RES/s", "TIMER/s", "RCU/s"] {
        check!(mpstat.contains(name), "{name} in mpstat -I ALL: {mpstat}");
    }
    let cpus: Vec<&str> = mpstat
        .lines()
        .filter(|line| line.starts_with("Average:"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|cpu| !["CPU", "all"].contains(cpu))
        .collect();
    check!(cpus.len() >= 2 && cpus.iter().all(|cpu| *cpu == "1"), "CPUs of mpstat -I ALL: {mpstat}");
    check!(sar.contains("ldavg-1") && sar.contains("plist-sz"), "sar -q: {sar}");
    let average = sar.lines().find(|line| line.starts_with("Average:"));
    let tasks = average.and_then(|line| line.split_whitespace().nth(2)).doing(&sar)?;
    let tasks: f64 = tasks.parse().doing(&sar)?;
    check_in!(tasks, 2.0..=10.0, "plist-sz of sar -q");
    Ok(())
}

fn schedstat() -> Outcome {
    let mut shell = Shell::launch(&["--cpuset-cpus", "1"])?;
    let Ok(kernel) = std::fs::read_to_string("/proc/schedstat") else {
        let (code, _) = shell.status("test -e /proc/schedstat")?;
        check_eq!(code, 1, "/proc/schedstat is not there where the kernel has none");
        return Ok(());
    };
    shell.run(&format!("{OWN_INSIDE} tool burn --cpu-ms 500 >/dev/null"))?;
    let text = shell.read("schedstat")?;
    let lines: Vec<&str> = text.lines().collect();
    check_eq!(lines.len(), 3, "version, timestamp, one CPU: {text}");
    check_eq!(Some(lines[0]), kernel.lines().next(), "version");
    let jiffies: u64 = lines[1].strip_prefix("timestamp ").doing(&text)?.parse()?;
    let up: f64 = shell.read("uptime")?.split(' ').next().unwrap_or_default().parse()?;
    // jiffies begin 300 s before their low half wraps; how many a second has is the kernel's choice
    let ages = [100, 250, 300, 1000]
        .map(|hz: u64| jiffies.checked_sub((1 << 32) - 300 * hz).map(|since| up - since as f64 / hz as f64));
    check!(
        ages.iter().flatten().any(|less| (-0.1..=5.0).contains(less)),
        "timestamp {jiffies} is not of a kernel that has been up for {up} s: {ages:?}"
    );
    let numbers: Vec<u64> = lines[2].split(' ').skip(1).map_while(|word| word.parse().ok()).collect();
    check!(lines[2].starts_with("cpu1 "), "{text}");
    let used = shell.stat()?.total.used() as f64 / 100.0;
    check_in!(numbers[6] as f64 / 1e9, 0.5..=used + 0.1, "run time, {used} s used");
    check!(numbers[..6].iter().chain(&numbers[7..]).all(|number| *number == 0), "all else is 0: {text}");
    Ok(())
}
