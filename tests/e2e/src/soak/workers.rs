//! The daemon's processes, seen from outside: who serves now, and what it was doing.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use ownproc::control::{Client, WorkerInfo};
use ownproc::session::page::Page;

use crate::case::{Doing, Outcome, check, fail};

/// A daemon whose workers come and go.
pub struct Workers {
    mount: PathBuf,
    page: Page,
}

/// How long a new worker may take at most, on a machine that is short of everything.
const PATIENCE: Duration = Duration::from_secs(60);

impl Workers {
    /// The workers of a holder, through its shared memory.
    pub fn of(holder: Pid, mount: &Path) -> Outcome<Self> {
        let memory = memory_of(holder)?;
        let page = Page::open(File::options().read(true).write(true).open(&memory)?.as_fd())
            .doing(memory.display())?;
        Ok(Self { mount: mount.to_owned(), page })
    }

    /// The pid of the one that serves, or takes over.
    pub fn serving(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.page.story.worker.load(Relaxed)).unwrap_or(0))
    }

    /// New workers that could not take over.
    pub fn failed_upgrades(&self) -> u64 {
        self.page.story.failed_upgrades.load(Relaxed)
    }

    /// Requests that are marked as being answered. Between the end of a worker and the take-over of the next: those
    /// that it left unanswered.
    pub fn marked(&self) -> usize {
        self.page.flights().marks.iter().filter(|mark| mark.load(Relaxed) != 0).count()
    }

    /// Whether the host's files are served.
    pub fn degraded(&self) -> bool {
        self.page.story.degraded.load(Relaxed) != 0
    }

    /// Counted up by a worker when it begins to serve, and four times a second since.
    pub fn beat(&self) -> u64 {
        self.page.beat.load(Relaxed)
    }

    /// Waits until the worker that was told to take over does; `before`: the beat at that time.
    pub fn until_served(&self, before: u64) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.beat() != before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        fail!("the worker {} does not serve after {} s", self.serving(), PATIENCE.as_secs())
    }

    /// Waits until another one is told to take over; its pid. Looks every few microseconds.
    pub fn after(&self, gone: Pid) -> Outcome<Pid> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let now = self.serving();
            if now != gone {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        fail!("no worker after {gone} within {} s", PATIENCE.as_secs())
    }

    /// What the daemon itself says; asked again while workers change.
    pub fn info(&self) -> Outcome<WorkerInfo> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = Client::connect(&self.mount).and_then(|client| client.status());
            match answer {
                Ok(status) => return Ok(status.worker),
                Err(error) if Instant::now() > deadline => fail!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// The shared memory of a holder, as a path.
pub fn memory_of(holder: Pid) -> Outcome<PathBuf> {
    let dir = PathBuf::from(format!("/proc/{holder}/fd"));
    for entry in std::fs::read_dir(&dir).doing(dir.display())? {
        let path = entry?.path();
        if std::fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:ownproc"))
        {
            return Ok(path);
        }
    }
    fail!("{}: no shared memory", dir.display())
}

/// A process that is looked at by its own descriptor, whatever becomes of its number.
pub struct Watched(OwnedFd);

impl Watched {
    /// The process that has this pid now.
    pub fn open(pid: Pid) -> Outcome<Self> {
        // SAFETY: a plain system call; what it returns is owned by nobody else.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0);
            check!(fd >= 0, "pid {pid}: {}", std::io::Error::last_os_error());
            Ok(Self(OwnedFd::from_raw_fd(i32::try_from(fd)?)))
        }
    }

    /// Waits for its end.
    pub fn ended(&self, limit: Duration) -> Outcome {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).doing("a time to wait")?;
        check!(poll(&mut fds, limit)? == 1, "it has not ended");
        Ok(())
    }
}

/// Ends or stops exactly the process that has this pid now; whether there was one.
pub fn signal(pid: Pid, signal: nix::sys::signal::Signal) -> Outcome<bool> {
    let Ok(Watched(fd)) = Watched::open(pid) else { return Ok(false) };
    // SAFETY: a plain system call on an open descriptor; no information goes along.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as i32, 0_usize, 0) };
    Ok(sent == 0)
}
