//! Many at once: threads on one descriptor, processes that die, polls.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

use super::{Ground, Random, fork, pread, raw, threads, until};
use crate::case::{Outcome, check};

/// Threads that read one descriptor, some from the start, some in its middle.
pub fn one_descriptor(ground: &Ground, end: Instant) -> Outcome<u64> {
    let file = ground.open(0)?;
    threads(16, end, |thread, _| {
        let mut buffer = [0; 256];
        let got = pread(raw(&file), &mut buffer, if thread % 2 == 0 { 0 } else { 512 });
        check!(got >= 0, "errno {}", -got);
        check!(thread % 2 == 1 || buffer.starts_with(b"MemTotal:"), "{:?}", buffer.escape_ascii());
        Ok(1)
    })
}

/// Threads that open, read and close as fast as they can.
pub fn many_descriptors(ground: &Ground, end: Instant) -> Outcome<u64> {
    threads(8, end, |thread, round| {
        let file = ground.open(thread + round)?;
        let mut buffer = [0; 8192];
        let got = pread(raw(&file), &mut buffer, 0);
        check!(got >= 0, "{}: errno {}", ground.file(thread + round).display(), -got);
        Ok(2)
    })
}

/// Processes that are killed while they read.
pub fn die_mid_read(ground: &Ground, end: Instant) -> Outcome<u64> {
    let mut random = Random::new();
    until(end, |round| {
        let mut children = Vec::new();
        for number in 0..4 {
            children.push(fork(|| {
                let mut buffer = [0; 4096];
                loop {
                    if let Ok(file) = ground.open(round + number) {
                        pread(raw(&file), &mut buffer, 0);
                        pread(raw(&file), &mut buffer, 100);
                    }
                }
            })?);
        }
        std::thread::sleep(Duration::from_micros(random.next() % 3000));
        for child in children {
            kill(child, Signal::SIGKILL)?;
            waitpid(child, None)?;
        }
        Ok(4)
    })
}

/// Processes that have an open file from their parent, read it and end.
pub fn fork_storm(ground: &Ground, end: Instant) -> Outcome<u64> {
    until(end, |round| {
        let file = ground.open(round)?;
        let mut children = Vec::new();
        for _ in 0..16 {
            children.push(fork(|| {
                let mut buffer = [0; 1000];
                if let Ok(twin) = file.try_clone() {
                    pread(raw(&twin), &mut buffer, 0);
                }
                pread(raw(&file), &mut buffer, 500);
            })?);
        }
        drop(file);
        for child in children {
            waitpid(child, None)?;
        }
        Ok(16)
    })
}

/// Polls many files for everything.
pub fn poll_storm(ground: &Ground, end: Instant) -> Outcome<u64> {
    let files = (0..64).map(|number| ground.open(number)).collect::<Outcome<Vec<_>>>()?;
    until(end, |_| {
        let mut fds: Vec<PollFd<'_>> =
            files.iter().map(|file| PollFd::new(file.as_fd(), PollFlags::all())).collect();
        poll(&mut fds, PollTimeout::ZERO)?;
        Ok(64)
    })
}
