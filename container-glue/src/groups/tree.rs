//! Directories: made top down, removed bottom up.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cgroups_rs::fs::cpuset::CpuSetController;
use ownproc::cgroup::Controller;
use ownproc::cgroup::deep::{self, Visit};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{GroupError, Hierarchies, Hierarchy};

/// Controllers that are passed down on v2, where it has them: what `linux.resources` can ask for.
const DELEGATED: &[&str] = &["memory", "cpu", "cpuset", "pids", "io", "hugetlb", "rdma"];
/// Those that a reader may do without: where the kernel refuses one on some root group, a limit that needs it says so.
const OPTIONAL: &[&str] = &["io", "hugetlb", "rdma"];
/// A group that has just lost its last process may still be busy for some milliseconds.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The container's groups, one per hierarchy. Their paths are in the launcher's state file, by which they are removed
/// at the end (or by a later launch, if this one is killed).
#[derive(Debug)]
pub struct Groups {
    /// Each hierarchy with the path of the container's group in it.
    leaves: Vec<(Hierarchy, PathBuf)>,
}

impl Groups {
    /// The levels of `parent`, as from the hierarchies' roots, that are not there yet, upper ones first. `without_v2`: in v1
    /// hierarchies alone.
    pub fn missing_parents(&self, parent: &Path, without_v2: bool) -> Vec<PathBuf> {
        let levels = |mount: &Path| -> Vec<PathBuf> {
            parent
                .ancestors()
                .filter(|level| !level.as_os_str().is_empty())
                .map(|level| mount.join(level))
                .collect()
        };
        let hierarchies =
            self.leaves.iter().map(|(it, _)| it).filter(|hierarchy| !(without_v2 && hierarchy.v2));
        let all = hierarchies.flat_map(|hierarchy| levels(&hierarchy.mount).into_iter().rev());
        all.filter(|level| !level.exists()).collect()
    }

    /// The groups of a path from the hierarchies' roots, whether they are there or not.
    pub fn at(hierarchies: &Hierarchies, path: &Path) -> Self {
        Self { leaves: hierarchies.0.iter().map(|h| (h.clone(), h.mount.join(path))).collect() }
    }

    /// Makes those of [`Groups::at`] that are not there, with the levels above them (`parent` as from the hierarchies' roots).
    /// On v2 those levels are left alone where they are systemd's. What is made stays when a later step fails: the caller has
    /// written down what to remove.
    pub fn make(&self, parent: &Path, of_systemd: bool) -> Result<(), GroupError> {
        for (hierarchy, leaf) in &self.leaves {
            if !(of_systemd && hierarchy.v2) {
                make_parents(hierarchy, parent)?;
            }
            match std::fs::create_dir(leaf) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(GroupError::io("create group", leaf, e));
                }
                _ => {}
            }
            copy_cpuset(hierarchy, leaf)?;
        }
        Ok(())
    }

    /// The container's group for a controller, with whether that is v2.
    pub fn of(&self, controller: Controller) -> Option<(&Path, &Hierarchy)> {
        self.leaves
            .iter()
            .find(|(hierarchy, _)| hierarchy.controllers.contains(&controller))
            .map(|(hierarchy, leaf)| (leaf.as_path(), hierarchy))
    }

    /// All groups.
    pub fn leaves(&self) -> impl Iterator<Item = (&Hierarchy, &Path)> {
        self.leaves.iter().map(|(hierarchy, leaf)| (hierarchy, leaf.as_path()))
    }

    /// A descriptor of the v2 group for CLONE_INTO_CGROUP.
    pub fn v2_fd(&self) -> Result<Option<OwnedFd>, GroupError> {
        self.leaves.iter().find(|(hierarchy, _)| hierarchy.v2).map(|(_, leaf)| directory(leaf)).transpose()
    }

    /// Descriptors of all groups.
    pub fn fds(&self) -> Result<Vec<OwnedFd>, GroupError> {
        self.leaves.iter().map(|(_, leaf)| directory(leaf)).collect()
    }

    /// Moves a process that systemd made a scope around into all v1 groups. The first write after a pause waits for a grace
    /// period of RCU, 5 to 15 ms: see [`Entrances`].
    pub fn attach_v1(&self, pid: i32) -> Result<(), GroupError> {
        for (_, leaf) in self.leaves.iter().filter(|(hierarchy, _)| !hierarchy.v2) {
            write(&leaf.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// What lets a process that was born in the v2 group into the others.
    pub fn entrances(&self) -> Result<Entrances, GroupError> {
        let v1 = self.leaves.iter().filter(|(hierarchy, _)| !hierarchy.v2);
        Entrances::open(v1.map(|(_, leaf)| leaf.as_path()))
    }
}

/// The `tasks` files of v1 groups, open for a process that moves itself: since Linux 5.4 that waits for nobody
/// (`cgroup_procs_write_start` takes no lock of all threads for a thread that names itself by 0), where a move by another one
/// waits for a grace period of RCU.
#[derive(Debug)]
pub struct Entrances(Vec<(PathBuf, File)>);

impl Entrances {
    /// Opens those of v1 cgroups.
    pub fn open<'a>(cgroups: impl Iterator<Item = &'a Path>) -> Result<Self, GroupError> {
        let open = |cgroup: &Path| {
            let path = cgroup.join("tasks");
            match OpenOptions::new().write(true).open(&path) {
                Ok(file) => Ok((path, file)),
                Err(error) => Err(GroupError::io("open", path, error)),
            }
        };
        cgroups.map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Moves this process, which must have one thread.
    pub fn enter(self) -> Result<(), GroupError> {
        use std::io::Write;
        for (path, mut file) in self.0 {
            file.write_all(b"0").map_err(|error| GroupError::io("write 0 to", path, error))?;
        }
        Ok(())
    }
}

fn directory(path: &Path) -> Result<OwnedFd, GroupError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|e| GroupError::io("open group", path, e))
}

/// One write(2), as cgroup files want it. Never creates the file.
pub fn write(path: &Path, text: &str) -> Result<(), GroupError> {
    use std::io::Write;
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file: File| file.write_all(text.as_bytes()))
        .map_err(|e| GroupError::io(format!("write {text} to"), path, e))
}

/// Makes the levels above the container's group and passes the controllers down (v2), or the cpuset (v1).
fn make_parents(hierarchy: &Hierarchy, parent: &Path) -> Result<(), GroupError> {
    let mut level = hierarchy.mount.clone();
    delegate(hierarchy, &level)?;
    for part in parent {
        level.push(part);
        match std::fs::create_dir(&level) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(GroupError::io("create group", level, e)),
        }
        copy_cpuset(hierarchy, &level)?;
        delegate(hierarchy, &level)?;
    }
    Ok(())
}

/// v2: lists in `cgroup.subtree_control` the controllers that the level has. One that is stray on the v2 side of a
/// hybrid host is left alone.
fn delegate(hierarchy: &Hierarchy, level: &Path) -> Result<(), GroupError> {
    if !hierarchy.v2 {
        return Ok(());
    }
    let read = |file: &str| {
        let path = level.join(file);
        std::fs::read_to_string(&path).map_err(|e| GroupError::io("read", path, e))
    };
    let (offered, passed) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in DELEGATED.iter().filter(|name| has(&offered, name) && !has(&passed, name)) {
        match write(&level.join("cgroup.subtree_control"), &format!("+{name}")) {
            Err(_) if OPTIONAL.contains(name) => {}
            other => other?,
        }
    }
    Ok(())
}

/// v1: a new cpuset has no CPU and no node, and takes no process until it has. Copies its parent's.
fn copy_cpuset(hierarchy: &Hierarchy, group: &Path) -> Result<(), GroupError> {
    if hierarchy.v2 || !hierarchy.controllers.contains(&Controller::Cpuset) {
        return Ok(());
    }
    let Some(parent) = group.parent() else { return Ok(()) };
    let controller = CpuSetController::new(group.to_owned(), hierarchy.mount.clone(), false);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Path| {
            let path = dir.join(file);
            std::fs::read_to_string(&path).map_err(|e| GroupError::io("read", path, e))
        };
        if !read(group)?.trim().is_empty() {
            continue;
        }
        let above = read(parent)?;
        let done = if file == "cpuset.cpus" {
            controller.set_cpus(above.trim())
        } else {
            controller.set_mems(above.trim())
        };
        super::limits::checked(done, &group.join(file), above.trim())?;
    }
    Ok(())
}

/// Removes a cgroup and what was made below it, however deep. Waits up to [`REMOVE_TIMEOUT`] in all
/// while the kernel says EBUSY. A cgroup that is not there is no error.
pub fn remove_tree(group: &Path) -> io::Result<()> {
    // most times it has nothing below
    if std::fs::remove_dir(group).is_ok() {
        return Ok(());
    }
    let top = match deep::open(group) {
        Ok(top) => top,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut remove = Remove { deadline: Instant::now() + REMOVE_TIMEOUT, failed: None };
    deep::walk(&top, &mut remove)?;
    if let Some(errno) = remove.failed {
        return Err(errno.into());
    }
    remove.one(|| match std::fs::remove_dir(group) {
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        Ok(()) => Ok(()),
    })?;
    Ok(())
}

/// Removes what lies below a cgroup.
struct Remove {
    deadline: Instant,
    failed: Option<Errno>,
}

impl Remove {
    fn one(&self, remove: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        let mut pause = Duration::from_micros(200);
        loop {
            match remove() {
                Err(Errno::BUSY) if Instant::now() < self.deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(Errno::NOENT) => return Ok(()),
                other => return other,
            }
        }
    }
}

impl Visit for Remove {
    fn enter(&mut self, _: BorrowedFd<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> ControlFlow<()> {
        match self.one(|| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(errno) => {
                self.failed = Some(errno);
                ControlFlow::Break(())
            }
        }
    }
}
