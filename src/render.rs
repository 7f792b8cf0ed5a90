//! Pure: view -> bytes. One file per virtual file, one table that lists them all. No I/O, no unsafe.
//!
//! Every function appends to `out` and leaves what is there; none fails.

mod buddyinfo;
mod counters;
mod cpuinfo;
mod diskstats;
mod kernel;
mod loadavg;
mod meminfo;
mod number;
mod pressure;
mod schedstat;
mod stat;
mod swaps;
mod syscpu;
mod sysfs;
mod sysinfo;
mod sysnode;
mod uptime;
mod vmstat;
mod zoneinfo;

pub use buddyinfo::buddyinfo;
pub use counters::{interrupts, softirqs};
pub use cpuinfo::{CPUINFO_LINES, CpuinfoLine, cpuinfo};
pub use diskstats::{DISK_COLUMNS, DiskColumn, diskstats};
pub use kernel::{boot_id, cgroups, fs_counters, host_modules, modules, partitions, slabinfo};
pub use loadavg::loadavg;
pub use meminfo::{MEMINFO_LINES, MeminfoLine, meminfo};
pub use pressure::{pressure, pressure_cpu};
pub use schedstat::{jiffies_rate, schedstat};
pub use stat::{CPU_COLUMNS, CpuColumn, STAT_LINES, StatLine, stat};
pub use swaps::swaps;
pub use syscpu::{
    REWRITTEN, Rewriting, SYS_CPU_FILES, SysCpuFile, nohz_full, rewrite_cpu_list, rewrite_cpu_mask,
    rewriting, sys_cpu,
};
pub use sysfs::{SYS_CPU_PATHS, SYS_NODE_PATHS, is_listed, origin};
pub use sysinfo::{SYSINFO_32, SYSINFO_64, sysinfo, sysinfo_32};
pub use sysnode::{
    SYS_NODE_FILES, SysNodeFile, node_cpulist, node_cpumap, node_distance, node_hugepages, node_meminfo,
    node_numastat, node_vmstat, sys_node,
};
pub use uptime::uptime;
pub use vmstat::{VMSTAT_LINES, VmstatLine, vmstat};
pub use zoneinfo::zoneinfo;

use crate::model::PressureResource;

/// The virtual files below `proc/`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProcFile {
    /// `/proc/meminfo`
    Meminfo,
    /// `/proc/cpuinfo`
    Cpuinfo,
    /// `/proc/stat`
    Stat,
    /// `/proc/uptime`
    Uptime,
    /// `/proc/loadavg`
    Loadavg,
    /// `/proc/swaps`
    Swaps,
    /// `/proc/diskstats`
    Diskstats,
    /// `/proc/slabinfo`
    Slabinfo,
    /// `/proc/vmstat`
    Vmstat,
    /// `/proc/zoneinfo`
    Zoneinfo,
    /// `/proc/buddyinfo`
    Buddyinfo,
    /// `/proc/schedstat`
    Schedstat,
    /// `/proc/softirqs`
    Softirqs,
    /// `/proc/interrupts`
    Interrupts,
    /// `/proc/partitions`
    Partitions,
    /// `/proc/modules`
    Modules,
    /// `/proc/cgroups`
    Cgroups,
    /// `/proc/pressure/cpu`
    PressureCpu,
    /// `/proc/pressure/memory`
    PressureMemory,
    /// `/proc/pressure/io`
    PressureIo,
    /// `/proc/pressure/irq`
    PressureIrq,
    /// `/proc/sys/fs/file-nr`
    FileNr,
    /// `/proc/sys/fs/inode-nr`
    InodeNr,
    /// `/proc/sys/fs/inode-state`
    InodeState,
    /// `/proc/sys/fs/dentry-state`
    DentryState,
    /// `/proc/sys/fs/aio-nr`
    AioNr,
    /// `/proc/sys/kernel/random/boot_id`
    BootId,
    /// `/proc/locks`
    Locks,
}

/// All virtual files below `proc/`: the path below the tree's root, and which file it is. Each is served where the
/// running kernel has it.
pub const PROC_FILES: &[(&str, ProcFile)] = &[
    ("proc/buddyinfo", ProcFile::Buddyinfo),
    ("proc/cgroups", ProcFile::Cgroups),
    ("proc/cpuinfo", ProcFile::Cpuinfo),
    ("proc/diskstats", ProcFile::Diskstats),
    ("proc/interrupts", ProcFile::Interrupts),
    ("proc/loadavg", ProcFile::Loadavg),
    ("proc/locks", ProcFile::Locks),
    ("proc/meminfo", ProcFile::Meminfo),
    ("proc/modules", ProcFile::Modules),
    ("proc/partitions", ProcFile::Partitions),
    ("proc/pressure/cpu", ProcFile::PressureCpu),
    ("proc/pressure/io", ProcFile::PressureIo),
    ("proc/pressure/irq", ProcFile::PressureIrq),
    ("proc/pressure/memory", ProcFile::PressureMemory),
    ("proc/schedstat", ProcFile::Schedstat),
    ("proc/slabinfo", ProcFile::Slabinfo),
    ("proc/softirqs", ProcFile::Softirqs),
    ("proc/stat", ProcFile::Stat),
    ("proc/swaps", ProcFile::Swaps),
    ("proc/sys/fs/aio-nr", ProcFile::AioNr),
    ("proc/sys/fs/dentry-state", ProcFile::DentryState),
    ("proc/sys/fs/file-nr", ProcFile::FileNr),
    ("proc/sys/fs/inode-nr", ProcFile::InodeNr),
    ("proc/sys/fs/inode-state", ProcFile::InodeState),
    ("proc/sys/kernel/random/boot_id", ProcFile::BootId),
    ("proc/uptime", ProcFile::Uptime),
    ("proc/vmstat", ProcFile::Vmstat),
    ("proc/zoneinfo", ProcFile::Zoneinfo),
];

impl ProcFile {
    /// Which pressure it tells of, where that is what it does.
    #[must_use]
    pub const fn pressure(self) -> Option<PressureResource> {
        match self {
            Self::PressureCpu => Some(PressureResource::Cpu),
            Self::PressureMemory => Some(PressureResource::Memory),
            Self::PressureIo => Some(PressureResource::Io),
            Self::PressureIrq => Some(PressureResource::Irq),
            _ => None,
        }
    }

    /// Its path below `/proc`.
    #[must_use]
    pub fn name(self) -> &'static str {
        let row = PROC_FILES.iter().find(|(_, file)| *file == self);
        row.and_then(|(path, _)| path.strip_prefix("proc/")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_one_path() {
        for (path, file) in PROC_FILES {
            assert_eq!(path.strip_prefix("proc/"), Some(file.name()));
        }
        assert!(PROC_FILES.is_sorted_by_key(|(path, _)| *path));
    }
}
