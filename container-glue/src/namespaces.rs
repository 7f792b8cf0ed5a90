//! The container's namespaces and the process that is born into them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

/// `CLONE_NEWTIME` of linux/sched.h; nix does not have it.
const CLONE_NEWTIME: i32 = 0x80;

/// `CLONE_INTO_CGROUP` of linux/sched.h; libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Init as the launcher sees it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the launcher's pid namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// Makes a time namespace for the children of this process in which both clocks start at 0 now, so that uptime,
/// btime and the start times that `ps` shows are the container's without any virtual file. False where the kernel
/// is built without time namespaces.
pub fn new_time() -> io::Result<bool> {
    if !std::path::Path::new("/proc/self/ns/time_for_children").exists() {
        return Ok(false);
    }
    unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME))?;
    let mut text = String::new();
    for (name, clock) in [("monotonic", ClockId::CLOCK_MONOTONIC), ("boottime", ClockId::CLOCK_BOOTTIME)] {
        let now = clock_gettime(clock)?;
        text.push_str(&minus(name, now.tv_sec(), now.tv_nsec()));
    }
    // one write: the kernel takes both lines together (time_namespaces(7))
    std::fs::write("/proc/self/timens_offsets", text)?;
    Ok(true)
}

/// The same with clocks that are ahead of the host's by these seconds and nanoseconds: the monotonic one, and that of the
/// boot.
pub fn new_time_with([monotonic, boottime]: [(i64, u32); 2]) -> io::Result<bool> {
    if !std::path::Path::new("/proc/self/ns/time_for_children").exists() {
        return Ok(false);
    }
    unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME))?;
    let line = |name: &str, (seconds, nanoseconds)| format!("{name} {seconds} {nanoseconds}\n");
    let text = [line("monotonic", monotonic), line("boottime", boottime)].concat();
    std::fs::write("/proc/self/timens_offsets", text)?;
    Ok(true)
}

/// Children of this process are born in its own time namespace again. Before Linux 6.3 a process whose
/// children get another one cannot start a thread (EINVAL of clone(2)).
pub fn own_time() -> io::Result<()> {
    let own = std::fs::File::open("/proc/self/ns/time")?;
    Ok(nix::sched::setns(own, CloneFlags::from_bits_retain(CLONE_NEWTIME))?)
}

/// A line of timens_offsets for the offset -(seconds + nanoseconds); the file's nanoseconds are 0 to 999999999.
fn minus(name: &str, seconds: i64, nanoseconds: i64) -> String {
    match nanoseconds {
        0 => format!("{name} -{seconds} 0\n"),
        _ => format!("{name} -{} {}\n", seconds + 1, 1_000_000_000 - nanoseconds),
    }
}

/// Forks a process into the new namespaces of `flags` (`CLONE_NEW*`), or for any other of clone(2) that makes a process,
/// and, on v2, into its group. A cgroup namespace is not for here: the process makes it when it sits in its groups, so
/// that they are its roots.
///
/// `child` runs in the new process and never returns. This process must have one thread.
pub fn spawn(flags: i32, v2_group: Option<BorrowedFd<'_>>, child: impl FnOnce() -> i32) -> io::Result<Child> {
    let mut pidfd: i32 = -1;
    let mut args = clone_args();
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    // a process that becomes its parent's sibling has that one's signal (clone(2))
    args.exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(group) = v2_group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of the memory and of this only thread. args is a
    // valid clone_args of the size given, and pidfd outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            let code = child();
            // SAFETY: ends the process without running the parent's destructors and exit handlers.
            unsafe { libc::_exit(code) }
        }
        1.. => {
            // SAFETY: the kernel has just put a new descriptor there, which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks a process that becomes a child of this process's parent, in the pid namespace that this
/// process has entered for its children; its number here. By clone(2): filters that containers get,
/// Docker's for one, refuse clone3(2).
///
/// `child` runs in the new process and never returns. This process must have one thread.
pub fn fork_sibling(child: impl FnOnce() -> i32) -> io::Result<i32> {
    let flags = libc::c_long::from(libc::CLONE_PARENT);
    // SAFETY: without CLONE_VM and without a stack this is a fork: the child has a copy of the
    // memory and of this only thread. The order of the first two arguments is that of the
    // architecture (clone(2)).
    let pid = unsafe {
        if cfg!(target_arch = "s390x") {
            libc::syscall(libc::SYS_clone, 0usize, flags, 0usize, 0usize, 0usize)
        } else {
            libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize)
        }
    };
    match pid {
        0 => {
            let code = child();
            // SAFETY: ends the process without running the parent's destructors and exit handlers.
            unsafe { libc::_exit(code) }
        }
        1.. => i32::try_from(pid).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
}

fn clone_args() -> libc::clone_args {
    // SAFETY: a struct of integers, for which all zeros is a valid value (clone(2): unused fields are 0).
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        assert_eq!(minus("boottime", 5, 0), "boottime -5 0\n");
        assert_eq!(minus("monotonic", 5, 1), "monotonic -6 999999999\n");
        assert_eq!(minus("monotonic", 0, 999_999_999), "monotonic -1 1\n");
    }
}
