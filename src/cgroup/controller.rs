//! The controllers that ownproc knows, and the two versions of cgroups.

use std::fmt;

/// Which of the kernel's two interfaces a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `Documentation/admin-guide/cgroup-v1`.
    V1,
    /// `Documentation/admin-guide/cgroup-v2.rst`.
    V2,
}

/// A resource controller. Others that the kernel has (net_cls, perf_event, rdma, ...) say nothing that a
/// virtual file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the kernel's own names
pub enum Controller {
    Memory,
    Cpu,
    /// v1 only: on v2 every group accounts CPU time.
    Cpuacct,
    Cpuset,
    Hugetlb,
    Pids,
    /// `io` on v2, `blkio` on v1.
    Io,
    Freezer,
    Devices,
}

impl Controller {
    /// Every controller.
    pub const ALL: [Self; 9] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Hugetlb,
        Self::Pids,
        Self::Io,
        Self::Freezer,
        Self::Devices,
    ];

    /// From the kernel's name in mount options, `/proc/PID/cgroup` or `cgroup.controllers`.
    #[must_use]
    pub fn from_kernel(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"memory" => Self::Memory,
            b"cpu" => Self::Cpu,
            b"cpuacct" => Self::Cpuacct,
            b"cpuset" => Self::Cpuset,
            b"hugetlb" => Self::Hugetlb,
            b"pids" => Self::Pids,
            b"io" | b"blkio" => Self::Io,
            b"freezer" => Self::Freezer,
            b"devices" => Self::Devices,
            _ => return None,
        })
    }

    /// The kernel's name on v2 (`io`; v1 calls that one `blkio`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Hugetlb => "hugetlb",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Freezer => "freezer",
            Self::Devices => "devices",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
