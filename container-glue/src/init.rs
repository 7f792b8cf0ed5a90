//! Process 1 of the container: builds it, starts the command, reaps what is orphaned, forwards signals, and ends
//! with the command's exit code.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::rootfs::{self, Plan, SetupError, Step};
use crate::spec::Spec;
use crate::supervise::{FORWARDED, FROM_LAUNCHER};
use crate::sync::{Channel, Go};
use crate::{LAUNCHER_FAILED, command, security};

/// What init needs from the launcher, whose memory it has a copy of.
#[derive(Debug)]
pub struct Init<'a> {
    /// The request.
    pub spec: &'a Spec,
    /// The container's group in each hierarchy.
    pub groups: Vec<(&'a crate::groups::Hierarchy, &'a std::path::Path)>,
    /// Init's end of the channel.
    pub channel: &'a Channel,
    /// The signals that were blocked when the launcher was started: the command starts with these.
    pub caller_mask: &'a SigSet,
    /// The container shares the caller's terminal and thus its process group.
    pub with_terminal: bool,
}

/// Runs as process 1; the result is its exit code. All signals that are forwarded, and SIGCHLD, are blocked here from
/// birth, so none is lost: the kernel drops only what process 1 neither blocks nor handles.
pub fn main(init: &Init<'_>) -> i32 {
    match start(init) {
        Ok(Some(child)) => {
            close_from(3);
            serve(child, init.with_terminal)
        }
        Ok(None) => i32::from(LAUNCHER_FAILED), // the launcher is gone
        Err(error) => {
            let _ = init.channel.send(error.to_string().as_bytes());
            i32::from(LAUNCHER_FAILED)
        }
    }
}

fn start(init: &Init<'_>) -> Result<Option<Pid>, SetupError> {
    // the container ends with its launcher. Should that be dead already, its end of the channel is closed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step(|| "cannot bind the container's life to the launcher's".to_owned())?;
    close_all_but(init.channel.fd().as_raw_fd());
    let message = init.channel.receive().step(|| "cannot hear from the launcher".to_owned())?;
    let Some(message) = message else { return Ok(None) };
    let go: Go = serde_json::from_slice(&message)
        .map_err(io::Error::from)
        .step(|| "cannot understand the launcher".to_owned())?;

    be_killable();

    // now that the groups hold this process, so that they are the roots of its cgroup namespace
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
        .step(|| "cannot make a cgroup namespace".to_owned())?;
    nix::unistd::sethostname(&init.spec.hostname).step(|| "cannot set the host name".to_owned())?;
    rootfs::loopback_up(init.spec.network)?;
    rootfs::enter(&Plan { spec: init.spec, groups: &init.groups, tree: go.tree })?;
    if !init.with_terminal {
        // signals sent to the launcher's process group then reach the command once, through the launcher
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))
            .step(|| "cannot make a process group".to_owned())?;
    }
    nix::unistd::setgroups(&[]).step(|| "cannot leave the caller's groups".to_owned())?;
    security::confine().step(|| "cannot take away rights".to_owned())?;
    security::set_undumpable().step(|| "cannot hide init's memory".to_owned())?;

    let program = command::prepare(init.spec)?;
    let (gate, opener) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .step(|| "cannot make a pipe to the command".to_owned())?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.step(|| "cannot start the command".to_owned())? {
        ForkResult::Parent { child } => {
            // what came before the fork the command has not got; what came later it has pending, where a second one
            // of the same number changes nothing
            for signal in arrived() {
                let _ = kill(child, signal);
            }
            drop(opener); // now it may look
            Ok(Some(child))
        }
        ForkResult::Child => {
            drop(opener);
            let _ = nix::unistd::read(&gate, &mut [0]); // end of file
            let code = command::execute(&program, init.caller_mask);
            // SAFETY: ends the process without running init's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A caller that the OOM killer spares (sshd, a supervisor) must not hand that down: a container at its memory limit in
/// which nothing may be killed hangs. Raising the score needs no right; a failure means no worse than before.
fn be_killable() {
    let file = "/proc/self/oom_score_adj";
    let spared = std::fs::read_to_string(file).is_ok_and(|text| text.trim_start().starts_with('-'));
    if spared {
        let _ = std::fs::write(file, "0");
    }
}

/// Until the command ends.
fn serve(command: Pid, with_terminal: bool) -> i32 {
    let signals = waited_for();
    loop {
        if let Some(code) = reap(command) {
            // the kernel kills what is left when process 1 ends
            return code;
        }
        if let Some(signal) = wait(&signals, with_terminal) {
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
fn wait(signals: &SigSet, with_terminal: bool) -> Option<Signal> {
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
        _ => !with_terminal || sender != 0,
    };
    forward.then_some(signal)
}

/// Lets go of all descriptors from `first` on.
pub fn close_from(first: u32) {
    close_range(first, u32::MAX);
}

fn close_all_but(kept: i32) {
    let kept = u32::try_from(kept).unwrap_or(3);
    if kept > 3 {
        close_range(3, kept - 1);
    }
    close_range(kept + 1, u32::MAX);
}

/// Closes descriptors, both ends included.
pub fn close_range(first: u32, last: u32) {
    // SAFETY: closes descriptors whose owners in this copy of the launcher's memory are never used or dropped, since the
    // process ends by _exit; or which nothing in this process owns yet. It cannot fail with a valid range (Linux 5.9).
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}
