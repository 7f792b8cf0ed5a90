//! Plain data: units, CPU sets, levels, limits, policies. No I/O, no rules.

pub mod cpu;
pub mod cpuset;
pub mod host;
pub mod memory;
pub mod name;
pub mod policy;
pub mod tasks;
pub mod time;
pub mod units;

pub use cpu::{CpuLevel, CpuReading, CpuUsage, Quota};
pub use cpuset::CpuSet;
pub use host::{HostCpuinfo, HostMeminfo, HostStat};
pub use memory::{HugetlbLevel, MemoryLevel, MemoryReading, MemoryStat, SwapLevel};
pub use name::ContainerName;
pub use policy::{CountersPolicy, CpusPolicy, Numbering, Policies, SwapPolicy, UptimePolicy};
pub use tasks::TaskCounts;
pub use time::{TimeReading, TimensOffset};
pub use units::{Bytes, HostPid, Nsec, Ticks, Usec};
