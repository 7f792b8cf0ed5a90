//! Process 1 of a container that `launch` made: starts the command, reaps what is orphaned, forwards signals, and ends
//! with the command's exit code.

use std::convert::Infallible;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::supervise::{FORWARDED, FROM_LAUNCHER};

/// Starts the command and stays as process 1 until that ends; then ends with its exit code. Returns where it cannot. All signals that are forwarded, and SIGCHLD,
/// are blocked here from birth, so none is lost: the kernel drops only what process 1 neither blocks nor handles.
///
/// `command` runs in the new process and gives its exit code where it does not become the program; `confine` takes away
/// what process 1 does not need. Nothing that this process has open is of use to it afterwards. `shares_terminal`: the
/// command is in the caller's process group.
pub fn run(
    shares_terminal: bool,
    confine: impl FnOnce() -> io::Result<()>,
    command: impl FnOnce() -> i32,
) -> io::Result<Infallible> {
    let (gate, opener) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            confine()?;
            // what came before the fork the command has not got; what came later it has pending, where a second one
            // of the same number changes nothing
            for signal in arrived() {
                let _ = kill(child, signal);
            }
            drop((opener, gate)); // now it may look
            close_from(3);
            let code = serve(child, shares_terminal);
            // SAFETY: ends the process without running destructors: what they would close is closed.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Child => {
            drop(opener);
            let _ = nix::unistd::read(&gate, &mut [0]); // end of file
            drop(gate);
            let code = command();
            // SAFETY: ends the process without running process 1's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Until the command ends.
fn serve(command: Pid, shares_terminal: bool) -> i32 {
    let signals = waited_for();
    loop {
        if let Some(code) = reap(command) {
            // the kernel kills what is left when process 1 ends
            return code;
        }
        if let Some(signal) = wait(&signals, shares_terminal) {
            // ESRCH is not possible: the command is not reaped yet
            let _ = kill(command, signal);
        }
    }
}

fn waited_for() -> SigSet {
    FORWARDED.iter().copied().chain([Signal::SIGCHLD]).collect()
}

/// The signals that have come so far.
fn arrived() -> Vec<Signal> {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut found = Vec::new();
    loop {
        // SAFETY: the set and the time outlive the call; a null pointer for the details is allowed.
        let number =
            unsafe { libc::sigtimedwait(waited_for().as_ref(), std::ptr::null_mut(), &raw const now) };
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => {}
            Ok(signal) => found.push(signal),
            Err(_) => return found, // -1: there is no more
        }
    }
}

/// Collects all dead children; the command's exit code if it is among them.
fn reap(command: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}

/// The next signal, if it is one to forward. What the terminal sends (SI_KERNEL) the command has got itself; so has
/// it what someone outside sends to the whole process group, where the container shares the caller's.
fn wait(signals: &SigSet, shares_terminal: bool) -> Option<Signal> {
    // SAFETY: siginfo_t is plain data for which all zeros is valid, and both pointers outlive the call.
    let (number, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::sigwaitinfo(signals.as_ref(), &raw mut info), info)
    };
    let signal = Signal::try_from(number).ok().filter(|signal| *signal != Signal::SIGCHLD)?;
    // SAFETY: both fields are present in what kill(2) and sigqueue(3) send; for SI_KERNEL they are not used.
    let (sender, value) = unsafe { (info.si_pid(), info.si_value().sival_ptr.addr()) };
    let forward = match info.si_code {
        libc::SI_QUEUE => value == FROM_LAUNCHER || sender != 0,
        libc::SI_KERNEL => false,
        _ => !shares_terminal || sender != 0,
    };
    forward.then_some(signal)
}

/// Lets go of all descriptors from `first` on.
pub fn close_from(first: u32) {
    close_range(first, u32::MAX);
}

/// Closes descriptors, both ends included.
pub fn close_range(first: u32, last: u32) {
    // SAFETY: closes descriptors whose owners in this copy of the launcher's memory are never used or dropped, since the
    // process ends by _exit; or which nothing in this process owns yet. It cannot fail with a valid range (Linux 5.9).
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}
