//! The thread that samples the load of those containers whose `loadavg` is read.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

use super::load::Meter;
use crate::host::Host;
use crate::model::Nsec;
use crate::view::Budget;
use crate::view::load::SAMPLE_EVERY;

/// A sample may come this much early, so that one waking serves many containers.
const EARLY: Nsec = Nsec(500_000_000);

/// The containers that are sampled, those that wait longest first. It holds none of them alive.
#[derive(Debug, Default)]
pub struct LoadSampler {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// When each is due, by CLOCK_MONOTONIC. Whoever is added is due last.
    waiting: VecDeque<(Nsec, Weak<Meter>)>,
    stopped: bool,
}

/// What there is to do.
enum Next {
    Sample(Arc<Meter>),
    In(Nsec),
    Nothing,
}

impl Queue {
    fn add(&mut self, meter: Weak<Meter>, now: Nsec) {
        self.waiting.push_back((now.plus(SAMPLE_EVERY), meter));
    }

    /// Takes the first that is due out of the queue, unless the thread has to `rest` before. Those that have ended are
    /// dropped.
    fn next(&mut self, now: Nsec, rest: Nsec) -> Next {
        while let Some((due, meter)) = self.waiting.front() {
            let due = *due;
            match meter.upgrade() {
                None => {}
                Some(_) if due > now.plus(EARLY) => return Next::In(due.minus(now).max(rest)),
                Some(_) if rest > Nsec::ZERO => return Next::In(rest),
                Some(meter) => {
                    self.waiting.pop_front();
                    return Next::Sample(meter);
                }
            }
            self.waiting.pop_front();
        }
        Next::Nothing
    }
}

impl LoadSampler {
    /// Adds a container that is due one interval after `now`.
    pub(super) fn add(&self, meter: Weak<Meter>, now: Nsec) {
        let mut queue = self.queue.lock();
        queue.add(meter, now);
        if queue.waiting.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// How many containers are sampled now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts the thread. It ends with what is returned.
    pub fn start(self: &Arc<Self>, host: &Arc<Host>) -> std::io::Result<Sampling> {
        let (sampler, host) = (Arc::clone(self), Arc::clone(host));
        let thread =
            std::thread::Builder::new().name("load-sampler".to_owned()).spawn(move || sampler.run(&host))?;
        Ok(Sampling { sampler: Arc::clone(self), thread: Some(thread) })
    }

    fn run(&self, host: &Host) {
        let mut budget = Budget::new(host.clocks().monotonic, thread_time());
        while let Some(meter) = self.next(host, &mut budget) {
            self.sample(&meter, host);
        }
    }

    /// No lock is held here.
    fn sample(&self, meter: &Arc<Meter>, host: &Host) {
        if meter.sample(host) {
            self.queue.lock().add(Arc::downgrade(meter), host.clocks().monotonic);
        }
    }

    /// Samples all that are due now, as the thread does but without rest: for tests, whose clock is their own. How many.
    pub fn sample_due(&self, host: &Host) -> usize {
        let now = host.clocks().monotonic;
        let mut sampled = 0;
        loop {
            let next = self.queue.lock().next(now, Nsec::ZERO);
            let Next::Sample(meter) = next else { return sampled };
            self.sample(&meter, host);
            sampled += 1;
        }
    }

    /// Waits for the next that is due, and until the budget allows for it; `None` when the thread shall end.
    fn next(&self, host: &Host, budget: &mut Budget) -> Option<Arc<Meter>> {
        let mut queue = self.queue.lock();
        while !queue.stopped {
            let now = host.clocks().monotonic;
            let rest = budget.rest(now, thread_time());
            match queue.next(now, rest) {
                Next::Sample(meter) => return Some(meter),
                Next::In(wait) => {
                    self.wake.wait_for(&mut queue, Duration::from_nanos(wait.0));
                }
                Next::Nothing => self.wake.wait(&mut queue),
            }
        }
        None
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Sampling {
    sampler: Arc<LoadSampler>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.sampler.queue.lock().stopped = true;
        self.sampler.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the load sampler ended badly");
        }
    }
}

/// CPU time of the calling thread.
fn thread_time() -> Nsec {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Nsec(u64::try_from(now.tv_sec).unwrap_or_default()).times(1_000_000_000);
    seconds.plus(Nsec(u64::try_from(now.tv_nsec).unwrap_or_default()))
}
