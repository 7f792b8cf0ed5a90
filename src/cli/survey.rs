//! What `/proc` says of the containers on this host: every init of a pid namespace below ours.

use std::io;
use std::path::{Path, PathBuf};

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
fn init_depth(status: &str) -> Option<usize> {
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

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `MAJ:MIN`.
    pub device: String,
    /// Where, as its mount namespace sees it.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: String,
}

/// File system type of our mounts.
pub(super) const FS_TYPE: &str = "fuse.ownproc";

/// The mounts in a `/proc/PID/mountinfo` text, in its order (a later one covers an earlier one).
pub(super) fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    String::from_utf8_lossy(mountinfo).lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let (device, _root, point) = (before.next()?, before.next()?, before.next()?);
    let kind = after.split(' ').next()?;
    Some(Mount { device: device.to_owned(), point: unescape(point), kind: kind.to_owned() })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits after a backslash.
fn unescape(text: &str) -> PathBuf {
    let mut path = text.to_owned();
    // The backslash last: what it uncovers is no escape.
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        path = path.replace(escape, character);
    }
    PathBuf::from(path)
}

/// What lies over `/proc/meminfo` (or over all of `/proc`) in this mount table; `living` are the devices whose
/// daemons answer.
pub(super) fn bound(mounts: &[Mount], living: &[String]) -> ViewState {
    let meminfo = Path::new("/proc/meminfo");
    let top = mounts.iter().rev().find(|mount| mount.point == meminfo || mount.point == Path::new("/proc"));
    match top {
        Some(mount) if mount.point == meminfo && mount.kind == FS_TYPE => {
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
        let table = |tail: &str| mounts(format!("30 20 0:50 / /proc rw - proc proc rw\n{tail}").as_bytes());
        let ours = "31 30 0:77 /proc/meminfo /proc/meminfo ro shared:1 - fuse.ownproc ownproc ro\n";
        let living = ["0:77".to_owned()];
        assert_eq!(bound(&table(ours), &living), ViewState::Bound);
        assert_eq!(bound(&table(ours), &[]), ViewState::Dead);
        assert_eq!(bound(&table(""), &living), ViewState::No);
        let other = "31 30 0:77 / /proc/meminfo ro - fuse.lxcfs lxcfs ro\n";
        assert_eq!(bound(&table(other), &living), ViewState::No);
        // A second /proc on top hides what was bound before.
        let covered = format!("{ours}32 30 0:51 / /proc rw - proc proc rw\n");
        assert_eq!(bound(&table(&covered), &living), ViewState::No);
        assert_eq!(unescape("/a\\040b\\134040"), PathBuf::from("/a b\\040"));
        assert_eq!(mounts(b"\nx\n1 2 3\n - a\n").len(), 0);
    }
}
