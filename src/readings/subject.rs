//! One container as the readers see it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::tasks::Tasks;
use crate::cgroup::GroupSet;
use crate::host::{Clocks, Host, Process};
use crate::model::{HostPid, Nsec, TaskCounts, TimeReading, TimensOffset};
use crate::view::CpuAccount;

/// One container: its groups, its clocks, and the little that must be remembered between two reads.
#[derive(Debug)]
pub struct Subject {
    /// Its groups in all hierarchies.
    pub groups: Arc<GroupSet>,
    /// CLOCK_BOOTTIME of the host at its start.
    pub start: Nsec,
    /// The offset of its time namespace; `None` where it lives in the host's.
    pub timens: Option<TimensOffset>,
    /// Its init, as far as known.
    pub init: Option<HostPid>,
    /// CPU time shown so far: so that no counter ever goes down.
    pub(super) account: Mutex<CpuAccount>,
    tasks: Tasks,
}

impl Subject {
    /// A container that nothing has been read of yet: its first `stat` counts from `start`.
    #[must_use]
    pub fn new(
        groups: Arc<GroupSet>,
        start: Nsec,
        timens: Option<TimensOffset>,
        init: Option<HostPid>,
    ) -> Self {
        Self {
            groups,
            start,
            timens,
            init,
            account: Mutex::new(CpuAccount::default()),
            tasks: Tasks::default(),
        }
    }

    /// A container whose start and time namespace are those of its init. Where the init's start cannot be
    /// read the container starts now.
    #[must_use]
    pub fn of_init(groups: Arc<GroupSet>, init: HostPid, host: &Host) -> Self {
        let process = host.process(init);
        let start = process.as_ref().and_then(Process::start).unwrap_or_else(|| host.clocks().boottime);
        let timens = process.as_ref().and_then(|process| process.timens(host));
        Self::new(groups, start, timens, Some(init))
    }

    /// The clocks as its view needs them.
    #[must_use]
    pub fn time(&self, clocks: Clocks) -> TimeReading {
        TimeReading {
            boottime: clocks.boottime,
            monotonic: clocks.monotonic,
            realtime: clocks.realtime,
            start: self.start,
            timens: self.timens,
        }
    }

    /// Its tasks, counted at most once per second.
    #[must_use]
    pub fn tasks(&self, host: &Host, now: Nsec) -> TaskCounts {
        self.tasks.get(&self.groups, self.init, host, now)
    }
}
