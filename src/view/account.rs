//! CPU time of one container over its life: from raw counters to the numbers of `/proc/stat`.

pub(super) mod counter;
mod saved;
mod throttling;
mod usage;

use super::cpu::ShownCpus;
use super::spread::{Split, pour};
use crate::model::{CpuReading, CpuSet, TaskCounts, TimeReading, Usec};
use throttling::ThrottlingMeter;
use usage::{UsageMeter, Used};

/// Use above the elapsed time that the next intervals make up for, where no quota is set: counters and clock
/// are not read in the same instant.
const JITTER: Usec = Usec(10_000);
/// The longest period that the kernel accepts (`max_cfs_quota_period`, kernel/sched/core.c). A quota may be
/// used up at the beginning of its period, faster than the shown CPUs could.
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
    /// Use beyond the elapsed time that less idle time has not made up for yet.
    debt: Usec,
}

/// The small state kept per container: plain numbers, which grow in count only when a CPU or a level is seen
/// for the first time.
///
/// Accumulators are kept by the number that a CPU is shown under (the kernel's own unless the numbering is
/// compact), so that no line goes down when another CPU takes over a number.
#[derive(Clone, Debug, Default)]
pub struct CpuAccount {
    started: bool,
    /// CLOCK_MONOTONIC of the last reading.
    monotonic: Usec,
    slots: Vec<Slot>,
    usage: UsageMeter,
    throttling: ThrottlingMeter,
    processes: u64,
    work: Work,
}

/// Working space of one call, kept to save allocations. One entry per shown CPU.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Use of this interval.
    own: Vec<Usec>,
    /// The same with the debt.
    busy: Vec<Usec>,
    /// The same with steal.
    filled: Vec<Usec>,
    scratch: Vec<u64>,
}

impl CpuAccount {
    /// Takes in what happened since the last call; the first call takes in all since the container's start.
    ///
    /// A reading that is not newer than the last one is ignored, since threads may overtake each other, and
    /// so is one without any CPU. Counters that went down count as no use. Nothing that [`Self::cpu`],
    /// [`Self::total`] and [`Self::idle`] give ever goes down.
    pub fn advance(&mut self, reading: &CpuReading, shown: &ShownCpus, time: &TimeReading) {
        let now = time.monotonic.usec();
        if (self.started && now <= self.monotonic) || shown.count() == 0 {
            return;
        }
        // CLOCK_MONOTONIC: neither suspend nor a step of the clock is idle time.
        let elapsed = if self.started { now.minus(self.monotonic) } else { time.age() };
        let had = self.total();
        let used = self.usage.take(&reading.usage, &had, shown, &mut self.work.own);
        let throttling = self.throttling.take(reading, used.total());
        let numbers = shown.numbers();
        if let Some(last) = numbers.last().filter(|last| *last >= self.slots.len()) {
            self.slots.resize(last + 1, Slot::default());
        }
        self.place_use(used, &numbers);
        for busy in &mut self.work.busy {
            *busy = (*busy).min(elapsed);
        }
        let room: Usec = self.work.busy.iter().map(|busy| elapsed.minus(*busy)).sum();
        let steal = throttling.map_or(Usec::ZERO, |throttling| throttling.most(shown.count()).min(room));
        let slack = match throttling {
            _ if !self.started => Usec::ZERO,
            Some(throttling) => throttling.quota.period.max(JITTER).min(LONGEST_PERIOD),
            None => JITTER,
        };
        self.book(elapsed, used, steal, slack, &numbers);
        self.started = true;
        self.monotonic = now;
    }

    /// Adds the use that belongs to no shown CPU (v1: it ran elsewhere; v2: all of it) to those with the most
    /// room, so that none is above the elapsed time while others idle.
    fn place_use(&mut self, used: Used, numbers: &CpuSet) {
        let Self { slots, work, .. } = self;
        let debts = || numbers.iter().map(|number| slots.get(number).map_or(Usec::ZERO, |slot| slot.debt));
        let placed: Usec = work.own.iter().copied().sum();
        work.busy.clear();
        work.busy.extend(work.own.iter().zip(debts()).map(|(own, debt)| own.plus(debt)));
        pour(&mut work.busy, used.total().minus(placed), &mut work.scratch);
        for ((own, busy), debt) in work.own.iter_mut().zip(&work.busy).zip(debts()) {
            *own = busy.minus(debt);
        }
    }

    /// Books one interval: use, then steal, then the rest as idle.
    fn book(&mut self, elapsed: Usec, used: Used, steal: Usec, slack: Usec, numbers: &CpuSet) {
        let Work { own, busy, filled, scratch } = &mut self.work;
        filled.clone_from(busy);
        pour(filled, steal, scratch);
        let total = used.total();
        let mut user = Split::new(used.user, total);
        let mut nice = Split::new(used.nice, total.minus(used.user));
        for (((number, own), busy), filled) in numbers.iter().zip(own).zip(busy).zip(filled) {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            let user = user.next(*own);
            let nice = nice.next(own.minus(user));
            slot.debt = own.plus(slot.debt).minus(elapsed).min(slack);
            slot.times = slot.times.plus(&CpuTimes {
                user,
                nice,
                system: own.minus(user).minus(nice),
                steal: filled.minus(*busy),
                idle: elapsed.minus(*filled),
            });
        }
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

    /// `processes` of `/proc/stat`: the highest number of forks that was ever seen.
    pub(super) fn processes(&mut self, tasks: &TaskCounts) -> u64 {
        self.processes = self.processes.max(tasks.last_pid);
        self.processes
    }
}

#[cfg(test)]
mod tests;
