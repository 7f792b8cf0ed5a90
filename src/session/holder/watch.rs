//! Whether the worker still moves.

use std::sync::atomic::Ordering::Relaxed;

use crate::fs::flights::FLIGHTS;
use crate::session::end::End;
use crate::session::page::Page;
use crate::session::restart::Millis;

/// Milliseconds between two looks.
pub(super) const TICK: u16 = 500;
/// Looks without a beat after which a worker hangs. Looks are counted and not time: where the holder itself is not
/// let run, nobody is to blame.
const STILL: u8 = 6;
/// Looks at which one and the same request was being answered. Longer than an overloaded machine takes for a dear one: a
/// worker that is killed begins it anew.
const SAME: u8 = 40;

/// What the last looks saw.
#[derive(Debug)]
pub(super) struct Watch {
    looked: Millis,
    beat: u64,
    still: u8,
    flights: [u64; FLIGHTS],
    same: [u8; FLIGHTS],
}

impl Default for Watch {
    fn default() -> Self {
        Self { looked: Millis(0), beat: 0, still: 0, flights: [0; FLIGHTS], same: [0; FLIGHTS] }
    }
}

impl Watch {
    /// Looks, if it is time: whether the worker has not moved for [`STILL`] looks, or has been at one request for [`SAME`].
    pub(super) fn hangs(&mut self, page: Page, time: Millis) -> Option<End> {
        if time.since(self.looked) < Millis(u64::from(TICK) * 9 / 10) {
            return None;
        }
        self.looked = time;
        let beat = page.beat.load(Relaxed);
        self.still = if beat == self.beat { self.still.saturating_add(1) } else { 0 };
        self.beat = beat;
        let mut stuck = false;
        for ((flight, last), same) in page.flights.marks.iter().zip(&mut self.flights).zip(&mut self.same) {
            let unique = flight.load(Relaxed);
            *same = if unique != 0 && unique == *last { same.saturating_add(1) } else { 0 };
            *last = unique;
            stuck |= *same >= SAME;
        }
        match stuck {
            _ if self.still >= STILL => Some(End::Hung),
            true => Some(End::Stuck),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_a_beat_hangs_and_one_that_beats_does_not() {
        let page = Page::create().expect("memory").1;
        let mut watch = Watch::default();
        let mut look = |tick: u64| watch.hangs(page, Millis(tick * 500 + 500)).is_some();
        for tick in 0..10 {
            page.beat.fetch_add(1, Relaxed);
            assert!(!look(tick));
        }
        assert!((10..15).all(|tick| !look(tick)));
        assert!(!look(14), "too early to look again");
        assert!(look(15));
    }

    #[test]
    fn one_request_that_takes_for_ever_is_a_hang() {
        let page = Page::create().expect("memory").1;
        let mut watch = Watch::default();
        page.flights.marks[3].store(8, Relaxed);
        let mut look = |tick: u64| {
            page.beat.fetch_add(1, Relaxed);
            page.flights.marks[4].store(tick * 2 + 2, Relaxed);
            watch.hangs(page, Millis(tick * 500 + 500)).is_some()
        };
        assert!((0..40).all(|tick| !look(tick)));
        assert!(look(40));
    }
}
