//! Choices that a container (or the daemon's default) makes about its view.

use serde::{Deserialize, Serialize};

use super::cpuset::CpuSet;

/// What a policy is called, in the configuration, on command lines and on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKey {
    /// See [`CpusPolicy`].
    Cpus,
    /// See [`Numbering`].
    Numbering,
    /// See [`SwapPolicy`].
    Swap,
    /// See [`UptimePolicy`].
    Uptime,
    /// See [`CountersPolicy`].
    Counters,
    /// See [`OnUnreadable`]. The daemon's alone: a reader that it is about has no known container.
    OnUnreadable,
}

impl PolicyKey {
    /// Those that each container can have its own way.
    pub const CONTAINER: [Self; 5] = [Self::Cpus, Self::Numbering, Self::Swap, Self::Uptime, Self::Counters];
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Cpus, Self::Numbering, Self::Swap, Self::Uptime, Self::Counters, Self::OnUnreadable];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpus => "cpus",
            Self::Numbering => "numbering",
            Self::Swap => "swap",
            Self::Uptime => "uptime",
            Self::Counters => "counters",
            Self::OnUnreadable => "on-unreadable",
        }
    }

    /// The names of its values, the built-in one first.
    #[must_use]
    pub fn values(self) -> Vec<&'static str> {
        fn names<P: Policy>() -> Vec<&'static str> {
            P::VALUES.iter().map(|value| value.name()).collect()
        }
        match self {
            Self::Cpus => names::<CpusPolicy>(),
            Self::Numbering => names::<Numbering>(),
            Self::Swap => names::<SwapPolicy>(),
            Self::Uptime => names::<UptimePolicy>(),
            Self::Counters => names::<CountersPolicy>(),
            Self::OnUnreadable => names::<OnUnreadable>(),
        }
    }
}

/// One policy: a closed set of values with names.
pub trait Policy: Copy + Default + Eq + 'static {
    /// All values, the built-in one first.
    const VALUES: &'static [Self];

    /// What the value is called.
    fn name(self) -> &'static str;

    /// The value of that name.
    fn find(name: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.name() == name)
    }
}

/// Whether a CPU quota lowers the number of CPUs shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpusPolicy {
    /// The first `ceil(quota)` CPUs of the cpuset.
    #[default]
    Quota,
    /// The whole cpuset.
    Cpuset,
}

impl Policy for CpusPolicy {
    const VALUES: &'static [Self] = &[Self::Quota, Self::Cpuset];
    fn name(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Cpuset => "cpuset",
        }
    }
}

/// Which numbers the shown CPUs have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbering {
    /// The kernel's, so that they agree with `sched_getaffinity`, `taskset` and `ps -o psr`.
    #[default]
    Physical,
    /// From 0 without gaps.
    Compact,
}

impl Policy for Numbering {
    const VALUES: &'static [Self] = &[Self::Physical, Self::Compact];
    fn name(self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Compact => "compact",
        }
    }
}

impl Numbering {
    /// The numbers under which the members of `shown` are seen.
    #[must_use]
    pub fn numbers(self, shown: &CpuSet) -> CpuSet {
        match self {
            Self::Physical => shown.clone(),
            Self::Compact => CpuSet::first(shown.len()),
        }
    }

    /// The member of `shown` that is seen as `displayed`.
    #[must_use]
    pub fn physical_of(self, shown: &CpuSet, displayed: usize) -> Option<usize> {
        match self {
            Self::Physical => shown.contains(displayed).then_some(displayed),
            Self::Compact => shown.nth(displayed),
        }
    }

    /// The number under which `physical` is seen; `None` where it is no member of `shown`.
    #[must_use]
    pub fn displayed(self, shown: &CpuSet, physical: usize) -> Option<usize> {
        match self {
            Self::Physical => shown.contains(physical).then_some(physical),
            Self::Compact => shown.rank(physical),
        }
    }
}

/// Whether swap is shown at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapPolicy {
    /// The effective swap limit.
    #[default]
    Show,
    /// 0.
    Hide,
}

impl Policy for SwapPolicy {
    const VALUES: &'static [Self] = &[Self::Show, Self::Hide];
    fn name(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Hide => "hide",
        }
    }
}

/// Whose uptime a reader in the host's time namespace sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UptimePolicy {
    /// The container's.
    #[default]
    Container,
    /// The host's.
    Host,
}

impl Policy for UptimePolicy {
    const VALUES: &'static [Self] = &[Self::Container, Self::Host];
    fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Host => "host",
        }
    }
}

/// What the machine-wide counters in `/proc/stat` (intr, ctxt, softirq) show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountersPolicy {
    /// 0, in the shape of the kernel's lines.
    #[default]
    Zero,
    /// The host's numbers.
    Host,
}

impl Policy for CountersPolicy {
    const VALUES: &'static [Self] = &[Self::Zero, Self::Host];
    fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Host => "host",
        }
    }
}

/// What a reader sees whose container cannot be identified at all: one outside the daemon's pid namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnreadable {
    /// The host's files.
    #[default]
    Host,
    /// EIO.
    Error,
}

impl Policy for OnUnreadable {
    const VALUES: &'static [Self] = &[Self::Host, Self::Error];
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Error => "error",
        }
    }
}

/// What counts for one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Policies {
    /// See [`CpusPolicy`].
    pub cpus: CpusPolicy,
    /// See [`Numbering`].
    pub numbering: Numbering,
    /// See [`SwapPolicy`].
    pub swap: SwapPolicy,
    /// See [`UptimePolicy`].
    pub uptime: UptimePolicy,
    /// See [`CountersPolicy`].
    pub counters: CountersPolicy,
}

impl Policies {
    /// The name of the value; none for a policy that is not a container's.
    #[must_use]
    pub fn get(&self, key: PolicyKey) -> Option<&'static str> {
        match key {
            PolicyKey::Cpus => Some(self.cpus.name()),
            PolicyKey::Numbering => Some(self.numbering.name()),
            PolicyKey::Swap => Some(self.swap.name()),
            PolicyKey::Uptime => Some(self.uptime.name()),
            PolicyKey::Counters => Some(self.counters.name()),
            PolicyKey::OnUnreadable => None,
        }
    }
}
