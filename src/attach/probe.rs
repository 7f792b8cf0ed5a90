//! Whether the daemon behind a FUSE mount lives. The kernel answers much from its memory; opening always goes to the daemon,
//! and one that hangs never answers. So a process of its own opens, and is given up after a while.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::io::Errno;

use super::kernel::Own;

/// A daemon that has not opened a file in this time hangs. Must fit into the deadline of a container.
const PATIENCE: Duration = Duration::from_millis(300);
/// For a child of ours that has not got so far as to ask, on a machine that is short of CPU.
const AT_MOST: Duration = Duration::from_secs(5);

/// How often it is looked whether they have got on.
const POLL: Duration = Duration::from_micros(100);

/// What is known of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It answers.
    Living,
    /// The connection has ended: ENOTCONN.
    Dead,
    /// It does not answer in time.
    Silent,
}

const LIVING: i32 = 0;
const DEAD: i32 = 1;

/// Opens what each of the descriptors holds, all at once, in children of this process, which must have a single thread.
pub fn probe(own: &Own, fds: &[BorrowedFd<'_>]) -> Vec<Life> {
    let children: Vec<Option<Pid>> = fds.iter().map(|fd| opener(own, *fd)).collect();
    let mut lives: Vec<Option<Life>> =
        children.iter().map(|child| child.is_none().then_some(Life::Silent)).collect();
    let began = Instant::now();
    while lives.contains(&None) && began.elapsed() < AT_MOST {
        for (life, child) in lives.iter_mut().zip(&children) {
            if let (None, Some(child)) = (&life, child) {
                *life = match waitpid(*child, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) if began.elapsed() < PATIENCE => None,
                    Ok(WaitStatus::StillAlive) if own.asks_fuse(child.as_raw()) => Some(give_up(*child)),
                    Ok(WaitStatus::StillAlive) => None,
                    Ok(WaitStatus::Exited(_, LIVING)) => Some(Life::Living),
                    Ok(WaitStatus::Exited(_, DEAD)) => Some(Life::Dead),
                    _ => Some(Life::Silent),
                };
            }
        }
        std::thread::sleep(POLL);
    }
    let late = lives.into_iter().zip(children);
    late.map(|(life, child)| life.unwrap_or_else(|| child.map_or(Life::Silent, give_up))).collect()
}

/// One that sleeps in a request that was taken and is not answered cannot be ended: it is not waited for.
fn give_up(child: Pid) -> Life {
    let _ = kill(child, Signal::SIGKILL);
    Life::Silent
}

/// Closes every other descriptor of this process, which nobody here may use any more.
fn close_all_but(mut kept: [RawFd; 2]) {
    kept.sort_unstable();
    let mut first = 0;
    for last in kept.map(i64::from).into_iter().chain([i64::from(u32::MAX) + 1]) {
        if last > first {
            // SAFETY: a system call on numbers. This process goes on to use none of them: it opens one file and ends by _exit.
            unsafe { libc::syscall(libc::SYS_close_range, first, last - 1, 0) };
        }
        first = last + 1;
    }
}

fn opener(own: &Own, fd: BorrowedFd<'_>) -> Option<Pid> {
    // SAFETY: this process has one thread, so that the child finds no lock held by a thread that it has not.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            // It may be kept for ever: nobody shall wait for its end of a pipe, nor a container's files stay open with it.
            close_all_but([own.as_raw_fd(), fd.as_raw_fd()]);
            let code = match own.open_again(fd) {
                // The second: it ended while this was asked.
                Err(Errno::NOTCONN | Errno::CONNABORTED) => DEAD,
                _ => LIVING,
            };
            // SAFETY: _exit ends this process at once; what its parent would do at its own end is not for it to do.
            unsafe { libc::_exit(code) }
        }
        Ok(ForkResult::Parent { child }) => Some(child),
        Err(_) => None,
    }
}
