//! How long the quota kept the container from running since the last reading.

use super::counter::Counter;
use crate::model::{CpuReading, Quota, Usec};
use crate::view::binding_quota;

/// The counters of one level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LevelCounters {
    pub(super) nr_throttled: Counter,
    pub(super) throttled: Counter,
    pub(super) usage: Counter,
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
    pub(super) started: bool,
    pub(super) local: Option<Counter>,
    /// The topmost level first: ancestors keep their place when the group below them vanishes.
    pub(super) levels: Vec<LevelCounters>,
}

impl ThrottlingMeter {
    /// The throttling since the last call; `None` without a quota. `used` is the container's use in the same
    /// interval.
    pub(super) fn take(&mut self, reading: &CpuReading, used: Usec) -> Option<Throttling> {
        // What a counter that appears later counted before is not of this interval.
        let started = self.started;
        let fresh = |now: u64| if started { Counter::from(now) } else { Counter::default() };
        let local = reading
            .throttled_local
            .map(|Usec(now)| Usec(self.local.get_or_insert_with(|| fresh(now)).delta(now)));
        let binding = binding_quota(&reading.levels);
        let depth = reading.levels.len();
        let mut result = None;
        for (place, level) in reading.levels.iter().rev().enumerate() {
            if place == self.levels.len() {
                self.levels.push(LevelCounters {
                    nr_throttled: fresh(level.nr_throttled),
                    throttled: fresh(level.throttled.0),
                    usage: fresh(level.usage.0),
                });
            }
            let Some(last) = self.levels.get_mut(place) else { continue };
            let periods = last.nr_throttled.delta(level.nr_throttled);
            let throttled = Usec(last.throttled.delta(level.throttled.0));
            let usage = Usec(last.usage.delta(level.usage.0));
            let index = depth - 1 - place;
            let Some((_, quota)) = binding.filter(|(bound, _)| *bound == index) else { continue };
            let throttled = match local {
                Some(local) => local,
                None if index == 0 && !level.is_ancestor => throttled,
                // The level's counter holds the siblings' waiting too.
                None => throttled.scaled(used.0.min(usage.0), usage.0),
            };
            result = Some(Throttling { quota, periods, throttled });
        }
        self.started = true;
        result
    }
}
