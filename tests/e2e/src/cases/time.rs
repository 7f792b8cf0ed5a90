//! CPU time in stat, and uptime.

use std::time::{Duration, Instant};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::groups::Group;
use crate::parse::uptime;
use crate::programs::{self, OWN_INSIDE};
use crate::shell::{Shell, launched};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("time_stat_counts_the_containers_cpu_time", Nothing, own_cpu_time),
    ("time_stat_counts_bursts_that_ticks_miss", Nothing, bursts),
    ("time_stat_counts_from_the_start", Nothing, from_the_start),
    ("time_stat_never_goes_down", Nothing, never_goes_down),
    ("time_stat_lines_add_up", Nothing, lines_add_up),
];

/// All others.
pub const CASES: &[Row] = &[
    ("time_stat_readers_are_not_blocked", Nothing, readers_are_not_blocked),
    ("time_uptime_is_the_containers", Nothing, uptime_is_the_containers),
    ("time_btime_agrees_with_uptime", Nothing, btime),
    ("time_uptime_by_reader_without_time_namespace", Nothing, uptime_by_reader),
    ("time_ps_start_times_agree", Nothing, ps_start_times),
    ("time_init_named_with_spaces_and_parentheses", Nothing, odd_init_name),
];

/// Burns in a container; what its stat counted and what the burner itself measured, in milliseconds.
fn burn(shell: &mut Shell, how: &str) -> Outcome<(u64, u64)> {
    let before = shell.stat()?.total;
    let burned =
        shell.run(&format!("{OWN_INSIDE} tool burn {how}"))?.trim().parse().doing("milliseconds burned")?;
    Ok((shell.stat()?.total.since(&before)?.used() * 10, burned))
}

fn burn_and_compare(shell: &mut Shell, how: &str) -> Outcome {
    // What the shell, the start of the burner and `cat` use: the same with nothing to burn.
    let (overhead, _) = burn(shell, "--cpu-ms 0")?;
    let (used, burned) = burn(shell, how)?;
    let want = burned + overhead;
    check_in!(
        used,
        want.saturating_sub(100)..=want + 100,
        "ms that stat counted while {burned} ms were burned and {overhead} ms used around it"
    );
    Ok(())
}

fn own_cpu_time() -> Outcome {
    let mut own = Shell::launch(&[])?;
    let mut neighbour = Shell::launch(&[])?;
    neighbour.run(&format!("{OWN_INSIDE} tool burn --cpu-ms 8000 >/dev/null 2>&1 &"))?;
    burn_and_compare(&mut own, "--cpu-ms 2000")?;
    let kernels = Group::of_container(own.name())?.cpu_usec()? / 1000;
    let ours = own.stat()?.total.used() * 10;
    // The kernel's count was read a moment earlier, and each CPU's part is cut to whole ticks.
    check_in!(
        ours,
        kernels.saturating_sub(60)..=kernels + 100,
        "ms in stat against the kernel's count for the group"
    );
    Ok(())
}

fn bursts() -> Outcome {
    let mut own = Shell::launch(&[])?;
    burn_and_compare(&mut own, "--cpu-ms 1000 --burst-us 1200 --pause-us 2800")
}

/// The first read shows what was used before it.
fn from_the_start() -> Outcome {
    let text = launched(&[], &format!("{OWN_INSIDE} tool burn --cpu-ms 1000 >/dev/null; cat /proc/stat"))?;
    let total = crate::parse::Stat::parse(&text)?.total;
    check_in!(total.used(), 95..=200, "USER_HZ used at the first read after 100 were burned");
    Ok(())
}

fn never_goes_down() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1.5"])?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 3 --seconds 4 >/dev/null 2>&1 &"))?;
    let end = Instant::now() + Duration::from_secs(6);
    let mut last = shell.stat()?;
    while Instant::now() < end {
        let next = shell.stat()?;
        next.total.since(&last.total)?;
        for (number, line) in &next.cpus {
            line.since(&last.cpus.get(number).copied().unwrap_or_default()).doing(format!("cpu{number}"))?;
        }
        last = next;
    }
    Ok(())
}

/// The `cpu` line is the sum of the others, and they cover the time that passed.
fn lines_add_up() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "2"])?;
    let (began, first) = (Instant::now(), shell.stat()?);
    shell.run(&format!("{OWN_INSIDE} tool burn --cpu-ms 500 >/dev/null"))?;
    std::thread::sleep(Duration::from_secs(2));
    let (elapsed, second) = (began.elapsed().as_secs_f64(), shell.stat()?);
    let cpus = second.cpus.len() as f64;
    let all: u64 = second.total.since(&first.total)?.fields.iter().sum();
    check_in!(
        all as f64,
        (elapsed * cpus * 100.0 * 0.9 - 5.0)..=(elapsed * cpus * 100.0 * 1.1 + 5.0),
        "USER_HZ of {cpus} CPUs in {elapsed} s"
    );
    for field in 0..10 {
        let sum: u64 = second.cpus.values().map(|line| line.fields[field]).sum();
        let total = second.total.fields[field];
        check!(
            sum.abs_diff(total) <= second.cpus.len() as u64,
            "field {}: the cpuN lines add up to {sum}, cpu says {total}",
            field + 1
        );
    }
    Ok(())
}

fn uptime_is_the_containers() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1"])?;
    let (began, (first, idle)) = (Instant::now(), uptime(&shell.read("uptime")?)?);
    check_in!(first, 0.0..5.0, "uptime of a new container");
    check!(idle <= first + 0.1, "idle {idle} of one CPU is above its uptime {first}");
    std::thread::sleep(Duration::from_secs(2));
    let (second, _) = uptime(&shell.read("uptime")?)?;
    let passed = began.elapsed().as_secs_f64();
    check_in!(second - first, (passed - 0.7)..=(passed + 0.7), "growth of uptime in {passed} s");
    Ok(())
}

fn btime() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let btime = *shell.stat()?.single.get("btime").doing("btime")?;
    let (up, _) = uptime(&shell.read("uptime")?)?;
    let now: f64 = shell.run("date +%s.%N")?.trim().parse().doing("date")?;
    check_in!(
        btime as f64,
        (now - up - 2.0)..=(now - up + 2.0),
        "btime of a container that has been up for {up} s at {now}"
    );
    Ok(())
}

/// A container of another launcher, in the host's time namespace: uptime is its init's age, btime stays the host's.
fn uptime_by_reader() -> Outcome {
    let group = Group::create("foreign")?;
    let mut reader = Shell::in_pid_namespace(&group, &[])?;
    std::thread::sleep(Duration::from_secs(1));
    let (up, _) = uptime(&reader.read("uptime")?)?;
    check_in!(up, 0.9..8.0, "uptime of a pid namespace that was made a second ago");
    let host = crate::parse::Stat::parse(&std::fs::read_to_string("/proc/stat")?)?;
    let seen = reader.stat()?;
    let (host, seen) = (host.single.get("btime").copied(), seen.single.get("btime").copied());
    check_eq!(seen, host, "btime in the host's time namespace");
    Ok(())
}

fn odd_init_name() -> Outcome {
    let group = Group::create("odd")?;
    group.set_memory(100)?;
    let own = programs::own()?;
    let mut reader = Shell::in_pid_namespace(&group, &[&own, "tool", "init-named", "a b) c"])?;
    check_eq!(reader.run("cat /proc/1/comm")?, "a b) c\n", "name of the init");
    let (up, _) = uptime(&reader.read("uptime")?)?;
    check_in!(up, 0.0..8.0, "uptime below an init with an odd name");
    check_eq!(reader.meminfo()?.get("MemTotal"), 102_400, "MemTotal below an init with an odd name");
    reader.stat()?;
    Ok(())
}

/// A reader that a signal interrupts makes the kernel put all later readers into state D while they wait.
fn readers_are_not_blocked() -> Outcome {
    const SCRIPT: &str = "
import signal, time
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
end = time.time() + 1.5
while time.time() < end:
    open('/proc/stat').read()
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(1.1)
print([line for line in open('/proc/stat') if line.startswith('procs_blocked')])
";
    let mut shell = Shell::launch(&[])?;
    shell.send(&format!("/usr/bin/python3 -c \"{SCRIPT}\" | tail -n 1"))?;
    let line = shell.line()?;
    check_eq!(line.trim(), "['procs_blocked 0\\n']", "blocked tasks of a container that only reads");
    Ok(())
}

/// Start times: of the init and of a process that began two seconds later.
fn ps_start_times() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1"])?;
    shell.run("sleep 2; sleep 1000 & sleep 1")?;
    let text = shell.run("ps -eo pid,etimes,lstart,pmem,comm --no-headers; date +%s")?;
    let now: i64 = text.lines().next_back().unwrap_or_default().parse().doing("date")?;
    let mut ages = Vec::new();
    for line in text.lines().filter(|line| line.split_whitespace().count() >= 9) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let etimes: i64 = words[1].parse().doing(format!("etimes in {line:?}"))?;
        let started = crate::output::run(std::process::Command::new("date").args([
            "-d",
            &words[2..7].join(" "),
            "+%s",
        ]))?
        .ok()?;
        let by_lstart = now - started.trim().parse::<i64>()?;
        check_in!(by_lstart - etimes, -2..=2, "age by lstart and by etimes in {line:?}");
        ages.push((words[8].to_owned(), etimes, words[0].to_owned()));
    }
    let sleeper = ages.iter().find(|(name, ..)| name == "sleep").doing(format!("sleep in {text:?}"))?;
    let init = ages.iter().find(|(_, _, pid)| pid == "1").doing(format!("pid 1 in {text:?}"))?;
    check_in!(sleeper.1, 0..=6, "age of a process that began a second ago");
    check_in!(
        init.1 - sleeper.1,
        1..=8,
        "seconds between the start of init and of a process two seconds later"
    );
    let percent = shell.run("ps -o pcpu= -p $$")?;
    check_in!(percent.trim().parse::<f64>()?, 0.0..=60.0, "%CPU of a shell that slept");
    Ok(())
}
