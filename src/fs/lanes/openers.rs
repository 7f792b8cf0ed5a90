//! Whose lane the next open of a thread belongs in. Whose file an open is shows only when it has been done; but who opens files as
//! fast as he can has just opened one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::containers::lane::HOST;

/// Threads that are remembered.
const THREADS: usize = 1024;
/// Milliseconds in a unit of time.
const UNIT: u128 = 64;
/// For so many units a thread is remembered: too short for its number to become another's, which takes all numbers in between.
const FRESH: u16 = 2;

/// The lanes of threads that have opened a file lately.
#[derive(Debug)]
pub struct Openers {
    /// Thread id (32 bits), lane (16), time (16).
    threads: Box<[AtomicU64]>,
    since: Instant,
}

impl Default for Openers {
    fn default() -> Self {
        Self { threads: (0..THREADS).map(|_| AtomicU64::new(0)).collect(), since: Instant::now() }
    }
}

impl Openers {
    fn now(&self) -> u16 {
        (self.since.elapsed().as_millis() / UNIT) as u16 // wraps; an hour later an old entry is fresh for a moment
    }

    fn entry(&self, tid: u32) -> Option<&AtomicU64> {
        self.threads.get(usize::try_from(tid).ok()? % THREADS)
    }

    /// The lane of a thread that has opened a file a moment ago.
    #[must_use]
    pub fn lane(&self, tid: u32) -> Option<u16> {
        let entry = self.entry(tid)?.load(Ordering::Relaxed);
        let (known, lane, time) = ((entry >> 32) as u32, (entry >> 16) as u16, entry as u16);
        (known == tid && tid != 0 && self.now().wrapping_sub(time) <= FRESH).then_some(lane)
    }

    /// A thread has opened a file of this lane. The host's own wait for nobody: the opener is among them.
    pub fn saw(&self, tid: u32, lane: u16) {
        if lane == HOST {
            return;
        }
        if let Some(entry) = self.entry(tid) {
            entry.store(
                u64::from(tid) << 32 | u64::from(lane) << 16 | u64::from(self.now()),
                Ordering::Relaxed,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_known_for_a_moment() {
        let openers = Openers::default();
        assert_eq!((openers.lane(7), openers.lane(0)), (None, None));
        openers.saw(7, 3);
        assert_eq!(openers.lane(7), Some(3));
        assert_eq!(openers.lane(7 + THREADS as u32), None, "another thread of the same entry");
        openers.saw(8, HOST);
        assert_eq!(openers.lane(8), None);
        openers.saw(0, 3);
        assert_eq!(openers.lane(0), None, "nobody that is known");
        std::thread::sleep(std::time::Duration::from_millis(u64::from(FRESH + 1) * UNIT as u64 + 1));
        assert_eq!(openers.lane(7), None, "its number may be another's by now");
    }
}
