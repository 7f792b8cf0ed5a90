//! The host's own files, taken apart once so that every view can be laid out the same way.

use std::sync::Arc;

use super::cpuset::CpuSet;
use super::units::Bytes;

/// `/proc/meminfo` of the host: the template of every container's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostMeminfo {
    /// The text as read.
    pub text: Arc<str>,
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemFree`.
    pub free: Bytes,
    /// `MemAvailable`; `MemFree` on kernels that have none (before 3.14).
    pub available: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
}

/// `/proc/stat` of the host: only its shape and `btime` are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStat {
    /// Columns of a cpu line (10 since Linux 2.6.33).
    pub cpu_columns: usize,
    /// Lines after the cpu lines, in order.
    pub lines: Vec<HostStatLine>,
    /// `btime`: the second since 1970 in which the host booted.
    pub btime: u64,
}

/// One line of `/proc/stat` after the cpu lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatLine {
    /// The first word, such as `intr`.
    pub key: String,
    /// How many numbers follow it.
    pub columns: usize,
    /// The line as read, without its newline: for the policy that passes counters through.
    pub text: String,
}

/// `/proc/cpuinfo` of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCpuinfo {
    /// One block per online CPU: its number and its lines, without the blank line that ends it.
    pub blocks: Vec<CpuinfoBlock>,
    /// Lines that belong to no CPU (older ARM `Hardware`, s390x's header), with the place they stand at.
    pub global_before: String,
    /// Likewise, after the last block.
    pub global_after: String,
}

/// The lines of one CPU in `/proc/cpuinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuinfoBlock {
    /// The number in the `processor` line.
    pub cpu: usize,
    /// The lines, newline-terminated, `processor` first.
    pub text: String,
    /// `physical id`, where the architecture has it.
    pub physical_id: Option<u64>,
    /// `core id`, likewise.
    pub core_id: Option<u64>,
}

/// The NUMA nodes of the host (`/sys/devices/system/node`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNodes {
    /// The numbers of the nodes that are online.
    pub online: CpuSet,
    /// One entry for each of them, by number.
    pub nodes: Vec<HostNode>,
}

/// One NUMA node of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNode {
    /// N of `nodeN`.
    pub number: usize,
    /// Its CPUs that are online: `nodeN/cpulist`.
    pub cpus: CpuSet,
    /// `MemTotal` of `nodeN/meminfo`; 0 for a node without memory.
    pub total: Bytes,
}
