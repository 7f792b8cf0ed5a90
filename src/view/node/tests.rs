//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{Bytes, HostNode};
use proptest::prelude::*;

/// Nodes by number: CPUs and MemTotal in kB.
fn host(nodes: &[(usize, &str, u64)]) -> HostNodes {
    let node = |&(number, cpus, kib): &(usize, &str, u64)| HostNode {
        number,
        cpus: CpuSet::parse(cpus).unwrap(),
        total: Bytes::from_kib(kib),
    };
    HostNodes {
        online: nodes.iter().map(|(number, ..)| *number).collect(),
        nodes: nodes.iter().map(node).collect(),
    }
}

fn cpus(list: &str, numbering: Numbering) -> ShownCpus {
    let physical = CpuSet::parse(list).unwrap();
    ShownCpus { mask: physical.clone(), physical, numbering }
}

fn shown(mems: Option<&str>, cpu_list: &str, host: &HostNodes) -> ShownNodes {
    let mems = mems.map(|mems| CpuSet::parse(mems).unwrap());
    shown_nodes(mems.as_ref(), &cpus(cpu_list, Numbering::Physical), host)
}

fn sets(nodes: &ShownNodes) -> [String; 3] {
    [&nodes.physical, &nodes.with_cpus, &nodes.with_memory].map(CpuSet::to_string)
}

#[test]
fn n1_the_effective_nodes_and_those_of_the_shown_cpus() {
    let two = host(&[(0, "0-1", 100), (1, "2-3", 100)]);
    assert_eq!(sets(&shown(Some("0-1"), "0-3", &two)), ["0-1", "0-1", "0-1"]);
    assert_eq!(sets(&shown(Some("1"), "2", &two)), ["1", "1", "1"]);
    assert_eq!(sets(&shown(Some("0"), "2", &two)), ["0-1", "1", "0"], "a shown CPU has its node");
    assert_eq!(sets(&shown(Some("0-1"), "0", &two)), ["0-1", "0", "0-1"], "a node without CPUs");
    assert_eq!(sets(&shown(None, "0", &two)), ["0-1", "0", "0-1"], "without a cpuset controller");
    assert_eq!(sets(&shown(Some("5"), "0", &two)), ["0-1", "0", "0-1"], "gone offline between two reads");
    assert_eq!(sets(&shown(Some("0"), "7", &two)), ["0", "", "0"], "a CPU that no node has");
}

#[test]
fn n9_numbers_are_the_kernels_or_compact_as_those_of_cpus() {
    let three = host(&[(0, "0", 1), (2, "1", 1), (5, "2", 1)]);
    let set = CpuSet::parse("2,5").unwrap();
    for (numbering, numbers) in [(Numbering::Physical, "2,5"), (Numbering::Compact, "0-1")] {
        let nodes = shown_nodes(Some(&set), &cpus("1-2", numbering), &three);
        assert_eq!(nodes.numbers().to_string(), numbers);
        for number in nodes.numbers().iter() {
            assert_eq!(nodes.physical_of(number).and_then(|node| nodes.displayed(node)), Some(number));
        }
        assert_eq!((nodes.displayed(0), nodes.physical_of(7)), (None, None));
    }
}

#[test]
fn n5_parts_follow_the_hosts_nodes_and_add_up() {
    let uneven = host(&[(0, "0", 3000), (1, "1", 1000), (3, "2", 0)]);
    let nodes = shown(Some("0-1,3"), "0-2", &uneven);
    let part = |node, number| nodes.share(node, &uneven).of(number);
    assert_eq!([part(0, 1000), part(1, 1000), part(3, 1000)], [750, 250, 0]);
    assert_eq!([part(0, 1001), part(1, 1001), part(3, 1001)], [750, 251, 0]);
    assert_eq!(part(0, u64::MAX) + part(1, u64::MAX), u64::MAX);
    let one = shown(Some("1"), "0-2", &uneven);
    assert_eq!(sets(&one), ["0-1,3", "0-1,3", "1"]);
    assert_eq!(
        [0, 1, 3].map(|node| one.share(node, &uneven).of(999)),
        [0, 999, 0],
        "memory of one node only"
    );
    let empty = host(&[(0, "0", 0), (1, "1", 0)]);
    let all = shown(None, "0-1", &empty);
    assert_eq!([0, 1].map(|node| all.share(node, &empty).of(9)), [9, 0], "the host's say nothing");
}

/// 3 of 4 kB: the second node of three has no part of the 4, so it has none of the 3, whatever rounding says.
#[test]
fn n5_free_memory_lies_where_memory_is() {
    let host = host(&[(0, "0", 3), (1, "1", 1), (2, "2", 8)]);
    let nodes = shown(None, "0-2", &host);
    let parts = |number| [0, 1, 2].map(|node| nodes.share(node, &host).of_total(4).of(number));
    assert_eq!((parts(4), parts(3)), ([1, 0, 3], [0, 0, 3]));
    assert_eq!(
        [0, 1, 2].map(|node| nodes.share(node, &host).of(3)),
        [0, 1, 2],
        "divided apart they would not agree"
    );
}

proptest! {
    #[test]
    fn parts_add_up_and_keep_the_order(
        weights in proptest::collection::vec(0..1u64 << 40, 1..9),
        total in any::<u64>(),
        part in any::<u64>(),
    ) {
        let list: Vec<_> = weights.iter().enumerate().map(|(number, kib)| (number, "0", *kib)).collect();
        let host = host(&list);
        let nodes = shown(None, "0", &host);
        let part = part.min(total);
        let shares: Vec<Share> = (0..weights.len()).map(|node| nodes.share(node, &host).of_total(total)).collect();
        let sum = |number| shares.iter().map(|share| u128::from(share.of(number))).sum::<u128>();
        prop_assert_eq!(sum(total), u128::from(total));
        prop_assert_eq!(sum(part), if total == 0 { 0 } else { u128::from(part) });
        for share in &shares {
            prop_assert!(share.of(part) <= share.of(total));
        }
    }
}
