//! How many tasks a container has and what they do: a bounded walk, at most once per second.

use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::cgroup::GroupSet;
use crate::cgroup::walk::WalkLimits;
use crate::host::{Host, Process};
use crate::model::{HostPid, Nsec, TaskCounts};

/// Larger containers are counted in part. In a debug build on a busy machine of 2 CPUs a walk over 512 threads
/// took 25 to 90 ms: only one read per second pays for it.
const LIMITS: WalkLimits = WalkLimits { directories: 64, threads: 512 };
/// How long one count serves.
const SERVES_FOR: Nsec = Nsec(1_000_000_000);

/// The last count of one container.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    last: Mutex<Option<(Nsec, TaskCounts)>>,
    walking: Mutex<()>,
    /// Which of a task's ids is the one in the container's pid namespace, counted from the host's; `None`
    /// where the init is not known: then the innermost.
    depth: OnceLock<Option<usize>>,
}

impl Tasks {
    /// The counts at `now` (CLOCK_MONOTONIC), or those of less than a second before.
    pub(super) fn get(&self, groups: &GroupSet, init: Option<HostPid>, host: &Host, now: Nsec) -> TaskCounts {
        let held = *self.last.lock();
        if let Some((at, counts)) = held {
            if now.minus(at) < SERVES_FOR {
                return counts;
            }
            // One reader walks; the others are served what is there.
            let Some(_one) = self.walking.try_lock() else { return counts };
            return self.refresh(groups, init, host, now);
        }
        let _one = self.walking.lock();
        if let Some((_, counts)) = *self.last.lock() {
            return counts;
        }
        self.refresh(groups, init, host, now)
    }

    fn refresh(&self, groups: &GroupSet, init: Option<HostPid>, host: &Host, now: Nsec) -> TaskCounts {
        let depth = *self.depth.get_or_init(|| {
            let ids = Process::status_of(host, init?)?.nspid;
            ids.len().checked_sub(1)
        });
        let mut threads = Vec::new();
        groups.threads(LIMITS, &mut threads);
        let mut counts = TaskCounts::default();
        for thread in threads {
            // one that has ended meanwhile counts for nothing
            let Some(status) = Process::status_of(host, thread) else { continue };
            counts.total += 1;
            match status.state {
                b'R' => counts.running += 1,
                // Whoever reads this very file sleeps in our request, in state D once any reader was interrupted.
                b'D' if !Process::waits_for_fuse(host, thread) => counts.blocked += 1,
                _ => {}
            }
            let id = depth.and_then(|depth| status.nspid.get(depth)).or(status.nspid.last());
            counts.last_pid = counts.last_pid.max(id.copied().unwrap_or_default());
        }
        // Whoever reads the file is running, and is itself one of the container's.
        counts.running = counts.running.max(1);
        counts.total = counts.total.max(1);
        let mut last = self.last.lock();
        counts.last_pid = counts.last_pid.max(last.map_or(0, |(_, before)| before.last_pid));
        *last = Some((now, counts));
        counts
    }
}
