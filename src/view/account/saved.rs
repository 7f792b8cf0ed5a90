//! The account as bytes: how a later process goes on from where this one stopped.

use super::CpuAccount;
use super::Slot;
use super::throttling::{LevelCounters, ThrottlingMeter};
use super::usage::{Kind, UsageMeter};
use super::{CpuTimes, counter::Counter};
use crate::model::Usec;
use crate::model::saved::{Saved, put};

impl CpuAccount {
    /// Appends all that the next call of [`Self::advance`] needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.slots.len().saturating_mul(48));
        put(out, u64::from(self.started));
        put(out, self.monotonic.0);
        put(out, self.processes);
        put(out, self.slots.len() as u64);
        for Slot { times: CpuTimes { user, nice, system, steal, idle }, debt } in &self.slots {
            [user, nice, system, steal, idle, debt].into_iter().for_each(|time| put(out, time.0));
        }
        self.usage.encode(out);
        self.throttling.encode(out);
    }

    /// From what [`Self::encode`] gave; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut saved = Saved(bytes);
        let (started, monotonic, processes) = (saved.flag()?, Usec(saved.number()?), saved.number()?);
        let mut usec = || Some(Usec(saved.number()?));
        let count = usec()?.0;
        if count > bytes.len() as u64 / 48 {
            return None;
        }
        let mut slot = || {
            let (user, nice, system, steal, idle) = (usec()?, usec()?, usec()?, usec()?, usec()?);
            Some(Slot { times: CpuTimes { user, nice, system, steal, idle }, debt: usec()? })
        };
        let slots = (0..count).map(|_| slot()).collect::<Option<Vec<_>>>()?;
        let usage = UsageMeter::decode(&mut saved)?;
        let throttling = ThrottlingMeter::decode(&mut saved)?;
        let account = Self { started, monotonic, slots, usage, throttling, processes, ..Self::default() };
        saved.end(account)
    }
}

impl UsageMeter {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.kind as u64);
        put(out, self.percpu.len() as u64);
        self.percpu.iter().chain(&self.last).for_each(|counter| counter.encode(out));
        self.sampled.iter().for_each(|sum| put(out, sum.0));
    }

    fn decode(saved: &mut Saved<'_>) -> Option<Self> {
        let kind = [Kind::None, Kind::Total, Kind::PerCpu];
        let kind = *kind.get(usize::try_from(saved.number()?).ok()?)?;
        let percpu = (0..saved.count(16)?).map(|_| Counter::decode(saved)).collect::<Option<Vec<_>>>()?;
        let last = [Counter::decode(saved)?, Counter::decode(saved)?, Counter::decode(saved)?];
        let sampled = [Usec(saved.number()?), Usec(saved.number()?), Usec(saved.number()?)];
        Some(Self { kind, percpu, last, sampled })
    }
}

impl ThrottlingMeter {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.started));
        put(out, u64::from(self.local.is_some()));
        self.local.unwrap_or_default().encode(out);
        put(out, self.levels.len() as u64);
        for LevelCounters { nr_throttled, throttled, usage } in &self.levels {
            [nr_throttled, throttled, usage].into_iter().for_each(|counter| counter.encode(out));
        }
    }

    fn decode(saved: &mut Saved<'_>) -> Option<Self> {
        let (started, has_local, local) = (saved.flag()?, saved.flag()?, Counter::decode(saved)?);
        if !has_local && local != Counter::default() {
            return None;
        }
        let level = |saved: &mut Saved<'_>| {
            let (nr_throttled, throttled) = (Counter::decode(saved)?, Counter::decode(saved)?);
            Some(LevelCounters { nr_throttled, throttled, usage: Counter::decode(saved)? })
        };
        let levels = (0..saved.count(48)?).map(|_| level(saved)).collect::<Option<_>>()?;
        Some(Self { started, local: has_local.then_some(local), levels })
    }
}

#[cfg(test)]
mod tests;
