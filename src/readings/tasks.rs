//! How many tasks a container has and what they do: a bounded walk, at most once per second for all its readers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cgroup::GroupSet;
use crate::cgroup::walk::WalkLimits;
use crate::host::{Host, Process};
use crate::model::{HostPid, Nsec, TaskCounts};
use crate::view::load::{scaled, spread_order};

/// Tasks that are listed. A list costs the kernel and us about 0.1 us per task, a look at one of them 10 to 20 us (in a
/// debug build on a busy machine 50 to 180 us).
const LISTED: WalkLimits = WalkLimits { directories: 64, threads: 4096 };
/// How long one count serves at least and at most: a thousand times what it took. Those that serve longer than a second are
/// made anew by the sampler every 5 s, so that no reader pays for them.
const SERVES_FOR: (Nsec, Nsec) = (Nsec(1_000_000_000), Nsec(15_000_000_000));

/// How many of the listed tasks are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// However long it takes.
    least: usize,
    /// However many there are.
    most: usize,
    /// What there is time for between the two.
    time: Duration,
}

impl Looks {
    /// In a request: its reader waits.
    pub(super) const REQUEST: Self = Self { least: 16, most: 512, time: Duration::from_millis(3) };
    /// By the load sampler: nobody waits, but all containers share its CPU time.
    pub(super) const SAMPLER: Self = Self { least: 16, most: 256, time: Duration::from_millis(50) };
}

/// One count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    at: Nsec,
    serves_for: Nsec,
    /// Scaled up to all tasks.
    counts: TaskCounts,
    /// Tasks in R and D, scaled but not rounded.
    pub(super) active: f64,
}

impl Count {
    /// Whether it took so long that readers had better not count.
    pub(super) fn is_dear(&self) -> bool {
        self.serves_for > SERVES_FOR.0
    }

    /// As files show it: whoever reads one is running, and is itself one of the container's.
    pub(super) fn shown(&self) -> TaskCounts {
        let running = self.counts.running.max(1);
        TaskCounts { running, total: self.counts.total.max(running), ..self.counts }
    }
}

/// The last count of one container.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    last: Mutex<Option<Count>>,
    walking: Mutex<()>,
    /// Walks so far: each that looks at a part begins elsewhere.
    turn: AtomicUsize,
    /// Which of a task's ids is the one in the container's pid namespace, counted from the host's; `None`
    /// where the init is not known: then the innermost.
    depth: OnceLock<Option<usize>>,
    /// The highest process id that a process before this one has seen.
    had: AtomicU64,
}

impl Tasks {
    /// The count at `now` (CLOCK_MONOTONIC), or one that is a second old at most, older where counting takes long.
    pub(super) fn get(&self, groups: &GroupSet, init: Option<HostPid>, host: &Host, now: Nsec) -> Count {
        let held = *self.last.lock();
        if let Some(count) = held {
            if now.minus(count.at) < count.serves_for {
                return count;
            }
            // One reader walks; the others are served what is there.
            let Some(_one) = self.walking.try_lock() else { return count };
            return self.walk(groups, init, host, now, Looks::REQUEST);
        }
        let _one = self.walking.lock();
        if let Some(count) = *self.last.lock() {
            return count;
        }
        self.walk(groups, init, host, now, Looks::REQUEST)
    }

    /// The highest process id so far was this one, as a process before this one has seen.
    pub(super) fn had(&self, last_pid: u64) {
        self.had.store(last_pid, Ordering::Relaxed);
    }

    /// The highest process id that was seen.
    pub(super) fn last_pid(&self) -> u64 {
        self.last.lock().map_or(0, |count| count.counts.last_pid).max(self.had.load(Ordering::Relaxed))
    }

    /// The last count is as good as one made at `now`.
    pub(super) fn confirm(&self, now: Nsec) {
        if let Some(count) = self.last.lock().as_mut() {
            count.at = count.at.max(now);
        }
    }

    /// Counts anew. No lock is held meanwhile.
    pub(super) fn walk(
        &self,
        groups: &GroupSet,
        init: Option<HostPid>,
        host: &Host,
        now: Nsec,
        looks: Looks,
    ) -> Count {
        let began = Instant::now();
        let depth = *self.depth.get_or_init(|| {
            let ids = Process::status_of(host, init?)?.nspid;
            ids.len().checked_sub(1)
        });
        let mut threads = Vec::new();
        let complete = groups.threads(LISTED, &mut threads);
        let listed = threads.len() as u64;
        let known = groups.task_count();
        let all = if complete { listed } else { known.unwrap_or(listed).max(listed) };
        // The newest task is looked at whatever else is: it has the highest id.
        if let Some(newest) = (0..threads.len()).max_by_key(|index| threads.get(*index)) {
            threads.swap(0, newest);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let rest = threads.get(1..).unwrap_or_default();
        let order = spread_order(rest.len(), turn).filter_map(|index| rest.get(index));
        let mut seen = Seen::default();
        for (looked, thread) in threads.first().into_iter().chain(order).enumerate() {
            if looked >= looks.most || looked >= looks.least && began.elapsed() >= looks.time {
                break;
            }
            seen.look(host, *thread, depth);
        }
        let up = |counted| scaled(counted, seen.looked, all);
        let mut last = self.last.lock();
        let before = last.unwrap_or_default();
        let counts = TaskCounts {
            last_pid: seen.last_pid.max(before.counts.last_pid).max(self.had.load(Ordering::Relaxed)),
            running: up(seen.running),
            blocked: up(seen.blocked),
            total: known.unwrap_or(all),
        };
        let part = if seen.looked == 0 { 1.0 } else { all as f64 / seen.looked as f64 };
        let took = Nsec(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let serves_for = took.times(1000).clamp(SERVES_FOR.0, SERVES_FOR.1);
        let count =
            Count { at: now, serves_for, counts, active: (seen.running + seen.blocked) as f64 * part };
        if now >= before.at {
            *last = Some(count);
        }
        count
    }
}

/// What a walk has seen so far.
#[derive(Default)]
struct Seen {
    looked: u64,
    running: u64,
    blocked: u64,
    last_pid: u64,
}

impl Seen {
    fn look(&mut self, host: &Host, thread: HostPid, depth: Option<usize>) {
        self.looked += 1;
        // one that has ended meanwhile does nothing
        let Some(status) = Process::status_of(host, thread) else { return };
        match status.state {
            b'R' => self.running += 1,
            // Whoever reads this very file sleeps in our request, in state D once any reader was interrupted.
            b'D' if !Process::waits_for_fuse(host, thread) => self.blocked += 1,
            _ => {}
        }
        let id = depth.and_then(|depth| status.nspid.get(depth)).or(status.nspid.last());
        self.last_pid = self.last_pid.max(id.copied().unwrap_or_default());
    }
}
