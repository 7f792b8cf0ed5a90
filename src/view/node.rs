//! Which NUMA nodes a container is shown, and how its memory is divided over them.

use super::cpu::ShownCpus;
use crate::model::{CpuSet, HostNodes, Numbering};

/// The nodes of sys/devices/system/node; all sets in the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ShownNodes {
    /// The nodes that are shown.
    pub physical: CpuSet,
    /// Those that a shown CPU belongs to.
    pub with_cpus: CpuSet,
    /// Those that the container may have memory of.
    pub with_memory: CpuSet,
    /// How they are numbered where they are shown: as the CPUs.
    pub numbering: Numbering,
}

impl ShownNodes {
    /// The shown nodes in the numbers that the container sees.
    #[must_use]
    pub fn numbers(&self) -> CpuSet {
        self.numbering.numbers(&self.physical)
    }

    /// The kernel's number of the node that the container sees as `displayed`.
    #[must_use]
    pub fn physical_of(&self, displayed: usize) -> Option<usize> {
        self.numbering.physical_of(&self.physical, displayed)
    }

    /// The number under which the container sees the kernel's node `physical`; `None` where it is not shown.
    #[must_use]
    pub fn displayed(&self, physical: usize) -> Option<usize> {
        self.numbering.displayed(&self.physical, physical)
    }

    /// Those of the nodes that are shown, in shown numbers.
    #[must_use]
    pub fn translate(&self, nodes: &CpuSet) -> CpuSet {
        nodes.iter().filter_map(|node| self.displayed(node)).collect()
    }

    /// What part of the container's memory the node with the kernel's number `node` has (rule N5): in proportion to
    /// MemTotal of the host's nodes. Where the host's say nothing the first node has all.
    #[must_use]
    pub fn share(&self, node: usize, host: &HostNodes) -> Share {
        let first = self.with_memory.iter().next();
        let members = || host.nodes.iter().filter(|known| self.with_memory.contains(known.number));
        let whole: u64 = members().fold(0, |sum, known| sum.saturating_add(known.total.kib()));
        if whole == 0 {
            return Share { before: 0, own: u64::from(first == Some(node)), whole: 1 };
        }
        let before = members().filter(|known| known.number < node).map(|known| known.total.kib());
        let own = members().find(|known| known.number == node).map_or(0, |known| known.total.kib());
        Share { before: before.fold(0, u64::saturating_add), own, whole }
    }
}

/// Rule N1 of `SEMANTICS.md`. `mems` is the effective set of the nearest level that has one. Never empty while a node
/// is online.
#[must_use]
pub fn shown_nodes(mems: Option<&CpuSet>, shown: &ShownCpus, host: &HostNodes) -> ShownNodes {
    let mut with_memory = mems.map_or_else(|| host.online.clone(), |mems| mems.and(&host.online));
    if with_memory.is_empty() {
        // A node went offline between two reads; the kernel then takes memory from anywhere.
        with_memory = host.online.clone();
    }
    let of_cpus = host.nodes.iter().filter(|node| !node.cpus.and(&shown.physical).is_empty());
    let with_cpus: CpuSet = of_cpus.map(|node| node.number).collect();
    ShownNodes { physical: with_memory.or(&with_cpus), with_cpus, with_memory, numbering: shown.numbering }
}

/// One of the parts that a number is divided into. The parts of all nodes add up to the number, and the parts of a
/// smaller number are no larger than those of a larger one where both are divided by [`Self::of_total`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The weights of the nodes before this one.
    before: u64,
    /// This node's weight.
    own: u64,
    /// The weights of all.
    whole: u64,
}

impl Share {
    /// This part of `number`.
    #[must_use]
    pub fn of(&self, number: u64) -> u64 {
        self.up_to(number, self.before.saturating_add(self.own))
            .saturating_sub(self.up_to(number, self.before))
    }

    /// The parts of `total` as the weights for numbers that are at most `total`.
    #[must_use]
    pub fn of_total(&self, total: u64) -> Self {
        Self { before: self.up_to(total, self.before), own: self.of(total), whole: total }
    }

    fn up_to(&self, number: u64, weight: u64) -> u64 {
        if self.whole == 0 {
            return 0;
        }
        let wide = u128::from(number) * u128::from(weight.min(self.whole)) / u128::from(self.whole);
        u64::try_from(wide).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
