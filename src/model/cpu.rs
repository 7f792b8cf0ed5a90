//! What the cpu, cpuacct and cpuset controllers say of one group and its ancestors.

use super::cpuset::CpuSet;
use super::units::{Nsec, Usec};

/// A CPU bandwidth limit: `quota` of CPU time in each `period` (`cpu.max`, `cpu.cfs_quota_us`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// CPU time per period; may exceed the period (several CPUs). Never 0.
    pub quota: Usec,
    /// The period's length; never 0.
    pub period: Usec,
}

impl Quota {
    /// `None` where either is 0.
    #[must_use]
    pub fn new(quota: Usec, period: Usec) -> Option<Self> {
        (quota.0 > 0 && period.0 > 0).then_some(Self { quota, period })
    }

    /// The CPUs it allows in thousandths, rounded up, at least 1.
    #[must_use]
    pub fn millicpus(&self) -> u64 {
        let wide = (u128::from(self.quota.0) * 1000).div_ceil(u128::from(self.period.0.max(1)));
        u64::try_from(wide).unwrap_or(u64::MAX).max(1)
    }

    /// Whole CPUs, rounded up, at least 1.
    #[must_use]
    pub fn ceil_cpus(&self) -> u64 {
        self.quota.0.div_ceil(self.period.0.max(1)).max(1)
    }

    /// Whether `self` allows less CPU time per second than `other`, compared without rounding.
    #[must_use]
    pub fn tighter_than(&self, other: &Self) -> bool {
        u128::from(self.quota.0) * u128::from(other.period.0)
            < u128::from(other.quota.0) * u128::from(self.period.0)
    }
}

/// One level of the cpu controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuLevel {
    /// The level's own quota; `None` = unlimited.
    pub quota: Option<Quota>,
    /// `nr_throttled` of the level's `cpu.stat`: periods in which it ran out of quota.
    pub nr_throttled: u64,
    /// `throttled_usec` (v2) or `throttled_time` (v1) of the level's `cpu.stat`: summed over host CPUs.
    pub throttled: Usec,
    /// CPU time used at the level, descendants included (v2 `usage_usec`, v1 `cpuacct.usage`).
    pub usage: Usec,
    /// The level is an ancestor of the group, also where it comes first because the group itself has no cpu
    /// controller: its counters hold the siblings' part, too.
    pub is_ancestor: bool,
}

/// CPU time that the container used since its group was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuUsage {
    /// No accounting covers the container.
    Unknown,
    /// cgroup v2 `cpu.stat`: exact totals, not per CPU.
    Total {
        /// `user_usec`, nice time included.
        user: Usec,
        /// `system_usec`.
        system: Usec,
        /// `nice_usec` (Linux 6.12+), tick-sampled: it can exceed `user`.
        nice: Usec,
    },
    /// cgroup v1 `cpuacct`.
    PerCpu {
        /// `cpuacct.usage_percpu`: exact time per possible CPU, index = CPU number.
        percpu: Vec<Nsec>,
        /// Sum of `cpuacct.usage_percpu_user`: tick-sampled, good for the split only.
        user: Nsec,
        /// Sum of `cpuacct.usage_percpu_sys`: tick-sampled, good for the split only.
        system: Nsec,
    },
}

impl CpuUsage {
    /// The total used; 0 where unknown.
    #[must_use]
    pub fn total(&self) -> Usec {
        match self {
            Self::Unknown => Usec::ZERO,
            Self::Total { user, system, .. } => user.plus(*system),
            Self::PerCpu { percpu, .. } => percpu.iter().copied().sum::<Nsec>().usec(),
        }
    }
}

/// All that is read of the CPU side of one container in one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuReading {
    /// From the group itself upwards, the hierarchy's root left out.
    pub levels: Vec<CpuLevel>,
    /// The group's `cpu.stat.local` throttled time (Linux 6.6+: time its own tasks waited for any level's
    /// quota); `None` where the kernel or the group has none.
    pub throttled_local: Option<Usec>,
    /// The group's CPU time.
    pub usage: CpuUsage,
    /// `cpuset.cpus.effective` of the group or of the nearest level where it is not empty; `None` where no
    /// cpuset controller covers the container.
    pub cpuset: Option<CpuSet>,
    /// CPUs that are online on the host.
    pub online: CpuSet,
}

impl Default for CpuReading {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            throttled_local: None,
            usage: CpuUsage::Unknown,
            cpuset: None,
            online: CpuSet::EMPTY,
        }
    }
}
