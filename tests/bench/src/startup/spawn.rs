//! One run of a program: how long from its birth to its end, and how much memory it had at most.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, fork};

use crate::error::{Error, Result, doing, on};

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds from fork(2) to the return of wait4(2).
    pub nanos: u64,
    /// Largest resident size in KiB of the process or of one that it has waited for (`ru_maxrss`).
    pub peak: u64,
}

/// A program that is run again and again.
#[derive(Debug)]
pub struct Program {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// A mount namespace to start it in.
    namespace: Option<OwnedFd>,
}

fn texts(words: &[&str]) -> Result<Vec<CString>> {
    words.iter().map(|word| CString::new(*word).map_err(|e| Error::Usage(e.to_string()))).collect()
}

impl Program {
    /// `arguments[0]` is its path.
    ///
    /// # Errors
    /// A NUL byte.
    pub fn new(arguments: &[&str], environment: &[&str], namespace: Option<OwnedFd>) -> Result<Self> {
        Ok(Self { arguments: texts(arguments)?, environment: texts(environment)?, namespace })
    }

    /// Runs it with its output in `log`.
    ///
    /// # Errors
    /// It cannot be started, or ends with another code than `expected`.
    pub fn run(&self, log: &Path, expected: i32) -> Result<Sample> {
        let output = File::options().create(true).append(true).open(log).map_err(on("open", log))?;
        let null = File::open("/dev/null").map_err(doing("open /dev/null"))?;
        measure(expected, || {
            let become_it = || -> nix::Result<Infallible> {
                nix::unistd::dup2_stdin(&null)?;
                nix::unistd::dup2_stdout(&output)?;
                nix::unistd::dup2_stderr(&output)?;
                if let Some(namespace) = &self.namespace {
                    setns(namespace, CloneFlags::CLONE_NEWNS)?;
                }
                let path = self.arguments.first().ok_or(nix::errno::Errno::ENOENT)?;
                nix::unistd::execve(path, &self.arguments, &self.environment)
            };
            match become_it() {
                Err(errno) => errno as i32,
                Ok(never) => match never {},
            }
        })
    }
}

/// Runs `child` in a new process of one thread and measures that; its result is the exit code.
///
/// # Errors
/// It ends with another code than `expected`.
pub fn measure(expected: i32, child: impl FnOnce() -> i32) -> Result<Sample> {
    let began = Instant::now();
    // SAFETY: this program has one thread while it measures start-up, so the child may do anything.
    match unsafe { fork() }.map_err(doing("fork"))? {
        ForkResult::Child => {
            let _ = SigSet::all().thread_unblock(); // the bench's own mask is inherited
            let code = child();
            // SAFETY: ends the process without running the bench's destructors.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            let mut status = 0;
            // SAFETY: rusage is a struct of integers, for which all zeros is a valid value.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers are to values that outlive the call.
            let waited = unsafe { libc::wait4(child.as_raw(), &raw mut status, 0, &raw mut usage) };
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if waited != child.as_raw() {
                return Err(doing("wait for a process")(std::io::Error::last_os_error()));
            }
            if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != expected {
                return Err(Error::Peer(format!("ended with status {status:#x} instead of code {expected}")));
            }
            Ok(Sample { nanos, peak: u64::try_from(usage.ru_maxrss).unwrap_or(0) })
        }
    }
}

/// A mount namespace like this one, but without the mount at `hidden`.
///
/// # Errors
/// It cannot be made.
pub fn namespace_without(hidden: &Path) -> Result<OwnedFd> {
    let (read, write) = nix::unistd::pipe().map_err(doing("make a pipe"))?;
    // SAFETY: as above, one thread.
    match unsafe { fork() }.map_err(doing("fork"))? {
        ForkResult::Child => {
            let hide = || -> nix::Result<()> {
                nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
                nix::mount::umount2(hidden, nix::mount::MntFlags::MNT_DETACH)
            };
            let _ = nix::unistd::write(&write, &[u8::from(hide().is_ok())]);
            nix::unistd::pause();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let mut done = [0];
            let told = nix::unistd::read(&read, &mut done);
            let opened = File::open(format!("/proc/{child}/ns/mnt"));
            let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(child, None);
            if told != Ok(1) || done != [1] {
                return Err(Error::Peer(format!("cannot hide {} in a mount namespace", hidden.display())));
            }
            opened.map(OwnedFd::from).map_err(doing("open a mount namespace"))
        }
    }
}
