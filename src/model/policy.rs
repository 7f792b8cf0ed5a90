//! Choices that a container (or the daemon's default) makes about its view.

use serde::{Deserialize, Serialize};

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

/// All choices of one container.
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
