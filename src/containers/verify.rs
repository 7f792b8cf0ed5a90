//! Whether what a client passed is a living process and the groups that it is in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs};

use super::pidfd;
use crate::cgroup::{CgroupError, Chain, Layout, Membership};
use crate::host::clocks::ticks_to_nsec;
use crate::host::parse::process;
use crate::model::{HostPid, Nsec};

/// `CGROUP_SUPER_MAGIC` (statfs(2)): cgroup v1.
const CGROUP_V1: u64 = 0x0027_e0eb;
/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP_V2: u64 = 0x6367_7270;

/// Why a registration is not what it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first descriptor is no pidfd, or its process lives in a pid namespace that is not ours or below.
    #[error("the first descriptor is not a pidfd of a process in the daemon's pid namespace")]
    NotAPidfd,
    /// The process has ended.
    #[error("the process {0} has ended")]
    Ended(HostPid),
    /// A descriptor is something else.
    #[error("descriptor {index} is not a directory of a cgroup file system")]
    NotAGroup {
        /// Which: 1 is the first after the pidfd.
        index: usize,
    },
    /// Two descriptors of one hierarchy.
    #[error("two directories were given for the hierarchy at {}", mountpoint.display())]
    Twice {
        /// Where the hierarchy is mounted.
        mountpoint: PathBuf,
    },
    /// The process is elsewhere.
    #[error("the process {pid} is in {}, not in the group given or below it", is_in.display())]
    NotInGroup {
        /// Which process.
        pid: HostPid,
        /// Where it is in that hierarchy.
        is_in: PathBuf,
    },
    /// A file of the process.
    #[error("/proc/{pid}/{file}: {source}")]
    Proc {
        /// Which process.
        pid: HostPid,
        /// Which file.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A group could not be opened.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// A process whose groups have been checked.
#[derive(Debug)]
pub struct Verified {
    /// Its pid here.
    pub init: HostPid,
    /// CLOCK_BOOTTIME at its start, in whole ticks (1/100 s).
    pub start: Nsec,
    /// Its pid namespace where that is not ours.
    pub pidns: Option<PidNamespace>,
    /// Its group in each hierarchy where it is below the root: those given, its own in all others.
    pub dirs: Vec<(usize, OwnedFd)>,
}

/// A pid namespace, held open: as long as it is, no other has its number.
#[derive(Debug)]
pub struct PidNamespace {
    /// The namespace's file.
    pub fd: OwnedFd,
    /// Its inode number, as in the link `/proc/PID/ns/pid`.
    pub inode: u64,
}

/// Checks a registration: the process lives, each descriptor is a group's directory, and the process is in that
/// group or below it (an init that has moved itself into a group of its own is still the container's).
/// Directories of hierarchies that say nothing we read are closed.
pub fn verify(layout: &Layout, pidfd: BorrowedFd<'_>, groups: Vec<OwnedFd>) -> Result<Verified, VerifyError> {
    let init = pidfd::pid(pidfd).ok_or(VerifyError::NotAPidfd)?;
    let proc =
        |file: &'static str| move |source: std::io::Error| VerifyError::Proc { pid: init, file, source };
    let cgroup = std::fs::read(format!("/proc/{init}/cgroup")).map_err(proc("cgroup"))?;
    let stat = std::fs::read(format!("/proc/{init}/stat")).map_err(proc("stat"))?;
    let start = process::stat(&stat).map(|stat| ticks_to_nsec(stat.start)).ok_or_else(|| {
        proc("stat")(std::io::Error::new(std::io::ErrorKind::InvalidData, "field 22, starttime, is missing"))
    })?;
    let pidns = pid_namespace(init).map_err(|errno| proc("ns/pid")(errno.into()))?;
    // The files were read by number: while the pidfd's process has not been reaped the number is its own.
    if pidfd::ended(pidfd) || pidfd::pid(pidfd) != Some(init) {
        return Err(VerifyError::Ended(init));
    }
    let membership = Membership::parse(&cgroup, layout);
    let mut dirs: Vec<(usize, OwnedFd)> = Vec::new();
    for (index, dir) in groups.into_iter().enumerate() {
        if !is_group(dir.as_fd()) {
            return Err(VerifyError::NotAGroup { index: index + 1 });
        }
        let Some(number) = layout.hierarchy_of_dir(dir.as_fd()) else { continue };
        let Some(hierarchy) = layout.get(number) else { continue };
        if dirs.iter().any(|(known, _)| *known == number) {
            return Err(VerifyError::Twice { mountpoint: hierarchy.mountpoint().to_owned() });
        }
        let given = fstat(&dir).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let path = membership.path(number);
        let chain = Chain::open(hierarchy, path)?;
        let mut ids = chain.levels().iter().map(|level| level.id()).chain([hierarchy.id()]);
        if !ids.any(|id| Some(id) == given) {
            return Err(VerifyError::NotInGroup { pid: init, is_in: hierarchy.file_path(path, "") });
        }
        dirs.push((number, dir));
    }
    for (number, hierarchy) in layout.hierarchies().iter().enumerate() {
        if dirs.iter().any(|(known, _)| *known == number) {
            continue;
        }
        let chain = Chain::open(hierarchy, membership.path(number))?;
        let Some(group) = chain.group() else { continue };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::openat(group.fd(), ".", flags, Mode::empty()).map_err(|errno| CgroupError::Io {
                doing: "open",
                path: hierarchy.file_path(group.path(), ""),
                source: errno.into(),
            })?;
        dirs.push((number, dir));
    }
    Ok(Verified { init, start, pidns, dirs })
}

fn is_group(dir: BorrowedFd<'_>) -> bool {
    let on_cgroupfs = fstatfs(dir).is_ok_and(|fs| [CGROUP_V1, CGROUP_V2].contains(&(fs.f_type as u64)));
    let directory = fstat(dir).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    on_cgroupfs && directory
}

/// `None` where it is our own.
fn pid_namespace(pid: HostPid) -> Result<Option<PidNamespace>, rustix::io::Errno> {
    let own = rustix::fs::stat("/proc/self/ns/pid")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(format!("/proc/{pid}/ns/pid"), flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    let ours = (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino);
    Ok((!ours).then_some(PidNamespace { fd, inode: stat.st_ino }))
}
