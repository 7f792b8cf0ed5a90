//! Real programs in a limited container, each compared with the limits that were set.

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::parse::value;
use crate::shell::{Shell, launched};

pub const CASES: &[Row] = &[
    ("program_free", Nothing, free),
    ("program_top", Nothing, top),
    ("program_vmstat", Nothing, vmstat),
    ("program_uptime", Nothing, uptime),
    ("program_ps", Nothing, ps),
    ("program_mpstat", Nothing, mpstat),
    ("program_nproc", Nothing, nproc),
    ("program_lscpu", Nothing, lscpu),
    ("program_getconf", Nothing, getconf),
    ("program_psutil", Nothing, psutil),
    ("program_node", Nothing, node),
];

/// The limits of every case here: 200 MiB and CPU 1 alone.
const LIMITS: [&str; 6] = ["-m", "200M", "--cpus", "1", "--cpuset-cpus", "1"];

fn free() -> Outcome {
    let text = launched(&LIMITS, "free -k; free -m")?;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let mem: Vec<&Vec<&str>> = rows.iter().filter(|row| row.first() == Some(&"Mem:")).collect();
    check_eq!(mem.len(), 2, "Mem: rows of free");
    check_eq!(mem[0][1], "204800", "total of free -k");
    check_eq!(mem[1][1], "200", "total of free -m");
    let numbers: Vec<u64> = mem[0][1..].iter().filter_map(|word| word.parse().ok()).collect();
    let [total, used, free, _, _, available] = numbers[..] else {
        crate::case::fail!("columns of free: {text}")
    };
    check!(used + free <= total && available <= total, "used, free and available within the total: {text}");
    check_in!(available, 150_000..=204_800, "available of free -k");
    Ok(())
}

fn top() -> Outcome {
    let text = launched(&LIMITS, "top -b -d 1 -n 2")?;
    let mem = text.lines().find(|line| line.contains("Mem :")).doing("Mem line of top")?;
    check!(mem.contains("200.0 total"), "Mem line of top: {mem}");
    let head = text.lines().next().unwrap_or_default();
    check!(head.contains("up 0 min"), "first line of top: {head}");
    let last = text.lines().rfind(|line| line.starts_with("%Cpu")).doing("%Cpu line of top")?;
    let idle: f64 =
        last.split(',').find_map(|part| part.trim().strip_suffix("id")).doing("id")?.trim().parse()?;
    check_in!(idle, 60.0..=100.0, "idle of top in a container that does nothing else: {last}");
    Ok(())
}

fn vmstat() -> Outcome {
    let text = launched(&LIMITS, "vmstat -s -S K; vmstat 1 2")?;
    let total = text.lines().find(|line| line.contains("K total memory")).doing("total memory")?;
    check_eq!(total.split_whitespace().next(), Some("204800"), "total memory of vmstat -s");
    let last: Vec<&str> = text.lines().next_back().unwrap_or_default().split_whitespace().collect();
    check!(last.len() >= 17, "columns of vmstat: {last:?}");
    check_in!(last[3].parse::<u64>()?, 100_000..=204_800, "free column of vmstat");
    check_in!(last[14].parse::<u64>()?, 60..=100, "id column of vmstat");
    Ok(())
}

fn uptime() -> Outcome {
    let text = launched(&LIMITS, "uptime; uptime -s; date +%s; uptime -p")?;
    let lines: Vec<&str> = text.lines().collect();
    check!(lines[0].contains("up 0 min"), "uptime: {}", lines[0]);
    let since = crate::output::run(std::process::Command::new("date").args(["-d", lines[1], "+%s"]))?.ok()?;
    let age = lines[2].parse::<i64>()? - since.trim().parse::<i64>()?;
    check_in!(age, -1..=6, "seconds since `uptime -s`");
    Ok(())
}

/// Start times: of the init and of a process that began two seconds later.
fn ps() -> Outcome {
    let mut shell = Shell::launch(&LIMITS)?;
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

fn mpstat() -> Outcome {
    let text = launched(&LIMITS, "mpstat -P ALL 1 1")?;
    check!(text.lines().next().is_some_and(|line| line.contains("(1 CPU)")), "first line of mpstat: {text}");
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("Average:"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    check_eq!(shown, ["CPU", "all", "1"], "CPU column of mpstat");
    Ok(())
}

fn nproc() -> Outcome {
    check_eq!(launched(&LIMITS, "nproc; nproc --all")?, "1\n1\n", "nproc; nproc --all");
    Ok(())
}

fn lscpu() -> Outcome {
    let text = launched(&LIMITS, "lscpu; echo ==; lscpu -p=CPU")?;
    check_eq!(value(&text, "CPU(s)")?, "1", "CPU(s) of lscpu");
    check_eq!(value(&text, "On-line CPU(s) list")?, "1", "On-line CPU(s) list of lscpu");
    check!(!text.contains("Off-line"), "lscpu shows off-line CPUs: {text}");
    let parsable: Vec<&str> =
        text.split("==\n").nth(1).unwrap_or_default().lines().filter(|line| !line.starts_with('#')).collect();
    check_eq!(parsable, ["1"], "lscpu -p");
    Ok(())
}

fn getconf() -> Outcome {
    check_eq!(
        launched(&LIMITS, "getconf _NPROCESSORS_ONLN; getconf _NPROCESSORS_CONF")?,
        "1\n1\n",
        "getconf ONLN, CONF"
    );
    Ok(())
}

fn psutil() -> Outcome {
    let script = "import psutil, time\n\
        print(psutil.virtual_memory().total, psutil.cpu_count(), psutil.cpu_count(logical=False), len(psutil.cpu_times(percpu=True)))\n\
        print(int(time.time() - psutil.boot_time()))\n\
        v = psutil.virtual_memory(); print(0 <= v.available <= v.total, 0 <= v.percent <= 100)";
    let text = launched(&LIMITS, &format!("/usr/bin/python3 -c '{script}'"))?;
    let lines: Vec<&str> = text.lines().collect();
    check_eq!(lines[0], "209715200 1 1 1", "psutil: total, cpu_count, physical, per-CPU times");
    check_in!(lines[1].parse::<i64>()?, -1..=20, "psutil: seconds since boot_time");
    check_eq!(lines[2], "True True", "psutil: available and percent in range");
    Ok(())
}

fn node() -> Outcome {
    let script = "const os = require(\"os\"); console.log(os.totalmem(), os.freemem() <= os.totalmem(), os.cpus().length, os.uptime() < 60, \
        os.availableParallelism ? os.availableParallelism() : 1)";
    let mut args = LIMITS;
    args[1] = "400M"; // node itself needs more than 200 MiB of address space touched under emulation
    let text = launched(&args, &format!("node -e '{script}'"))?;
    check_eq!(
        text,
        "419430400 true 1 true 1\n",
        "node: totalmem, freemem, cpus, uptime, availableParallelism"
    );
    Ok(())
}
