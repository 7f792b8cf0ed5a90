//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{HostNode, HostNodes, MemoryStat, Numbering, PageSizes, Policies};
use crate::view::{HugetlbView, shown_nodes};

const MIB: u64 = 1 << 20;

/// Two nodes of two CPUs; the second has three times the memory of the first.
fn host() -> HostNodes {
    let node = |number, cpus, kib| HostNode {
        number,
        cpus: CpuSet::parse(cpus).unwrap(),
        total: Bytes::from_kib(kib),
    };
    HostNodes { online: CpuSet::first(2), nodes: vec![node(0, "0-1", 1000), node(1, "2-3", 3000)] }
}

fn cpus(list: &str, numbering: Numbering) -> ShownCpus {
    let physical = CpuSet::parse(list).unwrap();
    ShownCpus { mask: physical.clone(), physical, numbering }
}

fn nodes(mems: &str, list: &str, numbering: Numbering) -> ShownNodes {
    shown_nodes(Some(&CpuSet::parse(mems).unwrap()), &cpus(list, numbering), &host())
}

fn text(render: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    render(&mut out);
    String::from_utf8(out).unwrap()
}

fn view() -> MemoryView {
    MemoryView {
        total: Bytes(100 * MIB),
        free: Bytes(40 * MIB),
        available: Bytes(60 * MIB),
        stat: MemoryStat {
            file: Bytes(8 * MIB),
            swapcached: Bytes(2 * MIB),
            anon: Bytes(4096),
            ..Default::default()
        },
        hugetlb: HugetlbView { pages_total: 8, pages_free: 5, total: Bytes(16 * MIB) },
        ..Default::default()
    }
}

fn meminfo(host_text: &str, mems: &str, node: usize) -> String {
    let nodes = nodes(mems, "0-3", Numbering::Physical);
    text(|out| node_meminfo(host_text, node, &view(), &nodes.share(node, &host()), out))
}

#[test]
fn n2_the_lists() {
    let list = |file, mems, list, host, numbering| {
        text(|out| sys_node(file, &nodes(mems, list, numbering), host, out))
    };
    use Numbering::{Compact, Physical};
    for file in [SysNodeFile::Online, SysNodeFile::Possible] {
        assert_eq!(list(file, "1", "2", "0-7\n", Physical), "1\n");
        assert_eq!(list(file, "1", "2", "0-7\n", Compact), "0\n");
    }
    assert_eq!(list(SysNodeFile::HasCpu, "0-1", "2", "0-1\n", Physical), "1\n");
    assert_eq!(list(SysNodeFile::HasMemory, "0", "2", "0-1\n", Physical), "0\n", "node 1 has only a CPU");
    assert_eq!(list(SysNodeFile::HasNormalMemory, "0-1", "2", "1\n", Physical), "1\n");
    assert_eq!(list(SysNodeFile::HasHighMemory, "0-1", "2", "\n", Physical), "\n");
    assert_eq!(list(SysNodeFile::HasMemory, "0-1", "2", "gibberish", Physical), "\n");
    assert_eq!(list(SysNodeFile::HasGenericInitiator, "0-1", "2", "0\n", Physical), "\n");
}

#[test]
fn n3_cpus_of_a_node() {
    for (shown, numbering, list, map) in [
        ("2", Numbering::Physical, "2\n", "4\n"),
        ("2-3", Numbering::Compact, "0-1\n", "3\n"),
        ("0", Numbering::Physical, "\n", "0\n"),
    ] {
        let shown = cpus(shown, numbering);
        assert_eq!(text(|out| node_cpulist("2-3\n", &shown, out)), list);
        assert_eq!(text(|out| node_cpumap("c\n", &shown, out)), map);
    }
}

#[test]
fn n4_distances_to_the_shown_nodes() {
    let distance = |text_of: &str, mems, numbering| {
        let nodes = nodes(mems, "2", numbering);
        text(|out| node_distance(text_of, &CpuSet::first(2), &nodes, out))
    };
    assert_eq!(distance("10 21\n", "0-1", Numbering::Physical), "10 21\n");
    assert_eq!(
        distance("21 10\n", "1", Numbering::Physical),
        " 10\n",
        "as the kernel where node 0 is offline"
    );
    assert_eq!(distance("21 10\n", "1", Numbering::Compact), "10\n");
    assert_eq!(distance("", "0-1", Numbering::Physical), "\n");
}

#[test]
fn n5_one_node_has_the_numbers_of_proc_meminfo() {
    let host_text = "Node 1 MemTotal:       24684096 kB\nNode 1 MemFree:         4027208 kB\n\
        Node 1 MemUsed:        20656888 kB\nNode 1 FilePages:      18744712 kB\nNode 1 AnonPages:        315128 kB\n";
    assert_eq!(
        meminfo(host_text, "1", 1),
        "Node 1 MemTotal:         102400 kB\nNode 1 MemFree:           40960 kB\n\
         Node 1 MemUsed:           61440 kB\nNode 1 FilePages:         10240 kB\nNode 1 AnonPages:             4 kB\n"
    );
    assert!(meminfo(host_text, "1", 0).starts_with("Node 0 MemTotal:              0 kB\n"), "CPUs only");
}

#[test]
fn n5_several_divide_them() {
    let host_text =
        "Node 0 MemTotal:       24684096 kB\nNode 0 MemFree:         4027208 kB\nNode 0 MemUsed: 1 kB\n";
    assert_eq!(
        [0, 1].map(|node| meminfo(host_text, "0-1", node)),
        [
            "Node 0 MemTotal:          25600 kB\nNode 0 MemFree:           10240 kB\nNode 0 MemUsed:    15360 kB\n",
            "Node 1 MemTotal:          76800 kB\nNode 1 MemFree:           30720 kB\nNode 1 MemUsed:    46080 kB\n",
        ]
        .map(|text| text.replace("MemUsed:    ", "MemUsed: "))
    );
}

#[test]
fn n6_the_hosts_layout() {
    let host_text = "Node 0 HugePages_Total:     0\nNode 0 HugePages_Surp:      0\nnonsense\nNode 0\n\
        Node 0 New:             7 kB\nNode 0 Bad: x kB\nNode 0 Slab:            1426956 kB\n";
    assert_eq!(
        meminfo(host_text, "0", 0),
        "Node 0 HugePages_Total:     8\nNode 0 HugePages_Surp:      0\nNode 0 New:             0 kB\n\
         Node 0 Slab:                  0 kB\n"
    );
}

#[test]
fn n7_counters() {
    let nodes = nodes("0-1", "0-3", Numbering::Physical);
    let vmstat = |node| {
        let share = nodes.share(node, &host());
        let sizes = PageSizes { base: Bytes(4096), huge: Bytes(2 * MIB) };
        let view = PagesView::new(view(), sizes, &Policies::default());
        text(|out| node_vmstat("nr_free_pages 99\nnr_file_pages 9\nnew 7\nbad x\n\n", &view, &share, out))
    };
    assert_eq!(vmstat(0), "nr_free_pages 2560\nnr_file_pages 640\nnew 0\n");
    assert_eq!(vmstat(1), "nr_free_pages 7680\nnr_file_pages 1920\nnew 0\n");
    assert_eq!(
        text(|out| node_numastat("numa_hit 300412908\nnuma_miss 7\n", out)),
        "numa_hit 0\nnuma_miss 0\n"
    );
}

#[test]
fn n8_huge_pages() {
    let nodes = nodes("0-1", "0-3", Numbering::Physical);
    let pages = |name, is_default| {
        [0, 1].map(|node| {
            text(|out| node_hugepages(name, is_default, &view(), &nodes.share(node, &host()), out))
        })
    };
    assert_eq!(pages("nr_hugepages", true), ["2\n", "6\n"]);
    assert_eq!(pages("free_hugepages", true), ["1\n", "4\n"]);
    assert_eq!(pages("surplus_hugepages", true), ["0\n", "0\n"]);
    assert_eq!(pages("nr_hugepages", false), ["0\n", "0\n"]);
}
