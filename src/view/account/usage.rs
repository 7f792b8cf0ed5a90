//! What the container used since the last reading: deltas of raw counters, and their split.

use super::CpuTimes;
use super::counter::Counter;
use crate::model::{CpuUsage, Usec};
use crate::view::ShownCpus;

/// User, nice and system time of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Without `nice`.
    pub(super) user: Usec,
    pub(super) nice: Usec,
    pub(super) system: Usec,
}

impl Used {
    pub(super) fn total(&self) -> Usec {
        self.user.plus(self.nice).plus(self.system)
    }
}

/// Which kind of counters the last values came from: they cannot be compared with those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    None,
    Total,
    PerCpu,
}

/// The last raw usage counters.
#[derive(Clone, Debug, Default)]
pub(super) struct UsageMeter {
    pub(super) kind: Kind,
    /// `cpuacct.usage_percpu`, by the kernel's CPU number.
    pub(super) percpu: Vec<Counter>,
    /// user, system, nice.
    pub(super) last: [Counter; 3],
    /// The same, summed over deltas: what decides the split.
    pub(super) sampled: [Usec; 3],
}

impl UsageMeter {
    /// The use since the last call, where `had` was used before. `own` gets one entry per shown CPU: what is
    /// known to have run there.
    pub(super) fn take(
        &mut self,
        usage: &CpuUsage,
        had: &CpuTimes,
        shown: &ShownCpus,
        own: &mut Vec<Usec>,
    ) -> Used {
        own.clear();
        own.resize(shown.count(), Usec::ZERO);
        match usage {
            CpuUsage::Unknown => Used::default(),
            CpuUsage::Total { user, system, nice } => {
                let [user, system, nice] = self.deltas(Kind::Total, [*user, *system, *nice]);
                self.sampled[2] = self.sampled[2].plus(nice);
                // nice is sampled by the tick, user is exact: nice may run ahead of it for a while.
                let nice = self.sampled[2].minus(had.nice).min(user);
                Used { user: user.minus(nice), nice, system }
            }
            CpuUsage::PerCpu { percpu, user, system } => {
                let comparable = self.comparable(Kind::PerCpu);
                let sampled = [user.usec(), system.usec(), Usec::ZERO];
                let [user, system, _] = self.deltas(Kind::PerCpu, sampled);
                self.sampled[0] = self.sampled[0].plus(user);
                self.sampled[1] = self.sampled[1].plus(system);
                if self.percpu.len() < percpu.len() {
                    self.percpu.resize(percpu.len(), Counter::default());
                }
                let mut total = Usec::ZERO;
                let mut rank = 0;
                for (cpu, (now, last)) in percpu.iter().zip(&mut self.percpu).enumerate() {
                    // Both in whole microseconds before they are subtracted, so that no fraction is lost.
                    let delta = Usec(last.delta(now.usec().0));
                    let delta = if comparable { delta } else { Usec::ZERO };
                    total = total.plus(delta);
                    if shown.physical.contains(cpu) {
                        if let Some(own) = own.get_mut(rank) {
                            *own = delta;
                        }
                        rank += 1;
                    }
                }
                self.split(total, had)
            }
        }
    }

    /// Splits an exact total by the sampled sums over the container's whole life: a short burst that no tick
    /// saw is counted all the same, and later samples correct the split.
    fn split(&self, total: Usec, had: &CpuTimes) -> Used {
        let [user, system, _] = self.sampled;
        let had_user = had.user.plus(had.nice);
        let whole = had_user.plus(had.system).plus(total);
        let samples = user.plus(system);
        let target = if samples == Usec::ZERO { whole } else { whole.scaled(user.0, samples.0) };
        let user = target.minus(had_user).min(total);
        Used { user, nice: Usec::ZERO, system: total.minus(user) }
    }

    fn comparable(&self, kind: Kind) -> bool {
        self.kind == Kind::None || self.kind == kind
    }

    /// Deltas of three counters; 0 where they belong to another kind than the last ones.
    fn deltas(&mut self, kind: Kind, now: [Usec; 3]) -> [Usec; 3] {
        let mut deltas = [Usec::ZERO; 3];
        if self.comparable(kind) {
            for ((delta, now), last) in deltas.iter_mut().zip(now).zip(&mut self.last) {
                *delta = Usec(last.delta(now.0));
            }
        } else {
            self.last = now.map(|now| Counter::from(now.0));
        }
        self.kind = kind;
        deltas
    }
}
