//! Which CPUs a container is shown, and which level's quota binds.

use crate::model::{CpuLevel, CpuReading, CpuSet, CpusPolicy, Numbering, Policies, Quota};

/// The one CPU set that cpuinfo, stat, uptime and sys/devices/system/cpu all use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ShownCpus {
    /// The CPUs that the container may run on: effective cpuset and online, in the kernel's numbers.
    pub mask: CpuSet,
    /// The CPUs that are shown, in the kernel's numbers: `mask`, or fewer under a quota.
    pub physical: CpuSet,
    /// How they are numbered where they are shown.
    pub numbering: Numbering,
}

impl ShownCpus {
    /// How many CPUs are shown.
    #[must_use]
    pub fn count(&self) -> usize {
        self.physical.len()
    }

    /// The shown CPUs in the numbers that the container sees.
    #[must_use]
    pub fn numbers(&self) -> CpuSet {
        self.numbering.numbers(&self.physical)
    }

    /// The kernel's number of the CPU that the container sees as `displayed`.
    #[must_use]
    pub fn physical_of(&self, displayed: usize) -> Option<usize> {
        self.numbering.physical_of(&self.physical, displayed)
    }

    /// The number under which the container sees the kernel's CPU `physical`; `None` where it is not shown.
    #[must_use]
    pub fn displayed(&self, physical: usize) -> Option<usize> {
        self.numbering.displayed(&self.physical, physical)
    }
}

/// Rules C1 to C4 of `SEMANTICS.md`. Never empty while a CPU is online.
#[must_use]
pub fn shown(reading: &CpuReading, policies: &Policies) -> ShownCpus {
    let mut mask = match &reading.cpuset {
        Some(effective) => effective.and(&reading.online),
        None => reading.online.clone(),
    };
    if mask.is_empty() {
        // A CPU of the set went offline between two reads; the kernel then lets the tasks run anywhere.
        mask = reading.online.clone();
    }
    let physical = match (policies.cpus, binding_quota(&reading.levels)) {
        (CpusPolicy::Quota, Some((_, quota))) => {
            mask.lowest(usize::try_from(quota.ceil_cpus()).unwrap_or(usize::MAX))
        }
        _ => mask.clone(),
    };
    ShownCpus { mask, physical, numbering: policies.numbering }
}

/// The tightest quota of all levels and the index of its level; of equal ones the nearest to the group.
#[must_use]
pub fn binding_quota(levels: &[CpuLevel]) -> Option<(usize, Quota)> {
    let mut tightest: Option<(usize, Quota)> = None;
    for (index, level) in levels.iter().enumerate() {
        let Some(quota) = level.quota else { continue };
        if tightest.is_none_or(|(_, best)| quota.tighter_than(&best)) {
            tightest = Some((index, quota));
        }
    }
    tightest
}

#[cfg(test)]
mod tests;
