//! How long the quota kept the container from running since the last reading.

use crate::model::{CpuLevel, CpuReading, Quota, Usec};
use crate::view::binding_quota;

/// Raw throttling counters of one level.
#[derive(Clone, Copy, Debug, Default)]
struct LastLevel {
    nr_throttled: u64,
    throttled: Usec,
    usage: Usec,
}

impl LastLevel {
    const fn of(level: &CpuLevel) -> Self {
        Self { nr_throttled: level.nr_throttled, throttled: level.throttled, usage: level.usage }
    }
}

/// The throttling of one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttling {
    /// The tightest quota.
    pub(super) quota: Quota,
    /// In how many periods its level ran out of it.
    pub(super) periods: u64,
    /// How long the container's tasks waited for it, summed over the host's CPUs.
    pub(super) throttled: Usec,
}

impl Throttling {
    /// The most time that the quota can have taken away from `count` CPUs. Throttled time alone says too much:
    /// a throttled group waits on every CPU of the host that it has tasks on.
    pub(super) fn most(&self, count: usize) -> Usec {
        let per_period = self.quota.period.times(count as u64).minus(self.quota.quota);
        self.throttled.min(per_period.times(self.periods))
    }
}

/// The last raw throttling counters.
#[derive(Clone, Debug, Default)]
pub(super) struct ThrottlingMeter {
    started: bool,
    local: Option<Usec>,
    /// The topmost level first: ancestors keep their place when the group below them vanishes.
    levels: Vec<LastLevel>,
}

impl ThrottlingMeter {
    /// The throttling since the last call; `None` without a quota. `used` is the container's use in the same
    /// interval.
    pub(super) fn take(&mut self, reading: &CpuReading, used: Usec) -> Option<Throttling> {
        let local = reading.throttled_local.map(|now| {
            let last = self.local.unwrap_or(if self.started { now } else { Usec::ZERO });
            self.local = Some(now);
            now.minus(last)
        });
        let binding = binding_quota(&reading.levels);
        let depth = reading.levels.len();
        let mut result = None;
        for (place, level) in reading.levels.iter().rev().enumerate() {
            let before = match self.levels.get_mut(place) {
                Some(last) => std::mem::replace(last, LastLevel::of(level)),
                None => {
                    self.levels.push(LastLevel::of(level));
                    // What a level that appears later did before is not of this interval.
                    if self.started { LastLevel::of(level) } else { LastLevel::default() }
                }
            };
            let index = depth - 1 - place;
            let Some((_, quota)) = binding.filter(|(bound, _)| *bound == index) else { continue };
            let throttled = level.throttled.minus(before.throttled);
            let throttled = match local {
                Some(local) => local,
                None if index == 0 => throttled,
                None => {
                    // The level's counter holds the siblings' waiting too.
                    let usage = level.usage.minus(before.usage);
                    throttled.scaled(used.0.min(usage.0), usage.0)
                }
            };
            let periods = level.nr_throttled.saturating_sub(before.nr_throttled);
            result = Some(Throttling { quota, periods, throttled });
        }
        self.started = true;
        result
    }
}
