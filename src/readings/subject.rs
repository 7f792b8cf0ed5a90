//! One container as the readers see it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::load::Meter;
use super::reader::ReaderTime;
use super::sampler::LoadSampler;
use crate::cgroup::GroupSet;
use crate::host::{Clocks, Host, Process};
use crate::model::{HostPid, Nsec, TaskCounts, TimeNamespace, TimeReading};
use crate::store::{Kind, Record};
use crate::view::{CounterAccount, CpuAccount, DiskAccount, Identity, KeptLoad};

/// One container: its groups, its clocks, and the little that must be remembered between two reads.
#[derive(Debug)]
pub struct Subject {
    /// Its groups in all hierarchies.
    pub groups: Arc<GroupSet>,
    /// CLOCK_BOOTTIME of the host at its start.
    pub start: Nsec,
    /// The time namespace of its init; `None` where that lives in the host's.
    pub timens: Option<TimeNamespace>,
    /// Its init, as far as known.
    pub init: Option<HostPid>,
    /// CPU time shown so far: so that no counter ever goes down.
    account: Mutex<CpuAccount>,
    /// Likewise the event counters of its memory.
    counters: Mutex<CounterAccount>,
    /// Block I/O shown so far, likewise.
    disks: Mutex<DiskAccount>,
    pub(super) meter: Arc<Meter>,
    /// Where what was shown is kept for a later process.
    record: Option<Arc<Record>>,
}

type Encode<T> = fn(&T, &mut Vec<u8>);

/// One of the accounts, locked. It is kept when this is dropped, still under the lock, and that is before anybody is answered:
/// no process shows less than the one before has shown.
pub(super) struct Held<'a, T> {
    account: MutexGuard<'a, T>,
    record: Option<&'a Record>,
    kind: Kind,
    encode: Encode<T>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.account
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.account
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if let Some(record) = self.record {
            record.save_with(self.kind, |out| (self.encode)(&self.account, out));
        }
    }
}

impl Subject {
    /// A container that nothing has been read of yet: its first `stat` counts from `start`.
    #[must_use]
    pub fn new(
        groups: Arc<GroupSet>,
        start: Nsec,
        timens: Option<TimeNamespace>,
        init: Option<HostPid>,
    ) -> Self {
        let meter = Arc::new(Meter::new(Arc::clone(&groups), init));
        Self {
            groups,
            start,
            timens,
            init,
            account: Mutex::new(CpuAccount::default()),
            counters: Mutex::default(),
            disks: Mutex::new(DiskAccount::default()),
            meter,
            record: None,
        }
    }

    /// Goes on from what is kept in `record`, and keeps there what it shows.
    #[must_use]
    pub fn kept_in(mut self, record: Option<Arc<Record>>) -> Self {
        let Some(record) = record else { return self };
        if let Some(account) = record.load(Kind::Cpu, CpuAccount::decode).flatten() {
            self.account = Mutex::new(account);
        }
        if let Some(counters) = record.load(Kind::Memory, CounterAccount::decode).flatten() {
            self.counters = Mutex::new(counters);
        }
        if let Some(disks) = record.load(Kind::Disks, DiskAccount::decode).flatten() {
            self.disks = Mutex::new(disks);
        }
        let load = record.load(Kind::Load, KeptLoad::decode).flatten();
        self.meter.kept_in(Arc::clone(&record), load.unwrap_or_default());
        self.record = Some(record);
        self
    }

    /// Its CPU time, to be advanced.
    pub(super) fn account(&self) -> Held<'_, CpuAccount> {
        self.held(&self.account, Kind::Cpu, CpuAccount::encode)
    }

    /// Event counters of its memory, likewise.
    pub(super) fn counters(&self) -> Held<'_, CounterAccount> {
        self.held(&self.counters, Kind::Memory, CounterAccount::encode)
    }

    /// Its block I/O, likewise.
    pub(super) fn disks(&self) -> Held<'_, DiskAccount> {
        self.held(&self.disks, Kind::Disks, DiskAccount::encode)
    }

    fn held<'a, T>(&'a self, account: &'a Mutex<T>, kind: Kind, encode: Encode<T>) -> Held<'a, T> {
        Held { account: account.lock(), record: self.record.as_deref(), kind, encode }
    }

    /// Where what was shown is kept.
    #[must_use]
    pub const fn record(&self) -> Option<&Arc<Record>> {
        self.record.as_ref()
    }

    /// Has its load sampled from the first read of `loadavg` on. Without a sampler the reads are the samples.
    #[must_use]
    pub fn sampled_by(self, sampler: &Arc<LoadSampler>) -> Self {
        self.meter.sampled_by(Arc::clone(sampler));
        self
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

    /// The clocks as its view needs them for a reader.
    #[must_use]
    pub fn time(&self, clocks: Clocks, reader: ReaderTime) -> TimeReading {
        TimeReading {
            boottime: clocks.boottime,
            monotonic: clocks.monotonic,
            realtime: clocks.realtime,
            start: self.start,
            timens: reader.offset(self),
        }
    }

    /// What tells it from any other container of this boot, also for a daemon that starts later.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match self.init {
            Some(init) => Identity::Init(init, self.start),
            None => {
                let (device, inode) = self.groups.identity();
                Identity::Group(device, inode)
            }
        }
    }

    /// Its tasks: a count that is a second old at most, older where counting takes long.
    #[must_use]
    pub fn tasks(&self, host: &Host, now: Nsec) -> TaskCounts {
        Meter::tasks(&self.meter, host, now).shown()
    }
}
