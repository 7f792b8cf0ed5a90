//! The init of a pid namespace: the process that stands for the container a reader is in.

use std::os::fd::AsRawFd;

use crate::host::{Host, Process};
use crate::model::HostPid;

/// linux/nsfs.h, since Linux 6.11: the caller's number of the process that has number ARG inside the namespace.
const NS_GET_PID_FROM_PIDNS: libc::c_ulong = nix::request_code_read!(0xb7, 0x6, size_of::<libc::c_int>());

/// Parents that are followed, and processes that are scanned, at most.
const MOST_PARENTS: usize = 4096;
const MOST_PROCESSES: usize = 1 << 16;

/// The init (pid 1) of the pid namespace that a process is in, and that process itself.
///
/// Asks the namespace where the kernel can (Linux 6.11). Before that: follows the parents while they are in the
/// namespace; a process that entered from outside has its parent there, so that one bounded scan of `/proc`
/// comes last. `None` if nothing was found.
#[must_use]
pub fn init_of(host: &Host, reader: HostPid, namespace: u64) -> Option<HostPid> {
    by_asking(&host.process(reader)?)
        .or_else(|| by_parents(host, reader, namespace))
        .or_else(|| by_scan(host, namespace))
}

fn by_asking(reader: &Process) -> Option<HostPid> {
    let namespace = reader.namespace_fd("pid")?;
    // SAFETY: the descriptor is open, and this ioctl takes a number in the place of a pointer (request and ARG
    // as in linux/nsfs.h): nothing is read or written through it. Other kernels answer ENOTTY.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PID_FROM_PIDNS, 1 as libc::c_int) };
    HostPid::new(answer)
}

fn by_parents(host: &Host, reader: HostPid, namespace: u64) -> Option<HostPid> {
    let mut pid = reader;
    for _ in 0..MOST_PARENTS {
        let process = host.process(pid)?;
        if process.namespace("pid") != Some(namespace) {
            return None;
        }
        if process.innermost_pid() == Some(1) {
            return Some(pid);
        }
        pid = i32::try_from(process.stat()?.ppid).ok().and_then(HostPid::new)?;
    }
    None
}

fn by_scan(host: &Host, namespace: u64) -> Option<HostPid> {
    let pids = std::fs::read_dir(host.root().join("proc")).ok()?.flatten().take(MOST_PROCESSES);
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(HostPid::new)).find(|pid| {
        host.process(*pid).is_some_and(|process| {
            process.namespace("pid") == Some(namespace) && process.innermost_pid() == Some(1)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn own_namespace() {
        let host = Host::open(Path::new("/")).expect("host");
        let own = HostPid::new(std::process::id() as i32).expect("positive");
        let process = host.process(own).expect("alive");
        let namespace = process.namespace("pid").expect("ns");
        assert_eq!(init_of(&host, own, namespace), HostPid::new(1));
    }

    /// Before Linux 6.11, and for a process that entered a namespace from outside.
    #[test]
    fn parents_and_scan() {
        let root = tempfile::tempdir().expect("temp dir");
        for directory in ["proc", "sys/devices/system/cpu"] {
            std::fs::create_dir_all(root.path().join(directory)).expect("mkdir");
        }
        let make = |pid: &str, parent: &str, nspid: &str, ns: &str| {
            let dir = root.path().join("proc").join(pid);
            std::fs::create_dir_all(dir.join("ns")).expect("mkdir");
            symlink(format!("pid:[{ns}]"), dir.join("ns/pid")).expect("symlink");
            let status = format!("Name:\tNSpid:\\n1\nPid:\t{pid}\nPPid:\t{parent}\nNSpid:\t{nspid}\n");
            std::fs::write(dir.join("status"), status).expect("write");
            let stat = format!("{pid} (a) b) S {parent} {}\n", "0 ".repeat(40));
            std::fs::write(dir.join("stat"), stat).expect("write");
        };
        make("1", "0", "1", "7");
        make("50", "1", "50", "7");
        make("100", "50", "100\t1", "8");
        make("101", "100", "101\t7", "8");
        make("102", "50", "102\t9", "8");
        let host = Host::open(root.path()).expect("fixture");
        let pid = |n| HostPid::new(n).expect("positive");
        assert_eq!(by_parents(&host, pid(101), 8), Some(pid(100)));
        assert_eq!(by_parents(&host, pid(102), 8), None, "its parent is outside");
        assert_eq!(init_of(&host, pid(102), 8), Some(pid(100)), "found by the scan");
    }
}
