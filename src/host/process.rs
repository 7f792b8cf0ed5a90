//! Facts of one process. What cannot be read for want of rights, or because the process is gone, is `None`:
//! never an error that could fail somebody's read.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::clocks::ticks_to_nsec;
use super::files::Host;
use super::parse::process as parse;
use crate::cgroup::kept::{open_beneath, read_fd};
use crate::model::{HostPid, Nsec, TimeNamespace};

/// A process (or thread), held by its directory in `/proc`: once it has ended every file in it gives ESRCH,
/// also when its number is given to another process.
#[derive(Debug)]
pub struct Process {
    dir: OwnedFd,
}

impl Process {
    /// Opens `ROOT/proc/PID`; works for a thread's id too.
    #[must_use]
    pub fn open(host: &Host, pid: HostPid) -> Option<Self> {
        Self::open_named(host, &pid.to_string())
    }

    /// The daemon itself. In a fixture tree `self` is a directory, on the host a link to one.
    pub(super) fn open_self(host: &Host) -> Option<Self> {
        Self::open_named(host, "self")
    }

    fn open_named(host: &Host, name: &str) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(host.proc(), name, flags, Mode::empty()).ok()?;
        Some(Self { dir })
    }

    /// Reads one of its files.
    pub fn read<R>(&self, file: &str, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let fd = open_beneath(self.dir.as_fd(), file, OFlags::RDONLY).ok()?;
        read_fd(fd.as_fd(), f).ok()
    }

    /// Opens one of its files, to be kept: reads give ESRCH once the process has ended.
    #[must_use]
    pub fn keep(&self, file: &str) -> Option<OwnedFd> {
        open_beneath(self.dir.as_fd(), file, OFlags::RDONLY).ok()
    }

    /// Opens one of its namespaces. Needs CAP_SYS_PTRACE for processes of other users.
    #[must_use]
    pub fn namespace_fd(&self, kind: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, format!("ns/{kind}"), flags, Mode::empty()).ok()
    }

    /// Parent, state and start from its `stat`.
    #[must_use]
    pub fn stat(&self) -> Option<parse::ProcessStat> {
        self.read("stat", parse::stat).flatten()
    }

    /// CLOCK_BOOTTIME of the host at its start, exact to 10 ms. The kernel gives it in the *reader's* time
    /// namespace, which for the daemon is the host's.
    #[must_use]
    pub fn start(&self) -> Option<Nsec> {
        self.stat().map(|stat| ticks_to_nsec(stat.start))
    }

    /// State and ids from its `status`.
    #[must_use]
    pub fn status(&self) -> Option<parse::Status> {
        self.read("status", parse::status)
    }

    /// Whether a task waits for the answer of a FUSE daemon, such as ours: `/proc/TID/wchan` names the kernel
    /// function it sleeps in.
    #[must_use]
    pub fn waits_for_fuse(host: &Host, task: HostPid) -> bool {
        open_beneath(host.proc().as_fd(), &format!("{task}/wchan"), OFlags::RDONLY)
            .is_ok_and(|fd| read_fd(fd.as_fd(), |name| name == b"request_wait_answer").unwrap_or(false))
    }

    /// The same of a task that is looked at once: three system calls instead of five.
    #[must_use]
    pub fn status_of(host: &Host, task: HostPid) -> Option<parse::Status> {
        let fd = open_beneath(host.proc().as_fd(), &format!("{task}/status"), OFlags::RDONLY).ok()?;
        read_fd(fd.as_fd(), parse::status).ok()
    }

    /// Its id in its own, innermost pid namespace.
    #[must_use]
    pub fn innermost_pid(&self) -> Option<u64> {
        self.status()?.nspid.last().copied()
    }

    /// The bytes of its `cgroup` file, for [`crate::cgroup::Membership::parse`].
    #[must_use]
    pub fn cgroup(&self) -> Option<Vec<u8>> {
        self.read("cgroup", <[u8]>::to_vec)
    }

    /// The inode of one of its namespaces: `pid`, `time`, `time_for_children`, `cgroup`, ... Needs
    /// CAP_SYS_PTRACE for processes of other users.
    #[must_use]
    pub fn namespace(&self, kind: &str) -> Option<u64> {
        let link = rustix::fs::readlinkat(&self.dir, format!("ns/{kind}"), Vec::new()).ok()?;
        parse::namespace(link.to_bytes())
    }

    /// The time namespace it lives in, with its boottime offset; `None` where that is the daemon's own.
    ///
    /// `timens_offsets` are those of the namespace for its children: they are its own only where both links
    /// agree (after `unshare` without a fork they do not).
    #[must_use]
    pub fn timens(&self, host: &Host) -> Option<TimeNamespace> {
        let own = self.namespace("time")?;
        if Some(own) == host.own_timens() || Some(own) != self.namespace("time_for_children") {
            return None;
        }
        let boottime = self.read("timens_offsets", parse::timens_boottime).flatten()?;
        Some(TimeNamespace { inode: own, boottime })
    }
}
