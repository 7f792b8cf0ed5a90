//! The load of a container: `loadavg`, and the samples that it is made of.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::sampler::LoadSampler;
use super::subject::Subject;
use super::tasks::{Count, Looks, Tasks};
use crate::cgroup::GroupSet;
use crate::host::{Host, HostError};
use crate::model::{HostPid, Nsec};
use crate::render;
use crate::store::{Kind, Record};
use crate::view::load::{SAMPLE_EVERY, SAMPLED_FOR};
use crate::view::{KeptLoad, Load, LoadSample, LoadView};

/// Samples in a row for which a container that used no CPU time is taken to be as it was.
const STILL: u32 = 6;

/// `/proc/loadavg`.
pub(super) fn loadavg(subject: &Subject, host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::loadavg(&view(subject, host)?, out);
    Ok(())
}

/// What it shows now.
pub(super) fn view(subject: &Subject, host: &Host) -> Result<LoadView, HostError> {
    let clocks = host.clocks();
    let age = clocks.boottime.minus(subject.start);
    Meter::view(&subject.meter, host, age, clocks.monotonic)
}

/// What is counted of one container. Apart from the container's [`Subject`], so that the sampler can hold it weakly.
#[derive(Debug)]
pub(super) struct Meter {
    groups: Arc<GroupSet>,
    init: Option<HostPid>,
    tasks: Tasks,
    /// The load, and how many samples in a row were taken without a look; `None` until it is read. Held for
    /// arithmetic and a few reads of counters, never for a walk.
    load: Mutex<Option<(Load, u32)>>,
    /// CLOCK_MONOTONIC of the last read of `loadavg`, or of a count that took long.
    read_at: AtomicU64,
    queued: AtomicBool,
    sampler: OnceLock<Arc<LoadSampler>>,
    /// Where it is kept for a later process.
    record: OnceLock<Arc<Record>>,
    /// The load is that of a process before this one, and nobody has read it since.
    resumed: AtomicBool,
}

impl Meter {
    pub(super) fn new(groups: Arc<GroupSet>, init: Option<HostPid>) -> Self {
        Self {
            groups,
            init,
            tasks: Tasks::default(),
            load: Mutex::new(None),
            read_at: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            sampler: OnceLock::new(),
            record: OnceLock::new(),
            resumed: AtomicBool::new(false),
        }
    }

    /// Has it sampled by `sampler` while it is read. The first one stays.
    pub(super) fn sampled_by(&self, sampler: Arc<LoadSampler>) {
        let _ = self.sampler.set(sampler); // a second one would sample twice
    }

    /// Goes on from what a process before this one kept in `record`, and keeps it there.
    pub(super) fn kept_in(&self, record: Arc<Record>, kept: KeptLoad) {
        let _ = self.record.set(record); // the first one stays
        self.tasks.had(kept.last_pid);
        self.resumed.store(kept.load.is_some(), Ordering::Relaxed);
        *self.load.lock() = kept.load.map(|load| (load, 0));
    }

    /// Called under the lock of `load`.
    fn keep(&self, load: &Load, last_pid: u64) {
        if let Some(record) = self.record.get() {
            record.save_with(Kind::Load, |out| KeptLoad { load: Some(*load), last_pid }.encode(out));
        }
    }

    /// Its tasks: a count that is a second old at most, older where counting takes long: the sampler counts then.
    pub(super) fn tasks(this: &Arc<Self>, host: &Host, now: Nsec) -> Count {
        let count = this.tasks.get(&this.groups, this.init, host, now);
        if count.is_dear() {
            this.queue(now);
        }
        count
    }

    /// Has it sampled from now on, where there is a sampler.
    fn queue(self: &Arc<Self>, now: Nsec) {
        let Some(sampler) = self.sampler.get() else { return };
        self.read_at.store(now.0, Ordering::SeqCst);
        if !self.queued.swap(true, Ordering::SeqCst) {
            sampler.add(Arc::downgrade(self), now);
        }
    }

    /// What a reader sees at `now` (CLOCK_MONOTONIC) of a container that is `age` old.
    fn view(this: &Arc<Self>, host: &Host, age: Nsec, now: Nsec) -> Result<LoadView, HostError> {
        let cpus = host.online()?.len();
        let count = Self::tasks(this, host, now);
        let averages = {
            let mut held = this.load.lock();
            let first = held.is_none();
            let (load, still) = held.get_or_insert_with(|| (Load::of_age(age, now), 0));
            // The reader takes the sample where there is none yet, or the sampler is late.
            if first || now.minus(load.at()) > SAMPLE_EVERY.times(2) {
                let sample = LoadSample { active: count.active, demand: this.groups.cpu_demand(), cpus };
                *still = 0;
                // Nobody sampled between the two processes, which is bridged as the time before a first sample is.
                if first || this.resumed.load(Ordering::Relaxed) {
                    load.take_first(sample, now);
                } else {
                    load.take(sample, now);
                }
            }
            this.resumed.store(false, Ordering::Relaxed);
            this.keep(load, count.shown().last_pid);
            load.averages()
        };
        this.queue(now);
        let tasks = count.shown();
        Ok(LoadView { averages, running: tasks.running, total: tasks.total, last_pid: tasks.last_pid })
    }

    /// Takes a sample; false where it needs none any more: the container is gone, or nobody has read its load for long.
    pub(super) fn sample(&self, host: &Host) -> bool {
        let now = host.clocks().monotonic;
        let is_read = || now.0.saturating_sub(self.read_at.load(Ordering::SeqCst)) <= SAMPLED_FOR.0;
        self.groups.check_gone();
        if self.groups.is_gone() || !is_read() {
            self.queued.store(false, Ordering::SeqCst);
            // A reader that came in between found it queued and left it at that.
            return !self.groups.is_gone() && is_read() && !self.queued.swap(true, Ordering::SeqCst);
        }
        // Before the look: if it says the same the next time, nothing can have changed since that look.
        let demand = self.groups.cpu_demand();
        let as_before = {
            let mut held = self.load.lock();
            held.as_mut().and_then(|(load, still)| {
                *still = if load.slept_since(demand) && *still < STILL { *still + 1 } else { 0 };
                (*still > 0).then_some(load.last().active)
            })
        };
        if as_before.is_some() {
            self.tasks.confirm(now);
        }
        let active = as_before
            .unwrap_or_else(|| self.tasks.walk(&self.groups, self.init, host, now, Looks::SAMPLER).active);
        let cpus = host.online().map_or(1, |online| online.len());
        if let Some((load, _)) = self.load.lock().as_mut() {
            load.take(LoadSample { active, demand, cpus }, now);
            self.keep(load, self.tasks.last_pid());
        }
        true
    }
}

#[cfg(test)]
mod tests;
