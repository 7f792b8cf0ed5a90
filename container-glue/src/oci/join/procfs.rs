//! A procfs of a pid namespace that this process is not in.
//!
//! The kernel makes a procfs for the pid namespace of the process that opens its context. Since
//! Linux 6.18 the mount option `pidns` names another one (Documentation/filesystems/proc.rst).
//! Before, a process has to be in it, where the processes of others see it. That one opens the
//! context and nothing else: it has an empty tree, namespaces of its own, and no rights outside of
//! them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{FsOpenFlags, fsopen};

use super::{Taken, hand_over, take_over};
use crate::namespaces::spawn;
use crate::oci::process;
use crate::rootfs::mounts;
use crate::rootfs::resolve::Root;
use crate::sync;

/// Everything that leads out of a process but its pid and time namespaces, and its cgroup.
const APART: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// A context for fsconfig(2), with the pid namespace set.
pub fn of(pids: &File) -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    match rustix::mount::fsconfig_set_fd(&context, "pidns", pids) {
        Err(rustix::io::Errno::INVAL) => from_inside(pids), // before Linux 6.18
        other => Ok(other.map(|()| context)?),
    }
}

/// By a process in the pid namespace. What makes it stays outside.
fn from_inside(pids: &File) -> io::Result<OwnedFd> {
    let (ours, theirs) = sync::channel()?;
    let outside = spawn(0, None, || {
        let told = match isolate(pids, &theirs).and_then(|()| spawn(0, None, || open(&theirs))) {
            Ok(inside) => crate::supervise::exit_code(inside.pidfd.as_fd()).map(drop),
            Err(error) => theirs.send(error.to_string().as_bytes()),
        };
        i32::from(told.is_err())
    })?;
    drop(theirs);
    let taken = take_over(ours.fd());
    crate::supervise::exit_code(outside.pidfd.as_fd())?;
    match taken? {
        Taken::Descriptor(context) => Ok(context),
        Taken::Error(why) => Err(io::Error::other(format!(
            "{why}; before Linux 6.18 a procfs of a joined pid namespace needs user namespaces: see user.max_user_namespaces"
        ))),
    }
}

/// Leaves everything that the processes of the pid namespace must not reach through this process's
/// child.
fn isolate(pids: &File, channel: &sync::Channel) -> io::Result<()> {
    // first, with the rights that are left behind here
    setns(pids, CloneFlags::CLONE_NEWPID)?;
    process::close_from_but(0, &[channel.fd().as_raw_fd()]);
    unshare(CloneFlags::from_bits_retain(APART))?;
    let empty = mounts::filesystem("tmpfs", &[], mounts::NOSUID_NODEV_NOEXEC | mounts::RDONLY);
    let empty = empty.map_err(io::Error::other)?;
    mounts::attach(&empty, &mounts::open_host(std::path::Path::new("/"))?).map_err(io::Error::other)?;
    Root::new(empty).pivot().map_err(io::Error::other)?;
    process::hide_memory().map_err(io::Error::other)
}

/// In the pid namespace.
fn open(channel: &sync::Channel) -> i32 {
    let told = match fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => hand_over(channel.fd(), context.as_fd(), b"proc"),
        Err(errno) => channel.send(io::Error::from(errno).to_string().as_bytes()),
    };
    i32::from(told.is_err())
}
