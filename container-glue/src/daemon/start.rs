//! Starts the daemon from this very program.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{ForkResult, Pid, fork};
use ownproc::control::{Client, ControlError, Paths};
use rustix::process::{PidfdFlags, pidfd_open};

use super::DaemonError;
use crate::groups::{hierarchies, tree};

/// Seconds without a container after which it ends.
const IDLE_EXIT: &str = "60";

/// [`IDLE_EXIT`], or in builds with debug assertions what a test asks for: nobody waits a minute for each run.
fn idle_exit() -> std::ffi::OsString {
    let asked = std::env::var_os("OWNPROC_TEST_IDLE_EXIT").filter(|_| cfg!(debug_assertions));
    asked.unwrap_or_else(|| IDLE_EXIT.into())
}

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// It serves all containers, so the kernel shall kill almost anything else first when memory is short.
const OOM_SCORE: &str = "-900";

fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> DaemonError {
    move |source| DaemonError::System { what: what.into(), source: source.into() }
}

/// Starts it, unless another launcher does so at the same time, and waits until it answers.
pub fn start(paths: &Paths) -> Result<Client, DaemonError> {
    paths.create().map_err(system(format!("create {}", paths.dir.display())))?;
    let lock_path = paths.dir.join("start.lock");
    let lock_file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(system(format!("open {}", lock_path.display())))?;
    let _lock = Flock::lock(lock_file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| system(format!("lock {}", lock_path.display()))(errno))?;
    match Client::connect(&paths.mount) {
        Err(ControlError::NotRunning { .. }) => {}
        other => return Ok(other?),
    }
    let log = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&paths.log)
        .map_err(system(format!("open {}", paths.log.display())))?;
    let daemon = detach(&paths.mount, &log)?;
    wait_for(paths, daemon)
}

/// Polls until it answers, ends, or [`PATIENCE`] is over.
fn wait_for(paths: &Paths, daemon: Pid) -> Result<Client, DaemonError> {
    let failed = |what| DaemonError::Start { what, log: paths.log.clone(), last: last_line(&paths.log) };
    let pid = rustix::process::Pid::from_raw(daemon.as_raw());
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(2);
    loop {
        match Client::connect(&paths.mount) {
            Err(ControlError::NotRunning { .. }) => {}
            other => return Ok(other?),
        }
        let Some(pidfd) = &pidfd else { return Err(failed("ended at once")) };
        if has_ended(pidfd.as_fd(), pause) {
            return Err(failed("ended"));
        }
        if Instant::now() > deadline {
            return Err(failed("does not answer"));
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits so long for the end of a process that is no child.
fn has_ended(pidfd: std::os::fd::BorrowedFd<'_>, timeout: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO)).is_ok_and(|ready| ready > 0)
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(nothing)").to_owned()
}

/// Forks twice, so that the daemon is nobody's child and can get no terminal; its pid.
fn detach(mount: &Path, log: &File) -> Result<Pid, DaemonError> {
    let null = File::open("/dev/null").map_err(system("open /dev/null"))?;
    let roots = hierarchies::mount_points(Path::new("/proc")).map_err(system("read /proc/self/mountinfo"))?;
    let exec = Exec::new(mount).map_err(system("prepare its command line"))?;
    let (mut read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
        .map(|(read, write)| (File::from(read), File::from(write)))
        .map_err(system("make a pipe"))?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.map_err(system("fork"))? {
        ForkResult::Parent { child } => {
            drop(write);
            let mut pid = [0; 4];
            let told = read.read_exact(&mut pid);
            let _ = nix::sys::wait::waitpid(child, None);
            told.map_err(system("fork a second time"))?;
            Ok(Pid::from_raw(i32::from_ne_bytes(pid)))
        }
        ForkResult::Child => {
            let code = match nix::unistd::setsid() {
                Ok(_) => middle(write, &null, log, &roots, &exec),
                Err(_) => 1,
            };
            // SAFETY: ends the process without running the launcher's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

fn middle(mut pipe: File, null: &File, log: &File, roots: &[PathBuf], exec: &Exec) -> i32 {
    // SAFETY: as above, one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => i32::from(pipe.write_all(&child.as_raw().to_ne_bytes()).is_err()),
        Ok(ForkResult::Child) => {
            let error = become_daemon(null, log, roots, exec);
            let mut log = log;
            let _ = writeln!(log, "cannot become the daemon: {error}");
            1
        }
        Err(_) => 1,
    }
}

/// Only returns with an error.
fn become_daemon(null: &File, log: &File, roots: &[PathBuf], exec: &Exec) -> io::Error {
    // out of the caller's groups: their limits and their end must not be the daemon's
    for root in roots {
        if let Err(error) = tree::write(&root.join("cgroup.procs"), "0") {
            let mut log = log;
            let _ = writeln!(log, "stays in the launcher's group: {error}");
        }
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let redirect = || -> nix::Result<()> {
        nix::unistd::dup2_stdin(null)?;
        nix::unistd::dup2_stdout(log)?;
        nix::unistd::dup2_stderr(log)?;
        nix::unistd::chdir("/")
    };
    if let Err(errno) = redirect() {
        return errno.into();
    }
    crate::reaper::close_from(3);
    match nix::unistd::execve(&exec.path, &exec.argv, &exec.env) {
        Err(errno) => errno.into(),
    }
}

struct Exec {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Exec {
    fn new(mount: &Path) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let mount = mount.as_os_str().as_bytes();
        // of the caller's environment only what asks for more in the log
        let env = std::env::var_os("RUST_LOG").map(|level| [b"RUST_LOG=", level.as_bytes()].concat());
        let idle_exit = idle_exit();
        Ok(Self {
            path: text(b"/proc/self/exe")?,
            argv: [&b"ownproc-run"[..], b"__serve", mount, b"--idle-exit", idle_exit.as_bytes()]
                .into_iter()
                .map(text)
                .collect::<io::Result<_>>()?,
            env: env.into_iter().map(|variable| text(&variable)).collect::<io::Result<_>>()?,
        })
    }
}
