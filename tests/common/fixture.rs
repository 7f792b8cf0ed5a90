//! Writes a host into a temporary directory: `/proc`, `/sys/devices/system/cpu` and cgroup hierarchies of any
//! version, for any number of CPUs. The texts are those of real machines (`tests/fixtures/`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Each controller in its own v1 hierarchy.
    V1,
    /// cpu and cpuacct together and cpuset on v1, memory on v2.
    Hybrid,
    /// All in one v2 hierarchy.
    V2,
}

/// Whose `/proc/cpuinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Two threads per core where there is more than one CPU.
    X86,
    /// aarch64.
    Arm,
}

/// What a group's files say. `None` is unlimited, or not configured.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// memory.max
    pub memory: Option<u64>,
    /// memory.high (v2)
    pub high: Option<u64>,
    /// memory.current
    pub usage: u64,
    /// active_file, inactive_file, slab_reclaimable (v2), and anon takes the rest of the usage.
    pub cache: [u64; 3],
    /// Swap limit and usage, as v2 counts them.
    pub swap: (Option<u64>, u64),
    /// CPU quota in microseconds per 100 ms.
    pub quota: Option<u64>,
    /// nr_throttled and throttled time in microseconds.
    pub throttled: (u64, u64),
    /// cpu.stat.local, where the kernel has it.
    pub local: Option<u64>,
    /// User and system time in microseconds.
    pub used: (u64, u64),
    /// Effective CPUs; empty as in an unconfigured v1 group.
    pub cpus: String,
    /// Effective memory nodes; where it is empty node 0.
    pub mems: String,
    /// Without the controllers (v2).
    pub bare: bool,
}

/// Files below `/proc/sys`.
const KERNEL_FILES: &[(&str, &str)] = &[
    ("fs/file-nr", "873\t0\t2466183\n"),
    ("fs/inode-nr", "485657\t30519\n"),
    ("fs/inode-state", "485658\t30519\t0\t0\t0\t0\t0\n"),
    ("fs/dentry-state", "486561\t457616\t45\t0\t30740\t0\n"),
    ("fs/aio-nr", "12\n"),
    ("kernel/random/boot_id", "75b90f2a-4863-4f14-bd8a-e304d9d5c132\n"),
];

/// A host in a temporary directory.
pub struct Fixture {
    dir: TempDir,
    flavour: Flavour,
    cpus: usize,
}

/// A text of `tests/fixtures/`, which is the whole workspace's.
pub fn text(name: &str) -> String {
    let mut places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("tests/fixtures"));
    let path = places.find(|dir| dir.is_dir()).expect("tests/fixtures of the workspace").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Fixture {
    /// A host without any group.
    pub fn new(flavour: Flavour, cpus: usize, arch: Arch) -> Self {
        // Thousands of small files: in memory where that is possible.
        let parent = Some(Path::new("/dev/shm")).filter(|dir| dir.is_dir()).map(Path::to_owned);
        let dir = tempfile::tempdir_in(parent.unwrap_or_else(std::env::temp_dir)).unwrap();
        let this = Self { dir, flavour, cpus };
        let mountinfo = match flavour {
            Flavour::V1 => "mountinfo.v1",
            Flavour::Hybrid => "mountinfo.hybrid",
            Flavour::V2 => "mountinfo.v2",
        };
        this.write("proc/self/mountinfo", &text(mountinfo));
        this.link("proc/self/ns/time", "time:[4026531834]");
        this.write("proc/meminfo", &text("meminfo"));
        this.write("proc/uptime", "9000.00 17000.00\n");
        this.write("proc/cpuinfo", &cpuinfo(arch, cpus));
        this.write("proc/stat", &stat(cpus));
        for file in ["vmstat", "buddyinfo", "slabinfo", "modules", "cgroups"] {
            this.write(&format!("proc/{file}"), &text(file));
        }
        this.write("proc/zoneinfo", &zoneinfo(cpus));
        for (file, content) in KERNEL_FILES {
            this.write(&format!("proc/sys/{file}"), content);
        }
        this.write_cpu_tree(arch);
        this.write_roots();
        this
    }

    /// The root to read from.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Writes or replaces a file.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Makes a symbolic link.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
    }

    /// A process: `/proc/PID/{stat,status,ns/*,timens_offsets}`. `timens` is the boottime offset in seconds of a
    /// time namespace of its own.
    pub fn process(
        &self,
        pid: u32,
        inner: &[u32],
        comm: &str,
        state: char,
        start_ticks: u64,
        timens: Option<i64>,
    ) {
        let dir = format!("proc/{pid}");
        let fields = "0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0";
        self.write(
            &format!("{dir}/stat"),
            &format!("{pid} ({comm}) {state} 1 {pid} {pid} {fields} {start_ticks} 22 33 44\n"),
        );
        let ids = inner.iter().fold(pid.to_string(), |ids, id| format!("{ids}\t{id}"));
        let status =
            format!("Name:\t{comm}\nState:\t{state} (x)\nTgid:\t{pid}\nPid:\t{pid}\nNSpid:\t{ids}\n");
        self.write(&format!("{dir}/status"), &status);
        let (ns, offset) = timens.map_or((4_026_531_834u64, 0), |offset| (4_026_532_999, offset));
        self.write(&format!("{dir}/timens_offsets"), &format!("monotonic {offset} 0\nboottime {offset} 0\n"));
        for kind in ["time", "time_for_children"] {
            self.link(&format!("{dir}/ns/{kind}"), &format!("time:[{ns}]"));
        }
    }

    /// The hierarchies' mount points, with what they hold.
    fn mounts(&self) -> &'static [(&'static str, &'static [&'static str])] {
        match self.flavour {
            Flavour::V1 => &[
                ("cpu", &["cpu"]),
                ("cpuacct", &["cpuacct"]),
                ("cpuset", &["cpuset"]),
                ("memory", &["memory"]),
                ("pids", &[]),
                ("systemd", &[]),
            ],
            Flavour::Hybrid => &[
                ("cpu,cpuacct", &["cpu", "cpuacct"]),
                ("cpuset", &["cpuset"]),
                ("systemd", &[]),
                ("unified", &["memory2", "cpustat2"]),
            ],
            Flavour::V2 => &[("", &["memory2", "cpu2", "cpustat2", "cpuset2"])],
        }
    }

    fn write_roots(&self) {
        for (mount, files) in self.mounts() {
            let top = format!("sys/fs/cgroup/{mount}");
            self.write(&format!("{top}/cgroup.procs"), "1\n");
            if files.contains(&"cpustat2") {
                let controllers =
                    if self.flavour == Flavour::V2 { "cpuset cpu io memory pids\n" } else { "memory pids\n" };
                self.write(&format!("{top}/cgroup.controllers"), controllers);
            } else {
                self.write(&format!("{top}/release_agent"), "\n");
            }
        }
    }

    /// Writes or rewrites a group in all hierarchies; `path` starts with `/`.
    pub fn group(&self, path: &str, group: &Group) {
        for (mount, kinds) in self.mounts() {
            let dir = format!("sys/fs/cgroup/{mount}{path}");
            self.write(&format!("{dir}/cgroup.procs"), "");
            for kind in kinds.iter().filter(|kind| !group.bare || **kind == "cpustat2") {
                self.group_files(&dir, kind, group);
            }
        }
    }

    /// The tasks of a group, by their thread ids.
    pub fn tasks(&self, path: &str, ids: &[u32]) {
        let list: String = ids.iter().map(|id| format!("{id}\n")).collect();
        for (mount, kinds) in self.mounts() {
            let file = if kinds.contains(&"cpustat2") { "cgroup.threads" } else { "tasks" };
            self.write(&format!("sys/fs/cgroup/{mount}{path}/{file}"), &list);
        }
    }

    fn group_files(&self, dir: &str, kind: &str, group: &Group) {
        let put = |file: &str, value: String| self.write(&format!("{dir}/{file}"), &format!("{value}\n"));
        let max = |limit: Option<u64>, unlimited: &str| limit.map_or(unlimited.to_owned(), |n| n.to_string());
        let huge = "9223372036854771712";
        let (throttles, waited) = group.throttled;
        let (user, system) = group.used;
        let anon = group.usage.saturating_sub(group.cache.iter().sum());
        match kind {
            "memory" => {
                put("memory.limit_in_bytes", max(group.memory, huge));
                put("memory.usage_in_bytes", group.usage.to_string());
                let both = group.memory.zip(group.swap.0).map(|(memory, swap)| memory + swap);
                put("memory.memsw.limit_in_bytes", max(both, huge));
                put("memory.memsw.usage_in_bytes", (group.usage + group.swap.1).to_string());
                put("memory.swappiness", "60".to_owned());
                let own = [("total_active_file", group.cache[0]), ("total_inactive_file", group.cache[1])];
                let rest = [("total_cache", group.cache[0] + group.cache[1]), ("total_rss", anon)];
                put("memory.stat", with_values(&text("memory.stat.v1"), &[own, rest].concat()));
                put("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3".to_owned());
            }
            "memory2" => {
                put("memory.max", max(group.memory, "max"));
                put("memory.high", max(group.high, "max"));
                put("memory.current", group.usage.to_string());
                put("memory.swap.max", max(group.swap.0, "max"));
                put("memory.swap.current", group.swap.1.to_string());
                let own = [
                    ("active_file", group.cache[0]),
                    ("inactive_file", group.cache[1]),
                    ("slab_reclaimable", group.cache[2]),
                    ("slab", group.cache[2] + 30_800),
                    ("file", group.cache[0] + group.cache[1]),
                    ("anon", anon),
                ];
                put("memory.stat", with_values(&text("memory.stat.v2"), &own));
                put("memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0".to_owned());
            }
            "cpu" => {
                put("cpu.cfs_quota_us", max(group.quota, "-1"));
                put("cpu.cfs_period_us", "100000".to_owned());
                let nanos = waited * 1000;
                put("cpu.stat", format!("nr_periods 99\nnr_throttled {throttles}\nthrottled_time {nanos}"));
                if let Some(local) = group.local {
                    put("cpu.stat.local", format!("throttled_time {}", local * 1000));
                }
            }
            "cpuacct" => {
                // all on the first CPU of the set, else on CPU 0
                let first = group.cpus.split(['-', ',']).next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let total = (user + system) * 1000;
                let per = (0..self.cpus).map(|cpu| if cpu == first { total } else { 0 });
                put("cpuacct.usage", total.to_string());
                put("cpuacct.usage_percpu", per.map(|n| format!("{n} ")).collect());
                put("cpuacct.usage_user", (user * 1000).to_string());
                put("cpuacct.usage_sys", (system * 1000).to_string());
            }
            "cpuset" => {
                put("cpuset.effective_cpus", group.cpus.clone());
                put("cpuset.effective_mems", mems(group));
            }
            "cpuset2" => {
                put("cpuset.cpus.effective", group.cpus.clone());
                put("cpuset.mems.effective", mems(group));
            }
            "cpu2" => {
                put("cpu.max", format!("{} 100000", max(group.quota, "max")));
                put("cpu.stat.local", group.local.map_or(String::new(), |n| format!("throttled_usec {n}")));
            }
            "cpustat2" => {
                let used = user + system;
                let mut stat =
                    format!("usage_usec {used}\nuser_usec {user}\nsystem_usec {system}\nnice_usec 0");
                if self.flavour == Flavour::V2 && !group.bare {
                    let _ =
                        write!(stat, "\nnr_periods 99\nnr_throttled {throttles}\nthrottled_usec {waited}");
                }
                put("cpu.stat", stat);
            }
            other => panic!("no such kind: {other}"),
        }
    }

    /// NUMA nodes by number: CPUs and MemTotal in kB. Each is farther from the others than from itself by 10 per number
    /// between them.
    #[allow(dead_code)] // of the test files only those about nodes
    pub fn nodes(&self, nodes: &[(usize, &str, u64)]) {
        let top = "sys/devices/system/node";
        let online = list(&nodes.iter().map(|(number, ..)| *number).collect::<Vec<_>>());
        let with = |has: fn(&(usize, &str, u64)) -> bool| {
            list(&nodes.iter().filter(|node| has(node)).map(|(number, ..)| *number).collect::<Vec<_>>())
        };
        for (file, value) in [
            ("online", online.clone()),
            ("possible", "0-7".to_owned()),
            ("has_cpu", with(|(_, cpus, _)| !cpus.is_empty())),
            ("has_memory", with(|(.., kib)| *kib > 0)),
            ("has_normal_memory", with(|(.., kib)| *kib > 0)),
            ("has_generic_initiator", String::new()),
            ("uevent", String::new()),
            ("power/control", "auto".to_owned()),
        ] {
            self.write(&format!("{top}/{file}"), &format!("{value}\n"));
        }
        for (number, cpus, kib) in nodes {
            let dir = format!("{top}/node{number}");
            let members = numbers(cpus);
            self.write(&format!("{dir}/cpulist"), &format!("{cpus}\n"));
            self.write(&format!("{dir}/cpumap"), &format!("{}\n", mask(&members, self.cpus)));
            let distances = nodes.iter().map(|(other, ..)| (10 + 10 * number.abs_diff(*other)).to_string());
            self.write(&format!("{dir}/distance"), &format!("{}\n", distances.collect::<Vec<_>>().join(" ")));
            let meminfo = text("node.meminfo").replace("Node 0 ", &format!("Node {number} "));
            let meminfo = meminfo.replace("24684096 kB", &format!("{kib:>8} kB"));
            self.write(&format!("{dir}/meminfo"), &meminfo);
            self.write(&format!("{dir}/vmstat"), &text("node.vmstat"));
            self.write(&format!("{dir}/numastat"), "numa_hit 3004\nnuma_miss 5\nlocal_node 3004\n");
            for (file, value) in [("nr_hugepages", "3"), ("free_hugepages", "2"), ("surplus_hugepages", "1")]
            {
                self.write(&format!("{dir}/hugepages/hugepages-2048kB/{file}"), &format!("{value}\n"));
            }
            self.write(&format!("{dir}/compact"), "");
            self.link(&format!("{dir}/memory0"), "../../memory/memory0");
            for cpu in members {
                self.link(&format!("{dir}/cpu{cpu}"), &format!("../../cpu/cpu{cpu}"));
                let link = format!("sys/devices/system/cpu/cpu{cpu}/node{number}");
                self.link(&link, &format!("../../node/node{number}"));
            }
        }
    }

    fn write_cpu_tree(&self, arch: Arch) {
        let top = "sys/devices/system/cpu";
        let last = self.cpus - 1;
        let all = if last == 0 { "0\n".to_owned() } else { format!("0-{last}\n") };
        for file in ["online", "present", "possible"] {
            self.write(&format!("{top}/{file}"), &all);
        }
        for (file, value) in
            [("offline", "\n"), ("isolated", "\n"), ("kernel_max", "8191\n"), ("smt/active", "1\n")]
        {
            self.write(&format!("{top}/{file}"), value);
        }
        for cpu in 0..self.cpus {
            let (core, threads) = core_of(arch, cpu, self.cpus);
            let cpu_dir = format!("{top}/cpu{cpu}");
            self.write(&format!("{cpu_dir}/topology/core_id"), &format!("{core}\n"));
            self.write(&format!("{cpu_dir}/topology/core_cpus_list"), &format!("{}\n", list(&threads)));
            self.write(&format!("{cpu_dir}/topology/core_cpus"), &format!("{}\n", mask(&threads, self.cpus)));
            self.write(&format!("{cpu_dir}/topology/package_cpus_list"), &all);
            self.write(&format!("{cpu_dir}/cache/index0/shared_cpu_list"), &format!("{}\n", list(&threads)));
        }
    }
}

fn mems(group: &Group) -> String {
    if group.mems.is_empty() { "0".to_owned() } else { group.mems.clone() }
}

/// Core number and the CPUs of that core: on x86 CPU n and n + half are threads of one core.
fn core_of(arch: Arch, cpu: usize, cpus: usize) -> (usize, Vec<usize>) {
    if arch == Arch::Arm || cpus == 1 {
        return (cpu, vec![cpu]);
    }
    let half = cpus / 2;
    (cpu % half, vec![cpu % half, cpu % half + half])
}

/// The numbers of a list such as `0-2,5`.
fn numbers(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    list.split(',').filter(|part| !part.is_empty()).flat_map(range).collect()
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// As the kernel prints a cpumask: 32-bit words, the highest first.
fn mask(cpus: &[usize], count: usize) -> String {
    let words = (0..count.div_ceil(32)).rev().map(|word| {
        let bits =
            cpus.iter().filter(|cpu| **cpu / 32 == word).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
        let width = if count < 32 { count.div_ceil(4) } else { 8 };
        format!("{bits:0width$x}")
    });
    words.collect::<Vec<_>>().join(",")
}

/// Replaces the values of keys that the text has.
fn with_values(text: &str, values: &[(&str, u64)]) -> String {
    let line = |line: &str| {
        let key = line.split(' ').next().unwrap();
        match values.iter().find(|(known, _)| *known == key) {
            Some((_, value)) => format!("{key} {value}"),
            None => line.to_owned(),
        }
    };
    for (key, _) in values {
        assert!(text.lines().any(|line| line.split(' ').next() == Some(key)), "no key {key}");
    }
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn cpuinfo(arch: Arch, cpus: usize) -> String {
    let block = text(if arch == Arch::X86 { "cpuinfo.x86_64" } else { "cpuinfo.aarch64" });
    let mut out = String::new();
    for cpu in 0..cpus {
        let (core, threads) = core_of(arch, cpu, cpus);
        for line in block.lines() {
            let key = line.split(':').next().unwrap().trim_end();
            let value = match key {
                "processor" => cpu,
                "core id" => core,
                "siblings" => cpus,
                "cpu cores" => cpus / threads.len(),
                "apicid" | "initial apicid" => cpu,
                _ => {
                    let _ = writeln!(out, "{line}");
                    continue;
                }
            };
            let _ = writeln!(out, "{}: {value}", line.split(':').next().unwrap());
        }
        out.push('\n');
    }
    out
}

fn stat(cpus: usize) -> String {
    let mut out = String::from("cpu  74185 15808 34019 246949 1135 0 125 122 0 0\n");
    for cpu in 0..cpus {
        let _ = writeln!(out, "cpu{cpu} 35977 7075 19266 123687 190 0 12 58 0 0");
    }
    out + &text("stat.tail")
}

/// The page set of CPU 0 for each CPU.
fn zoneinfo(cpus: usize) -> String {
    let mut out = String::new();
    let text = text("zoneinfo");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line != "    cpu: 0" {
            let _ = writeln!(out, "{line}");
            continue;
        }
        let mut set = Vec::new();
        while let Some(line) =
            lines.next_if(|line| line.starts_with("          ") || line.starts_with("  vm stats"))
        {
            set.push(line);
        }
        for cpu in 0..cpus {
            let _ = writeln!(out, "    cpu: {cpu}\n{}", set.join("\n"));
        }
    }
    out
}
