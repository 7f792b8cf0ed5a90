//! What readers count, and how the times they waited are told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A call that takes longer than this is a stall.
pub const STALL: Duration = Duration::from_millis(2);
/// A call of which it is told what it was.
const SLOW: Duration = Duration::from_millis(300);
/// Examples of each kind of fault that are kept.
const EXAMPLES: usize = 5;
/// Stalls that one tally remembers at most.
const MOST_STALLS: usize = 400_000;

/// Microseconds of the real-time clock, which no namespace shifts.
pub fn now_usec() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What went wrong with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// A system call failed.
    Failed,
    /// The text is of two moments, or cut.
    Torn,
    /// A counter fell.
    Fell,
    /// Another value than the container's.
    Wrong,
}

/// What readers have seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Texts read to their end, by the reader's name.
    pub snapshots: BTreeMap<String, u64>,
    /// Faults by kind and, of failed calls, by errno.
    pub faults: BTreeMap<(Fault, i32), u64>,
    /// When the first ones were, and of what kind.
    pub examples: Vec<(u64, String)>,
    /// Calls that took longer than [`STALL`]: when they began, and how long they took, in microseconds.
    pub stalls: Vec<(u64, u64)>,
    /// Calls that were timed.
    pub calls: u64,
}

impl Tally {
    /// One more fault.
    pub fn fault(&mut self, fault: Fault, errno: i32, what: impl FnOnce() -> String) {
        let count = self.faults.entry((fault, errno)).or_default();
        *count += 1;
        if *count <= EXAMPLES as u64 {
            self.examples.push((now_usec(), format!("{fault:?}: {}", what())));
        }
    }

    /// How long a call took that began then.
    pub fn timed(&mut self, began: u64, took: Duration, what: impl FnOnce() -> String) {
        if took > SLOW && self.examples.len() < 4 * EXAMPLES {
            self.examples.push((began, format!("{} ms: {}", took.as_millis(), what())));
        }
        self.calls += 1;
        if took > STALL && self.stalls.len() < MOST_STALLS {
            self.stalls.push((began, u64::try_from(took.as_micros()).unwrap_or(u64::MAX)));
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        for (reader, count) in other.snapshots {
            *self.snapshots.entry(reader).or_default() += count;
        }
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.stalls.extend(other.stalls);
        self.calls += other.calls;
    }

    /// Faults of a kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.iter().filter(|((kind, _), _)| *kind == fault).map(|(_, count)| count).sum()
    }

    /// Failed calls with this errno.
    pub fn failed_with(&self, errno: i32) -> u64 {
        self.faults.get(&(Fault::Failed, errno)).copied().unwrap_or(0)
    }

    /// Texts read.
    pub fn all_snapshots(&self) -> u64 {
        self.snapshots.values().sum()
    }

    /// As one line; the keys of maps must be texts in JSON.
    pub fn to_line(&self) -> String {
        let faults: Vec<_> = self.faults.iter().collect();
        serde_json::json!([self.snapshots, faults, self.examples, self.stalls, self.calls]).to_string()
    }

    /// What [`Tally::to_line`] made.
    pub fn from_line(line: &str) -> serde_json::Result<Self> {
        type Faults = Vec<((Fault, i32), u64)>;
        let (snapshots, faults, examples, stalls, calls): (_, Faults, _, _, _) = serde_json::from_str(line)?;
        Ok(Self { snapshots, faults: faults.into_iter().collect(), examples, stalls, calls })
    }

    /// Every kind of fault, in one line.
    pub fn faults(&self) -> String {
        let of = |fault| self.count(fault);
        let errnos: Vec<String> = self
            .faults
            .iter()
            .filter(|((fault, _), _)| *fault == Fault::Failed)
            .map(|((_, errno), count)| format!("{count} x {}", nix::errno::Errno::from_raw(*errno)))
            .collect();
        let errnos = if errnos.is_empty() { String::new() } else { format!(" ({})", errnos.join(", ")) };
        format!(
            "{} failed{errnos}, {} torn, {} fallen counters, {} wrong values",
            of(Fault::Failed),
            of(Fault::Torn),
            of(Fault::Fell),
            of(Fault::Wrong)
        )
    }
}

/// Percentiles of some durations.
#[derive(Debug)]
pub struct Spread(Vec<u64>);

impl Spread {
    /// Of microseconds.
    pub fn of(values: impl Iterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        Self(values)
    }

    /// The value below which so many of a hundred lie, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).map_or(0.0, |usec| *usec as f64 / 1000.0)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.len())?;
        if self.0.is_empty() {
            return Ok(());
        }
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| self.percentile(percent));
        write!(f, " (p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, max {max:.1} ms)")
    }
}
