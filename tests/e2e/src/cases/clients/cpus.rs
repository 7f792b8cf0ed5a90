//! Programs that are asked about CPUs.

use super::facts::{CPU, HOST_CPUS, IDLE, IDLE_BUT_FOR_ITSELF};
use super::table::Verdict::{Right, WithCpuset};
use super::table::Want::{Is, Number};
use super::table::{AFFINITY, Program, Row};
use super::take::{after, before, count, last, line, word, yes};

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "nproc",
        package: "coreutils",
        script: "nproc; nproc --all",
        rows: &[
            Row::new("nproc", |text| line(text, 0), Is("1")).but(WithCpuset(HOST_CPUS, AFFINITY)),
            Row::new("nproc --all", |text| line(text, 1), Is("1")).but(WithCpuset(
                HOST_CPUS,
                "takes the number for wrong where glibc says 1 or 2, and asks sched_getaffinity(2)",
            )),
        ],
    },
    Program {
        name: "lscpu",
        package: "util-linux",
        script: "lscpu; lscpu --parse=CPU",
        rows: &[
            Row::new("CPU(s)", |text| word(text, "CPU(s):", 1), Is("1")),
            Row::new("on-line list", |text| word(text, "On-line CPU(s) list:", 3), CPU),
            Row::new("off-line CPUs shown", |text| yes(text.contains("Off-line")), Is("no")),
            Row::new("--parse=CPU", |text| last(text, 0), CPU),
            Row::new("NUMA node0 CPU(s)", |text| word(text, "NUMA node0 CPU(s):", 3), CPU),
            Row::new("cores per socket", |text| word(text, "Core(s) per socket:", 3), Is("1")),
        ],
    },
    Program {
        name: "getconf (CPUs)",
        package: "libc-bin",
        script: "getconf _NPROCESSORS_ONLN; getconf _NPROCESSORS_CONF",
        rows: &[
            Row::new("_NPROCESSORS_ONLN", |text| line(text, 0), Is("1")),
            Row::new("_NPROCESSORS_CONF", |text| line(text, 1), Is("1")),
        ],
    },
    Program {
        name: "top (CPUs)",
        package: "procps",
        script: "top -b -1 -d 1 -n 2",
        rows: &[Row::new("CPUs in the summary", cpus_of_top, CPU), Row::new("idle, %", idle_of_top, IDLE)],
    },
    Program {
        name: "vmstat (CPUs)",
        package: "procps",
        script: "vmstat 1 2",
        rows: &[
            Row::new("column id, %", |text| last(text, 14), IDLE),
            Row::new("column st, %", |text| last(text, 16), Number("0 to 10", |_| 0.0..=10.0)),
        ],
    },
    Program {
        name: "mpstat",
        package: "sysstat",
        script: "mpstat -P ALL 1 1",
        rows: &[
            Row::new("CPUs in the first line", |text| before(text, " CPU)"), Is("1")),
            Row::new("CPUs listed", cpus_of_mpstat, CPU),
            Row::new("%idle", |text| word(text, "Average: all", 11), IDLE),
        ],
    },
    Program {
        name: "pidstat",
        package: "sysstat",
        script: "pidstat 1 1",
        rows: &[Row::new("CPUs in the first line", |text| before(text, " CPU)"), Is("1"))],
    },
    Program {
        name: "iostat (CPUs)",
        package: "sysstat",
        script: "iostat -c -y 1 1",
        rows: &[
            Row::new("CPUs in the first line", |text| before(text, " CPU)"), Is("1")),
            Row::new("%idle", |text| last(text, 5), IDLE),
        ],
    },
    Program {
        name: "sar (CPUs)",
        package: "sysstat",
        script: "sar -P ALL 1 1",
        rows: &[
            Row::new("CPUs in the first line", |text| before(text, " CPU)"), Is("1")),
            Row::new("CPUs listed", cpus_of_mpstat, CPU),
        ],
    },
    Program {
        name: "dstat (CPUs)",
        package: "dstat",
        script: "dstat --nocolor --noheaders -c 1 1",
        rows: &[Row::new("idle, %", |text| last(text, 2), IDLE_BUT_FOR_ITSELF)],
    },
    Program {
        name: "grep and ls",
        package: "grep",
        script: "grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat
ls -d /sys/devices/system/cpu/cpu[0-9]* | grep -c .",
        rows: &[
            Row::new("processors in /proc/cpuinfo", |text| line(text, 0), Is("1")),
            Row::new("CPUs in /proc/stat", |text| line(text, 1), Is("1")),
            Row::new("directories cpuN", |text| line(text, 2), Is("1")),
        ],
    },
    Program {
        name: "busybox nproc",
        package: "busybox",
        script: "busybox nproc",
        rows: &[Row::new("nproc", |text| line(text, 0), Is("1")).but(WithCpuset(HOST_CPUS, AFFINITY))],
    },
    Program {
        name: "xz (CPUs)",
        package: "xz-utils",
        script: "xz --info-memory",
        rows: &[Row::new(
            "processor threads (-T0)",
            |text| after(text, "Number of processor threads:"),
            Is("1"),
        )
        .but(WithCpuset(HOST_CPUS, AFFINITY))],
    },
    Program {
        name: "zstd",
        package: "zstd",
        script: "echo | zstd -T0 -v",
        rows: &[Row::new("cores (-T0)", |text| after(text, "Note:"), Is("1"))],
    },
    Program {
        name: "ninja",
        package: "ninja-build",
        script: "ninja -h",
        rows: &[Row::new("default of -j", |text| after(text.split_once("-j N")?.1, "[default="), Is("2"))
            .but(Right("reads the quota of its v1 group itself"))
            .on_v2(WithCpuset(
                Number("3 on 2 CPUs of the host, else 2 more than they are", |facts| {
                    let jobs = if facts.host_cpus == 2 { 3 } else { facts.host_cpus + 2 };
                    jobs as f64..=jobs as f64
                }),
                "reads the quota of its v1 group itself; on v2 asks sched_getaffinity(2)",
            ))],
    },
    Program {
        name: "lstopo",
        package: "hwloc-nox",
        script: "lstopo-no-graphics --no-io --of console --only pu",
        rows: &[Row::new("processing units", |text| count(text, |line| line.contains("PU")), Is("1"))],
    },
];

/// Numbers of the CPUs that `top -1` shows, in its last summary.
fn cpus_of_top(text: &str) -> Option<String> {
    let summary = text.rsplit("\ntop - ").next()?;
    let cpus = summary.lines().filter_map(|line| line.strip_prefix("%Cpu")?.split([' ', ':']).next());
    Some(cpus.collect::<Vec<_>>().join(","))
}

/// What stands in front of `id` in the last summary.
fn idle_of_top(text: &str) -> Option<String> {
    let last = text.lines().rfind(|line| line.starts_with("%Cpu"))?;
    // The bar of a CPU's line or its columns: `: 0.0 us, ... 97.0 id,`.
    last.split(',').find_map(|part| part.trim().strip_suffix(" id")).map(|idle| idle.trim().to_owned())
}

/// Numbers in the column CPU.
fn cpus_of_mpstat(text: &str) -> Option<String> {
    let rows = text.lines().filter(|line| line.starts_with("Average:"));
    let cpus =
        rows.filter_map(|line| line.split_whitespace().nth(1)).filter(|cpu| *cpu != "all" && *cpu != "CPU");
    Some(cpus.collect::<Vec<_>>().join(","))
}
