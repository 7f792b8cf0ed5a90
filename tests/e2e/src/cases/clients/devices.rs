//! Programs that are asked about swap areas, memory nodes, paging, interrupts, disks and pressure.

use super::facts::{CPU, FREE_IN_MB, HOST_CPUS, SWAP};
use super::table::Verdict::Never;
use super::table::Want::{Is, Number};
use super::table::{Program, Row, Want};
use super::take::{before, last, line, mebibytes, sample, word, yes};

/// What the container itself has written: a few files of its temporary folder.
const OWN_WRITES: Want = Number("the container's own: at most 64 MiB", |_| 0.0..=(64 << 20) as f64);
/// Waiting that cannot be longer than the container is old.
const OWN_WAITING: Want = Number("at most the container's age", |facts| 0.0..=*facts.age().end());
/// Page faults of a few short programs; a host that runs for a while has millions.
const OWN_FAULTS: Want = Number("1 to 500000", |_| 1.0..=500_000.0);

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "swapon",
        package: "mount",
        script: "swapon --show=SIZE --bytes --noheadings; echo 0",
        rows: &[Row::new("size of swap areas, bytes", |text| line(text, 0), SWAP)],
    },
    Program {
        name: "numactl",
        package: "numactl",
        script: "numactl --hardware; numastat -m",
        rows: &[
            Row::new("CPUs of all nodes", |text| of_nodes(text, "cpus:"), CPU),
            Row::new(
                "size of all nodes, MB",
                |text| sum_of_nodes(text, "size:"),
                Number("512, each rounded", |_| 508.0..=512.0),
            ),
            Row::new("free on all nodes, MB", |text| sum_of_nodes(text, "free:"), FREE_IN_MB),
            Row::new("numastat -m: MemTotal, MB", total_of_numastat, Is("512.00")),
        ],
    },
    Program {
        name: "lstopo (memory)",
        package: "hwloc-nox",
        script: "lstopo-no-graphics --no-io --of console",
        rows: &[Row::new("memory of all nodes, MiB", memory_of_lstopo, Is("512"))],
    },
    Program {
        name: "vmstat (counters)",
        package: "procps",
        script: "vmstat -s; vmstat -d -n",
        rows: &[
            Row::new("K paged in", |text| before(text, " K paged in"), Is("0")),
            Row::new("K paged out", |text| before(text, " K paged out"), Is("0")),
            Row::new("interrupts", |text| before(text, " interrupts"), Is("0")),
            Row::new("CPU context switches", |text| before(text, " CPU context"), Is("0")),
            Row::new(
                "sectors written to disks",
                sectors_of_vmstat,
                Number("the container's own: at most 64 MiB", |_| 0.0..=131_072.0),
            ),
        ],
    },
    Program {
        name: "slabtop",
        package: "procps",
        script: "slabtop -o",
        rows: &[Row::new("caches listed", caches_of_slabtop, Is("0"))],
    },
    Program {
        name: "mpstat -I",
        package: "sysstat",
        script: "mpstat -I SCPU 1 1",
        rows: &[
            Row::new("CPUs listed", |text| last(text, 1), CPU),
            Row::new("TIMER/s", |text| last(text, 3), Number("0", |_| 0.0..=0.0)),
        ],
    },
    Program {
        name: "lsirq",
        package: "util-linux",
        script: "lsirq -n -o TOTAL | sort -rn",
        rows: &[Row::new("highest total", |text| line(text, 0), Is("0"))],
    },
    Program {
        name: "dstat (disks)",
        package: "dstat",
        script: "dstat --nocolor --noheaders -d 1 1",
        rows: &[Row::new("writes of others shown", others_of_dstat, Is("no"))],
    },
    Program {
        name: "iostat (disks)",
        package: "sysstat",
        script: "iostat -d -k",
        rows: &[Row::new(
            "written since the start, kB",
            written_of_iostat,
            Number("the container's own: at most 64 MiB", |_| 0.0..=65_536.0),
        )
        .but(Never(
            Number("the host's", |facts| facts.host_written_kb.0..=facts.host_written_kb.1),
            "reads /sys/block, where the kernel shows the host's disks",
        ))],
    },
    Program {
        name: "sysctl",
        package: "procps",
        script: "sysctl -n fs.file-nr",
        rows: &[Row::new("open files of the machine", |text| word(text, "", 0), Is("0"))],
    },
    Program {
        name: "atop (pressure)",
        package: "atop",
        script: "atop -P PSI 1 1",
        rows: &[Row::new("CPU pressure since the start, s", pressure_of_atop, OWN_WAITING)],
    },
    Program {
        name: "node_exporter (devices)",
        package: "prometheus-node-exporter",
        script: super::monitors::EXPORTER,
        rows: &[
            Row::new(
                "node_pressure_cpu_waiting_seconds_total",
                |text| sample(text, "node_pressure_cpu_waiting_seconds_total"),
                OWN_WAITING,
            ),
            Row::new(
                "node_pressure_io_waiting_seconds_total",
                |text| sample(text, "node_pressure_io_waiting_seconds_total"),
                OWN_WAITING,
            ),
            Row::new("node_vmstat_pgpgin", |text| sample(text, "node_vmstat_pgpgin"), Is("0")),
            Row::new("node_vmstat_pgfault", |text| sample(text, "node_vmstat_pgfault"), OWN_FAULTS),
            Row::new("node_vmstat_oom_kill", |text| sample(text, "node_vmstat_oom_kill"), Is("0")),
            Row::new("node_disk_written_bytes_total", written_of_exporter, OWN_WRITES),
            Row::new("CPUs of node_softnet_processed_total", softnet_of_exporter, Is("1"))
                .but(Never(HOST_CPUS, "/proc/net/softnet_stat belongs to the network namespace")),
        ],
    },
];

/// What `numactl --hardware` says of each node, one after another: `node 0 cpus: 0 1`.
fn of_nodes(text: &str, what: &str) -> Option<String> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|words| words.first() == Some(&"node") && words.get(2) == Some(&what));
    let values: Vec<&str> =
        rows.flat_map(|words| words.into_iter().skip(3)).filter(|word| *word != "MB").collect();
    (!values.is_empty()).then(|| values.join(" "))
}

fn sum_of_nodes(text: &str, what: &str) -> Option<String> {
    let values = of_nodes(text, what)?;
    Some(values.split(' ').map(|value| value.parse().unwrap_or(0_u64)).sum::<u64>().to_string())
}

/// The last column is the sum.
fn total_of_numastat(text: &str) -> Option<String> {
    let row = text.lines().find(|line| line.trim_start().starts_with("MemTotal "))?;
    row.split_whitespace().last().map(str::to_owned)
}

/// `NUMANode L#0 (P#0 512MB)`.
fn memory_of_lstopo(text: &str) -> Option<String> {
    let mut sum = 0.0;
    for node in text.split("NUMANode").skip(1) {
        let size = node.split_once("(P#")?.1.split_once(' ')?.1.split_once(')')?.0;
        sum += mebibytes(size.trim_end_matches('B'))?.parse::<f64>().ok()?;
    }
    Some(sum.to_string())
}

fn sectors_of_vmstat(text: &str) -> Option<String> {
    let (_, disks) = text.split_once("sectors      ms\n").or_else(|| text.split_once("cur    sec\n"))?;
    let written = disks.lines().filter_map(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok());
    Some(written.sum::<u64>().to_string())
}

/// Below the line of names.
fn caches_of_slabtop(text: &str) -> Option<String> {
    let (_, caches) = text.split_once("CACHE SIZE NAME")?;
    Some(caches.lines().filter(|line| !line.trim().is_empty()).count().to_string())
}

fn written_of_iostat(text: &str) -> Option<String> {
    let (_, disks) = text.split_once("kB_dscd\n")?;
    let written = disks.lines().filter_map(|line| line.split_whitespace().nth(6)?.parse::<u64>().ok());
    Some(written.sum::<u64>().to_string())
}

/// The tenth number after `PSI`, in microseconds: some tasks waited for a CPU.
fn pressure_of_atop(text: &str) -> Option<String> {
    Some((word(text, "PSI", 10)?.parse::<f64>().ok()? / 1e6).to_string())
}

fn written_of_exporter(text: &str) -> Option<String> {
    let disks = text.lines().filter_map(|line| line.strip_prefix("node_disk_written_bytes_total{"));
    let written = disks.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Some(written.sum::<f64>().to_string())
}

fn softnet_of_exporter(text: &str) -> Option<String> {
    super::take::count(text, |line| line.starts_with("node_softnet_processed_total{"))
}

/// It refuses to run where the container has used no disk.
fn others_of_dstat(text: &str) -> Option<String> {
    if text.contains("No suitable block devices") {
        return yes(false);
    }
    yes(mebibytes(&last(text, 1)?)?.parse::<f64>().ok()? > 64.0)
}
