//! Nodes of the tree and their numbers.
//!
//! An inode number is computed from what the node is, never handed out: numbers are the same in every daemon
//! that ever serves the mount, and a request about a number can be answered by a daemon that never saw its
//! lookup. Layout, from the top bit down:
//!
//! | bits | content |
//! |---|---|
//! | 63..38 | slot: 0 = the tree that shows each reader its own view, else the registered container's |
//! | 37..36 | kind: 0 = fixed nodes, 1 = below sys/devices/system/cpu, 2 = below sys/devices/system/cpu/cpuN, 3 = below sys/devices/system/node |
//! | 35..22 | CPU number (kind 2); node number + 1, or 0 for what is in no nodeN (kind 3) |
//! | 21..0 | fixed node's number, or the path's number in [`super::sysfs`] |

use crate::render::{PROC_FILES, ProcFile};

pub use crate::model::name::MAX_SLOT;

/// Whose files these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The files at the top: each reader sees its own container.
    Reader,
    /// Those below `containers/NAME`, by slot (1 or more).
    Container(u32),
}

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The mount's root, or `containers/NAME`.
    Top,
    /// `containers`.
    Containers,
    /// `proc`.
    Proc,
    /// A directory below `proc`.
    ProcDir(ProcDir),
    /// A file of `proc`.
    ProcFile(ProcFile),
    /// `sys`.
    Sys,
    /// `sys/devices`.
    SysDevices,
    /// `sys/devices/system`.
    SysDevicesSystem,
    /// `sys/devices/system/cpu` (path 0) and what is below it, but for the cpuN directories.
    SysCpu {
        /// Number of the path, see [`super::sysfs::Paths`]; 0 is the directory itself.
        path: u32,
    },
    /// `sys/devices/system/cpu/cpuN` (path 0) and what is below it.
    SysCpuN {
        /// N as shown to the reader.
        cpu: u16,
        /// Number of the path below cpuN.
        path: u32,
    },
    /// `sys/devices/system/node` (path 0) and what is below it, but for the nodeN directories.
    SysNode {
        /// Number of the path.
        path: u32,
    },
    /// `sys/devices/system/node/nodeN` (path 0) and what is below it.
    SysNodeN {
        /// N as shown to the reader, below [`super::sysfs::MAX_NODES`].
        node: u16,
        /// Number of the path below nodeN.
        path: u32,
    },
}

/// A directory below `proc` that holds virtual files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcDir(u8);

/// Their paths below `proc`; a directory's number is its place in this list: given once, never changed.
const PROC_DIRS: &[&str] = &["pressure", "sys", "sys/fs", "sys/kernel", "sys/kernel/random"];

impl ProcDir {
    /// The directory with this path below `proc`.
    #[must_use]
    pub fn find(path: &str) -> Option<Self> {
        let index = PROC_DIRS.iter().position(|known| *known == path)?;
        u8::try_from(index).ok().map(Self)
    }

    /// Its path below `proc`.
    #[must_use]
    pub fn path(self) -> &'static str {
        PROC_DIRS.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// A node and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub node: Node,
}

const KIND_FIXED: u64 = 0;
const KIND_CPU_DIR: u64 = 1;
const KIND_CPU_N: u64 = 2;
const KIND_NODE: u64 = 3;
const PATH_BITS: u32 = 22;
const PATH_MASK: u64 = (1 << PATH_BITS) - 1;
const CPU_MASK: u64 = (1 << 14) - 1;

/// Paths below the CPU directories have numbers below this.
pub const MAX_PATH: u32 = 1 << PATH_BITS;

/// Where the directories of `proc` start among the fixed nodes.
const FIRST_PROC_DIR: u64 = 0x10;
/// Where the files of `proc` start among the fixed nodes.
const FIRST_PROC_FILE: u64 = 0x100;

/// A file's number among the files of `proc`: given once, never changed, never given again.
fn file_id(file: ProcFile) -> u8 {
    match file {
        ProcFile::Meminfo => 1,
        ProcFile::Cpuinfo => 2,
        ProcFile::Stat => 3,
        ProcFile::Uptime => 4,
        ProcFile::Loadavg => 5,
        ProcFile::Swaps => 6,
        ProcFile::Diskstats => 7,
        ProcFile::Slabinfo => 8,
        ProcFile::Vmstat => 9,
        ProcFile::Zoneinfo => 10,
        ProcFile::Buddyinfo => 11,
        ProcFile::Schedstat => 12,
        ProcFile::Softirqs => 13,
        ProcFile::Interrupts => 14,
        ProcFile::Partitions => 15,
        ProcFile::Modules => 16,
        ProcFile::Cgroups => 17,
        ProcFile::PressureCpu => 18,
        ProcFile::PressureMemory => 19,
        ProcFile::PressureIo => 20,
        ProcFile::PressureIrq => 21,
        ProcFile::FileNr => 22,
        ProcFile::InodeNr => 23,
        ProcFile::InodeState => 24,
        ProcFile::DentryState => 25,
        ProcFile::AioNr => 26,
        ProcFile::BootId => 27,
        ProcFile::Locks => 28,
    }
}

fn file_of_id(id: u64) -> Option<ProcFile> {
    PROC_FILES.iter().map(|(_, file)| *file).find(|file| u64::from(file_id(*file)) == id)
}

impl Place {
    /// The mount's root.
    pub const ROOT: Self = Self { scope: Scope::Reader, node: Node::Top };

    /// The node's inode number.
    #[must_use]
    pub fn ino(self) -> u64 {
        let slot = match self.scope {
            Scope::Reader => 0,
            Scope::Container(slot) => u64::from(slot),
        };
        let (kind, cpu, low) = match self.node {
            Node::Top => (KIND_FIXED, 0, 1), // slot 0 makes it FUSE_ROOT_ID
            Node::Containers => (KIND_FIXED, 0, 2),
            Node::Proc => (KIND_FIXED, 0, 3),
            Node::Sys => (KIND_FIXED, 0, 4),
            Node::SysDevices => (KIND_FIXED, 0, 5),
            Node::SysDevicesSystem => (KIND_FIXED, 0, 6),
            Node::ProcDir(dir) => (KIND_FIXED, 0, FIRST_PROC_DIR + u64::from(dir.0)),
            Node::ProcFile(file) => (KIND_FIXED, 0, FIRST_PROC_FILE + u64::from(file_id(file))),
            Node::SysCpu { path } => (KIND_CPU_DIR, 0, u64::from(path)),
            Node::SysCpuN { cpu, path } => (KIND_CPU_N, u64::from(cpu), u64::from(path)),
            Node::SysNode { path } => (KIND_NODE, 0, u64::from(path)),
            Node::SysNodeN { node, path } => (KIND_NODE, u64::from(node) + 1, u64::from(path)),
        };
        slot << 38 | kind << 36 | (cpu & CPU_MASK) << PATH_BITS | (low & PATH_MASK)
    }

    /// The node behind an inode number; `None` for a number that names none.
    #[must_use]
    pub fn from_ino(ino: u64) -> Option<Self> {
        let scope = match ino >> 38 {
            0 => Scope::Reader,
            slot => Scope::Container(u32::try_from(slot).ok()?),
        };
        let low = ino & PATH_MASK;
        let cpu = ino >> PATH_BITS & CPU_MASK;
        let path = u32::try_from(low).ok()?;
        let node = match (ino >> 36 & 3, cpu) {
            (KIND_CPU_N, cpu) => Node::SysCpuN { cpu: u16::try_from(cpu).ok()?, path },
            (KIND_CPU_DIR, 0) => Node::SysCpu { path },
            (KIND_NODE, 0) => Node::SysNode { path },
            (KIND_NODE, above) if above <= super::sysfs::MAX_NODES as u64 => {
                Node::SysNodeN { node: u16::try_from(above - 1).ok()?, path }
            }
            (KIND_FIXED, 0) => match low {
                1 => Node::Top,
                2 if scope == Scope::Reader => Node::Containers,
                3 => Node::Proc,
                4 => Node::Sys,
                5 => Node::SysDevices,
                6 => Node::SysDevicesSystem,
                id if id < FIRST_PROC_FILE => {
                    let index = u8::try_from(id.checked_sub(FIRST_PROC_DIR)?).ok()?;
                    PROC_DIRS.get(usize::from(index))?;
                    Node::ProcDir(ProcDir(index))
                }
                id => Node::ProcFile(file_of_id(id.checked_sub(FIRST_PROC_FILE)?)?),
            },
            _ => return None,
        };
        Some(Self { scope, node })
    }

    /// The same node kind elsewhere in the same scope.
    #[must_use]
    pub const fn sibling(self, node: Node) -> Self {
        Self { scope: self.scope, node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let mut nodes = vec![
            Node::Top,
            Node::Proc,
            Node::Sys,
            Node::SysDevices,
            Node::SysDevicesSystem,
            Node::SysCpu { path: 0 },
        ];
        nodes.extend(PROC_DIRS.iter().filter_map(|path| ProcDir::find(path)).map(Node::ProcDir));
        nodes.extend(PROC_FILES.iter().map(|(_, file)| Node::ProcFile(*file)));
        for path in [0, 1, MAX_PATH - 1] {
            nodes.push(Node::SysCpu { path });
            nodes.extend([0, 1, 255, 8191].map(|cpu| Node::SysCpuN { cpu, path }));
            nodes.push(Node::SysNode { path });
            nodes.extend([0, 1, 1023].map(|node| Node::SysNodeN { node, path }));
        }
        nodes
    }

    #[test]
    fn every_node_survives_its_number() {
        let mut seen = std::collections::HashMap::new();
        for scope in [Scope::Reader, Scope::Container(1), Scope::Container(MAX_SLOT - 1)] {
            for node in nodes() {
                let place = Place { scope, node };
                assert_eq!(Place::from_ino(place.ino()), Some(place));
                let other = seen.insert(place.ino(), place);
                assert!(other.is_none_or(|other| other == place), "{place:?} has the number of {other:?}");
            }
        }
    }

    #[test]
    fn numbers_that_kernels_and_bind_mounts_keep() {
        assert_eq!(Place::ROOT.ino(), 1);
        let meminfo = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Meminfo) };
        assert!(PROC_FILES.iter().all(|(path, _)| {
            path.rsplit_once('/').is_some_and(|(dir, _)| dir == "proc" || ProcDir::find(&dir[5..]).is_some())
        }));
        assert_eq!(meminfo.ino(), 0x101, "numbers of released files never change");
    }

    #[test]
    fn other_numbers_are_no_nodes() {
        for ino in [0, 7, 0xff, 0x100, 0x1ff, 3 << 36 | 1025 << 22, 1 << 22, u64::MAX] {
            assert_eq!(Place::from_ino(ino), None, "{ino:#x}");
        }
        assert_eq!(Place::from_ino(1 << 38 | 2), None, "only the top has containers/");
    }
}
