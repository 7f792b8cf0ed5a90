//! The launcher while the container runs: signals go in, the exit code comes out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Signals that reach the command when the launcher gets them.
pub const FORWARDED: &[Signal] =
    &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Mark on the signals that the launcher sends to init, in `si_value` with SI_QUEUE.
pub const FROM_LAUNCHER: usize = 0x6f77_6e70;

/// Signals that end the launcher while it waits for a container to be made or a process to begin.
const STOPPING: &[Signal] = &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// How long work that is about to end may take to do so when a signal has come.
const LAST_STEP: Duration = Duration::from_millis(50);

/// How a wait ended.
#[derive(Debug)]
pub enum Until<T> {
    /// With a result.
    Done(T),
    /// By a signal to this process.
    Stopped(Signal),
    /// A process of the container was stopped for long, before its program began.
    HeldUp,
}

/// How often [`Signals::until_stopped`] looks at the process, and how many times in a row that may
/// be stopped.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 20;

/// The launcher's signals, from before the container exists until the launcher ends.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// What was blocked before.
    pub caller_mask: SigSet,
}

impl Signals {
    /// Blocks the signals to forward, except those that the caller has made this process ignore (nohup, or a shell's
    /// background job), and SIGCHLD, which init needs blocked from birth.
    pub fn block() -> io::Result<Self> {
        let mut forwarded = SigSet::empty();
        for signal in FORWARDED.iter().copied().filter(|signal| !is_ignored(*signal)) {
            forwarded.add(signal);
        }
        // with SIGCHLD ignored, which is inherited, the kernel throws exit codes away
        // SAFETY: the default action is no handler that could be unsafe.
        unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        let mut blocked = forwarded;
        blocked.add(Signal::SIGCHLD);
        let mut caller_mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut caller_mask))?;
        let fd = SignalFd::with_flags(&forwarded, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, caller_mask })
    }

    /// Readable when a signal has come.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Passes on all that has come so far, the terminal's too: what came before init was born, init has not got. What
    /// came later it has pending, where a second one of the same number changes nothing. So this must be called before
    /// init looks.
    pub fn catch_up(&self, init: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(info) = self.fd.read_signal()? {
            send(init, i32::try_from(info.ssi_signo).unwrap_or(0))?;
        }
        Ok(())
    }

    /// Waits for a container's process 1 to end, which forwards what it is sent to its command; its exit code, 128 + signal
    /// when it was killed.
    pub fn supervise(&self, init: BorrowedFd<'_>) -> io::Result<u8> {
        loop {
            let interest = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = [interest(self.fd.as_fd()), interest(init)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [signals, ended] = fds.map(|fd| fd.any().unwrap_or(true));
            if signals {
                self.forward(init)?;
            }
            if ended {
                return exit_code(init);
            }
        }
    }

    /// Waits for a child in a session of its own to end; its exit code. It gets every signal that comes, the terminal's too.
    pub fn relay(&self, child: BorrowedFd<'_>) -> io::Result<u8> {
        loop {
            let interest = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = [interest(self.fd.as_fd()), interest(child)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.catch_up(child)?;
            if fds[1].any().unwrap_or(true) {
                return exit_code(child);
            }
        }
    }

    /// Does `work` on a thread of its own, and gives it up when a signal comes that ends programs.
    /// It may wait for what a container controls. The thread is left behind then: this process is
    /// to end.
    ///
    /// `process` is the one that is waited for, 0 while there is none. Others in its pid namespace
    /// may stop it before its program begins. It is told to go on, and given up after five seconds:
    /// engines hold locks of their own meanwhile.
    pub fn until_stopped<T: Send + 'static>(
        &self,
        process: &AtomicI32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Until<T>> {
        let stopping: SigSet = STOPPING.iter().copied().filter(|signal| !is_ignored(*signal)).collect();
        let stopping = SignalFd::with_flags(&stopping, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (ended, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let thread = std::thread::Builder::new().spawn(move || {
            let result = work();
            drop(end);
            result
        })?;
        let interest = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let look = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::NONE);
        let mut stopped = 0;
        loop {
            let mut fds = [interest(ended.as_fd()), interest(stopping.as_fd())];
            match poll(&mut fds, look) {
                Ok(0) if let_go_on(process.load(Ordering::Acquire)) => stopped += 1,
                Ok(0) => stopped = 0,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if stopped >= LOOKS {
                return Ok(Until::HeldUp);
            }
            let mut ready = fds.map(|fd| fd.any().unwrap_or(true));
            if ready[1] && !ready[0] {
                let mut last = [interest(ended.as_fd())];
                let patience = PollTimeout::try_from(LAST_STEP).unwrap_or(PollTimeout::ZERO);
                ready[0] = poll(&mut last, patience).is_ok_and(|ready| ready > 0);
            }
            if ready[0] {
                // a signal that has come is the process's
                return match thread.join() {
                    Ok(result) => Ok(Until::Done(result)),
                    Err(_) => Err(io::Error::other("a thread of this program failed")),
                };
            }
            if ready[1]
                && let Some(info) = stopping.read_signal()?
                && let Ok(signal) = Signal::try_from(i32::try_from(info.ssi_signo).unwrap_or(0))
            {
                return Ok(Until::Stopped(signal));
            }
        }
    }

    /// Passes on what has come. What the terminal sent (SI_KERNEL) the command has got itself.
    fn forward(&self, init: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(info) = self.fd.read_signal()? {
            if info.ssi_code != libc::SI_KERNEL {
                send(init, i32::try_from(info.ssi_signo).unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

/// pidfd_send_signal with the mark.
fn send(init: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: siginfo_t is plain data for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = signal;
    info.si_code = libc::SI_QUEUE;
    // `struct __rt` of siginfo (pid, uid, value) begins after three ints, aligned as a pointer is
    const VALUE: usize = 12_usize.next_multiple_of(align_of::<usize>()) + 8;
    // SAFETY: si_value lies at this offset of the 128 bytes of siginfo_t on every Linux architecture of the kernel's
    // generic layout (asm-generic/siginfo.h); the write is within them and aligned.
    unsafe { (&raw mut info).byte_add(VALUE).cast::<usize>().write(FROM_LAUNCHER) };
    // SAFETY: info outlives the call, the rest are integers.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, init.as_raw_fd(), signal, &raw const info, 0) };
    let error = io::Error::last_os_error();
    // ESRCH: it has ended meanwhile
    if result == 0 || error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Whether a process is stopped; it is told to go on.
fn let_go_on(pid: i32) -> bool {
    let Some(number) = rustix::process::Pid::from_raw(pid) else { return false };
    let state = procfs::process::Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.state);
    let stopped = state.is_ok_and(|state| state == 'T');
    if stopped {
        // not reaped, so that the number is its own still
        let _ = rustix::process::kill_process(number, rustix::process::Signal::CONT);
    }
    stopped
}

/// Reaps a child that was killed, unless it takes long to end: it may wait in the kernel.
pub fn reap_within(child: BorrowedFd<'_>, patience: Duration) {
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(child, PollFlags::POLLIN)];
    if poll(&mut fds, patience).is_ok_and(|ready| ready > 0) {
        let _ = exit_code(child);
    }
}

/// The exit code of a program that a signal ended.
pub fn code_of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(255)
}

/// Reaps init.
pub fn exit_code(init: BorrowedFd<'_>) -> io::Result<u8> {
    let status = loop {
        match waitid(WaitId::PidFd(init), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let Some(status) = status else { return Err(io::ErrorKind::NotFound.into()) };
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    Ok(u8::try_from(code.unwrap_or(255)).unwrap_or(255))
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: sigaction is plain data for which all zeros is valid; with a null new action the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as i32, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
