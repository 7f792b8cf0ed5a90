//! Requests that are being answered, and those that have ended workers.
//!
//! A request is marked in the shared memory while it is answered. Those that were marked when a worker died come under
//! suspicion: the kernel sends them again, with bit 63 of their number set, and one that was there at two deaths is
//! answered plainly by the third worker.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Requests that can be marked as being answered at one time; more than there are threads.
pub const FLIGHTS: usize = 64;
/// Requests whose numbers are known while they are queued.
pub const QUEUED: usize = 1024;
/// Requests that are remembered as having been in flight at a death.
const SUSPECTS: usize = 64;

/// A request that was in flight when a worker died.
#[repr(C)]
#[derive(Debug)]
struct Suspect {
    /// The request's number; 0: this entry is free.
    unique: AtomicU64,
    /// How much speaks against it: see [`GUILTY`].
    weight: AtomicU64,
}

/// What outlives a worker. Only atomics: it lies in shared memory.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// Numbers of the requests that are being answered, and after the first [`FLIGHTS`] of those that are queued; 0: free.
    pub marks: [AtomicU64; FLIGHTS + QUEUED],
    /// The highest number of a request that was marked so far.
    pub last_unique: AtomicU64,
    /// Requests that the kernel sent again, seen by all workers so far.
    pub resent: AtomicU64,
    /// Requests in flight at deaths, over all deaths.
    pub at_deaths: AtomicU64,
    /// Requests that were answered plainly since they had ended the worker twice.
    pub plain: AtomicU64,
    suspects: [Suspect; SUSPECTS],
}

impl Default for Table {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            marks: std::array::from_fn(|_| zero()),
            last_unique: zero(),
            resent: zero(),
            at_deaths: zero(),
            plain: zero(),
            suspects: std::array::from_fn(|_| Suspect { unique: zero(), weight: zero() }),
        }
    }
}

/// Set in the number of a request that was sent before (FUSE_UNIQUE_RESEND, linux/fuse.h).
pub const RESENT: u64 = 1 << 63;

/// A request with this much against it is answered plainly: it was in flight at two deaths of which the worker itself
/// was the cause.
pub const GUILTY: u64 = 16;
/// What a crash counts, and a hang in a request.
pub const OWN_END: u64 = GUILTY / 2;
/// What a SIGKILL from elsewhere counts, and that the whole worker stood still: an administrator's doing, or the kernel's for
/// want of memory, which the request may have caused.
pub const KILLED: u64 = 1;

/// The marks of one worker.
#[derive(Debug)]
pub struct Flights {
    table: &'static Table,
    /// What was marked when the one before died.
    left: Vec<u64>,
    /// Held while a suspect is answered: should it end the worker, it alone comes under suspicion again.
    quarantine: Mutex<()>,
    /// No thread is to read one more request.
    closing: AtomicBool,
    /// Threads that read none any more.
    parked: AtomicUsize,
}

/// A thread that reads requests is at one of them. When this is dropped it reads the next, or never again.
#[derive(Debug)]
pub struct Passage<'a>(&'a Flights);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.0.closing.load(Ordering::Acquire) {
            self.0.parked.fetch_add(1, Ordering::AcqRel);
            loop {
                std::thread::park();
            }
        }
    }
}

/// Milliseconds without a request in which a thread that reads them may be taken to be idle.
const CALM: u32 = 5;

/// How a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As always.
    Innocent,
    /// Without doing what it asks for: it has ended the worker twice.
    Guilty,
}

/// The mark of one request, taken away when dropped.
#[derive(Debug)]
pub struct Flight<'a> {
    table: &'static Table,
    index: Option<usize>,
    unique: u64,
    resent: bool,
    /// How to answer.
    pub verdict: Verdict,
    _alone: Option<MutexGuard<'a, ()>>,
}

impl Flights {
    /// Takes over from a worker that died of `cause` (see [`OWN_END`] and [`KILLED`]; 0: it was stopped): what it was
    /// answering comes under suspicion.
    #[must_use]
    pub fn take_over(table: &'static Table, cause: u64) -> Self {
        let mut left = Vec::new();
        for (index, flight) in table.marks.iter().enumerate() {
            let unique = flight.swap(0, Ordering::Relaxed);
            if unique == 0 {
                continue;
            }
            left.push(unique);
            // What was queued had no part in it.
            if cause == 0 || index >= FLIGHTS {
                continue;
            }
            table.at_deaths.fetch_add(1, Ordering::Relaxed);
            let known =
                table.suspects.iter().find(|suspect| suspect.unique.load(Ordering::Relaxed) == unique);
            let free = || table.suspects.iter().find(|suspect| suspect.unique.load(Ordering::Relaxed) == 0);
            match known.or_else(free) {
                Some(suspect) => {
                    suspect.unique.store(unique, Ordering::Relaxed);
                    suspect.weight.fetch_add(cause, Ordering::Relaxed);
                }
                // Full of others: those were never sent again.
                None => table.suspects.iter().for_each(|suspect| {
                    suspect.unique.store(0, Ordering::Relaxed);
                    suspect.weight.store(0, Ordering::Relaxed);
                }),
            }
        }
        Self {
            table,
            left,
            quarantine: Mutex::new(()),
            closing: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
        }
    }

    /// Marks that nobody will see: for a tree that is served by one process only.
    #[must_use]
    pub fn alone() -> Self {
        Self::take_over(Box::leak(Box::default()), 0)
    }

    /// Numbers of the requests that the one before left unanswered.
    #[must_use]
    pub fn left(&self) -> &[u64] {
        &self.left
    }

    /// Marks a request for as long as the result lives.
    #[must_use]
    pub fn enter(&self, unique: u64) -> Flight<'_> {
        let resent = unique & RESENT != 0;
        let unique = unique & !RESENT;
        let mut verdict = Verdict::Innocent;
        let mut alone = None;
        if resent {
            self.table.resent.fetch_add(1, Ordering::Relaxed);
            let weight = self.suspect(unique).map_or(0, |suspect| suspect.weight.load(Ordering::Relaxed));
            if weight >= GUILTY {
                verdict = Verdict::Guilty;
                self.table.plain.fetch_add(1, Ordering::Relaxed);
            } else if weight >= OWN_END {
                alone = Some(self.quarantine.lock());
            }
        }
        self.table.last_unique.fetch_max(unique, Ordering::Relaxed);
        let start = hint();
        let index = (0..FLIGHTS).map(|step| (start + step) % FLIGHTS).find(|index| {
            self.table.marks.get(*index).is_some_and(|flight| {
                flight.compare_exchange(0, unique, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            })
        });
        Flight { table: self.table, index, unique, resent, verdict, _alone: alone }
    }

    /// Taken by a thread that has read a request from the kernel, and dropped when it has done with it, last of all.
    #[must_use]
    pub const fn passage(&self) -> Passage<'_> {
        Passage(self)
    }

    /// Before this process ends in good order where the kernel sends nothing again: its `readers` read no more, and what they
    /// have read is answered, unless that takes longer than `limit`. What comes meanwhile waits in the kernel for the next
    /// worker. Whether nothing was left.
    pub fn close(&self, readers: usize, limit: Duration) -> bool {
        self.closing.store(true, Ordering::Release);
        let (began, mut calm) = (Instant::now(), 0);
        while began.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(1));
            // One that was read this moment is not marked yet.
            let none = self.table.marks.iter().all(|mark| mark.load(Ordering::Relaxed) == 0);
            calm = if none { calm + 1 } else { 0 };
            // A reader that is not parked waits for a request that nobody has made for as long.
            if calm >= if self.parked.load(Ordering::Acquire) >= readers { 2 } else { CALM } {
                return true;
            }
        }
        false
    }

    /// Makes the number of a request that is queued known, so that it is not lost with this worker where the kernel does not
    /// send it again. `None` where there is no more room.
    ///
    /// It is not under the eyes of the holder's watch, nor suspected of anything. Drop it when the request is [entered](Self::enter):
    /// being marked twice does no harm.
    #[must_use]
    pub fn queue(&self, unique: u64) -> Option<Queued> {
        let unique = unique & !RESENT;
        self.table.last_unique.fetch_max(unique, Ordering::Relaxed);
        let marks = self.table.marks.get(FLIGHTS..)?;
        // From where the number says: those that are queued one after the other seldom meet. Numbers go up by two.
        let start = usize::try_from(unique / 2 % QUEUED as u64).ok()?;
        (0..QUEUED).filter_map(|step| marks.get((start + step) % QUEUED)).find_map(|mark| {
            let free = mark.compare_exchange(0, unique, Ordering::Relaxed, Ordering::Relaxed);
            free.ok().map(|_| Queued(mark))
        })
    }

    fn suspect(&self, unique: u64) -> Option<&'static Suspect> {
        self.table.suspects.iter().find(|suspect| suspect.unique.load(Ordering::Relaxed) == unique)
    }
}

/// The number of a request that is queued, known until this is dropped.
#[derive(Debug)]
pub struct Queued(&'static AtomicU64);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Flight<'_> {
    /// Whether it must not be done what the request asks for.
    #[must_use]
    pub fn is_guilty(&self) -> bool {
        self.verdict == Verdict::Guilty
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.index.and_then(|index| self.table.marks.get(index)) {
            flight.store(0, Ordering::Relaxed);
        }
        if self.resent {
            for suspect in &self.table.suspects {
                if suspect.unique.load(Ordering::Relaxed) == self.unique {
                    suspect.weight.store(0, Ordering::Relaxed);
                    suspect.unique.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Where this thread looks for a free mark first, so that threads seldom meet.
fn hint() -> usize {
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HINT: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    HINT.with(|hint| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> &'static Table {
        Box::leak(Box::default())
    }

    fn marked(table: &Table) -> Vec<u64> {
        table.marks.iter().map(|mark| mark.load(Ordering::Relaxed)).filter(|unique| *unique != 0).collect()
    }

    #[test]
    fn a_mark_lasts_as_long_as_the_answer() {
        let table = new();
        let flights = Flights::take_over(table, 0);
        let flight = flights.enter(12);
        assert_eq!((marked(table), flight.verdict), (vec![12], Verdict::Innocent));
        drop(flight);
        assert!(marked(table).is_empty());
    }

    #[test]
    fn what_is_queued_is_known_and_not_suspected() {
        let table = new();
        let flights = Flights::take_over(table, 0);
        let queued: Vec<_> = (1..=2000).filter_map(|number| flights.queue(number * 2)).collect();
        assert_eq!(queued.len(), QUEUED);
        assert!(
            table.marks[..FLIGHTS].iter().all(|mark| mark.load(Ordering::Relaxed) == 0),
            "not for the watch"
        );
        assert_eq!(table.last_unique.load(Ordering::Relaxed), 4000);
        drop(queued);
        assert!(marked(table).is_empty());
        std::mem::forget(flights.queue(12 | RESENT));
        for _ in 0..2 {
            let next = Flights::take_over(table, OWN_END);
            assert_eq!(next.enter(12 | RESENT).verdict, Verdict::Innocent);
            std::mem::forget(next.queue(12 | RESENT));
        }
        assert_eq!(Flights::take_over(table, OWN_END).left(), [12]);
        assert_eq!(table.at_deaths.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_crashed_two_workers_is_answered_plainly() {
        let table = new();
        std::mem::forget(Flights::take_over(table, 0).enter(12));
        let second = Flights::take_over(table, OWN_END);
        let flight = second.enter(12 | RESENT);
        assert_eq!(flight.verdict, Verdict::Innocent, "once may be chance");
        std::mem::forget(flight);
        let third = Flights::take_over(table, OWN_END);
        assert_eq!(third.enter(14 | RESENT).verdict, Verdict::Innocent);
        assert_eq!(third.enter(12 | RESENT).verdict, Verdict::Guilty);
        assert_eq!(third.enter(12 | RESENT).verdict, Verdict::Innocent, "answered, and forgotten");
        assert_eq!(table.at_deaths.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn kills_from_elsewhere_count_little() {
        let table = new();
        for _ in 1..GUILTY {
            let flights = Flights::take_over(table, KILLED);
            let flight = flights.enter(12 | RESENT);
            assert_eq!(flight.verdict, Verdict::Innocent);
            std::mem::forget(flight);
        }
        std::mem::forget(Flights::take_over(table, KILLED).enter(12 | RESENT));
        assert_eq!(Flights::take_over(table, KILLED).enter(12 | RESENT).verdict, Verdict::Guilty);
    }

    #[test]
    fn an_orderly_end_accuses_nobody() {
        let table = new();
        std::mem::forget(Flights::take_over(table, 0).enter(12));
        let next = Flights::take_over(table, 0);
        assert!(marked(table).is_empty());
        assert_eq!(next.enter(12 | RESENT).verdict, Verdict::Innocent);
    }

    #[test]
    fn more_suspects_than_room_are_no_trouble() {
        let table = new();
        for round in 0..10u64 {
            let flights = Flights::take_over(table, OWN_END);
            (1..=70).for_each(|n| std::mem::forget(flights.enter(round * 100 + n)));
        }
        let _ = Flights::take_over(table, OWN_END);
    }
}
