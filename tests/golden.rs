//! The whole path from a host's files to the bytes a container reads, compared with `tests/golden/*.txt`.
//! `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden` rewrites those; look at the difference before committing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[path = "common/fixture.rs"]
mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{HostPid, Nsec, Numbering, Policies};
use ownproc::readings::{self, Subject};
use ownproc::render::ProcFile;

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;
const INIT: u32 = 4242;
/// The host has been up for 9000 s, the container since 100 s before that.
const NOW: Clocks = Clocks {
    boottime: Nsec(9000 * SECOND),
    monotonic: Nsec(8900 * SECOND),
    realtime: Nsec(1_795_498_128 * SECOND + 9000 * SECOND),
};
const START_TICKS: u64 = 890_000;

/// One golden file: a host, a container of nested groups, policies; and what must hold whatever the file says.
struct Case {
    name: &'static str,
    flavour: Flavour,
    cpus: usize,
    arch: Arch,
    /// From the top down; the last is the container's.
    groups: Vec<(&'static str, Group)>,
    policies: Policies,
    timens: Option<i64>,
    total_kib: u64,
    shown: &'static str,
}

const HOST_KIB: u64 = 24_684_096;

fn base(name: &'static str, flavour: Flavour, cpus: usize, arch: Arch) -> Case {
    let groups = vec![("/ownproc", Group::default()), ("/ownproc/web", Group::default())];
    let policies = Policies::default();
    Case { name, flavour, cpus, arch, groups, policies, timens: None, total_kib: HOST_KIB, shown: "0" }
}

/// Usage and times that every case's container has.
fn busy() -> Group {
    Group {
        usage: 120 * MIB,
        cache: [20 * MIB, 30 * MIB, 5 * MIB],
        used: (3_000_000, 1_000_000),
        ..Group::default()
    }
}

/// Parent 500 MiB under a quota of 1.5 CPUs, child 600 MiB, leaf unlimited; a sibling uses most of the parent's.
fn nested() -> Vec<(&'static str, Group)> {
    let parent = Group {
        memory: Some(500 * MIB),
        usage: 420 * MIB,
        cache: [50 * MIB, 50 * MIB, 0],
        quota: Some(150_000),
        throttled: (40, 2_500_000),
        used: (30_000_000, 2_000_000),
        ..Group::default()
    };
    let swap = (Some(200 * MIB), 50 * MIB);
    let child = Group { memory: Some(600 * MIB), swap, ..busy() };
    let leaf = Group { local: Some(1_000_000), ..busy() };
    vec![("/pods", parent), ("/pods/child", child), ("/pods/child/leaf", leaf)]
}

fn container(group: Group) -> Vec<(&'static str, Group)> {
    vec![("/ownproc", Group::default()), ("/ownproc/web", group)]
}

fn cases() -> Vec<Case> {
    use Arch::{Arm, X86};
    use Flavour::{Hybrid, V1, V2};
    let huge = Some(1 << 50);
    vec![
        Case { groups: container(busy()), ..base("v1-1cpu-x86-max", V1, 1, X86) },
        Case { groups: nested(), total_kib: 512_000, shown: "0-1", ..base("v1-2cpu-x86-nested", V1, 2, X86) },
        Case {
            groups: container(Group {
                memory: huge,
                quota: Some(250_000),
                throttled: (7, 900_000),
                cpus: "0-3,32-35".into(),
                ..busy()
            }),
            shown: "0-2",
            ..base("v1-64cpu-x86-huge", V1, 64, X86)
        },
        Case {
            groups: container(Group { memory: Some(100 * MIB), cpus: "8-11,250-255".into(), ..busy() }),
            policies: Policies { numbering: Numbering::Compact, ..Policies::default() },
            total_kib: 102_400,
            shown: "0-9",
            ..base("v1-256cpu-arm-below-usage", V1, 256, Arm)
        },
        Case {
            groups: container(Group { memory: Some(0), ..busy() }),
            total_kib: 4,
            ..base("hybrid-1cpu-arm-zero", Hybrid, 1, Arm)
        },
        Case {
            groups: nested(),
            total_kib: 512_000,
            shown: "0-1",
            ..base("hybrid-2cpu-x86-nested", Hybrid, 2, X86)
        },
        Case { groups: container(busy()), shown: "0-63", ..base("hybrid-64cpu-arm-max", Hybrid, 64, Arm) },
        Case {
            groups: container(Group { memory: huge, cpus: "100,228".into(), ..busy() }),
            shown: "100,228",
            ..base("hybrid-256cpu-x86-huge", Hybrid, 256, X86)
        },
        Case {
            groups: container(Group { memory: Some(0), cpus: "0".into(), ..busy() }),
            total_kib: 4,
            ..base("v2-1cpu-arm-zero", V2, 1, Arm)
        },
        Case {
            groups: {
                let mut groups = nested();
                groups.push((
                    "/pods/child/leaf/bare",
                    Group { bare: true, used: (2_000_000, 500_000), ..busy() },
                ));
                for (_, group) in &mut groups {
                    group.cpus = "0-1".into();
                }
                groups
            },
            timens: Some(-8900),
            total_kib: 512_000,
            shown: "0-1",
            ..base("v2-2cpu-x86-nested-timens", V2, 2, X86)
        },
        Case {
            groups: container(Group {
                memory: Some(100 * MIB),
                high: Some(80 * MIB),
                swap: (Some(64 * MIB), 96 * MIB),
                quota: Some(1_000),
                cpus: "0-63".into(),
                ..busy()
            }),
            total_kib: 102_400,
            ..base("v2-64cpu-x86-below-usage", V2, 64, X86)
        },
        Case {
            groups: container(Group { cpus: "0-255".into(), ..busy() }),
            shown: "0-255",
            ..base("v2-256cpu-arm-max", V2, 256, Arm)
        },
    ]
}

struct World {
    fixture: Fixture,
    host: Host,
    clock: Arc<parking_lot::Mutex<Clocks>>,
    subject: Subject,
}

fn build(case: &Case) -> World {
    let fixture = Fixture::new(case.flavour, case.cpus, case.arch);
    for (path, group) in &case.groups {
        fixture.group(path, group);
    }
    let path = case.groups.last().unwrap().0;
    fixture.process(INIT, &[1], "a b) c", 'S', START_TICKS, case.timens);
    fixture.process(4300, &[57], "worker", 'R', START_TICKS + 5, case.timens);
    fixture.process(4301, &[58], "disk", 'D', START_TICKS + 5, case.timens);
    fixture.tasks(path, &[INIT, 4300, 4301]);
    let layout = Layout::discover(fixture.root()).unwrap();
    let membership = Membership::parse("", &layout).map(|_, _| path.into());
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    let clock = Arc::new(parking_lot::Mutex::new(NOW));
    let host = Host::open_with(fixture.root(), ClockSource::Fixed(clock.clone())).unwrap();
    let subject = Subject::of_init(groups, HostPid::new(i32::try_from(INIT).unwrap()).unwrap(), &host);
    World { fixture, host, clock, subject }
}

impl World {
    fn file(&self, file: ProcFile, policies: &Policies) -> String {
        let mut out = Vec::new();
        readings::render(file, &self.subject, &self.host, policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn sys(&self, path: &str, policies: &Policies) -> String {
        let mut out = Vec::new();
        readings::sys_cpu_file(Path::new(path), &self.subject, &self.host, policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Ten seconds later, of which the container ran five in user mode.
    fn ten_seconds_later(&self, case: &Case) {
        let (path, group) = case.groups.last().unwrap();
        let mut group = group.clone();
        group.used.0 += 5_000_000;
        self.fixture.group(path, &group);
        let mut clock = self.clock.lock();
        clock.boottime = clock.boottime.plus(Nsec(10 * SECOND));
        clock.monotonic = clock.monotonic.plus(Nsec(10 * SECOND));
        clock.realtime = clock.realtime.plus(Nsec(10 * SECOND));
    }
}

/// A long cpuinfo is kept as its first and last block.
fn shortened(cpuinfo: &str) -> String {
    let blocks: Vec<&str> = cpuinfo.split_inclusive("\n\n").collect();
    match blocks.as_slice() {
        [first, .., last] if blocks.len() > 12 => format!("{first}({} blocks)\n\n{last}", blocks.len()),
        _ => cpuinfo.to_owned(),
    }
}

fn picture(case: &Case, world: &World) -> String {
    let mut out = String::new();
    let mut add = |title: &str, text: &str| out.push_str(&format!("==> {title}\n{text}"));
    let policies = &case.policies;
    add("proc/meminfo", &world.file(ProcFile::Meminfo, policies));
    add("proc/cpuinfo", &shortened(&world.file(ProcFile::Cpuinfo, policies)));
    add("proc/stat", &world.file(ProcFile::Stat, policies));
    add("proc/uptime", &world.file(ProcFile::Uptime, policies));
    let entries = readings::sys_cpu_list_dir(Path::new(""), &world.subject, &world.host, policies).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.name.to_str().unwrap()).collect();
    add("sys/devices/system/cpu", &format!("{}\n", names.join(" ")));
    for file in ["online", "present", "possible", "offline", "kernel_max", "smt/active"] {
        add(file, &world.sys(file, policies));
    }
    let cpu = names.iter().find(|name| name.starts_with("cpu")).unwrap();
    for file in ["core_id", "core_cpus_list", "core_cpus", "package_cpus_list"] {
        let path = format!("{cpu}/topology/{file}");
        add(&path, &world.sys(&path, policies));
    }
    let path = format!("{cpu}/cache/index0/shared_cpu_list");
    add(&path, &world.sys(&path, policies));
    world.ten_seconds_later(case);
    add("proc/stat, ten seconds later", &world.file(ProcFile::Stat, policies));
    add("proc/uptime, ten seconds later", &world.file(ProcFile::Uptime, policies));
    out
}

#[test]
fn golden() {
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let world = build(&case);
        let found = picture(&case, &world);
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case.name).with_extension("txt");
        if update {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if expected != found {
            let line = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
            let at = line.unwrap_or(expected.lines().count().min(found.lines().count()));
            let of = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
            wrong.push(format!(
                "{}:{}: expected {:?}, found {:?}",
                path.display(),
                at + 1,
                of(&expected),
                of(&found)
            ));
        }
    }
    assert!(wrong.is_empty(), "OWNPROC_UPDATE_GOLDEN=1 rewrites these:\n{}", wrong.join("\n"));
}

/// What no update of the files can change.
#[test]
fn limits_and_one_cpu_set_everywhere() {
    for case in cases() {
        let world = build(&case);
        let name = case.name;
        let meminfo = world.file(ProcFile::Meminfo, &case.policies);
        let total = format!("MemTotal:{:>15} kB", case.total_kib);
        assert_eq!(meminfo.lines().next(), Some(total.as_str()), "{name}");
        let keys =
            |text: &str| text.lines().map(|l| l.split(':').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            keys(&meminfo),
            keys(&fixture::text("meminfo")),
            "{name}: the kernel's lines in its order"
        );

        let shown = format!("{}\n", case.shown);
        assert_eq!(world.sys("online", &case.policies), shown, "{name}");
        let numbers = ownproc::model::CpuSet::parse(case.shown).unwrap();
        let stat = world.file(ProcFile::Stat, &case.policies);
        let in_stat: ownproc::model::CpuSet = stat
            .lines()
            .filter_map(|line| line.strip_prefix("cpu")?.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(in_stat, numbers, "{name}");
        let cpuinfo = world.file(ProcFile::Cpuinfo, &case.policies);
        let in_cpuinfo: ownproc::model::CpuSet = cpuinfo
            .lines()
            .filter_map(|line| line.strip_prefix("processor")?.split(':').nth(1)?.trim().parse().ok())
            .collect();
        assert_eq!(in_cpuinfo, numbers, "{name}");
        assert!(stat.contains("\nprocesses 58\n"), "{name}: {stat}");
        assert!(stat.contains("\nprocs_running 1\nprocs_blocked 1\n"), "{name}");
        assert_eq!(world.subject.groups.faults(), 0, "{name}");
        let uptime = world.file(ProcFile::Uptime, &case.policies);
        assert!(uptime.starts_with("100.00 "), "{name}: {uptime}");
    }
}

/// Four seconds were used before the first read: they and the idle time since the start are in it.
#[test]
fn the_first_read_counts_from_the_containers_start() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let case = Case {
            groups: container(Group { cpus: "0".into(), ..busy() }),
            ..base("", flavour, 2, Arch::X86)
        };
        let world = build(&case);
        let stat = world.file(ProcFile::Stat, &case.policies);
        assert!(
            stat.starts_with("cpu  300 0 100 9600 0 0 0 0 0 0\ncpu0 300 0 100 9600 "),
            "{flavour:?}: {stat}"
        );
        world.ten_seconds_later(&case);
        let stat = world.file(ProcFile::Stat, &case.policies);
        assert!(stat.contains("\ncpu0 "), "{stat}");
        let user: u64 = stat.split_whitespace().nth(1).unwrap().parse().unwrap();
        let system: u64 = stat.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert_eq!(user + system, 900, "{flavour:?}: {stat}");
    }
}

/// A CPU that the container is not shown is not there, neither listed nor readable.
#[test]
fn hidden_cpus() {
    let case = Case {
        groups: container(Group { cpus: "1".into(), ..busy() }),
        shown: "1",
        ..base("", Flavour::V2, 2, Arch::X86)
    };
    let world = build(&case);
    assert_eq!(world.sys("cpu1/topology/core_cpus_list", &case.policies), "1\n", "its sibling is hidden");
    let mut out = Vec::new();
    let hidden = Path::new("cpu0/topology/core_cpus_list");
    let error =
        readings::sys_cpu_file(hidden, &world.subject, &world.host, &case.policies, &mut out).unwrap_err();
    assert_eq!((error.errno(), out.len()), (libc::ENOENT, 0));
}

/// A group without a set of its own (v1: never configured; v2: its CPUs all went to partitions) has its parent's.
#[test]
fn cpuset_of_the_nearest_configured_level() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let parent = Group { cpus: "1".into(), ..Group::default() };
        let groups = vec![("/ownproc", parent), ("/ownproc/web", busy())];
        let case = Case { groups, shown: "1", ..base("", flavour, 4, Arch::X86) };
        assert_eq!(build(&case).sys("online", &case.policies), "1\n", "{flavour:?}");
    }
}

/// The mount table of a hybrid host: co-mounted controllers, a mount of a part of the hierarchy before the whole.
#[test]
fn hybrid_layout() {
    let fixture = Fixture::new(Flavour::Hybrid, 2, Arch::X86);
    let layout = Layout::discover(fixture.root()).unwrap();
    let of =
        |controller| layout.get(layout.hierarchy_of(controller).unwrap()).unwrap().mountpoint().to_owned();
    use ownproc::cgroup::Controller::{Cpu, Cpuacct, Cpuset, Memory, Pids};
    assert_eq!(of(Cpu), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!(of(Cpuacct), of(Cpu));
    assert_eq!(of(Cpuset), Path::new("/sys/fs/cgroup/cpuset"));
    assert_eq!((of(Memory), of(Pids)), (of(Memory), Path::new("/sys/fs/cgroup/unified").to_owned()));
    let text = "12:cpuset:/a\n7:cpu,cpuacct:/b:c d\n1:name=systemd:/s\n0::/../../x\n3:net_cls:/n\n";
    let membership = Membership::parse(text, &layout);
    let path = |controller| membership.path(layout.hierarchy_of(controller).unwrap()).to_owned();
    assert_eq!((path(Cpuset), path(Cpu)), ("/a".into(), "/b:c d".into()));
    assert_eq!(path(Memory), Path::new("/"), "outside our namespace");
}

/// A host with nothing mounted says so.
#[test]
fn no_hierarchy() {
    let fixture = Fixture::new(Flavour::V2, 1, Arch::X86);
    fixture.write("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n");
    let error = Layout::discover(fixture.root()).unwrap_err().to_string();
    assert!(error.starts_with("no cgroup hierarchy is mounted according to /"), "{error}");
    fixture.write("proc/self/mountinfo", "22 27 nonsense\n");
    let error = Layout::discover(fixture.root()).unwrap_err().to_string();
    assert!(error.contains("22 27 nonsense"), "{error}");
}

/// Inside a container the group at the mount point is an ordinary one, and its limits count.
#[test]
fn the_mount_points_own_limits_where_it_is_no_root() {
    let fixture = Fixture::new(Flavour::V2, 1, Arch::X86);
    fixture.group("", &Group { memory: Some(64 * MIB), ..Group::default() });
    fixture.group("/web", &Group { memory: Some(128 * MIB), ..Group::default() });
    let levels = |fixture: &Fixture| {
        let layout = Layout::discover(fixture.root()).unwrap();
        let groups = GroupSet::open(&layout, &Membership::parse("0::/web\n", &layout)).unwrap();
        groups.memory().levels.iter().map(|level| level.max.map(|max| max.0 / MIB)).collect::<Vec<_>>()
    };
    assert_eq!(levels(&fixture), [Some(128)], "the host's root group is no level");
    fixture.write("sys/fs/cgroup/cgroup.type", "domain\n");
    assert_eq!(levels(&fixture), [Some(128), Some(64)]);
}

#[test]
fn huge_pages() {
    let case = Case { groups: container(busy()), ..base("", Flavour::V2, 1, Arch::X86) };
    let world = build(&case);
    let pool = "HugePages_Total:      64\nHugePages_Free:       60\nHugePages_Rsvd:        0\n\
        HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:          131072 kB\n";
    let meminfo = fixture::text("meminfo");
    let (before, _) = meminfo.split_once("HugePages_Total").unwrap();
    world.fixture.write("proc/meminfo", &format!("{before}{pool}"));
    let top = "sys/fs/cgroup";
    world.fixture.write(&format!("{top}/cgroup.controllers"), "cpuset cpu memory hugetlb\n");
    for (dir, max) in [("ownproc", "max"), ("ownproc/web", "33554432")] {
        world.fixture.write(&format!("{top}/{dir}/hugetlb.2MB.max"), &format!("{max}\n"));
        world.fixture.write(&format!("{top}/{dir}/hugetlb.2MB.current"), "4194304\n");
        world.fixture.write(&format!("{top}/{dir}/hugetlb.2MB.rsvd.max"), "max\n");
    }
    let layout = Layout::discover(world.fixture.root()).unwrap();
    let membership = Membership::parse("0::/ownproc/web\n", &layout);
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    let subject = Subject::new(groups, Nsec(0), None, None);
    let mut out = Vec::new();
    readings::render(ProcFile::Meminfo, &subject, &world.host, &case.policies, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("HugePages_Total:      16\nHugePages_Free:       14\n"), "{text}");
    assert!(text.contains("Hugetlb:           32768 kB\n"), "{text}");
}

/// A container on a kernel before 6.6 (no cpu.stat.local), a file that is not understood, a missing one.
#[test]
fn broken_files_harm_nothing() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let case = Case { groups: nested(), ..base("", flavour, 2, Arch::X86) };
        let world = build(&case);
        let leaf = if flavour == Flavour::V1 { "memory/pods/child" } else { "unified/pods/child" };
        let leaf = if flavour == Flavour::V2 { "pods/child" } else { leaf };
        let file = if flavour == Flavour::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        world.fixture.write(&format!("sys/fs/cgroup/{leaf}/{file}"), "gibberish\n");
        let meminfo = world.file(ProcFile::Meminfo, &case.policies);
        assert!(meminfo.starts_with("MemTotal:         512000 kB\n"), "{flavour:?}: the ancestors serve");
        assert_eq!(world.subject.groups.faults(), 1, "{flavour:?}");
    }
    let fixture = Fixture::new(Flavour::V2, 1, Arch::X86);
    fixture.write("proc/meminfo", "MemTotal: lots\n");
    let host = Host::open(fixture.root()).unwrap();
    let error = host.meminfo().unwrap_err().to_string();
    assert!(error.ends_with("proc/meminfo: expected a number of kB: \"MemTotal: lots\""), "{error}");
}

/// A login or a service on a v1 or hybrid host is in a group of one hierarchy and in the root of the others: there
/// the host's own file is right, per file. A container is never the host, whatever its groups.
#[test]
fn the_root_of_some_hierarchies_is_the_host() {
    let fixture = Fixture::new(Flavour::Hybrid, 2, Arch::X86);
    fixture.group("/login", &Group { memory: Some(64 * MIB), quota: Some(50_000), ..busy() });
    let clocks = ClockSource::fixed(Clocks::default());
    let host = Host::open_with(fixture.root(), clocks).unwrap();
    let layout = Layout::discover(fixture.root()).unwrap();
    let text = |membership: &str, init: Option<HostPid>, file: ProcFile| {
        let groups = GroupSet::open(&layout, &Membership::parse(membership, &layout)).unwrap();
        let subject = Subject::new(Arc::new(groups), Nsec::ZERO, None, init);
        let mut out = Vec::new();
        readings::render(file, &subject, &host, &Policies::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let own = |name: &str| std::fs::read_to_string(fixture.root().join("proc").join(name)).unwrap();
    let limited = "MemTotal:          65536 kB\n";
    let nobody = "1:name=systemd:/login\n";
    assert_eq!(text(nobody, None, ProcFile::Meminfo), own("meminfo"));
    assert_eq!(text(nobody, None, ProcFile::Stat), own("stat"));
    assert_eq!(text(nobody, None, ProcFile::Uptime), own("uptime"));
    // The memory controller of this host is on the v2 side, those of CPUs on the v1 side.
    assert!(text("0::/login\n", None, ProcFile::Meminfo).starts_with(limited));
    assert_eq!(text("0::/login\n", None, ProcFile::Stat), own("stat"));
    let init = HostPid::new(4242);
    assert_ne!(text(nobody, init, ProcFile::Stat), own("stat"), "a container's stat is its own");
}
