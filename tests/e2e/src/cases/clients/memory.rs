//! Programs that are asked about memory and swap.

use super::facts::{FREE_IN_KB, FREE_IN_MB, MOST_IN_KB, MOST_IN_MB, SWAP_IN_KB, SWAP_MB};
use super::table::Verdict::{Never, Right};
use super::table::Want::{Is, Number};
use super::table::{Program, Row, SYSINFO};
use super::take::{after, before, last, line, mebibytes, word, yes};

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "free",
        package: "procps",
        script: "free -k",
        rows: &[
            Row::new("total, kB", |text| word(text, "Mem:", 1), Is("524288")),
            Row::new("free, kB", |text| word(text, "Mem:", 3), FREE_IN_KB),
            Row::new("available, kB", |text| word(text, "Mem:", 6), MOST_IN_KB),
            Row::new("swap, kB", |text| word(text, "Swap:", 1), SWAP_IN_KB),
            Row::new("used and free within total", parts_within_total, Is("yes")),
        ],
    },
    Program {
        name: "top (memory)",
        package: "procps",
        script: "top -b -n 1",
        rows: &[
            Row::new("total, MiB", |text| word(text, "MiB Mem :", 3), Is("512.0")),
            Row::new("available, MiB", |text| before(text, " avail Mem"), MOST_IN_MB),
            Row::new("swap, MiB", |text| word(text, "MiB Swap:", 2), SWAP_MB),
        ],
    },
    Program {
        name: "vmstat (memory)",
        package: "procps",
        script: "vmstat -s -S K; vmstat",
        rows: &[
            Row::new("total memory, kB", |text| before(text, " K total memory"), Is("524288")),
            Row::new("total swap, kB", |text| before(text, " K total swap"), SWAP_IN_KB),
            Row::new("column free, kB", |text| last(text, 3), FREE_IN_KB),
        ],
    },
    Program {
        name: "ps (memory)",
        package: "procps",
        // 128 MiB of 512, and what the interpreter itself takes.
        script: "/usr/bin/python3 -c 'import os
held = b\"x\" * (128 << 20)
os.system(\"ps -o pmem= -p %d\" % os.getpid())'",
        rows: &[Row::new(
            "%MEM of a process of 128 MiB",
            |text| line(text, 0),
            Number("25 to 29", |_| 25.0..=29.0),
        )],
    },
    Program {
        name: "sar (memory)",
        package: "sysstat",
        script: "sar -r -S 1 1",
        rows: &[
            Row::new("kbmemfree", |text| averages(text, 0, 1), FREE_IN_KB),
            Row::new("kbavail", |text| averages(text, 0, 2), MOST_IN_KB),
            Row::new("free and used swap, kB", swap_of_sar, SWAP_IN_KB),
        ],
    },
    Program {
        name: "mawk",
        package: "mawk",
        script: "mawk '/^MemTotal:/ { print $2 }' /proc/meminfo",
        rows: &[Row::new("MemTotal in /proc/meminfo, kB", |text| line(text, 0), Is("524288"))],
    },
    Program {
        name: "busybox free",
        package: "busybox",
        script: "busybox free -k",
        rows: &[
            Row::new("total, kB", |text| word(text, "Mem:", 1), Is("524288")).but(Right(SYSINFO)),
            Row::new("available, kB", |text| word(text, "Mem:", 6), MOST_IN_KB),
        ],
    },
    Program {
        name: "busybox top (memory)",
        package: "busybox",
        script: "busybox top -b -n 1",
        rows: &[Row::new("used and free, kB", used_and_free_of_busybox, Is("524288"))],
    },
    Program {
        name: "getconf (memory)",
        package: "libc-bin",
        script: "getconf _PHYS_PAGES",
        rows: &[Row::new("_PHYS_PAGES", |text| line(text, 0), Is("131072")).but(Right(SYSINFO))],
    },
    Program {
        name: "xz (memory)",
        package: "xz-utils",
        script: "xz --info-memory",
        rows: &[Row::new("physical memory, bytes", ram_of_xz, Is("536870912")).but(Right(SYSINFO))],
    },
    Program {
        name: "lsmem",
        package: "util-linux",
        script: "lsmem --bytes --summary",
        rows: &[Row::new(
            "total online memory, bytes",
            |text| after(text, "Total online memory:"),
            Is("536870912"),
        )
        .but(Never(
            Number("the host's, in whole blocks", |facts| {
                let host = (facts.host_memory_kb * 1024) as f64;
                host..=host * 1.25
            }),
            "/sys/devices/system/memory lists the host's memory blocks",
        ))],
    },
    Program {
        name: "dstat (memory)",
        package: "dstat",
        script: "dstat --nocolor --noheaders -m 1 1",
        rows: &[
            Row::new(
                "used, free, buffers and cache, MiB",
                sum_of_dstat,
                Number("512, rounded", |_| 509.0..=515.0),
            ),
            Row::new("free, MiB", |text| mebibytes(&last(text, 1)?), FREE_IN_MB),
        ],
    },
];

/// Whether the numbers of `free` fit together.
fn parts_within_total(text: &str) -> Option<String> {
    let row = text.lines().find(|line| line.starts_with("Mem:"))?;
    let numbers: Vec<u64> = row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [total, used, free, shared, _, available] = numbers[..] else { return None };
    yes(used + free <= total && shared <= total && available <= total)
}

/// A column of the `n`th table of averages that sar prints.
fn averages(text: &str, n: usize, column: usize) -> Option<String> {
    let mut rows = text.lines().filter(|line| line.starts_with("Average:"));
    // A row of names stands above each row of numbers only in the tables of readings.
    let row = rows.by_ref().filter(|line| !line.contains("kb")).nth(n)?;
    row.split_whitespace().nth(column).map(str::to_owned)
}

fn swap_of_sar(text: &str) -> Option<String> {
    let number = |column| averages(text, 1, column)?.parse::<u64>().ok();
    Some((number(1)? + number(2)?).to_string())
}

fn used_and_free_of_busybox(text: &str) -> Option<String> {
    let number = |n| word(text, "Mem:", n)?.trim_end_matches('K').parse::<u64>().ok();
    Some((number(1)? + number(3)?).to_string())
}

fn ram_of_xz(text: &str) -> Option<String> {
    after(text.split_once("(RAM):")?.1, "(")
}

fn sum_of_dstat(text: &str) -> Option<String> {
    let mut sum = 0.0;
    for column in 0..4 {
        sum += mebibytes(&last(text, column)?)?.parse::<f64>().ok()?;
    }
    Some(sum.to_string())
}
