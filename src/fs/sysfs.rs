//! Numbers for the paths below `sys/devices/system/cpu` and `.../node`, which differ between machines and kernels.
//!
//! A path's number is a hash of its text, so that every daemon on one host gives the same. Paths below a cpuN
//! or nodeN directory are numbered once for all N. Where two paths meet at a number, the one that sorts later moves on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use super::inode::MAX_PATH;

/// Which family of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Below `sys/devices/system/cpu`, the cpuN directories left out.
    Directory,
    /// Below `sys/devices/system/cpu/cpuN`.
    CpuN,
    /// Below `sys/devices/system/node`, the nodeN directories left out.
    Node,
    /// Below `sys/devices/system/node/nodeN`.
    NodeN,
}

#[derive(Debug, Default)]
struct Table {
    by_number: HashMap<u32, Arc<str>>,
    by_path: HashMap<Arc<str>, u32>,
}

impl Table {
    fn add(&mut self, path: &str) -> Option<u32> {
        if let Some(number) = self.by_path.get(path) {
            return Some(*number);
        }
        // A full table would be four million files in a directory of a few hundred.
        let number =
            (0..MAX_PATH).map(|step| hash(path, step)).find(|number| !self.by_number.contains_key(number))?;
        let path: Arc<str> = path.into();
        self.by_number.insert(number, Arc::clone(&path));
        self.by_path.insert(path, number);
        Some(number)
    }
}

/// FNV-1a, folded to the path bits of an inode number; never 0, which is the directory itself.
fn hash(path: &str, step: u32) -> u32 {
    let wide = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = (wide ^ wide >> 22 ^ wide >> 44) as u32;
    folded.wrapping_add(step) % (MAX_PATH - 1) + 1
}

/// All known paths and their numbers.
#[derive(Debug, Default)]
pub struct Paths {
    directory: RwLock<Table>,
    cpu_n: RwLock<Table>,
    node: RwLock<Table>,
    node_n: RwLock<Table>,
}

impl Paths {
    fn table(&self, family: Family) -> &RwLock<Table> {
        match family {
            Family::Directory => &self.directory,
            Family::CpuN => &self.cpu_n,
            Family::Node => &self.node,
            Family::NodeN => &self.node_n,
        }
    }

    /// Numbers all of `paths`, in sorted order, so that the result does not depend on theirs.
    pub fn add_all(&self, family: Family, paths: BTreeSet<String>) {
        let mut table = self.table(family).write();
        for path in paths {
            table.add(&path);
        }
    }

    /// The number of a path, given now if it has none; 0 for the empty path.
    pub fn number(&self, family: Family, path: &str) -> Option<u32> {
        if path.is_empty() {
            return Some(0);
        }
        if let Some(number) = self.table(family).read().by_path.get(path) {
            return Some(*number);
        }
        self.table(family).write().add(path)
    }

    /// The path with a number; the empty one for 0.
    pub fn path(&self, family: Family, number: u32) -> Option<Arc<str>> {
        if number == 0 {
            return Some("".into());
        }
        self.table(family).read().by_number.get(&number).cloned()
    }
}

/// N of a directory name `cpuN`, if Linux could have a CPU of that number.
#[must_use]
pub fn cpu_number(name: &str) -> Option<u16> {
    let number =
        crate::readings::cpu_number(name).filter(|number| *number < crate::model::cpuset::MAX_CPUS)?;
    u16::try_from(number).ok()
}

/// N of a directory name `nodeN`, if Linux could have a node of that number (MAX_NUMNODES is at most 1024).
#[must_use]
pub fn node_number(name: &str) -> Option<u16> {
    let number = crate::readings::node_number(name).filter(|number| *number < MAX_NODES)?;
    u16::try_from(number).ok()
}

/// Node numbers are below this: `CONFIG_NODES_SHIFT` is at most 10.
pub const MAX_NODES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_paths_alone() {
        let paths = || (0..3000).map(|n| format!("cache/index{n}/size")).collect::<BTreeSet<_>>();
        let (one, two) = (Paths::default(), Paths::default());
        one.add_all(Family::CpuN, paths());
        two.add_all(Family::CpuN, paths());
        let mut seen = BTreeSet::new();
        for path in paths() {
            let number = one.number(Family::CpuN, &path).expect("numbered");
            assert_eq!(two.number(Family::CpuN, &path), Some(number));
            assert_eq!(one.path(Family::CpuN, number).as_deref(), Some(path.as_str()));
            assert!(number > 0 && number < MAX_PATH && seen.insert(number));
        }
        assert_eq!(one.path(Family::Directory, *seen.first().expect("some")), None, "families are apart");
    }

    #[test]
    fn cpu_directories() {
        assert_eq!(cpu_number("cpu0"), Some(0));
        assert_eq!(cpu_number("cpu8191"), Some(8191));
        for other in ["cpu", "cpu01", "cpufreq", "cpuidle", "cpu8192", "cpu-1", "online", "cpu1x"] {
            assert_eq!(cpu_number(other), None, "{other}");
        }
        assert_eq!((node_number("node0"), node_number("node1023")), (Some(0), Some(1023)));
        for other in ["node", "node00", "node1024", "cpu0"] {
            assert_eq!(node_number(other), None, "{other}");
        }
    }
}
