//! What can be asked of a pidfd.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::model::HostPid;

/// The process behind a pidfd, from the `Pid:` line of `/proc/self/fdinfo/FD` (proc(5)). `None` where it has
/// been reaped (-1), lives in a pid namespace that is not ours or below (0), or the descriptor is no pidfd.
#[must_use]
pub fn pid(pidfd: BorrowedFd<'_>) -> Option<HostPid> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    HostPid::new(line.trim().parse().ok()?)
}

/// Whether the process has ended (a pidfd becomes readable then, pidfd_open(2)).
#[must_use]
pub fn ended(pidfd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&now)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}
