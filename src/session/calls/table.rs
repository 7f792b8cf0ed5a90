//! Calls that were taken and not answered yet, in the shared memory: the next worker finds them there.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::notify::Notification;

/// Calls that are being answered at one time, each by a scribe of its own.
pub const SLOTS: usize = 4;

/// One call that is being answered.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    /// The call. It is the last to be written, and the first to be cleared.
    pub notification: Notification,
    /// Number of its listener.
    pub listener: AtomicU64,
    /// The process that may be writing the answer, and when it started: while it is there nobody else may answer, since it
    /// would write into the memory of a thread that goes on.
    pub scribe: [AtomicU64; 2],
    /// Workers that have taken it up, but for those that ended of what no call can cause.
    pub takers: AtomicU64,
}

/// What outlives a worker. Only atomics, and zeros are none.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// Calls that a scribe answers.
    pub slots: [Slot; SLOTS],
    /// A call that is left to the kernel at once.
    pub spare: Slot,
    /// Calls that were answered with a container's numbers.
    pub answered: AtomicU64,
    /// Calls that were left to the kernel.
    pub left: AtomicU64,
}

/// A call that was there at so many deaths of workers, of their own making, is left to the kernel.
const SUSPECT: u64 = 2;

impl Table {
    /// The slot of this number, of [`SLOTS`].
    #[must_use]
    pub fn slot(&self, number: usize) -> &Slot {
        self.slots.get(number).unwrap_or(&self.spare)
    }

    /// The worker that was at these calls ended of what none of them can have caused, such as a signal of somebody's. To be
    /// called by the holder while no worker is at them.
    pub fn forgive(&self) {
        for slot in &self.slots {
            let takers = slot.takers.load(Relaxed);
            slot.takers.store(takers.saturating_sub(1), Relaxed);
        }
    }
}

impl Slot {
    /// Prepares it for a call of this listener, which is answered by that scribe.
    pub fn prepare(&self, listener: u16, scribe: (u64, u64)) {
        self.notification.clear();
        self.listener.store(u64::from(listener), Relaxed);
        self.takers.store(1, Relaxed);
        self.belongs_to(scribe);
    }

    /// Another scribe answers it.
    pub fn belongs_to(&self, (pid, start): (u64, u64)) {
        let [first, second] = &self.scribe;
        first.store(pid, Relaxed);
        second.store(start, Relaxed);
    }

    /// Who answers it, or did.
    pub fn scribe(&self) -> (u64, u64) {
        let [first, second] = &self.scribe;
        (first.load(Relaxed), second.load(Relaxed))
    }

    /// The worker before died with it: whether it may be to blame, so that it had better be left to the kernel.
    pub fn take_over(&self) -> bool {
        self.takers.fetch_add(1, Relaxed) >= SUSPECT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ends_workers_is_left_to_the_kernel() {
        // SAFETY: all zeros are a valid slot, which is nothing but atomics.
        let slot: Slot = unsafe { std::mem::zeroed() };
        slot.prepare(3, (17, 4));
        assert_eq!((slot.listener.load(Relaxed), slot.scribe()), (3, (17, 4)));
        assert!(slot.notification.call().is_none());
        assert!(!slot.take_over(), "it was there at one death");
        assert!(slot.take_over(), "and at a second one");
        slot.prepare(3, (17, 4));
        assert!(!slot.take_over(), "another call");
    }

    #[test]
    fn a_call_is_not_blamed_for_kills_by_somebody() {
        // SAFETY: all zeros are a valid table, which is nothing but atomics.
        let table: Box<Table> = unsafe { Box::new(std::mem::zeroed()) };
        let slot = table.slot(1);
        slot.prepare(3, (17, 4));
        for _ in 0..10 {
            table.forgive();
            assert!(!slot.take_over());
        }
        assert!(!slot.take_over(), "the first death of a worker's own making");
        assert!(slot.take_over(), "the second");
        table.slot(0).prepare(4, (1, 1));
        table.forgive();
        table.forgive();
        assert!(!table.slot(0).take_over(), "never below none");
    }
}
