//! Load averages of one container, and how much CPU time counting its tasks may take. No clocks in here: every
//! function is told the time.

use crate::model::saved::{Saved, put};
use crate::model::{Nsec, Usec};

/// How long after one sample the next is due (the kernel's `LOAD_FREQ`, include/linux/sched/loadavg.h).
pub const SAMPLE_EVERY: Nsec = Nsec(5_000_000_000);
/// A container whose load nobody has read for so long is not sampled any more.
pub const SAMPLED_FOR: Nsec = Nsec(900_000_000_000);
/// What all sampling together may use of one CPU, in thousandths.
pub const SHARE: u64 = 20;
/// CPU time that sampling may save up while there is nothing to do.
const SAVED: Nsec = Nsec(50_000_000);
/// The three time constants in seconds.
const MINUTES: [f64; 3] = [60.0, 300.0, 900.0];

/// Averages over 1, 5 and 15 minutes of the tasks that run or wait for a CPU or in state D. Finite, at least 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages(pub [f64; 3]);

impl Averages {
    /// `active` tasks for `elapsed`: each average moves to it by `1 - e^(-elapsed/T)`, whatever the interval.
    pub fn advance(&mut self, active: f64, elapsed: Nsec) {
        let active = if active.is_finite() { active.max(0.0) } else { 0.0 };
        for (average, minutes) in self.0.iter_mut().zip(MINUTES) {
            let kept = (-seconds(elapsed) / minutes).exp();
            *average = *average * kept + active * (1.0 - kept);
        }
    }
}

fn seconds(time: Nsec) -> f64 {
    time.0 as f64 / 1e9
}

/// What one sample sees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadSample {
    /// Tasks in state R, and in D but for those that wait for a FUSE daemon.
    pub active: f64,
    /// CPU time used since the group was made, and time waited for its quota: what it would have run on a machine of its
    /// own. `None` where nothing accounts it.
    pub demand: Option<Usec>,
    /// CPUs of the host that are online: no group uses more.
    pub cpus: usize,
}

/// The load of one container, from sample to sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    averages: Averages,
    /// CLOCK_MONOTONIC of the last sample.
    at: Nsec,
    last: LoadSample,
}

impl Load {
    /// Before anything was sampled: a container that was made `age` before `now` (CLOCK_MONOTONIC) and used nothing.
    #[must_use]
    pub fn of_age(age: Nsec, now: Nsec) -> Self {
        let last = LoadSample { demand: Some(Usec::ZERO), ..LoadSample::default() };
        // Where the machine slept, the container may be older than the clock.
        Self { averages: Averages::default(), at: now.minus(age), last }
    }

    /// Takes a sample in. Where the last one is longer ago than containers are sampled without a reader, the CPU time asked
    /// for meanwhile tells what happened, and the tasks seen now count for one interval. A sample that is not newer than the
    /// last is ignored.
    pub fn take(&mut self, sample: LoadSample, now: Nsec) {
        let elapsed = now.minus(self.at);
        if elapsed > SAMPLED_FOR {
            self.bridge(&sample, elapsed);
        } else {
            self.averages.advance(sample.active, elapsed);
        }
        if elapsed > Nsec::ZERO {
            self.at = now;
            self.last = sample;
        }
    }

    /// The first sample of a container: the whole life before it is bridged, however short.
    pub fn take_first(&mut self, sample: LoadSample, now: Nsec) {
        let elapsed = now.minus(self.at);
        self.bridge(&sample, elapsed);
        self.at = now;
        self.last = sample;
    }

    /// A time without samples: the mean concurrency is the CPU time asked for over the time.
    fn bridge(&mut self, sample: &LoadSample, elapsed: Nsec) {
        let last = SAMPLE_EVERY.min(elapsed);
        let asked = match (sample.demand, self.last.demand) {
            (Some(now), Some(before)) => now.minus(before),
            _ => Usec::ZERO,
        };
        let mean = asked.0 as f64 / (elapsed.0 as f64 / 1000.0).max(1.0);
        self.averages.advance(mean.min(sample.cpus as f64), elapsed);
        self.averages.advance(sample.active, last);
    }

    /// Whether no task of the container can have run since the last sample: its counters of CPU time say the same.
    #[must_use]
    pub fn slept_since(&self, demand: Option<Usec>) -> bool {
        demand.is_some() && demand == self.last.demand
    }

    /// The last sample.
    #[must_use]
    pub const fn last(&self) -> &LoadSample {
        &self.last
    }

    /// CLOCK_MONOTONIC of the last sample.
    #[must_use]
    pub const fn at(&self) -> Nsec {
        self.at
    }

    /// The averages as of the last sample.
    #[must_use]
    pub const fn averages(&self) -> Averages {
        self.averages
    }
}

/// What is kept of the load of a container for a later process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeptLoad {
    /// `None` where nobody has read it.
    pub load: Option<Load>,
    /// The highest process id that was seen, in the container's pid namespace.
    pub last_pid: u64,
}

impl KeptLoad {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.last_pid);
        put(out, u64::from(self.load.is_some()));
        let Some(Load { averages, at, last }) = &self.load else { return };
        averages.0.iter().for_each(|average| put(out, average.to_bits()));
        put(out, at.0);
        put(out, last.active.to_bits());
        put(out, u64::from(last.demand.is_some()));
        put(out, last.demand.unwrap_or_default().0);
        put(out, last.cpus as u64);
    }

    /// From what [`Self::encode`] gave; `None` for anything else, also for averages that are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut saved = Saved(bytes);
        let last_pid = saved.number()?;
        if !saved.flag()? {
            return saved.end(Self { load: None, last_pid });
        }
        let mut average = || {
            let value = f64::from_bits(saved.number()?);
            (value.is_finite() && value.is_sign_positive()).then_some(value)
        };
        let averages = Averages([average()?, average()?, average()?]);
        let at = Nsec(saved.number()?);
        let active = f64::from_bits(saved.number()?);
        if !active.is_finite() {
            return None;
        }
        let (has_demand, demand) = (saved.flag()?, Usec(saved.number()?));
        if !has_demand && demand != Usec::ZERO {
            return None;
        }
        let last = LoadSample {
            active,
            demand: has_demand.then_some(demand),
            cpus: usize::try_from(saved.number()?).ok()?,
        };
        saved.end(Self { load: Some(Load { averages, at, last }), last_pid })
    }
}

/// What `/proc/loadavg` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadView {
    /// Fields 1 to 3.
    pub averages: Averages,
    /// Field 4 before the slash: tasks in state R.
    pub running: u64,
    /// Behind it: all tasks.
    pub total: u64,
    /// Field 5, in the container's pid namespace; 0 where unknown.
    pub last_pid: u64,
}

/// Scales what was counted of `looked` tasks up to all `total` of them, rounded; exact where all were looked at.
#[must_use]
pub fn scaled(counted: u64, looked: u64, total: u64) -> u64 {
    if looked == 0 || looked == total {
        return counted;
    }
    let wide = (u128::from(counted) * u128::from(total) + u128::from(looked) / 2) / u128::from(looked);
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// The places `0..count` in an order of which every beginning is spread over all of them, each once. `turn` differs
/// from walk to walk, so that those who look at a part see another part each time.
pub fn spread_order(count: usize, turn: usize) -> impl Iterator<Item = usize> {
    // Steps of about the golden section leave no two places close together (three-distance theorem).
    let golden = (count as u128 * 618 / 1000).max(1) as usize;
    let step = (golden..count.max(2)).find(|step| gcd(*step, count) == 1).unwrap_or(1);
    let first = if count == 0 { 0 } else { turn % count };
    (0..count).map(move |index| ((index as u128 * step as u128 + first as u128) % count as u128) as usize)
}

const fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Keeps all sampling together below [`SHARE`] of one CPU: each walk is paid for by rest.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    at: Nsec,
    spent: Nsec,
    /// CPU time that may be used now, in nanoseconds; below 0 it has to be rested for.
    credit: i128,
}

impl Budget {
    /// Starts at `now` (CLOCK_MONOTONIC) where the thread has used `spent` of CPU time so far.
    #[must_use]
    pub const fn new(now: Nsec, spent: Nsec) -> Self {
        Self { at: now, spent, credit: 0 }
    }

    /// How long to rest before the next walk, where the thread has used `spent` of CPU time in all.
    pub fn rest(&mut self, now: Nsec, spent: Nsec) -> Nsec {
        let earned = i128::from(now.minus(self.at).0) * i128::from(SHARE) / 1000;
        let used = i128::from(spent.minus(self.spent).0);
        self.credit = (self.credit + earned).min(i128::from(SAVED.0)) - used;
        (self.at, self.spent) = (now, spent);
        let owed = (-self.credit).max(0) * 1000 / i128::from(SHARE);
        Nsec(u64::try_from(owed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
