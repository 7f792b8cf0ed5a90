//! Plain data: units, CPU sets, levels, limits, policies. No I/O, no rules.

pub mod choices;
pub mod counters;
pub mod cpu;
pub mod cpuset;
pub mod host;
pub mod io;
pub mod memory;
pub mod name;
pub mod pages;
pub mod policy;
pub mod pressure;
pub mod saved;
pub mod tasks;
pub mod time;
pub mod units;

pub use choices::{DaemonChoices, PolicyChange, PolicyChoices, PolicyError};
pub use counters::{MemoryCounter, MemoryCounters};
pub use cpu::{CpuLevel, CpuReading, CpuUsage, Quota};
pub use cpuset::CpuSet;
pub use host::{HostCpuinfo, HostMeminfo, HostNode, HostNodes, HostStat};
pub use io::{DiskId, DiskUse, HostDisks, Transfer};
pub use memory::{HugetlbLevel, MemoryLevel, MemoryReading, MemoryStat, SwapLevel};
pub use name::ContainerName;
pub use pages::PageSizes;
pub use policy::{
    CountersPolicy, CpusPolicy, Numbering, OnUnreadable, Policies, Policy, PolicyKey, SwapPolicy,
    UptimePolicy,
};
pub use pressure::PressureResource;
pub use tasks::TaskCounts;
pub use time::{TimeNamespace, TimeReading, TimensOffset};
pub use units::{Bytes, HostPid, Nsec, Ticks, Usec};

/// The file system type of every mount of ours, as mountinfo shows it.
pub const MOUNT_TYPE: &str = "fuse.ownproc";
