//! Fair service: requests of one container never hold up those of another.
//!
//! Few threads read requests from the kernel, in the order in which they came, whoever they are of. Each container has a lane. A
//! thread that has read a request does it at once where its lane lets it [enter](Lanes::enter): it has fewer requests in work
//! than there are such threads, so that one of them always goes on to read, and was not slow of late. Else it
//! [queues](Lanes::queue) the request, and reads the next. What is queued is done by a pool of threads of its own, one
//! request of each lane in turn.
//!
//! A lane whose queue does not empty asks for more than its turns: from then on its requests are done by threads of their own, with
//! little weight against others for the CPU, and by none that reads requests. What a container keeps the daemon busy with so takes
//! less of what the others run on; one with a few readers at once never gets there.
//!
//! Way in and way out touch the lane alone: one lock-free counter, no allocation, nothing that containers share.

pub mod openers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::containers::lane::LANES;

/// A request that took longer was slow.
const SLOW: Duration = Duration::from_millis(1);
/// After a slow request, a lane is slow until so many were not.
const PROBATION: u32 = 16;
/// Threads of the pool that do anything.
const FOR_ALL: usize = 2;
/// And those that do nothing for slow lanes: were all others busy with such, some would still be served.
const FOR_QUICK: usize = 1;
/// And those for busy lanes: two, so that a slow request of one does not hold up the others.
const FOR_BUSY: usize = 2;
/// A lane is busy when so many requests in a row have left others behind in the queue.
const PATIENCE: u32 = 16;
/// The nice value of the threads for busy lanes: a tenth of the weight of others (sched(7)). With less, a thread that is not let run while it
/// holds a lock would hold up others for long.
const NICE: i32 = 10;

/// One container's. A cache line of its own, so that containers do not slow each other.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Lane {
    /// Requests in work.
    running: AtomicU32,
    /// Requests that are queued.
    waiting: AtomicU32,
    /// How many quick requests are still wanted from it; 0: it is quick.
    slow: AtomicU32,
    /// Requests in a row that were taken from its queue and left others there, up to [`PATIENCE`].
    backlog: AtomicU32,
}

impl Lane {
    fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) != 0
    }

    fn is_busy(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) >= PATIENCE
    }

    /// Who does what is queued in it, in the order in which they are woken.
    fn served_by(&self) -> &'static [Kind] {
        match (self.is_busy(), self.is_slow()) {
            (true, _) => &[Kind::Busy],
            (false, true) => &[Kind::All],
            (false, false) => &[Kind::All, Kind::Quick],
        }
    }
}

/// The queue of one lane.
#[derive(Debug)]
struct Queue<J> {
    jobs: VecDeque<J>,
    /// It stands in [`Waiting::turns`].
    has_turn: bool,
}

#[derive(Debug)]
struct Waiting<J> {
    /// Of the lanes that have jobs.
    queues: HashMap<u16, Queue<J>>,
    /// Lanes that may have a job done, whose turn comes first in front.
    turns: VecDeque<u16>,
    /// Threads of the pool that sleep, by [`Kind`]. Whoever wakes one counts it down, so that no two wake the same.
    idle: [usize; 3],
    closed: bool,
}

/// What a thread of the pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Quick,
    Busy,
}

/// All lanes, and what is queued in them; `J` is a queued request.
#[derive(Debug)]
pub struct Lanes<J> {
    lanes: Box<[Lane]>,
    /// Requests of a quick lane that may be in work at once.
    most: u32,
    waiting: Mutex<Waiting<J>>,
    /// By [`Kind`].
    wake: [Condvar; 3],
}

/// A request in work.
#[derive(Debug)]
pub struct Turn<'a, J> {
    lanes: &'a Lanes<J>,
    number: u16,
    since: Instant,
}

impl<J> Drop for Turn<'_, J> {
    fn drop(&mut self) {
        if self.lanes.leave(self.number, self.since.elapsed()) {
            let mut waiting = self.lanes.waiting.lock();
            if self.lanes.give_turn(&mut waiting, self.number) {
                self.lanes.wake_for(&mut waiting, self.number);
            }
        }
    }
}

impl<J> Lanes<J> {
    /// Lanes for requests that are read by so many threads.
    #[must_use]
    pub fn new(readers: usize) -> Self {
        let waiting = Waiting { queues: HashMap::new(), turns: VecDeque::new(), idle: [0; 3], closed: false };
        Self {
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            most: u32::try_from(readers.saturating_sub(1)).unwrap_or(u32::MAX).max(1),
            waiting: Mutex::new(waiting),
            wake: [const { Condvar::new() }; 3],
        }
    }

    fn lane(&self, number: u16) -> &Lane {
        &self.lanes[usize::from(number) % self.lanes.len()]
    }

    /// A turn for a thread that reads requests, if it may do this lane's at once.
    #[must_use]
    pub fn enter(&self, number: u16) -> Option<Turn<'_, J>> {
        let lane = self.lane(number);
        if lane.is_slow() || lane.is_busy() {
            return None;
        }
        self.start(number)
    }

    fn start(&self, number: u16) -> Option<Turn<'_, J>> {
        let lane = self.lane(number);
        let more = |running: u32| (running < self.most_of(lane)).then(|| running + 1);
        lane.running.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).ok()?;
        Some(Turn { lanes: self, number, since: Instant::now() })
    }

    /// A slow or busy lane has one thread.
    fn most_of(&self, lane: &Lane) -> u32 {
        if lane.is_slow() || lane.is_busy() { 1 } else { self.most }
    }

    /// Ends a turn; whether requests of its lane wait.
    ///
    /// This stores `running` and then loads `waiting`, [`Self::queue`] stores `waiting` and then loads `running`, all of it SeqCst:
    /// of the two loads one at least sees the other's store, so that no request is left behind for which nobody comes.
    fn leave(&self, number: u16, took: Duration) -> bool {
        let lane = self.lane(number);
        if took >= SLOW {
            lane.slow.store(PROBATION, Ordering::Relaxed);
        } else if lane.slow.load(Ordering::Relaxed) != 0 {
            let fewer = |slow: u32| slow.checked_sub(1);
            let _ = lane.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        }
        lane.running.fetch_sub(1, Ordering::SeqCst);
        lane.waiting.load(Ordering::SeqCst) > 0
    }

    /// Queues a request that could not be done at once.
    pub fn queue(&self, number: u16, job: J) {
        let lane = self.lane(number);
        let mut waiting = self.waiting.lock();
        let new = || Queue { jobs: VecDeque::new(), has_turn: false };
        waiting.queues.entry(number).or_insert_with(new).jobs.push_back(job);
        lane.waiting.fetch_add(1, Ordering::SeqCst);
        // Else whoever leaves it next sees what waits.
        if lane.running.load(Ordering::SeqCst) < self.most_of(lane) && self.give_turn(&mut waiting, number) {
            self.wake_for(&mut waiting, number);
        }
    }

    /// Puts a lane with jobs at the end of the turns; false where it stands there already.
    fn give_turn(&self, waiting: &mut Waiting<J>, number: u16) -> bool {
        let Some(queue) = waiting.queues.get_mut(&number) else { return false };
        if std::mem::replace(&mut queue.has_turn, true) {
            return false;
        }
        waiting.turns.push_back(number);
        true
    }

    /// Wakes a thread that may do a job of this lane, if one sleeps; those that do not sleep look by themselves.
    fn wake_for(&self, waiting: &mut Waiting<J>, number: u16) {
        let kinds = self.lane(number).served_by();
        if let Some(kind) = kinds.iter().find(|kind| waiting.idle[**kind as usize] > 0) {
            waiting.idle[*kind as usize] -= 1;
            self.wake[*kind as usize].notify_one();
        }
    }

    /// The next job of whose turn it is. Sleeps until there is one; `None` at the end.
    fn next(&self, kind: Kind) -> Option<(Turn<'_, J>, J)> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(found) = self.take(&mut waiting, kind) {
                return Some(found);
            }
            waiting.idle[kind as usize] += 1;
            self.wake[kind as usize].wait(&mut waiting); // never wakes by itself (parking_lot)
        }
    }

    fn take(&self, waiting: &mut Waiting<J>, kind: Kind) -> Option<(Turn<'_, J>, J)> {
        let is_mine = |number: &u16| self.lane(*number).served_by().contains(&kind);
        loop {
            let at = waiting.turns.iter().position(is_mine)?;
            let number = waiting.turns.remove(at)?;
            let queue = waiting.queues.get_mut(&number)?;
            queue.has_turn = false;
            // One that has enough in work gets its next turn from whoever leaves it.
            let Some(turn) = self.start(number) else { continue };
            let job = queue.jobs.pop_front()?;
            let lane = self.lane(number);
            lane.waiting.fetch_sub(1, Ordering::SeqCst);
            if queue.jobs.is_empty() {
                lane.backlog.store(0, Ordering::Relaxed);
                waiting.queues.remove(&number);
                return Some((turn, job));
            }
            let more = lane.backlog.load(Ordering::Relaxed).saturating_add(1).min(PATIENCE);
            lane.backlog.store(more, Ordering::Relaxed);
            if lane.running.load(Ordering::SeqCst) < self.most_of(lane) && self.give_turn(waiting, number) {
                self.wake_for(waiting, number);
            }
            return Some((turn, job));
        }
    }

    /// A thread of the pool.
    fn work(&self, kind: Kind, mut run: impl FnMut(J)) {
        while let Some((turn, job)) = self.next(kind) {
            run(job);
            let (number, took) = (turn.number, turn.since.elapsed());
            std::mem::forget(turn);
            if self.leave(number, took) {
                let mut waiting = self.waiting.lock();
                // This thread takes the front turn next, and leaves this one in its stead: nobody need be woken, unless the
                // turn is not for it.
                let mine = self.lane(number).served_by().contains(&kind);
                if self.give_turn(&mut waiting, number) && !mine {
                    self.wake_for(&mut waiting, number);
                }
            }
        }
    }

    /// Ends the pool. What is queued is dropped with the lanes.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        for wake in &self.wake {
            wake.notify_all();
        }
    }
}

impl<J: Send + 'static> Lanes<J> {
    /// Starts the pool; `run` does a job.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start_pool(self: &Arc<Self>, run: impl Fn(J) + Clone + Send + 'static) -> std::io::Result<()> {
        for (kind, count) in [(Kind::All, FOR_ALL), (Kind::Quick, FOR_QUICK), (Kind::Busy, FOR_BUSY)] {
            for _ in 0..count {
                let (lanes, run) = (Arc::clone(self), run.clone());
                std::thread::Builder::new().name("lanes".to_owned()).spawn(move || {
                    // Of this thread alone (setpriority(2), "C library/kernel differences"). Refused, it serves as well as the others.
                    if kind == Kind::Busy
                        && let Err(errno) = rustix::process::setpriority_process(None, NICE)
                    {
                        log::debug!("setpriority: {errno}");
                    }
                    lanes.work(kind, run);
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
