//! `sys/devices/system/node` and the CPU directory of hosts with NUMA nodes, compared with `tests/golden/node-*.txt`.
//! `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden_node` rewrites those; look at the difference before committing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[path = "common/fixture.rs"]
#[allow(dead_code)] // each test file uses a part of it
mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{CpuSet, HostPid, Nsec, Numbering, Policies};
use ownproc::readings::{self, Subject};
use ownproc::render::ProcFile;

const MIB: u64 = 1 << 20;

/// One golden file: a host with nodes, a container, and what must hold whatever the file says.
struct Case {
    name: &'static str,
    flavour: Flavour,
    cpus: usize,
    /// Nodes of the host: number, CPUs, MemTotal in kB.
    host: &'static [(usize, &'static str, u64)],
    group: Group,
    numbering: Numbering,
    nodes: &'static str,
    with_cpus: &'static str,
    with_memory: &'static str,
}

const TWO: &[(usize, &str, u64)] = &[(0, "0-1", 8_000_000), (1, "2-3", 16_684_096)];
const GAP: &[(usize, &str, u64)] =
    &[(0, "0-63,128-191", 8_000_000), (2, "64-127,192-255", 0), (3, "", 16_000_000)];

fn group(cpus: &str, mems: &str, quota: Option<u64>) -> Group {
    Group {
        memory: Some(1000 * MIB + 4096),
        usage: 120 * MIB + 12_345,
        cache: [20 * MIB, 30 * MIB, 5 * MIB],
        used: (3_000_000, 1_000_000),
        quota,
        cpus: cpus.to_owned(),
        mems: mems.to_owned(),
        ..Group::default()
    }
}

fn cases() -> Vec<Case> {
    use Flavour::{Hybrid, V1, V2};
    use Numbering::{Compact, Physical};
    let case =
        |name, flavour, cpus, host, group, numbering, [nodes, with_cpus, with_memory]: [&'static str; 3]| {
            Case { name, flavour, cpus, host, group, numbering, nodes, with_cpus, with_memory }
        };
    let one: &[(usize, &str, u64)] = &[(0, "0", 24_684_096)];
    let two_cpus: &[(usize, &str, u64)] = &[(0, "0", 12_342_048), (1, "1", 12_342_048)];
    let wide: &[(usize, &str, u64)] = &[(0, "0-15", 1), (1, "16-31", 1), (2, "32-47", 1), (3, "48-63", 1)];
    vec![
        case("node-v1-1cpu", V1, 1, one, group("0", "0", None), Physical, ["0", "0", "0"]),
        case("node-v1-2cpu-other", V1, 2, two_cpus, group("1", "1", None), Physical, ["1", "1", "1"]),
        case(
            "node-hybrid-4cpu-both",
            Hybrid,
            4,
            TWO,
            group("0-3", "0-1", None),
            Physical,
            ["0-1", "0-1", "0-1"],
        ),
        case("node-v2-4cpu-apart", V2, 4, TWO, group("2-3", "0", None), Physical, ["0-1", "1", "0"]),
        case(
            "node-v2-4cpu-quota",
            V2,
            4,
            TWO,
            group("0-3", "0-1", Some(150_000)),
            Physical,
            ["0-1", "0", "0-1"],
        ),
        case(
            "node-v2-64cpu-compact",
            V2,
            64,
            wide,
            group("20,50-51", "1,3", None),
            Compact,
            ["0-1", "0-1", "0-1"],
        ),
        case("node-v1-256cpu-gap", V1, 256, GAP, group("70,192", "2-3", None), Physical, ["2-3", "2", "2-3"]),
    ]
}

struct World {
    fixture: Fixture,
    host: Host,
    subject: Subject,
    policies: Policies,
}

fn build(case: &Case) -> World {
    let fixture = Fixture::new(case.flavour, case.cpus, Arch::X86);
    fixture.nodes(case.host);
    fixture.group("/ownproc", &Group { mems: case.group.mems.clone(), ..Group::default() });
    fixture.group("/ownproc/web", &case.group);
    let layout = Layout::discover(fixture.root()).unwrap();
    let membership = Membership::parse("", &layout).map(|_, _| "/ownproc/web".into());
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    let host = Host::open_with(fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    let subject = Subject::new(groups, Nsec::ZERO, None, HostPid::new(4242));
    let policies = Policies { numbering: case.numbering, ..Policies::default() };
    World { fixture, host, subject, policies }
}

impl World {
    fn file(&self, path: &str) -> String {
        let mut out = Vec::new();
        readings::sys_node_file(path, &self.subject, &self.host, &self.policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = readings::sys_node_list_dir(path, &self.subject, &self.host, &self.policies).unwrap();
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
    }

    fn link(&self, path: &str) -> String {
        let target = readings::sys_node_link(path, &self.subject, &self.host, &self.policies).unwrap();
        target.to_str().unwrap().to_owned()
    }

    fn cpu_list(&self, path: &str) -> Vec<String> {
        let path = Path::new(path);
        let entries = readings::sys_cpu_list_dir(path, &self.subject, &self.host, &self.policies).unwrap();
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
    }

    fn proc(&self, file: ProcFile) -> String {
        let mut out = Vec::new();
        readings::render(file, &self.subject, &self.host, &self.policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn nodes(&self) -> Vec<String> {
        self.list("").into_iter().filter(|name| name.starts_with("node")).collect()
    }
}

fn picture(world: &World) -> String {
    let mut out = String::new();
    let mut add = |title: &str, text: &str| out.push_str(&format!("==> {title}\n{text}"));
    add("", &format!("{}\n", world.list("").join(" ")));
    for file in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory", "has_generic_initiator"]
    {
        add(file, &world.file(file));
    }
    for node in world.nodes() {
        let names = world.list(&node);
        add(&node, &format!("{}\n", names.join(" ")));
        let cpus = names.iter().filter(|name| readings::cpu_number(name).is_some());
        for link in cpus {
            add(&format!("{node}/{link}"), &format!("-> {}\n", world.link(&format!("{node}/{link}"))));
        }
        for file in ["cpulist", "cpumap", "distance", "numastat", "hugepages/hugepages-2048kB/nr_hugepages"] {
            let path = format!("{node}/{file}");
            add(&path, &world.file(&path));
        }
        add(&format!("{node}/meminfo"), &world.file(&format!("{node}/meminfo")));
        let vmstat = world.file(&format!("{node}/vmstat"));
        let set: Vec<&str> = vmstat.lines().filter(|line| !line.ends_with(" 0")).collect();
        add(&format!("{node}/vmstat, what is not 0"), &format!("{}\n", set.join("\n")));
    }
    for cpu in world.cpu_list("").iter().filter(|name| readings::cpu_number(name).is_some()) {
        add(&format!("../cpu/{cpu}"), &format!("{}\n", world.cpu_list(cpu).join(" ")));
    }
    out
}

#[test]
fn golden() {
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let found = picture(&build(&case));
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case.name).with_extension("txt");
        if update {
            std::fs::write(&path, &found).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(format!("{}: found\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "OWNPROC_UPDATE_GOLDEN=1 rewrites these:\n{}", wrong.join("\n"));
}

/// The number of a line `KEY: NUMBER kB` or `Node N KEY: NUMBER kB`.
fn value(text: &str, key: &str) -> Option<u64> {
    let of = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != key);
        words.next()?;
        words.next()?.parse().ok()
    };
    text.lines().find_map(of)
}

/// What no update of the files can change.
#[test]
fn one_set_of_nodes_and_the_sums_of_proc_meminfo() {
    for case in cases() {
        let (world, name) = (build(&case), case.name);
        assert_eq!(world.file("online"), format!("{}\n", case.nodes), "{name}");
        assert_eq!(world.file("possible"), format!("{}\n", case.nodes), "{name}");
        assert_eq!(world.file("has_cpu"), format!("{}\n", case.with_cpus), "{name}");
        let numbers: Vec<String> =
            CpuSet::parse(case.nodes).unwrap().iter().map(|node| format!("node{node}")).collect();
        assert_eq!(world.nodes(), numbers, "{name}");

        // Each shown CPU is on one node, and is named there in each of the three ways.
        let mut on_nodes = Vec::new();
        for node in &numbers {
            let listed = CpuSet::parse(&world.file(&format!("{node}/cpulist"))).unwrap();
            let links =
                world.list(node).iter().filter_map(|name| readings::cpu_number(name)).collect::<CpuSet>();
            assert_eq!(links, listed, "{name}");
            let map = world.file(&format!("{node}/cpumap")).replace([',', '\n'], "");
            let bits: u32 = map.chars().map(|digit| digit.to_digit(16).unwrap().count_ones()).sum();
            assert_eq!(bits as usize, listed.len(), "{name}");
            for cpu in listed.iter() {
                assert!(
                    world.cpu_list(&format!("cpu{cpu}")).contains(node),
                    "{name}: cpu{cpu} has no link {node}"
                );
            }
            on_nodes.extend(listed.iter());
            assert_eq!(
                world.file(&format!("{node}/distance")).split_whitespace().count(),
                numbers.len(),
                "{name}"
            );
        }
        on_nodes.sort_unstable();
        let shown: Vec<usize> = {
            let mut cpus: Vec<usize> =
                world.cpu_list("").iter().filter_map(|name| readings::cpu_number(name)).collect();
            cpus.sort_unstable();
            cpus
        };
        assert_eq!(on_nodes, shown, "{name}");

        let whole = world.proc(ProcFile::Meminfo);
        let texts: Vec<String> = numbers.iter().map(|node| world.file(&format!("{node}/meminfo"))).collect();
        for line in fixture::text("node.meminfo").lines() {
            let key = line.split_whitespace().nth(2).unwrap();
            let parts: Vec<u64> = texts.iter().map(|text| value(text, key).unwrap()).collect();
            let want = match key {
                "MemUsed:" => value(&whole, "MemTotal:").unwrap() - value(&whole, "MemFree:").unwrap(),
                "FilePages:" => value(&whole, "Cached:").unwrap() + value(&whole, "SwapCached:").unwrap(),
                key => value(&whole, key).unwrap(),
            };
            assert_eq!(parts.iter().sum::<u64>(), want, "{name}: {key} {parts:?}");
        }
        world.fixture.write("proc/vmstat", &fixture::text("node.vmstat"));
        let whole = world.proc(ProcFile::Vmstat);
        let texts_of_vmstat: Vec<String> =
            numbers.iter().map(|node| world.file(&format!("{node}/vmstat"))).collect();
        for key in fixture::text("node.vmstat").lines().filter_map(|line| line.split(' ').next()) {
            let parts: Vec<u64> = texts_of_vmstat.iter().map(|text| value(text, key).unwrap()).collect();
            // events are 0 on every node
            let event = ["workingset_", "pgpromote_", "pgdemote_"].iter().any(|it| key.starts_with(it));
            let want = if event && key != "workingset_nodes" { Some(0) } else { value(&whole, key) };
            assert_eq!(Some(parts.iter().sum::<u64>()), want, "{name}: {key} {parts:?}");
        }
        let memory = CpuSet::parse(case.with_memory).unwrap();
        for (node, text) in numbers.iter().zip(&texts) {
            let number = readings::node_number(node).unwrap();
            let [total, free] = ["MemTotal:", "MemFree:"].map(|key| value(text, key).unwrap());
            assert!(
                free <= total && (memory.contains(number) || total == 0),
                "{name}: {node} {total} {free}"
            );
        }
    }
}

/// A node that is not shown is not there, nor what is on no allow-list.
#[test]
fn hidden_nodes_and_files() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "node-v1-2cpu-other").unwrap();
    let world = build(case);
    for path in ["node0/cpulist", "node0", "node7/meminfo", "node1/memory0", "node1/compact", "power/control"]
    {
        let mut out = Vec::new();
        let error = readings::sys_node_file(path, &world.subject, &world.host, &world.policies, &mut out);
        assert_eq!((error.unwrap_err().errno(), out.len()), (libc::ENOENT, 0), "{path}");
    }
    for link in ["node0/cpu1", "node1/cpu0", "node1/memory0"] {
        let error = readings::sys_node_link(link, &world.subject, &world.host, &world.policies).unwrap_err();
        assert_eq!(error.errno(), libc::ENOENT, "{link}");
    }
    let link =
        |path: &str| readings::sys_cpu_link(Path::new(path), &world.subject, &world.host, &world.policies);
    assert_eq!(link("cpu1/node1").unwrap(), Path::new("../../node/node1"));
    assert_eq!(link("cpu1/node0").unwrap_err().errno(), libc::ENOENT);
}

/// A kernel without NUMA has no such directory.
#[test]
fn without_numa() {
    let fixture = Fixture::new(Flavour::V2, 1, Arch::Arm);
    let host = Host::open_with(fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    assert!(host.node_tree().is_none());
    assert_eq!(host.nodes().unwrap_err().errno(), libc::ENOENT);
}

/// What is listed of the CPU directory: the allow-list, whatever the host has.
#[test]
fn the_hosts_own_state_is_not_mirrored() {
    let fixture = Fixture::new(Flavour::V2, 1, Arch::X86);
    for path in
        ["cpu0/crash_notes", "cpu0/thermal_throttle/core_throttle_count", "cpufreq/boost", "power/control"]
    {
        fixture.write(&format!("sys/devices/system/cpu/{path}"), "17\n");
    }
    fixture.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n");
    fixture.group("/web", &Group { cpus: "0".into(), ..Group::default() });
    let layout = Layout::discover(fixture.root()).unwrap();
    let groups = GroupSet::open(&layout, &Membership::parse("0::/web\n", &layout)).unwrap();
    let host = Host::open_with(fixture.root(), ClockSource::fixed(Clocks::default())).unwrap();
    let subject = Subject::new(Arc::new(groups), Nsec::ZERO, None, HostPid::new(4242));
    let policies = Policies::default();
    let list = |path: &str| {
        let entries = readings::sys_cpu_list_dir(Path::new(path), &subject, &host, &policies).unwrap();
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(""), "cpu0 isolated kernel_max offline online possible present smt vulnerabilities");
    assert_eq!(list("cpu0"), "cache topology");
    for hidden in ["cpu0/crash_notes", "cpufreq/boost", "power/control"] {
        let mut out = Vec::new();
        let read = readings::sys_cpu_file(Path::new(hidden), &subject, &host, &policies, &mut out);
        assert_eq!((read.unwrap_err().errno(), out.len()), (libc::ENOENT, 0), "{hidden}");
    }
}
