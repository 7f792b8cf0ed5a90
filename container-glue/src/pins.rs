//! Which CPUs `--pin` takes. Pure: the caller reads the sets and holds the lock.

use ownproc::model::CpuSet;

/// Chooses `count` CPUs of `allowed`: those that are in the fewest of `taken`, within one of `nodes` where one is
/// large enough (the one whose chosen CPUs have the fewest pins), lower numbers first. `None` when `allowed` has
/// fewer.
pub fn choose(allowed: &CpuSet, nodes: &[CpuSet], taken: &[CpuSet], count: usize) -> Option<CpuSet> {
    let pins = |cpu: usize| taken.iter().filter(|set| set.contains(cpu)).count();
    let best_of = |candidates: &CpuSet| -> Option<(usize, CpuSet)> {
        let mut cpus: Vec<usize> = candidates.iter().collect();
        cpus.sort_by_key(|&cpu| (pins(cpu), cpu));
        let chosen = cpus.get(..count)?;
        Some((chosen.iter().map(|&cpu| pins(cpu)).sum(), chosen.iter().copied().collect()))
    };
    if count == 0 {
        return None;
    }
    nodes
        .iter()
        .filter_map(|node| best_of(&node.and(allowed)))
        .min_by_key(|(pins, _)| *pins)
        .or_else(|| best_of(allowed))
        .map(|(_, chosen)| chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    #[test]
    fn four_containers_share_none() {
        let mut taken = Vec::new();
        for _ in 0..4 {
            let chosen = choose(&set("0-3"), &[set("0-3")], &taken, 1).unwrap();
            assert!(taken.iter().all(|other: &CpuSet| other.and(&chosen).is_empty()));
            taken.push(chosen);
        }
        assert_eq!(choose(&set("0-3"), &[], &taken, 1), Some(set("0")));
    }

    #[test]
    fn one_node_where_possible() {
        let nodes = [set("0-3"), set("4-7")];
        assert_eq!(choose(&set("0-7"), &nodes, &[set("0")], 4), Some(set("4-7")));
        assert_eq!(choose(&set("0-7"), &nodes, &[set("0")], 3), Some(set("1-3")));
        assert_eq!(choose(&set("0-7"), &nodes, &[], 5), Some(set("0-4")));
        assert_eq!(choose(&set("3-5"), &nodes, &[], 2), Some(set("4-5")));
        assert_eq!(choose(&set("0-1"), &nodes, &[], 3), None);
        assert_eq!(choose(&set(""), &[], &[], 1), None);
    }

    proptest! {
        #[test]
        fn right_number_and_allowed(
            allowed in prop::collection::btree_set(0usize..16, 0..16),
            taken in prop::collection::vec(prop::collection::btree_set(0usize..16, 0..5), 0..5),
            count in 1usize..8,
        ) {
            let allowed: CpuSet = allowed.into_iter().collect();
            let taken: Vec<CpuSet> = taken.into_iter().map(|s| s.into_iter().collect()).collect();
            let nodes = [set("0-7"), set("8-15")];
            match choose(&allowed, &nodes, &taken, count) {
                None => prop_assert!(allowed.len() < count),
                Some(chosen) => {
                    prop_assert_eq!(chosen.len(), count);
                    prop_assert!(chosen.without(&allowed).is_empty());
                    let fits = nodes.iter().any(|node| node.and(&allowed).len() >= count);
                    prop_assert!(!fits || nodes.iter().any(|node| chosen.without(node).is_empty()));
                }
            }
        }
    }
}
