//! CPU time of one container over its life: from raw counters to the lines of `/proc/stat`.

use super::cpu::{ShownCpus, binding_quota};
use super::spread::{Split, pour};
use super::time::btime;
use crate::model::{
    CountersPolicy, CpuLevel, CpuReading, CpuUsage, HostStat, Policies, Quota, TaskCounts, TimeReading, Usec,
};

/// Use above the elapsed time that is made up for in the next interval, where no quota is set: counters and
/// clock are not read in the same instant.
const JITTER: Usec = Usec(10_000);
/// The longest period that the kernel accepts (`max_cfs_quota_period`, kernel/sched/core.c).
const LONGEST_PERIOD: Usec = Usec(1_000_000);

/// What one `cpu` line of `/proc/stat` is made of. All cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// User time without `nice`.
    pub user: Usec,
    /// User time at raised nice values.
    pub nice: Usec,
    /// System time.
    pub system: Usec,
    /// Time taken away by the quota.
    pub steal: Usec,
    /// The rest of the elapsed time.
    pub idle: Usec,
}

impl CpuTimes {
    /// `user + nice + system`.
    #[must_use]
    pub fn used(&self) -> Usec {
        self.user.plus(self.nice).plus(self.system)
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            user: self.user.plus(other.user),
            nice: self.nice.plus(other.nice),
            system: self.system.plus(other.system),
            steal: self.steal.plus(other.steal),
            idle: self.idle.plus(other.idle),
        }
    }
}

/// One CPU as the container sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    times: CpuTimes,
    /// Use beyond the elapsed time, not yet made up for by less idle time.
    debt: Usec,
}

/// Raw throttling counters of one level, as last seen.
#[derive(Clone, Copy, Debug, Default)]
struct LastLevel {
    nr_throttled: u64,
    throttled: Usec,
    usage: Usec,
}

/// Which kind of usage counters the last values came from: they cannot be compared with those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    None,
    Total,
    PerCpu,
}

/// The small state kept per container. Plain numbers; grows only while CPUs or levels are seen first.
///
/// Accumulators are kept by the number a CPU is shown under, so that no line goes down when, under compact
/// numbering, another CPU takes that number.
#[derive(Clone, Debug, Default)]
pub struct CpuAccount {
    started: bool,
    monotonic: Usec,
    slots: Vec<Slot>,
    kind: Kind,
    /// Last `cpuacct.usage_percpu`, by the kernel's CPU number.
    percpu: Vec<Usec>,
    /// Last user, system and nice counters.
    last: [Usec; 3],
    /// The same, summed over deltas: what decides the split.
    sampled: [Usec; 3],
    throttled_local: Option<Usec>,
    /// Last counters per level, the topmost first: the ancestors stay in place when the group vanishes.
    levels: Vec<LastLevel>,
    processes: u64,
    /// Working space of one call, kept to save allocations.
    loads: Vec<Usec>,
    own: Vec<Usec>,
    scratch: Vec<u64>,
}

/// User, nice and system time of one interval.
#[derive(Clone, Copy, Default)]
struct Used {
    user: Usec,
    nice: Usec,
    system: Usec,
}

impl Used {
    fn total(&self) -> Usec {
        self.user.plus(self.nice).plus(self.system)
    }
}

impl CpuAccount {
    /// Takes in what happened since the last call; the first call takes in all since the container's start.
    ///
    /// A reading that is not newer than the last one is ignored: threads may overtake each other. Counters
    /// that went down count as no use. Nothing that [`Self::cpu`] or [`Self::total`] give ever goes down.
    pub fn advance(&mut self, reading: &CpuReading, shown: &ShownCpus, time: &TimeReading) {
        let now = time.monotonic.usec();
        let elapsed = if self.started {
            if now <= self.monotonic {
                return;
            }
            now.minus(self.monotonic)
        } else {
            time.age()
        };
        let count = shown.count();
        if count == 0 {
            return;
        }
        let used = self.take_usage(&reading.usage, shown);
        let (throttled, level) = self.take_throttling(reading, used.total());
        self.lay_out(elapsed, used, shown);
        let room: Usec = self.loads.iter().map(|load| elapsed.minus(*load)).sum();
        let steal = match level {
            Some((periods, quota)) => {
                let per_period = quota.period.times(count as u64).minus(quota.quota);
                throttled.min(per_period.times(periods)).min(room)
            }
            None => Usec::ZERO,
        };
        self.settle(elapsed, used, steal, shown, level.map(|(_, quota)| quota));
        self.started = true;
        self.monotonic = now;
    }

    /// Fills `own` (use per shown CPU, summing up to `used`) and `loads` (the same with the debts).
    fn lay_out(&mut self, elapsed: Usec, used: Used, shown: &ShownCpus) {
        let _ = elapsed;
        let numbers = shown.numbers();
        let slots = numbers.last().map_or(0, |last| last + 1);
        if self.slots.len() < slots {
            self.slots.resize(slots, Slot::default());
        }
        self.loads.clear();
        for (number, own) in numbers.iter().zip(&self.own) {
            self.loads.push(own.plus(self.slots.get(number).map_or(Usec::ZERO, |slot| slot.debt)));
        }
        let placed: Usec = self.own.iter().copied().sum();
        pour(&mut self.loads, used.total().minus(placed), &mut self.scratch);
        for ((number, own), load) in numbers.iter().zip(&mut self.own).zip(&self.loads) {
            *own = load.minus(self.slots.get(number).map_or(Usec::ZERO, |slot| slot.debt));
        }
    }

    /// Books one interval: use, then steal, then the rest as idle.
    fn settle(&mut self, elapsed: Usec, used: Used, steal: Usec, shown: &ShownCpus, quota: Option<Quota>) {
        let slack = match quota {
            Some(quota) => quota.period.max(JITTER).min(LONGEST_PERIOD),
            None => JITTER,
        };
        let first = !self.started;
        let total = used.total();
        let mut user = Split::new(used.user, total);
        let mut nice = Split::new(used.nice, total.minus(used.user));
        // Steal levels the CPUs out: those with the most room lose the most.
        let numbers = shown.numbers();
        let mut filled = std::mem::take(&mut self.loads);
        for load in &mut filled {
            *load = (*load).min(elapsed);
        }
        let before: Vec<Usec> = filled.clone();
        pour(&mut filled, steal, &mut self.scratch);
        for (((number, own), load), before) in numbers.iter().zip(&self.own).zip(&filled).zip(&before) {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            let user = user.next(*own);
            let nice = nice.next(own.minus(user));
            let steal = load.minus(*before);
            let over = own.plus(slot.debt).minus(elapsed);
            slot.debt = if first { Usec::ZERO } else { over.min(slack) };
            slot.times = slot.times.plus(&CpuTimes {
                user,
                nice,
                system: own.minus(user).minus(nice),
                steal,
                idle: elapsed.minus(*load),
            });
        }
        self.loads = filled;
    }

    /// The use since the last call; fills `own` with what is known to belong to each shown CPU.
    fn take_usage(&mut self, usage: &CpuUsage, shown: &ShownCpus) -> Used {
        self.own.clear();
        self.own.resize(shown.count(), Usec::ZERO);
        match usage {
            CpuUsage::Unknown => Used::default(),
            CpuUsage::Total { user, system, nice } => {
                let [user, system, nice] = self.take_counters(Kind::Total, [*user, *system, *nice]);
                self.sampled[2] = self.sampled[2].plus(nice);
                let had = self.total();
                let all_user = had.user.plus(had.nice).plus(user);
                // nice is sampled by the tick, user is exact: nice may be ahead of it for a while.
                let nice = self.sampled[2].min(all_user).minus(had.nice).min(user);
                Used { user: user.minus(nice), nice, system }
            }
            CpuUsage::PerCpu { percpu, user, system } => {
                let fresh = self.kind == Kind::None || self.kind == Kind::PerCpu;
                let [user, system, _] =
                    self.take_counters(Kind::PerCpu, [user.usec(), system.usec(), Usec::ZERO]);
                if self.percpu.len() < percpu.len() {
                    self.percpu.resize(percpu.len(), Usec::ZERO);
                }
                let mut total = Usec::ZERO;
                for (cpu, (now, last)) in percpu.iter().zip(&mut self.percpu).enumerate() {
                    let now = now.usec();
                    let delta = if fresh { now.minus(*last) } else { Usec::ZERO };
                    *last = now;
                    total = total.plus(delta);
                    if let Some(own) = shown.physical.rank(cpu).and_then(|rank| self.own.get_mut(rank)) {
                        *own = delta;
                    }
                }
                self.sampled[0] = self.sampled[0].plus(user);
                self.sampled[1] = self.sampled[1].plus(system);
                self.split(total)
            }
        }
    }

    /// Splits an exact total by the sampled sums over the container's whole life: a short burst that no tick
    /// saw is counted all the same, and later samples correct the split.
    fn split(&self, total: Usec) -> Used {
        let [user, system, _] = self.sampled;
        let had = self.total();
        let (had_user, had_system) = (had.user.plus(had.nice), had.system);
        let whole = had_user.plus(had_system).plus(total);
        let samples = user.plus(system);
        let target = if samples == Usec::ZERO { whole } else { whole.scaled(user.0, samples.0) };
        let user = target.minus(had_user).min(total);
        Used { user, nice: Usec::ZERO, system: total.minus(user) }
    }

    /// Deltas of three counters; 0 where they belong to another kind than the last ones.
    fn take_counters(&mut self, kind: Kind, now: [Usec; 3]) -> [Usec; 3] {
        let comparable = self.kind == Kind::None || self.kind == kind;
        let mut delta = [Usec::ZERO; 3];
        if comparable {
            for ((delta, now), last) in delta.iter_mut().zip(now).zip(self.last) {
                *delta = now.minus(last);
            }
        }
        self.kind = kind;
        self.last = now;
        delta
    }

    /// Throttled time of the container since the last call, and how many periods the binding level ran out
    /// of quota in; `None` without a quota. `used` is the container's use in the same interval.
    fn take_throttling(&mut self, reading: &CpuReading, used: Usec) -> (Usec, Option<(u64, Quota)>) {
        let local = reading.throttled_local.map(|now| {
            let last = self.throttled_local.unwrap_or(if self.started { now } else { Usec::ZERO });
            self.throttled_local = Some(now);
            now.minus(last)
        });
        let binding = binding_quota(&reading.levels);
        if self.levels.len() < reading.levels.len() {
            // A level seen later than the first call has a history that is not of this interval.
            let known = self.levels.len();
            self.levels.resize(reading.levels.len(), LastLevel::default());
            if self.started {
                for (last, level) in self.levels.iter_mut().zip(reading.levels.iter().rev()).skip(known) {
                    *last = LastLevel::of(level);
                }
            }
        }
        let mut result = (Usec::ZERO, None);
        let depth = reading.levels.len();
        for (place, (last, level)) in self.levels.iter_mut().zip(reading.levels.iter().rev()).enumerate() {
            let index = depth - 1 - place;
            let before = std::mem::replace(last, LastLevel::of(level));
            let Some((_, quota)) = binding.filter(|(bound, _)| *bound == index) else { continue };
            let throttled = level.throttled.minus(before.throttled);
            let throttled = match local {
                Some(local) => local,
                None if index == 0 => throttled,
                None => {
                    let usage = level.usage.minus(before.usage);
                    throttled.scaled(used.0.min(usage.0), usage.0)
                }
            };
            result = (throttled, Some((level.nr_throttled.saturating_sub(before.nr_throttled), quota)));
        }
        result
    }

    /// The times of the CPU that is shown as `number`; 0 where it never was.
    #[must_use]
    pub fn cpu(&self, number: usize) -> CpuTimes {
        self.slots.get(number).map_or_else(CpuTimes::default, |slot| slot.times)
    }

    /// The sum over all CPUs that were ever shown.
    #[must_use]
    pub fn total(&self) -> CpuTimes {
        self.slots.iter().fold(CpuTimes::default(), |sum, slot| sum.plus(&slot.times))
    }

    /// Idle time over all CPUs that were ever shown: field 2 of `/proc/uptime`.
    #[must_use]
    pub fn idle(&self) -> Usec {
        self.total().idle
    }
}

impl LastLevel {
    fn of(level: &CpuLevel) -> Self {
        Self { nr_throttled: level.nr_throttled, throttled: level.throttled, usage: level.usage }
    }
}

/// What `/proc/stat` is made of.
#[derive(Clone, Copy, Debug)]
pub struct StatView<'a> {
    /// The container's CPU time.
    pub account: &'a CpuAccount,
    /// The CPUs that have a line.
    pub shown: &'a ShownCpus,
    /// `procs_running` and `procs_blocked`.
    pub tasks: TaskCounts,
    /// `processes`; never goes down.
    pub processes: u64,
    /// `btime`, seconds since 1970.
    pub btime: u64,
    /// `intr`, `ctxt` and `softirq`.
    pub counters: CountersPolicy,
}

/// The view of `/proc/stat` after [`CpuAccount::advance`].
pub fn stat_view<'a>(
    account: &'a mut CpuAccount,
    shown: &'a ShownCpus,
    tasks: &TaskCounts,
    time: &TimeReading,
    host: &HostStat,
    policies: &Policies,
) -> StatView<'a> {
    account.processes = account.processes.max(tasks.last_pid);
    StatView {
        processes: account.processes,
        btime: btime(time, host),
        tasks: *tasks,
        counters: policies.counters,
        account,
        shown,
    }
}
