//! Monitors and exporters: whole screens and whole sets of metrics.

use super::facts::{AGE, CPU, IDLE_BUT_FOR_ITSELF, LAUNCHED, LOAD, SWAP, SWAP_MB};
use super::table::Verdict::FromZero;
use super::table::Want::{Is, Number};
use super::table::{NUMBERS, Program, Row};
use super::take::{after, last, mebibytes, sample, screen, word, yes};

/// The first screen, in a terminal of 80 columns.
const HTOP: &str =
    "{ sleep 2; printf q; } | TERM=xterm timeout 40 script -qec 'stty cols 80 rows 24; htop -d 10' /dev/null";

/// Starts the exporter, scrapes it once and ends it.
pub const EXPORTER: &str = "prometheus-node-exporter --web.listen-address=127.0.0.1:9100 2>/dev/null &
for i in $(seq 100); do
    busybox wget -qO- http://127.0.0.1:9100/metrics 2>/dev/null && break
    sleep 0.2
done
kill $!";

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "htop",
        package: "htop",
        script: HTOP,
        rows: &[
            Row::new("memory, MiB", |text| total_of_htop(text, "Mem"), Is("512")),
            Row::new("swap, MiB", |text| total_of_htop(text, "Swp"), SWAP_MB),
            Row::new("CPU meters", meters_of_htop, Is("1")).but(FromZero(Is("2"), NUMBERS)),
            Row::new("uptime, s", uptime_of_htop, AGE),
            Row::new("load", |text| after(&screen(text), "Load average:"), LOAD),
        ],
    },
    Program {
        name: "atop",
        package: "atop",
        script: "atop -P MEM,SWP,CPU,cpu,CPL 1 1",
        rows: &[
            // The first seven fields say what, where and when.
            Row::new("memory, pages", |text| word(text, "MEM", 7), Is("131072")),
            Row::new("swap, MiB", swap_of_atop, SWAP_MB),
            Row::new("CPUs", |text| word(text, "CPU", 7), Is("1")),
            Row::new("CPU counts its idle time", idle_of_atop, Is("yes")).but(FromZero(Is("no"), NUMBERS)),
            Row::new("load", |text| word(text, "CPL", 7), LOAD),
        ],
    },
    Program {
        name: "nmon",
        package: "nmon",
        script: "nmon -F /tmp/clients/nmon -s 1 -c 1
for i in $(seq 50); do sleep 0.5; grep -q ^MEM,T0001 /tmp/clients/nmon 2>/dev/null && break; done
grep -E '^(AAA|MEM|CPU_ALL)' /tmp/clients/nmon",
        rows: &[
            Row::new("CPUs", |text| after(text, "AAA,cpus,"), Is("1")),
            Row::new("memory, MB", |text| comma(text, "MEM,T0001", 2), Is("512.0")),
            Row::new("swap, MB", |text| comma(text, "MEM,T0001", 5), SWAP_MB),
        ],
    },
    Program {
        name: "collectl",
        package: "collectl",
        script: "collectl -sCm --verbose -c 1 -i 1",
        rows: &[
            Row::new(
                "idle of the CPU, %",
                |text| last(text.split("# MEMORY").next()?, 10),
                IDLE_BUT_FOR_ITSELF,
            )
            .but(FromZero(Is("0"), NUMBERS)),
            Row::new("memory, MiB", total_of_collectl, Is("512")),
        ],
    },
    Program {
        name: "glances",
        package: "glances",
        script: "glances --stdout mem.total,memswap.total,core.log,core.phys,load.cpucore,load.min1,uptime.seconds --stop-after 1",
        rows: &[
            Row::new("memory, bytes", |text| word(text, "mem.total:", 1), Is("536870912")),
            Row::new("swap, bytes", |text| word(text, "memswap.total:", 1), SWAP),
            Row::new("logical cores", |text| word(text, "core.log:", 1), Is("1")),
            Row::new("physical cores", |text| word(text, "core.phys:", 1), Is("1")),
            Row::new("uptime, s", |text| word(text, "uptime.seconds:", 1), AGE),
        ],
    },
    Program {
        name: "node_exporter",
        package: "prometheus-node-exporter",
        script: EXPORTER,
        rows: &[
            Row::new(
                "node_memory_MemTotal_bytes",
                |text| sample(text, "node_memory_MemTotal_bytes"),
                Number("536870912", |_| 536_870_912.0..=536_870_912.0),
            ),
            Row::new("node_memory_SwapTotal_bytes", |text| sample(text, "node_memory_SwapTotal_bytes"), SWAP),
            Row::new("CPUs of node_cpu_seconds_total", cpus_of_exporter, CPU)
                .but(FromZero(Is("0,1"), NUMBERS)),
            Row::new("node_boot_time_seconds", |text| sample(text, "node_boot_time_seconds"), LAUNCHED),
            Row::new("node_load1", |text| sample(text, "node_load1"), LOAD),
            Row::new("node_intr_total", |text| sample(text, "node_intr_total"), Is("0")),
            Row::new(
                "node_context_switches_total",
                |text| sample(text, "node_context_switches_total"),
                Is("0"),
            ),
            Row::new(
                "node_forks_total",
                |text| sample(text, "node_forks_total"),
                Number("10 to 1000", |_| 10.0..=1000.0),
            ),
        ],
    },
];

/// `Mem[|||   2.60M/512M]`.
fn total_of_htop(text: &str, meter: &str) -> Option<String> {
    let screen = screen(text);
    let rest = screen.split_once(&format!("{meter}["))?.1;
    mebibytes(after(rest, "/")?.as_str())
}

/// Meters are named `CPU` where there is one, else by numbers.
fn meters_of_htop(text: &str) -> Option<String> {
    let screen = screen(text);
    let (top, _) = screen.split_once("Mem[")?;
    Some(top.matches('[').count().to_string())
}

/// The last `00:00:12`: within the first second it says that it does not know.
fn uptime_of_htop(text: &str) -> Option<String> {
    let screen = screen(text);
    let clock = screen.split_whitespace().rfind(|word| {
        word.len() == 8
            && word.split(':').count() == 3
            && word.split(':').all(|part| part.parse::<u8>().is_ok())
    })?;
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds.to_string())
}

/// Size of a page, then the number of them.
fn swap_of_atop(text: &str) -> Option<String> {
    let number = |n| word(text, "SWP", n)?.parse::<u64>().ok();
    Some(((number(6)? * number(7)?) >> 20).to_string())
}

fn idle_of_atop(text: &str) -> Option<String> {
    yes(word(text, "cpu", 11)? != "0")
}

/// The `n`th field (from 0) of the row that begins so.
fn comma(text: &str, start: &str, n: usize) -> Option<String> {
    text.lines().find(|line| line.starts_with(start))?.split(',').nth(n).map(str::to_owned)
}

/// Below the names of the columns.
fn total_of_collectl(text: &str) -> Option<String> {
    let row = text.split_once("#   Total")?.1.lines().nth(1)?;
    mebibytes(row.split_whitespace().next()?)
}

fn cpus_of_exporter(text: &str) -> Option<String> {
    let rows =
        text.lines().filter(|line| line.starts_with("node_cpu_seconds_total{") && line.contains("\"idle\""));
    Some(rows.filter_map(|line| line.split('"').nth(1)).collect::<Vec<_>>().join(","))
}
