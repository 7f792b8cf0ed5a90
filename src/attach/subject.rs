//! The process whose mount namespace is entered, held from the first look at it.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::kept::open_beneath;
use crate::containers::pidfd;
use crate::model::HostPid;

/// Why nothing can be done for a process.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is not there any more, or never was.
    #[error("process {0} has ended")]
    Gone(HostPid),
    /// The kernel refused to hold it.
    #[error(
        "cannot hold process {pid}: {errno}; it must be a process (not one of its threads), and this needs root and Linux 5.12"
    )]
    Refused {
        /// Which.
        pid: HostPid,
        /// Why.
        errno: Errno,
    },
    /// The work is done by a child of a program with one thread.
    #[error("this program has {0} threads where it must have one; this is a defect of ownproc")]
    Threads(usize),
    /// No child could be made.
    #[error("cannot start the process that enters the container: {0}")]
    Fork(std::io::Error),
}

/// An object of nsfs: the same numbers mean the same namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    device: u64,
    inode: u64,
}

impl Namespace {
    /// That which a descriptor of it leads to.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        rustix::fs::fstat(fd).map(Self::from)
    }

    /// One of our own.
    pub fn own(kind: &str) -> Result<Self, Errno> {
        rustix::fs::stat(format!("/proc/self/ns/{kind}")).map(Self::from)
    }
}

impl From<rustix::fs::Stat> for Namespace {
    fn from(stat: rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A process, held by a pidfd and by its directory in `/proc`. Neither ever leads to another one that is given its
/// number.
#[derive(Debug)]
pub struct Subject {
    pid: HostPid,
    pidfd: OwnedFd,
    dir: OwnedFd,
}

impl Subject {
    /// Takes hold of a process by its number here. Whether it is still the one that was meant is for the caller to
    /// look at afterwards, by [`Self::read`].
    pub fn open(pid: HostPid) -> Result<Self, AttachError> {
        let failed = |errno| match errno {
            Errno::SRCH | Errno::NOENT => AttachError::Gone(pid),
            errno => AttachError::Refused { pid, errno },
        };
        let number = Pid::from_raw(pid.get()).ok_or(AttachError::Gone(pid))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).map_err(failed)?;
        let subject = Self { pid, pidfd, dir };
        // As long as it has not ended nobody else had its number when the directory was opened.
        if subject.has_ended() { Err(AttachError::Gone(pid)) } else { Ok(subject) }
    }

    /// Its number here.
    #[must_use]
    pub fn pid(&self) -> HostPid {
        self.pid
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        pidfd::ended(self.pidfd.as_fd())
    }

    /// Reads one of the files that the kernel keeps about it. The process cannot make this wait.
    pub fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let fd = open_beneath(self.dir.as_fd(), file, OFlags::RDONLY)?;
        std::fs::File::from(fd).read_to_end(&mut text)?;
        Ok(text)
    }

    /// One of its namespaces: `mnt`, `pid`, `time`.
    pub fn namespace(&self, kind: &str) -> Result<Namespace, Errno> {
        namespace(self.dir.as_fd(), kind)
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A namespace of the process with this directory in `/proc`.
pub(super) fn namespace(dir: BorrowedFd<'_>, kind: &str) -> Result<Namespace, Errno> {
    rustix::fs::statat(dir, format!("ns/{kind}"), AtFlags::empty()).map(Namespace::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oneself_and_nobody() {
        let own = HostPid::new(std::process::id() as i32).unwrap();
        let subject = Subject::open(own).unwrap();
        assert!(!subject.has_ended() && subject.read("status").unwrap().starts_with(b"Name:"));
        assert_eq!(subject.namespace("mnt").unwrap(), Namespace::own("mnt").unwrap());
        assert_ne!(subject.namespace("pid").unwrap(), Namespace::own("mnt").unwrap());
        assert!(matches!(Subject::open(HostPid::new(i32::MAX).unwrap()), Err(AttachError::Gone(_))));
    }

    /// The number of a process that ended and was reaped is free for others: what is held stays the old one.
    #[test]
    fn a_process_that_ended_stays_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let subject = Subject::open(HostPid::new(child.id() as i32).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(subject.has_ended() && subject.read("status").is_err());
        assert!(subject.namespace("mnt").is_err());
    }
}
