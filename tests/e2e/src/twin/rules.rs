//! What may differ between the container and the machine, and why. Whatever no rule covers must be equal.

/// What a rule says about the values it covers.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Numbers at most this many percent of the larger apart, or this much, in the unit of the line.
    Within { percent: f64, plus: f64, unit: &'static str, reason: &'static str },
    /// Not equal, in every run.
    Differs(&'static str),
    /// Equal or not, as chance has it: nothing that the container could be told by.
    Varies(&'static str),
    /// Another number of values, or other separators; values that both have are compared.
    Width(&'static str),
    /// The machine alone has the line.
    OnlyMachine(&'static str),
    /// The container alone has the line.
    OnlyContainer(&'static str),
}

impl Verdict {
    /// Whether it judges values that both sides have.
    pub const fn is_about_values(self) -> bool {
        matches!(self, Self::Within { .. } | Self::Differs(_) | Self::Varies(_))
    }

    /// Why.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Within { reason, .. }
            | Self::Differs(reason)
            | Self::Varies(reason)
            | Self::Width(reason)
            | Self::OnlyMachine(reason)
            | Self::OnlyContainer(reason) => reason,
        }
    }
}

/// One rule; the first that matches a value decides.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Path of the file; `*` stands for anything. What the workload adds to a file is `PATH (growth)`.
    pub file: &'static str,
    /// Keys of lines, `|` between them; `*` likewise.
    pub lines: &'static str,
    /// Values of the line, counted from 0; none: all of them, and the line itself.
    pub columns: &'static [usize],
    /// The verdict.
    pub verdict: Verdict,
}

impl Rule {
    /// Whether it is about the line with this key of this file.
    pub fn covers_line(&self, file: &str, key: &str) -> bool {
        matches(self.file, file) && self.lines.split('|').any(|pattern| matches(pattern, key))
    }

    /// Whether it is about this value of such a line.
    pub fn covers(&self, file: &str, key: &str, column: usize) -> bool {
        (self.columns.is_empty() || self.columns.contains(&column)) && self.covers_line(file, key)
    }
}

/// Whether a text is as the pattern says; `*` stands for any text, `#` alone for digits.
pub fn matches(pattern: &str, text: &str) -> bool {
    if pattern == "#" {
        return !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    }
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.len() >= tail.len() && text.ends_with(tail)
}

const fn rule(file: &'static str, lines: &'static str, verdict: Verdict) -> Rule {
    Rule { file, lines, columns: &[], verdict }
}

const fn columns(
    file: &'static str,
    lines: &'static str,
    columns: &'static [usize],
    verdict: Verdict,
) -> Rule {
    Rule { file, lines, columns, verdict }
}

const fn within(percent: f64, plus: f64, unit: &'static str, reason: &'static str) -> Verdict {
    Verdict::Within { percent, plus, unit, reason }
}

use Verdict::{Differs, OnlyContainer, OnlyMachine, Varies, Width};

/// MemTotal, and what is counted from it.
const TAKEN: &str = "the machine's kernel and programs have their part of 1 GiB, the container has all of it";
const BOOT: &str = "the machine's own boot";
const CHARGED: &str = "the machine's kernel for itself; a container has what its group is charged";
const UNCOUNTED: &str = "no group counts it";
const CPU_SPREAD: &str = "cgroup v2 counts no time per CPU: the sum is spread evenly";
const MEASURED: &str = "the kernel measures it at each boot";
const TICKS: &str =
    "the machine's kernel samples by the tick, of which emulation loses some; a group's time is exact";
const HOSTS_TABLES: &str = "tables of the host's kernel, sized and used by all of it";
const LIMIT_NO_DEVICE: &str = "the container's swap is a limit, no device";
const EVENTS: &str =
    "pages and events of the machine's kernel and boot; a container has those of its group, or 0";
const ONE_ZONE: &str = "a container's memory is one zone, a machine's is three by address";
const DISK_TIMES: &str = "groups count bytes and operations alone";
const NO_INTERRUPTS: &str = "interrupts and what they cost are the host's";
const LIFE: &str = "the machine's since its boot, the container's since its start";

/// All rules.
pub const RULES: &[Rule] = &[
    // meminfo: what is there, kB
    rule("proc/meminfo", "MemTotal|CommitLimit", within(10.0, 0.0, "", TAKEN)),
    rule("proc/meminfo", "MemFree|MemAvailable", within(25.0, 0.0, "", TAKEN)),
    rule(
        "proc/meminfo",
        "Cached|Shmem|Active|Inactive|Active(*)|Inactive(file)|Mapped",
        within(0.0, 32768.0, "kB", BOOT),
    ),
    rule("proc/meminfo", "AnonPages|AnonHugePages", within(5.0, 4096.0, "kB", BOOT)),
    rule(
        "proc/meminfo",
        "Buffers|Dirty|Writeback",
        Varies("disks are the host's, and so are their own blocks in memory"),
    ),
    rule(
        "proc/meminfo",
        "Slab|KReclaimable|SReclaimable|SUnreclaim|KernelStack|PageTables|VmallocUsed|Percpu",
        Differs(CHARGED),
    ),
    rule("proc/meminfo", "Committed_AS", Differs(UNCOUNTED)),
    rule("proc/meminfo", "DirectMap*", Differs("how the host's kernel maps its memory is the host's")),
    // meminfo: what the workload adds
    rule("proc/meminfo (growth)", "MemFree|MemAvailable", within(0.0, 32768.0, "kB", "")),
    rule(
        "proc/meminfo (growth)",
        "Cached|Shmem|Active|Inactive|Active(*)|Inactive(file)|AnonPages|AnonHugePages",
        within(5.0, 2048.0, "kB", ""),
    ),
    rule(
        "proc/meminfo (growth)",
        "Mapped|Buffers|Dirty|Writeback|Slab|KReclaimable|SReclaimable|SUnreclaim|KernelStack|PageTables|VmallocUsed|Percpu",
        within(0.0, 1024.0, "kB", ""),
    ),
    rule("proc/meminfo (growth)", "Committed_AS", Differs(UNCOUNTED)),
    // cpuinfo
    rule("proc/cpuinfo", "* > cpu MHz|* > bogomips", Varies(MEASURED)),
    // stat
    columns("proc/stat", "cpu*", &[0, 1, 2, 3, 7], Varies(LIFE)),
    columns("proc/stat", "cpu*", &[4], Varies("iowait is no group's")),
    columns("proc/stat", "cpu*", &[5, 6], Varies(NO_INTERRUPTS)),
    rule(
        "proc/stat",
        "intr",
        Width("a column for each interrupt that the host's kernel has room for: more with more CPUs"),
    ),
    rule("proc/stat", "intr|softirq", Varies(NO_INTERRUPTS)),
    rule("proc/stat", "ctxt", Differs(UNCOUNTED)),
    rule("proc/stat", "btime|processes", Differs(LIFE)),
    rule("proc/stat (growth)", "used", within(0.0, 15.0, "percent of all time", "")),
    columns("proc/stat (growth)", "cpu", &[0, 2, 3], Varies(TICKS)),
    columns("proc/stat (growth)", "cpu0|cpu1", &[0, 2, 3], Differs(CPU_SPREAD)),
    columns("proc/stat (growth)", "cpu*", &[4, 5, 6], within(0.0, 50.0, "ticks", "")),
    rule("proc/stat (growth)", "intr", Width("as above")),
    rule("proc/stat (growth)", "intr|softirq", Varies(NO_INTERRUPTS)),
    rule("proc/stat (growth)", "ctxt", Differs(UNCOUNTED)),
    // uptime
    rule("proc/uptime", "", Differs(LIFE)),
    rule("proc/uptime (growth)", "ahead", within(0.0, 0.5, "s", "")),
    rule("proc/uptime (growth)", "idle", Varies(TICKS)),
    // locks
    rule("proc/locks", "*", OnlyMachine("whose a lock is cannot be told: it outlives its process")),
    // diskstats: reads, sectors, writes, sectors, discards, sectors; the others are times and merges
    columns("proc/diskstats", "*", &[0, 2, 4, 6, 11, 13], Varies(LIFE)),
    columns("proc/diskstats", "*", &[1, 3, 5, 7, 8, 9, 10, 12, 14, 15, 16], Varies(DISK_TIMES)),
    rule("proc/diskstats", "*", OnlyMachine("a container has the disks that it has used")),
    columns("proc/diskstats (growth)", "* vda", &[0, 2, 11, 13], Varies(LIFE)),
    columns("proc/diskstats (growth)", "* vda", &[4], within(50.0, 8.0, "", "")),
    columns("proc/diskstats (growth)", "* vda", &[6], within(2.0, 0.0, "", "")),
    columns("proc/diskstats (growth)", "* vda", &[1, 3, 5, 7, 8, 9, 10, 12, 14, 15, 16], Varies(DISK_TIMES)),
    rule("proc/diskstats (growth)", "*", OnlyMachine("a container has the disks that it has used")),
    // pressure
    rule("proc/pressure/*", "some *|full *", Varies(LIFE)),
    // loadavg
    columns("proc/loadavg", "", &[0, 1, 2], within(0.0, 0.5, "", BOOT)),
    columns("proc/loadavg", "", &[4, 5], Differs("kernel threads and other processes are the host's")),
    // interrupts, softirqs, schedstat
    rule("proc/interrupts", "#", OnlyMachine("devices are the host's")),
    rule("proc/interrupts", "*", Varies(NO_INTERRUPTS)),
    rule("proc/softirqs", "*", Varies(NO_INTERRUPTS)),
    rule("proc/schedstat", "timestamp", Differs(LIFE)),
    columns("proc/schedstat", "cpu0|cpu1", &[6], Varies(LIFE)),
    columns("proc/schedstat", "cpu0|cpu1", &[0, 1, 2, 3, 4, 5, 7, 8], Varies(UNCOUNTED)),
    rule(
        "proc/schedstat",
        "* > domain0",
        OnlyMachine("the domains of the host's scheduler hold other CPUs too"),
    ),
    // files of the kernel
    rule("proc/sys/kernel/random/boot_id", "", Differs("each machine and each container has its own")),
    rule("proc/sys/fs/*", "", Varies(HOSTS_TABLES)),
    rule("proc/partitions", "*", OnlyMachine("no disk belongs to a container")),
    rule("proc/swaps", "dev *", OnlyMachine(LIMIT_NO_DEVICE)),
    rule("proc/swaps", "none virtual", OnlyContainer(LIMIT_NO_DEVICE)),
    rule("proc/slabinfo", "*", OnlyMachine("groups are charged for slabs, but not by cache")),
    rule("proc/modules", "*", Width("a container is not told which modules use one")),
    rule("proc/modules", "*", Varies("addresses and users of modules are the host's")),
    columns("proc/cgroups", "*", &[1], Varies("a container has the groups that it made")),
    // vmstat, zoneinfo, buddyinfo: pages
    rule("proc/vmstat", "nr_free_pages", within(25.0, 0.0, "", TAKEN)),
    rule(
        "proc/vmstat",
        "nr_anon_pages|nr_anon_transparent_hugepages|nr_file_pages|nr_shmem|nr_mapped|nr_*active_*",
        within(5.0, 8192.0, "pages", BOOT),
    ),
    rule("proc/vmstat", "*", Varies(EVENTS)),
    rule("proc/vmstat (growth)", "nr_free_pages", within(25.0, 1024.0, "pages", "")),
    rule(
        "proc/vmstat (growth)",
        "nr_anon_pages|nr_anon_transparent_hugepages|nr_file_pages|nr_shmem|nr_*active_*",
        within(5.0, 512.0, "pages", ""),
    ),
    rule("proc/vmstat (growth)", "*", Varies(EVENTS)),
    rule("proc/zoneinfo", "Node 0 zone DMA*|Node 0 zone Movable*|Node 0 zone Device*", OnlyMachine(ONE_ZONE)),
    rule("proc/zoneinfo", "Node 0 zone Normal*", OnlyContainer(ONE_ZONE)),
    rule("proc/zoneinfo", "Node 0 zone Normal*", Varies(ONE_ZONE)),
    rule("proc/buddyinfo", "Node 0 zone DMA*", OnlyMachine(ONE_ZONE)),
    rule("proc/buddyinfo", "Node 0 zone Normal", OnlyContainer(ONE_ZONE)),
    // sys
    rule("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal", within(10.0, 0.0, "", TAKEN)),
    rule("sys/devices/system/node/node0/meminfo", "Node 0 MemFree", within(25.0, 0.0, "", TAKEN)),
    rule(
        "sys/devices/system/node/node0/meminfo",
        "Node 0 FilePages|Node 0 Shmem|Node 0 Active*|Node 0 Inactive*|Node 0 Mapped|Node 0 Anon*",
        within(5.0, 32768.0, "kB", BOOT),
    ),
    rule("sys/devices/system/node/node0/meminfo", "*", Varies(CHARGED)),
    rule("sys/devices/system/node/node0/vmstat", "*", Varies(EVENTS)),
    rule("sys/devices/system/node/node0/numastat", "*", Varies(UNCOUNTED)),
    rule("sys/devices/system/*", "*", OnlyMachine("power management and what is for the machine's owner")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("a", "a"),
            ("#", "12"),
            ("*", ""),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c*e", "abcde"),
            ("a*b*", "aXbb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("#", "1a"), ("#", ""), ("a*b", "ac"), ("ab*b", "ab"), ("*x*", "abc")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
