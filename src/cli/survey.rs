//! What `/proc` says of the containers on this host: every init of a pid namespace below ours.

use std::io;
use std::path::Path;

use crate::attach::mounts::{Mount, visible};
use crate::model::HostPid;

/// The first process of a pid namespace that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Init {
    /// Its pid here.
    pub pid: HostPid,
    /// Text of its `/proc/PID/cgroup`.
    pub cgroup: String,
    /// How many pid namespaces it is below ours, at least 1.
    pub depth: usize,
}

/// One look at all processes below `root` (`/`, or a fixture tree). Those that end meanwhile are left out, so
/// are those whose files are not readable.
pub(super) fn inits(root: &Path) -> io::Result<Vec<Init>> {
    let proc = root.join("proc");
    let mut found: Vec<Init> = std::fs::read_dir(&proc)?
        .filter_map(|entry| HostPid::new(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter_map(|pid| init(root, pid))
        .collect();
    found.sort_by_key(|init| init.pid);
    Ok(found)
}

fn init(root: &Path, pid: HostPid) -> Option<Init> {
    let file = |name: &str| std::fs::read(root.join(format!("proc/{pid}/{name}"))).ok();
    let status = String::from_utf8_lossy(&file("status")?).into_owned();
    let depth = init_depth(&status)?;
    let cgroup = String::from_utf8_lossy(&file("cgroup")?).into_owned();
    Some(Init { pid, cgroup, depth })
}

/// `NSpid:` lists the pid in each namespace from ours inwards (proc_pid_status(5)); the innermost is 1 for a
/// namespace's first process, and there are several numbers where that namespace is not ours. `None` for all
/// other processes.
pub(super) fn init_depth(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let pids: Vec<&str> = line.split_whitespace().collect();
    let depth = pids.len().checked_sub(1).filter(|&depth| depth > 0)?;
    (pids.last() == Some(&"1")).then_some(depth)
}

/// The group paths in a `/proc/PID/cgroup` text, without duplicates and without root groups.
pub(super) fn group_paths(cgroup: &str) -> Vec<&str> {
    let mut paths: Vec<&str> = Vec::new();
    for path in cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        if path != "/" && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The group that speaks for a process: the one that most hierarchies name, the first of equals; `/` where it
/// is in root groups only.
pub(super) fn main_group(cgroup: &str) -> &str {
    let count = |path: &str| cgroup.lines().filter(|line| line.splitn(3, ':').nth(2) == Some(path)).count();
    group_paths(cgroup).into_iter().rev().max_by_key(|path| count(path)).unwrap_or("/")
}

/// Whether a process reads virtual files of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ViewState {
    /// Over its `/proc/meminfo` is a mount whose daemon lives.
    Bound,
    /// Its `/proc/meminfo` is not ours.
    No,
    /// Over its `/proc/meminfo` is a mount whose daemon is dead.
    Dead,
}

impl ViewState {
    /// As in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::No => "no",
            Self::Dead => "dead",
        }
    }
}

/// What a process with this mount table reads as `/proc/meminfo`; `living` are the devices whose daemons answer.
pub(super) fn bound(mounts: &[Mount], living: &[String]) -> ViewState {
    let meminfo = Path::new("/proc/meminfo");
    match visible(mounts, meminfo) {
        Some(mount) if mount.point == meminfo && mount.is_ownproc() => {
            if living.contains(&mount.device) {
                ViewState::Bound
            } else {
                ViewState::Dead
            }
        }
        _ => ViewState::No,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::attach::mounts::parse as mounts;

    /// Writes a process into a fixture tree.
    pub(in super::super) fn process(root: &Path, pid: i32, nspid: &str, cgroup: &str) {
        let dir = root.join(format!("proc/{pid}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("status"), format!("Name:\tx\nPid:\t{pid}\nNSpid:\t{nspid}\n")).unwrap();
        std::fs::write(dir.join("cgroup"), cgroup).unwrap();
    }

    #[test]
    fn inits_are_found_by_nspid() {
        let dir = tempfile::tempdir().unwrap();
        process(dir.path(), 1, "1", "0::/init.scope\n");
        process(dir.path(), 30, "30\t1", "0::/docker/a\n");
        process(dir.path(), 31, "31\t2", "0::/docker/a\n");
        process(dir.path(), 40, "40\t7\t1", "0::/docker/a/b\n");
        process(dir.path(), 50, "", "");
        std::fs::create_dir_all(dir.path().join("proc/60")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let found = inits(dir.path()).unwrap();
        assert_eq!(found.iter().map(|init| init.pid.get()).collect::<Vec<_>>(), [30, 40]);
        assert_eq!(found.iter().map(|init| init.depth).collect::<Vec<_>>(), [1, 2]);
        assert!(inits(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn groups_of_a_process() {
        let text = "12:memory:/docker/a\n11:cpu,cpuacct:/docker/a\n1:name=systemd:/x:y\n0::/\n";
        assert_eq!(group_paths(text), ["/docker/a", "/x:y"]);
        assert_eq!(main_group(text), "/docker/a");
        assert_eq!(main_group("0::/\n"), "/");
        assert_eq!(main_group("junk"), "/");
    }

    #[test]
    fn what_lies_over_meminfo() {
        let table = |lines: &[&str]| mounts(lines.join("\n").as_bytes());
        let root = "20 1 0:9 / / rw - overlay overlay rw";
        let proc = "30 20 0:50 / /proc rw - proc proc rw";
        let ours = "31 30 0:77 /proc/meminfo /proc/meminfo ro shared:1 - fuse.ownproc ownproc ro";
        let other = "32 30 0:77 / /proc/meminfo ro - fuse.lxcfs lxcfs ro";
        let living = ["0:77".to_owned()];
        // In any order.
        assert_eq!(bound(&table(&[root, proc, ours]), &living), ViewState::Bound);
        assert_eq!(bound(&table(&[ours, proc, root]), &living), ViewState::Bound);
        assert_eq!(bound(&table(&[ours, proc, root]), &[]), ViewState::Dead);
        assert_eq!(bound(&table(&[root, proc]), &living), ViewState::No);
        assert_eq!(bound(&table(&[root, proc, other]), &living), ViewState::No);
        // A second /proc on top hides what was bound before; bound again over it, it is seen.
        let covered = "40 30 0:51 / /proc rw - proc proc rw";
        assert_eq!(bound(&table(&[root, proc, ours, covered]), &living), ViewState::No);
        let again = "41 40 0:78 /proc/meminfo /proc/meminfo ro - fuse.ownproc ownproc ro";
        let both = [root, proc, ours, covered, again];
        assert_eq!(bound(&table(&both), &living), ViewState::Dead);
        assert_eq!(bound(&table(&both), &["0:78".to_owned()]), ViewState::Bound);
        // A fresh mount over a dead one.
        let repaired = "42 31 0:79 /proc/meminfo /proc/meminfo ro - fuse.ownproc ownproc ro";
        assert_eq!(bound(&table(&[repaired, root, proc, ours]), &["0:79".to_owned()]), ViewState::Bound);
        // chroot(2) to a directory that is no mount; a root that is its own parent; a table that lies.
        assert_eq!(bound(&table(&[proc, ours]), &living), ViewState::Bound);
        assert_eq!(bound(&table(&["20 20 0:9 / / rw - rootfs r rw", proc, ours]), &living), ViewState::Bound);
        let ring = ["1 2 0:1 / / rw - a a rw", "2 1 0:1 / / rw - a a rw"];
        assert_eq!(bound(&table(&ring), &living), ViewState::No);
    }

    proptest::proptest! {
        #[test]
        fn any_mount_table_is_harmless(
            rows in proptest::collection::vec((0u64..5, 0u64..5, 0usize..4), 0..8),
            junk in "\\PC{0,40}",
        ) {
            let points = ["/", "/proc", "/proc/meminfo", "/x"];
            let mut text = junk;
            for (id, parent, point) in rows {
                text += &format!("\n{id} {parent} 0:7 / {} rw - fuse.ownproc o rw", points[point]);
            }
            let _ = bound(&mounts(text.as_bytes()), &["0:7".to_owned()]);
        }
    }
}
