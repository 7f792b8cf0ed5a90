//! Who else would get a mount that is made in a container: mounts spread to all members of a peer group
//! (mount_namespaces(7), shared subtrees). That of a container that was started without cutting it off is the host's own.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags};

use super::mounts::{self, Mount};
use super::subject::{Namespace, Subject, namespace};
use crate::model::HostPid;

/// linux/nsfs.h: the pid namespace above one; EPERM where that is not ours to see.
const NS_GET_PARENT: libc::c_ulong = nix::request_code_none!(0xb7, 0x2);
/// Pid namespaces nest at most this deep (pid_namespaces(7)).
const DEEPEST: usize = 32;

/// The host, and every other mount namespace on it that a process lives in.
pub struct Others {
    proc: OwnedFd,
    hosts: Vec<Namespace>,
    /// Mounts in them. A mount is in one namespace only, and no two that exist have one id.
    host_mounts: HashSet<u64>,
    target: Namespace,
    pidns: Option<Namespace>,
}

/// Why it cannot be told who else is concerned.
pub type Unknown = std::io::Error;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Others {
    /// To be called before another mount namespace is entered. `daemon` lives in one that must never be touched, as we
    /// and pid 1 do.
    pub fn look(subject: &Subject, own: BorrowedFd<'_>, daemon: Option<HostPid>) -> Result<Self, Unknown> {
        let proc = rustix::fs::open("/proc", DIRECTORY, Mode::empty())?;
        let (mut hosts, mut host_mounts) = (vec![namespace(own, "mnt")?], HashSet::new());
        host_mounts.extend(ids(&read(own, "mountinfo")?));
        for pid in std::iter::once(1).chain(daemon.map(HostPid::get)) {
            let dir = rustix::fs::openat(&proc, pid.to_string(), DIRECTORY, Mode::empty())?;
            host_mounts.extend(ids(&read(dir.as_fd(), "mountinfo")?));
            // Pid 1 may have rights that we lack, and its links are closed to us then; its mounts are not.
            hosts.extend(namespace(dir.as_fd(), "mnt"));
        }
        let pidns = subject.namespace("pid")?;
        let own_pidns = namespace(own, "pid")?;
        Ok(Self {
            proc,
            hosts,
            host_mounts,
            target: subject.namespace("mnt")?,
            // Whoever shares the host's has no container of his own to be in.
            pidns: (pidns != own_pidns).then_some(pidns),
        })
    }

    /// The mount namespace to be entered.
    pub fn target(&self) -> Namespace {
        self.target
    }

    /// Whether it is one of the host's; `table` are its mounts.
    pub fn is_host(&self, table: &[Mount]) -> bool {
        self.hosts.contains(&self.target) || table.iter().any(|mount| self.host_mounts.contains(&mount.id))
    }

    /// Who, outside of the container with these mounts, has one in this peer group or follows it. Namespaces of processes
    /// in the container's own pid namespace or below are parts of it. Namespaces without a process are not seen; the
    /// host's always has some.
    pub fn outside(&self, group: u64, table: &[Mount]) -> Result<Option<String>, Unknown> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(&self.proc, ".", flags, Mode::empty())?;
        let mut seen = vec![self.target];
        for entry in Dir::new(listing)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            // Those that end meanwhile are left out.
            let Ok(dir) = rustix::fs::openat(&self.proc, name, DIRECTORY, Mode::empty()) else { continue };
            let namespace = namespace(dir.as_fd(), "mnt").ok();
            if namespace.is_some_and(|namespace| seen.contains(&namespace)) {
                continue;
            }
            let Ok(text) = read(dir.as_fd(), "mountinfo") else { continue };
            seen.extend(namespace);
            let others = mounts::parse(&text);
            if !others.iter().any(|mount| mount.in_group(group)) || same_namespace(&others, table) {
                continue;
            }
            if others.iter().any(|mount| self.host_mounts.contains(&mount.id)) {
                return Ok(Some("the host".to_owned()));
            }
            if !self.in_container(dir.as_fd()) {
                return Ok(Some(format!("the mount namespace of process {}", name.to_string_lossy())));
            }
        }
        Ok(None)
    }

    /// Whether a process is in the container's pid namespace or in one below it.
    fn in_container(&self, dir: BorrowedFd<'_>) -> bool {
        let Some(wanted) = self.pidns else { return false };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let Ok(mut here) = rustix::fs::openat(dir, "ns/pid", flags, Mode::empty()) else { return false };
        for _ in 0..DEEPEST {
            match Namespace::of(here.as_fd()) {
                Ok(namespace) if namespace == wanted => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
            // SAFETY: the descriptor is open and this ioctl takes no argument; nothing is written through it.
            let parent = unsafe { libc::ioctl(here.as_raw_fd(), NS_GET_PARENT) };
            if parent < 0 {
                return false;
            }
            // SAFETY: the kernel has just given us this descriptor, opened with O_CLOEXEC, and nobody else has it.
            here = unsafe { OwnedFd::from_raw_fd(parent) };
        }
        false
    }
}

fn read(dir: BorrowedFd<'_>, file: &str) -> std::io::Result<Vec<u8>> {
    let fd = rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut text)?;
    Ok(text)
}

fn ids(mountinfo: &[u8]) -> impl Iterator<Item = u64> {
    mounts::parse(mountinfo).into_iter().map(|mount| mount.id)
}

/// Whether two tables are of one mount namespace.
fn same_namespace(one: &[Mount], other: &[Mount]) -> bool {
    one.iter().any(|mount| other.iter().any(|known| known.id == mount.id))
}
