//! A daemon of the tests' own, on its own mount point.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::soak::workers::Watched;
use crate::{output, programs};

/// A running `ownproc serve`.
pub struct Daemon {
    child: Child,
    mount: PathBuf,
    /// After a crash the mount stays, as it would.
    crashed: bool,
}

/// The mount point of the daemon that the cases share.
pub fn shared_mount() -> Outcome<PathBuf> {
    Ok(PathBuf::from(std::env::var_os("OWNPROC_MOUNT").doing("OWNPROC_MOUNT")?))
}

/// A path below the shared mount.
pub fn shared(path: &str) -> Outcome<PathBuf> {
    Ok(shared_mount()?.join(path))
}

/// Mount points of one run stand together, named by the process.
fn mount_point(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/tmp/ownproc-e2e-{}/{name}", std::process::id()))
}

/// A mount point that does not exist yet.
pub fn fresh_mount_point(name: &str) -> PathBuf {
    mount_point(name)
}

impl Daemon {
    /// The daemon that all cases use.
    pub fn start_shared() -> Outcome<Self> {
        Self::start(mount_point("shared"))
    }

    /// The same with more arguments.
    pub fn start_shared_with(args: &[&str]) -> Outcome<Self> {
        Self::start_with(mount_point("shared"), args)
    }

    /// Starts `serve` and waits until the mount answers.
    pub fn start(mount: PathBuf) -> Outcome<Self> {
        Self::start_by(programs::ownproc()?, mount)
    }

    /// The same with more arguments.
    pub fn start_with(mount: PathBuf, args: &[&str]) -> Outcome<Self> {
        Self::spawn(programs::ownproc()?, mount, args)
    }

    /// The same by a command that ends in `ownproc`, such as one that takes rights away.
    pub fn start_by(ownproc: Command, mount: PathBuf) -> Outcome<Self> {
        Self::spawn(ownproc, mount, &[])
    }

    /// Both: a command that ends in `ownproc`, and more arguments.
    pub fn spawn(mut ownproc: Command, mount: PathBuf, args: &[&str]) -> Outcome<Self> {
        std::fs::create_dir_all(mount.parent().unwrap_or(Path::new("/"))).doing(mount.display())?;
        let mut child = ownproc
            .arg("serve")
            .arg(&mount)
            .args(args)
            .env_remove("OWNPROC_MOUNT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .doing("ownproc serve")?;
        let stdout = child.stdout.take().doing("stdout of serve")?;
        // It says on stdout that it is ready; the line is read beside, so that a silent daemon does not hang the tests.
        let (send, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut daemon = Self { child, mount, crashed: false };
        if line.recv_timeout(Duration::from_secs(30)).is_err() {
            let ended = daemon.child.try_wait()?;
            fail!("ownproc serve {} did not say that it is ready ({ended:?})", daemon.mount.display());
        }
        std::fs::read(daemon.mount.join("proc/meminfo")).doing("the first read after `ready`")?;
        Ok(daemon)
    }

    /// Its mount point.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Outcome {
        kill(self.pid(), signal).doing("signal to serve")
    }

    /// Waits for the end; the exit code (128 + signal).
    pub fn wait(&mut self, limit: Duration) -> Outcome<i32> {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        fail!("serve (pid {}) has not ended after {} s", self.pid(), limit.as_secs())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// SIGTERM with nothing in use: unmounts, exit code 0.
    pub fn stop(mut self) -> Outcome {
        self.signal(Signal::SIGTERM)?;
        check_eq!(self.wait(Duration::from_secs(20))?, 0, "exit code of serve after SIGTERM");
        check!(!is_mounted(&self.mount)?, "{} is still mounted after serve ended", self.mount.display());
        Ok(())
    }

    /// Ends it by a signal after which its mount stays; the exit code.
    pub fn leave(mut self, signal: Signal) -> Outcome<i32> {
        self.signal(signal)?;
        let code = self.wait(Duration::from_secs(20))?;
        self.crashed = true;
        Ok(code)
    }

    /// SIGKILL, as a crash: the mount stays, dead.
    pub fn crash(mut self) -> Outcome {
        self.crashed = true;
        // They end with the main process, a moment later. Until then the connection lives, and what is asked is aborted.
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(&path).doing(path)?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let children: Vec<_> = children.filter_map(|pid| Watched::open(Pid::from_raw(pid)).ok()).collect();
        check!(!children.is_empty(), "the daemon has no worker");
        // who would start another one first, while the main process cannot replace it
        self.signal(Signal::SIGSTOP)?;
        for (role, pid) in crate::cases::kept::processes(&self.mount)? {
            if role == crate::cases::kept::Role::Keeper {
                kill(pid, Signal::SIGKILL)?;
            }
        }
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(20))?;
        for child in children {
            child.ended(Duration::from_secs(20)).doing("a worker, after its main process")?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed case: neither the process nor its mount may stay. A second signal ends it while in use.
        for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
            if matches!(self.child.try_wait(), Ok(None)) {
                let _ = self.signal(signal);
                let _ = self.wait(Duration::from_secs(3));
            }
        }
        if !self.crashed {
            clean(&self.mount);
        }
    }
}

/// Takes a mount point of the tests away, mounted or not.
pub fn clean(mount: &Path) {
    if matches!(is_mounted(mount), Ok(true)) {
        let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
    }
    let _ = std::fs::remove_dir(mount);
    // What a daemon keeps beside its socket stays for its next start: there will be none.
    let escaped = mount.to_string_lossy().trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
    let _ = std::fs::remove_dir_all(Path::new("/run/ownproc/at").join(escaped));
    let _ = mount.parent().map(std::fs::remove_dir);
}

/// Whether something is mounted at exactly this path.
pub fn is_mounted(mount: &Path) -> Outcome<bool> {
    let wanted = mount.to_string_lossy().into_owned();
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().any(|line| line.split(' ').nth(4) == Some(wanted.as_str())))
}

/// `ownproc ARG...` with the shared mount point.
pub fn ownproc(args: &[&str]) -> Outcome<output::Output> {
    output::run(programs::ownproc()?.args(args))
}

/// `ownproc ARG...` with another mount point.
pub fn ownproc_at(mount: &Path, args: &[&str]) -> Outcome<output::Output> {
    let mut command: Command = programs::ownproc()?;
    output::run(command.args(args).env("OWNPROC_MOUNT", mount))
}
