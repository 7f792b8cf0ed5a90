//! The files of the page allocator, swap and the kernel itself, from a host's files to the bytes a container reads, compared
//! with `tests/golden/pages-*.txt`. `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden_pages` rewrites those.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[path = "common/fixture.rs"]
#[allow(dead_code)] // shared with other tests
mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{CpuSet, HostPid, Nsec, Policies, SwapPolicy};
use ownproc::readings::{self, Subject};
use ownproc::render::ProcFile;

const MIB: u64 = 1 << 20;
const INIT: u32 = 4242;
const FILES: &[ProcFile] = &[
    ProcFile::Swaps,
    ProcFile::Vmstat,
    ProcFile::Zoneinfo,
    ProcFile::Buddyinfo,
    ProcFile::Slabinfo,
    ProcFile::Partitions,
    ProcFile::Modules,
    ProcFile::Cgroups,
    ProcFile::FileNr,
    ProcFile::InodeNr,
    ProcFile::InodeState,
    ProcFile::DentryState,
    ProcFile::AioNr,
    ProcFile::BootId,
];

struct Case {
    name: &'static str,
    flavour: Flavour,
    cpus: usize,
    arch: Arch,
    /// From the top down; the last is the container's.
    groups: Vec<(&'static str, Group)>,
    policies: Policies,
    shown: &'static str,
}

fn busy() -> Group {
    Group {
        memory: Some(300 * MIB),
        usage: 120 * MIB,
        cache: [20 * MIB, 30 * MIB, 5 * MIB],
        swap: (Some(200 * MIB), 50 * MIB),
        ..Group::default()
    }
}

fn container(group: Group) -> Vec<(&'static str, Group)> {
    vec![("/ownproc", Group::default()), ("/ownproc/web", group)]
}

fn base(name: &'static str, flavour: Flavour, cpus: usize, arch: Arch) -> Case {
    let groups = container(busy());
    Case { name, flavour, cpus, arch, groups, policies: Policies::default(), shown: "0" }
}

fn cases() -> Vec<Case> {
    use Arch::{Arm, X86};
    use Flavour::{Hybrid, V1, V2};
    let set = |cpus: &str| container(Group { cpus: cpus.into(), ..busy() });
    let hide = Policies { swap: SwapPolicy::Hide, ..Policies::default() };
    let nested = vec![
        ("/pods", Group { memory: Some(500 * MIB), usage: 420 * MIB, ..busy() }),
        ("/pods/child", Group { memory: Some(600 * MIB), ..busy() }),
        ("/pods/child/leaf", Group { memory: None, swap: (None, 10 * MIB), quota: Some(150_000), ..busy() }),
    ];
    vec![
        base("pages-v1-1cpu-x86", V1, 1, X86),
        Case { groups: nested.clone(), shown: "0-1", ..base("pages-v1-2cpu-arm-nested", V1, 2, Arm) },
        Case { groups: set("3,60"), shown: "3,60", ..base("pages-hybrid-64cpu-x86", Hybrid, 64, X86) },
        Case {
            groups: nested
                .into_iter()
                .map(|(path, group)| (path, Group { cpus: "0-1".into(), ..group }))
                .collect(),
            shown: "0-1",
            ..base("pages-v2-2cpu-x86-nested", V2, 2, X86)
        },
        Case {
            groups: set("0-255"),
            policies: hide,
            shown: "0-255",
            ..base("pages-v2-256cpu-arm-hidden-swap", V2, 256, Arm)
        },
    ]
}

struct World {
    fixture: Fixture,
    host: Host,
    subject: Subject,
}

fn build(case: &Case) -> World {
    let fixture = Fixture::new(case.flavour, case.cpus, case.arch);
    let meminfo = fixture::text("meminfo")
        .replace("SwapTotal:             0 kB", "SwapTotal:       2097148 kB")
        .replace("SwapFree:              0 kB", "SwapFree:        2097000 kB");
    fixture.write("proc/meminfo", &meminfo);
    for (path, group) in &case.groups {
        fixture.group(path, group);
    }
    fixture.process(INIT, &[1], "init", 'S', 890_000, None);
    let host = Host::open_with(fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    let subject = subject(&fixture, &host, case.groups.last().unwrap().0);
    World { fixture, host, subject }
}

fn subject(fixture: &Fixture, host: &Host, path: &str) -> Subject {
    let layout = Layout::discover(fixture.root()).unwrap();
    let membership = Membership::parse("", &layout).map(|_, _| path.into());
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    Subject::of_init(groups, HostPid::new(i32::try_from(INIT).unwrap()).unwrap(), host)
}

impl World {
    fn file(&self, file: ProcFile, policies: &Policies) -> String {
        let mut out = Vec::new();
        readings::render(file, &self.subject, &self.host, policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

/// The first and the last page set stand for many.
fn shortened(zoneinfo: &str) -> String {
    let sets: Vec<&str> = zoneinfo.split("    cpu: ").collect();
    match sets.as_slice() {
        [before, first, .., last] if sets.len() > 9 => {
            format!("{before}    cpu: {first}({} page sets)\n    cpu: {last}", sets.len() - 1)
        }
        _ => zoneinfo.to_owned(),
    }
}

#[test]
fn golden() {
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    for case in cases() {
        let world = build(&case);
        let mut found = String::new();
        for file in FILES {
            let text = world.file(*file, &case.policies);
            found.push_str(&format!("==> {}\n{}", file.name(), shortened(&text)));
        }
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case.name).with_extension("txt");
        if update {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
            assert_eq!(expected, found, "{}:{}", path.display(), number + 1);
        }
        assert_eq!(expected.len(), found.len(), "OWNPROC_UPDATE_GOLDEN=1 rewrites {}", path.display());
    }
}

fn numbers(text: &str, separator: char) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.trim_start().split_once(separator))
        .filter_map(|(key, value)| Some((key.to_owned(), value.split_whitespace().next()?.parse().ok()?)))
        .collect()
}

/// What no update of the files can change: the files agree with one another and with meminfo.
#[test]
fn the_files_agree() {
    let page = rustix::param::page_size() as u64 / 1024;
    for case in cases() {
        let name = case.name;
        let world = build(&case);
        let text = |file| world.file(file, &case.policies);
        let meminfo = numbers(&text(ProcFile::Meminfo), ':');
        let vmstat = numbers(&text(ProcFile::Vmstat), ' ');
        let zone = numbers(&text(ProcFile::Zoneinfo), ' ');
        assert_eq!(vmstat["nr_free_pages"], meminfo["MemFree"] / page, "{name}");
        for (key, line) in
            [("nr_anon_pages", "AnonPages"), ("nr_shmem", "Shmem"), ("nr_slab_reclaimable", "SReclaimable")]
        {
            assert_eq!(vmstat[key], meminfo[line] / page, "{name}: {key}");
        }
        assert_eq!(vmstat["oom_kill"], 3, "{name}");
        assert_eq!(vmstat["pgfault"], if case.flavour == Flavour::V1 { 44_715 } else { 536 }, "{name}");
        for key in ["nr_free_pages", "nr_zone_active_file", "nr_slab_reclaimable", "nr_dirty"] {
            assert_eq!(zone[key], vmstat[key], "{name}: {key}");
        }
        for key in ["spanned", "present", "managed"] {
            assert_eq!(zone[key], meminfo["MemTotal"] / page, "{name}: {key}");
        }
        let buddyinfo = text(ProcFile::Buddyinfo);
        let orders = buddyinfo.split_whitespace().skip(4).map(|word| word.parse::<u64>().unwrap());
        let sum: u64 = orders.enumerate().map(|(order, count)| count << order).sum();
        assert_eq!(sum, vmstat["nr_free_pages"], "{name}");

        let sets: CpuSet = text(ProcFile::Zoneinfo)
            .lines()
            .filter_map(|line| line.strip_prefix("    cpu: ")?.parse().ok())
            .collect();
        assert_eq!(sets, CpuSet::parse(case.shown).unwrap(), "{name}");

        let swaps = text(ProcFile::Swaps);
        let lines: Vec<&str> = swaps.lines().skip(1).collect();
        assert_eq!(lines.is_empty(), meminfo["SwapTotal"] == 0, "{name}: {swaps}");
        assert_eq!(lines.is_empty(), case.policies.swap == SwapPolicy::Hide, "{name}");
        if let [line] = lines[..] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[2], meminfo["SwapTotal"].to_string(), "{name}");
            assert_eq!(words[3], (meminfo["SwapTotal"] - meminfo["SwapFree"]).to_string(), "{name}");
        }
        assert_eq!(world.subject.groups.faults(), 0, "{name}");
    }
}

/// The node is the first that the container may take memory from.
#[test]
fn the_first_effective_node() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let case = base("", flavour, 2, Arch::X86);
        let world = build(&case);
        for (file, dir) in [("cpuset.effective_mems", "cpuset/"), ("cpuset.mems.effective", "")] {
            world.fixture.write(&format!("sys/fs/cgroup/{dir}ownproc/web/{file}"), "2-3\n");
        }
        for file in [ProcFile::Zoneinfo, ProcFile::Buddyinfo] {
            let text = world.file(file, &case.policies);
            assert!(text.starts_with("Node 2, zone   Normal"), "{flavour:?}: {text}");
        }
    }
}

/// A controller that was switched off and on begins to count anew; the container does not see it.
#[test]
fn counters_never_go_down() {
    let case = base("", Flavour::V2, 1, Arch::X86);
    let world = build(&case);
    let faults = |world: &World| numbers(&world.file(ProcFile::Vmstat, &case.policies), ' ')["pgfault"];
    assert_eq!(faults(&world), 536);
    let path = "sys/fs/cgroup/ownproc/web/memory.stat";
    for (raw, shown) in [(600, 600), (10, 600), (20, 610), (30, 620)] {
        world.fixture.write(path, &format!("anon 4096\npgfault {raw}\n"));
        assert_eq!(faults(&world), shown);
    }
    std::fs::remove_file(world.fixture.root().join(path)).unwrap();
    world.fixture.write(path, "no number\n");
    assert_eq!(faults(&world), 620);
}

/// The id outlives the daemon and a move between groups; another container has another.
#[test]
fn boot_ids() {
    let case = base("", Flavour::V2, 1, Arch::X86);
    let world = build(&case);
    let own = world.file(ProcFile::BootId, &case.policies);
    let again = Host::open_with(world.fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    let id = |subject: &Subject| {
        let mut out = Vec::new();
        readings::render(ProcFile::BootId, subject, &again, &case.policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(id(&subject(&world.fixture, &again, "/ownproc/web")), own);
    world.fixture.group("/ownproc/moved", &busy());
    assert_eq!(id(&subject(&world.fixture, &again, "/ownproc/moved")), own, "its init is the same");
    let layout = Layout::discover(world.fixture.root()).unwrap();
    let nobody = |path: &str| {
        let groups = GroupSet::open(&layout, &Membership::parse(format!("0::{path}\n"), &layout)).unwrap();
        id(&Subject::new(Arc::new(groups), Nsec::ZERO, None, None))
    };
    let ids = [own, nobody("/ownproc/web"), nobody("/ownproc/moved"), nobody("/")];
    assert_eq!(nobody("/ownproc/web"), ids[1]);
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id), "{ids:?}");
        assert_eq!((id.len(), id.matches('-').count(), &id[14..15]), (37, 4, "4"), "{id}");
    }
    assert_eq!(ids[3], "75b90f2a-4863-4f14-bd8a-e304d9d5c132\n", "the host's own readers");
}

/// A service that has a group in the hierarchy of systemd alone is no container: it reads the host's.
#[test]
fn a_group_without_limits_is_the_host() {
    let fixture = Fixture::new(Flavour::Hybrid, 2, Arch::X86);
    fixture.group("/login", &busy());
    let host = Host::open_with(fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    let layout = Layout::discover(fixture.root()).unwrap();
    let text = |membership: &str, file: ProcFile| {
        let groups = GroupSet::open(&layout, &Membership::parse(membership, &layout)).unwrap();
        let subject = Subject::new(Arc::new(groups), Nsec::ZERO, None, None);
        let mut out = Vec::new();
        readings::render(file, &subject, &host, &Policies::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let own = |name: &str| std::fs::read_to_string(fixture.root().join("proc").join(name)).unwrap();
    for (file, name) in [
        (ProcFile::BootId, "sys/kernel/random/boot_id"),
        (ProcFile::Cgroups, "cgroups"),
        (ProcFile::FileNr, "sys/fs/file-nr"),
    ] {
        assert_eq!(text("1:name=systemd:/login\n", file), own(name));
        for controllers in ["cpu,cpuacct", "cpuset", ""] {
            assert_ne!(text(&format!("5:{controllers}:/login\n"), file), own(name), "{controllers}");
        }
    }
}

/// What the kernel lets root alone read is not given to everybody, for the host's readers either.
#[test]
fn the_hosts_readers_learn_no_secrets() {
    let case = base("", Flavour::V2, 1, Arch::X86);
    let world = build(&case);
    let text = |file| {
        let mut out = Vec::new();
        readings::host_file(file, &world.host, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(
        text(ProcFile::Modules).starts_with("ext4 1138688 1 - Live 0x0000000000000000\ncrc16 12288 1 ext4, ")
    );
    assert!(!text(ProcFile::Modules).contains("0xf"));
    assert_eq!(text(ProcFile::Slabinfo).lines().count(), 2);
    assert_eq!(text(ProcFile::Vmstat), fixture::text("vmstat"));
}
