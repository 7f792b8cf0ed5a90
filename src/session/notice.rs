//! What the holder says: one line on stderr, without allocating.

use std::fmt::{Arguments, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use super::restart::Millis;

/// A line that is cut rather than made longer.
struct Line {
    bytes: [u8; 400],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// Says it on stderr. Nobody may be listening, and that is no reason to end.
pub fn say(what: Arguments<'_>) {
    let mut line = Line { bytes: [0; 400], len: 0 };
    let _ = writeln!(line, "ownproc: {what}");
    // SAFETY: borrowed for these calls only; a number that is not open is an error of theirs, nothing worse.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    // A reader that has stopped reading must not stop the holder. A pipe that is writable takes a line whole.
    let mut fds = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
    if !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) {
        return;
    }
    let _ = rustix::io::write(stderr, line.bytes.get(..line.len).unwrap_or_default());
}

/// CLOCK_MONOTONIC now.
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000))
}
