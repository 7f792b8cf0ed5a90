//! When the next worker starts, and which. No clocks and no processes in here: every function is told the time.

use super::end::End;

/// Milliseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The time from `earlier` to this one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// This time, later by so much.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

/// What a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every container's own numbers.
    Full,
    /// The host's files, for the time in which full workers keep dying.
    Degraded,
}

/// A worker that lived so long has recovered: what was before is forgotten.
const RECOVERED: Millis = Millis(10_000);
/// An end of its own making within this time after it took over counts as a fast one.
const FAST_OWN: Millis = Millis(2000);
/// A kill by somebody else within this time counts as a fast one.
const FAST_KILL: Millis = Millis(50);
/// What a fast end of its own making counts, and a fast kill.
const OWN: u32 = 16;
const KILL: u32 = 1;
/// With so much against them full workers are given a rest: after five crashes, or eighty kills in a row.
const TOO_MUCH: u32 = 80;
/// How long the first rest lasts; each further one twice as long.
const FIRST_REST: Millis = Millis(1000);
/// The longest rest.
const LONGEST_REST: Millis = Millis(60_000);
/// Degraded workers that die are started again after this time, so that they take no CPU from the others.
const DEGRADED_PAUSE: Millis = Millis(100);

/// How the workers have fared lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restarts {
    against: u32,
    rests: u32,
    /// Until when full workers rest.
    rest_until: Option<Millis>,
}

/// What to do after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Which worker.
    pub kind: Kind,
    /// When.
    pub at: Millis,
}

impl Restarts {
    /// A worker of this kind has ended, `lived` after it took over.
    pub fn ended(&mut self, kind: Kind, end: End, lived: Millis, now: Millis) -> Next {
        if kind == Kind::Degraded {
            return Next { kind, at: now.plus(DEGRADED_PAUSE) };
        }
        if lived >= RECOVERED {
            *self = Self::default();
        }
        self.against = match end.is_own_fault() {
            true if lived < FAST_OWN => self.against.saturating_add(OWN),
            true => OWN,
            false if lived < FAST_KILL => self.against.saturating_add(KILL),
            // Somebody who kills now and then, and at times two in a row, is no reason to rest.
            false => self.against.saturating_sub(KILL),
        };
        if self.against < TOO_MUCH {
            return Next { kind: Kind::Full, at: now };
        }
        let rest = FIRST_REST.0.checked_shl(self.rests).unwrap_or(u64::MAX).min(LONGEST_REST.0);
        self.rests = self.rests.saturating_add(1).min(16);
        self.rest_until = Some(now.plus(Millis(rest)));
        Next { kind: Kind::Degraded, at: now }
    }

    /// When a full worker is to be tried again beside a degraded one.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Millis> {
        self.rest_until
    }

    /// A full worker is tried again. One more fast end gives it the next rest.
    pub fn retried(&mut self) {
        self.rest_until = None;
        self.against = TOO_MUCH.saturating_sub(OWN);
    }

    /// The retried one did not even come to serve.
    pub fn retry_failed(&mut self, now: Millis) {
        self.against = TOO_MUCH;
        let _ = self.ended(Kind::Full, End::Exit(1), Millis(0), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: End = End::Signal(6);
    const KILLED: End = End::Signal(9);

    #[test]
    fn a_death_now_and_then_changes_nothing() {
        let mut restarts = Restarts::default();
        for hour in 1..100 {
            let now = Millis(hour * 3_600_000);
            let next = restarts.ended(Kind::Full, CRASH, Millis(3_600_000), now);
            assert_eq!(next, Next { kind: Kind::Full, at: now });
        }
    }

    #[test]
    fn five_fast_crashes_bring_a_rest_that_grows() {
        let mut restarts = Restarts::default();
        let crash =
            |restarts: &mut Restarts, now| restarts.ended(Kind::Full, CRASH, Millis(3), Millis(now)).kind;
        assert!((0..4).all(|now| crash(&mut restarts, now) == Kind::Full));
        assert_eq!(crash(&mut restarts, 5), Kind::Degraded);
        assert_eq!(restarts.retry_at(), Some(Millis(1005)));
        for rest in [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            restarts.retried();
            assert_eq!(restarts.retry_at(), None);
            assert_eq!(crash(&mut restarts, 10_000), Kind::Degraded);
            assert_eq!(restarts.retry_at(), Some(Millis(10_000 + rest)));
        }
        restarts.retried();
        assert_eq!(
            restarts.ended(Kind::Full, CRASH, Millis(20_000), Millis(0)).kind,
            Kind::Full,
            "recovered"
        );
    }

    #[test]
    fn kills_from_elsewhere_are_borne_longer() {
        let mut restarts = Restarts::default();
        let mut kill = |lived| restarts.ended(Kind::Full, KILLED, Millis(lived), Millis(0)).kind;
        assert!((0..500).all(|_| kill(60) == Kind::Full));
        assert!((0..79).all(|_| kill(2) == Kind::Full));
        assert_eq!(kill(2), Kind::Degraded);
    }

    #[test]
    fn fast_kills_among_others_are_forgotten() {
        let mut restarts = Restarts::default();
        for kill in 0..1000_u64 {
            let lived = Millis(if kill.is_multiple_of(3) { 2 } else { 60 });
            assert_eq!(restarts.ended(Kind::Full, KILLED, lived, Millis(0)).kind, Kind::Full);
        }
    }

    #[test]
    fn a_degraded_worker_comes_back_after_a_pause() {
        let next = Restarts::default().ended(Kind::Degraded, CRASH, Millis(0), Millis(7));
        assert_eq!(next, Next { kind: Kind::Degraded, at: Millis(107) });
    }
}
