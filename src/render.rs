//! Pure: view -> bytes. One file per virtual file, one table that lists them all. No I/O, no unsafe.
//!
//! Every function appends to `out` and leaves what is there; none fails.

mod cpuinfo;
mod meminfo;
mod number;
mod stat;
mod syscpu;
mod uptime;

pub use cpuinfo::{CPUINFO_LINES, CpuinfoLine, cpuinfo};
pub use meminfo::{MEMINFO_LINES, MeminfoLine, meminfo};
pub use stat::{CPU_COLUMNS, CpuColumn, STAT_LINES, StatLine, stat};
pub use syscpu::{
    REWRITTEN, Rewriting, SYS_CPU_FILES, SysCpuFile, rewrite_cpu_list, rewrite_cpu_mask, rewriting, sys_cpu,
};
pub use uptime::uptime;

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
}

/// All virtual files below `proc/`: the path below the tree's root, and which file it is.
pub const PROC_FILES: &[(&str, ProcFile)] = &[
    ("proc/cpuinfo", ProcFile::Cpuinfo),
    ("proc/meminfo", ProcFile::Meminfo),
    ("proc/stat", ProcFile::Stat),
    ("proc/uptime", ProcFile::Uptime),
];
