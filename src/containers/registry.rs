//! The registered containers of one mount point.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::state::{Record, State, boot_id};
use super::verify::{PidNamespace, VerifyError, verify};
use super::watch::Watch;
use crate::cgroup::{CgroupError, GroupSet, Layout};
use crate::config::{Layers, PolicyCell};
use crate::model::{ContainerName, HostPid, Nsec, OnUnreadable, PolicyChange, PolicyChoices, PolicyError};

/// Why a container was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The name belongs to another.
    #[error("the name {name} is taken by the container of process {pid}")]
    NameTaken {
        /// The name.
        name: ContainerName,
        /// The init of the container that has it.
        pid: HostPid,
    },
    /// No container has this name.
    #[error("no container is registered as {0}")]
    NoSuchContainer(ContainerName),
    /// What was passed is not what it must be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Its groups could not be opened.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A policy that does not exist was chosen.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// All slots have been given.
    #[error("no slot is left: restart the daemon on a new mount point")]
    Full,
    /// The state could not be written, or the kernel gave no descriptor.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One registered container. But for its policies, everything in it stays the same for as long as it is registered.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: ContainerName,
    /// Its number, from 1; never given twice, also not by a later daemon. Inode numbers derive from it.
    pub slot: u32,
    /// Its init, held by descriptor.
    pub pidfd: OwnedFd,
    /// The pid of its init here.
    pub init: HostPid,
    /// CLOCK_BOOTTIME at the start of its init.
    pub init_start: Nsec,
    /// Its pid namespace; `None` where it shares the daemon's, so that it says nothing about a reader.
    pub pidns: Option<PidNamespace>,
    /// The policies that count for it now; those who read its files share the cell.
    pub policies: Arc<PolicyCell>,
    /// What it chose itself; changed by [`Registry::choose`] alone, which saves it and sets `policies`.
    pub choices: Mutex<PolicyChoices>,
    /// Its groups, held open.
    pub groups: Arc<GroupSet>,
    /// Its group's directory in each hierarchy where it has one, as they were when it was registered.
    pub group_dirs: Vec<PathBuf>,
}

impl Entry {
    /// What it chose itself.
    #[must_use]
    pub fn choices(&self) -> PolicyChoices {
        *self.choices.lock()
    }

    /// What a daemon after this one shall know of it.
    fn record(&self, choices: PolicyChoices) -> std::io::Result<Record> {
        let init = (self.init, self.init_start);
        Record::new(self.name.clone(), self.slot, init, choices, self.group_dirs.clone())
    }
}

/// Called, outside all locks, after an entry has gone: its name is free then.
pub type RemovedHook = Box<dyn Fn(&Entry) + Send + Sync>;

/// Who is registered. Looking up takes a read lock for the time of one clone; changes are made one at a time.
pub struct Registry {
    layout: Arc<Layout>,
    state: State,
    watch: Watch,
    maps: RwLock<Maps>,
    /// The next slot; the lock orders all changes.
    changes: Mutex<u32>,
    hooks: RwLock<Vec<RemovedHook>>,
    generation: AtomicU64,
    /// Changed under the lock of `changes`.
    layers: RwLock<Arc<Layers>>,
    /// What counts for containers that are not registered.
    defaults: Arc<PolicyCell>,
    /// [`OnUnreadable::Error`].
    fail_unreadable: AtomicBool,
}

#[derive(Default)]
struct Maps {
    by_name: BTreeMap<ContainerName, Arc<Entry>>,
    by_slot: HashMap<u32, Arc<Entry>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("state", &self.state)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Takes up the containers recorded in `state_dir` that still live, forgets the others, and watches from
    /// now on.
    pub fn open(layout: Arc<Layout>, state_dir: &Path) -> Result<Arc<Self>, RegistryError> {
        let io = |source: std::io::Error| RegistryError::Io { path: state_dir.to_owned(), source };
        let state = State::open(state_dir).map_err(io)?;
        let records = state.load().map_err(io)?;
        // A slot is remembered before it is used, so the file is ahead of the records; a file that was lost
        // is made good for from them.
        let after_records = records.iter().map(|record| record.slot.saturating_add(1)).max().unwrap_or(1);
        let next_slot = state.next_slot().map_err(io)?.max(after_records);
        let registry = Self::with(layout, state, next_slot).map_err(io)?;
        for record in records {
            if let Err(why) = registry.take_up(&record) {
                log::info!("container {} is not taken up again: {why}", record.name);
                registry.state.remove(&record.name).map_err(io)?;
            }
        }
        let weak: Weak<Self> = Arc::downgrade(&registry);
        registry
            .watch
            .start(move |key| {
                if let (Some(registry), Ok(slot)) = (weak.upgrade(), u32::try_from(key)) {
                    registry.remove_ended(slot);
                }
            })
            .map_err(io)?;
        Ok(registry)
    }

    /// One that lives and dies with this process: nothing is written, and entries stay when their inits end.
    pub fn in_memory(layout: Arc<Layout>) -> std::io::Result<Arc<Self>> {
        Self::with(layout, State::nowhere(), 1)
    }

    fn with(layout: Arc<Layout>, state: State, next_slot: u32) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            layout,
            state,
            watch: Watch::new()?,
            maps: RwLock::default(),
            changes: Mutex::new(next_slot),
            hooks: RwLock::default(),
            generation: AtomicU64::new(0),
            layers: RwLock::default(),
            defaults: Arc::default(),
            fail_unreadable: AtomicBool::new(false),
        }))
    }

    /// Rises with every registration and every end of one: what was derived from the list before is stale then.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Adds something to be done whenever an entry goes.
    pub fn on_removed(&self, hook: RemovedHook) {
        self.hooks.write().push(hook);
    }

    /// Checks what was passed (see [`verify`]) and registers it under a new slot. `groups` holds one directory
    /// per hierarchy; in a hierarchy that none is given for, the group of the process counts.
    pub fn register(
        &self,
        name: ContainerName,
        choices: PolicyChoices,
        pidfd: OwnedFd,
        groups: Vec<OwnedFd>,
    ) -> Result<Arc<Entry>, RegistryError> {
        self.remove_if_ended(&name);
        let mut next_slot = self.changes.lock();
        if let Some(there) = self.by_name(&name) {
            // It asks again: the worker that had registered it was killed before it could answer.
            let again = super::pidfd::pid(pidfd.as_fd()) == Some(there.init) && there.choices() == choices;
            return if again { Ok(there) } else { Err(RegistryError::NameTaken { name, pid: there.init }) };
        }
        let slot = *next_slot;
        let after = slot
            .checked_add(1)
            .filter(|after| *after <= crate::model::name::MAX_SLOT)
            .ok_or(RegistryError::Full)?;
        let entry = Arc::new(self.entry(name, slot, choices, pidfd, groups)?);
        let io = |source: std::io::Error| RegistryError::Io { path: self.state.dir().to_owned(), source };
        self.state.save_next_slot(after).map_err(io)?;
        *next_slot = after;
        entry.record(choices).and_then(|record| self.state.save(&record)).map_err(io)?;
        if let Err(error) = self.insert(&entry) {
            let _ = self.state.remove(&entry.name); // the first error is the one to tell
            return Err(io(error));
        }
        Ok(entry)
    }

    /// Another process stands for a registered container from now on; what was given out under its
    /// slot stays right. For containers that one process sets up and another one runs.
    pub fn replace(
        &self,
        name: &ContainerName,
        pidfd: OwnedFd,
        groups: Vec<OwnedFd>,
    ) -> Result<Arc<Entry>, RegistryError> {
        let _order = self.changes.lock();
        let before = self.by_name(name).ok_or_else(|| RegistryError::NoSuchContainer(name.clone()))?;
        let choices = before.choices();
        let mut entry = self.entry(name.clone(), before.slot, choices, pidfd, groups)?;
        entry.policies = Arc::clone(&before.policies);
        let entry = Arc::new(entry);
        let io = |source: std::io::Error| RegistryError::Io { path: self.state.dir().to_owned(), source };
        entry.record(choices).and_then(|record| self.state.save(&record)).map_err(io)?;
        self.insert(&entry).map_err(io)?;
        self.watch.remove(before.pidfd.as_fd());
        Ok(entry)
    }

    /// Makes a container known that nobody checked: for trees over fixtures, where no real one is.
    #[doc(hidden)]
    pub fn insert_unchecked(
        &self,
        name: ContainerName,
        slot: u32,
        (pidfd, init): (OwnedFd, HostPid),
        groups: Arc<GroupSet>,
    ) -> std::io::Result<()> {
        let entry = Entry {
            name,
            slot,
            pidfd,
            init,
            init_start: Nsec::ZERO,
            pidns: None,
            policies: Arc::default(),
            choices: Mutex::default(),
            groups,
            group_dirs: Vec::new(),
        };
        self.insert(&Arc::new(entry))
    }

    /// Ends a registration. One whose init has ended goes by itself.
    pub fn unregister(&self, name: &ContainerName) -> Result<(), RegistryError> {
        let entry = self.by_name(name).ok_or_else(|| RegistryError::NoSuchContainer(name.clone()))?;
        self.remove_slot(entry.slot);
        Ok(())
    }

    /// Changes a container's own choices: all of them or, where one is refused or cannot be saved, none. Whoever reads
    /// from now on sees it, also through files that are open.
    pub fn choose(
        &self,
        name: &ContainerName,
        changes: &[PolicyChange],
    ) -> Result<Arc<Entry>, RegistryError> {
        let _order = self.changes.lock();
        let entry = self.by_name(name).ok_or_else(|| RegistryError::NoSuchContainer(name.clone()))?;
        let mut choices = entry.choices();
        for change in changes {
            change.apply(&mut choices)?;
        }
        let io = |source: std::io::Error| RegistryError::Io { path: self.state.dir().to_owned(), source };
        entry.record(choices).and_then(|record| self.state.save(&record)).map_err(io)?;
        *entry.choices.lock() = choices;
        entry.policies.set(&self.layers().effective(Some(name), choices));
        Ok(entry)
    }

    /// Puts other flags and another configuration in force, for all containers.
    pub fn configure(&self, layers: Layers) {
        let _order = self.changes.lock();
        let layers = Arc::new(layers);
        self.defaults.set(&layers.effective(None, PolicyChoices::default()));
        self.fail_unreadable.store(layers.on_unreadable() == OnUnreadable::Error, Ordering::Release);
        for entry in self.list() {
            entry.policies.set(&layers.effective(Some(&entry.name), entry.choices()));
        }
        *self.layers.write() = layers;
    }

    /// The flags and the configuration in force.
    #[must_use]
    pub fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.layers.read())
    }

    /// What counts for containers that are not registered; those who read their files share the cell.
    #[must_use]
    pub fn defaults(&self) -> &Arc<PolicyCell> {
        &self.defaults
    }

    /// What counts for readers without a container.
    #[must_use]
    pub fn on_unreadable(&self) -> OnUnreadable {
        match self.fail_unreadable.load(Ordering::Acquire) {
            true => OnUnreadable::Error,
            false => OnUnreadable::Host,
        }
    }

    /// The container of that name.
    #[must_use]
    pub fn by_name(&self, name: &ContainerName) -> Option<Arc<Entry>> {
        self.maps.read().by_name.get(name).cloned()
    }

    /// The container of that number.
    #[must_use]
    pub fn by_slot(&self, slot: u32) -> Option<Arc<Entry>> {
        self.maps.read().by_slot.get(&slot).cloned()
    }

    /// All, sorted by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Entry>> {
        self.maps.read().by_name.values().cloned().collect()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.maps.read().by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entry(
        &self,
        name: ContainerName,
        slot: u32,
        choices: PolicyChoices,
        pidfd: OwnedFd,
        groups: Vec<OwnedFd>,
    ) -> Result<Entry, RegistryError> {
        let verified = verify(&self.layout, pidfd.as_fd(), groups)?;
        let set = GroupSet::from_dirs(&self.layout, verified.dirs)?;
        let group_dirs = self
            .layout
            .hierarchies()
            .iter()
            .enumerate()
            .filter_map(|(index, hierarchy)| {
                let group = set.levels(index).first()?;
                Some(hierarchy.file_path(group.path(), ""))
            })
            .collect();
        let policies = self.layers().effective(Some(&name), choices);
        Ok(Entry {
            name,
            slot,
            pidfd,
            init: verified.init,
            init_start: verified.start,
            pidns: verified.pidns,
            policies: Arc::new(PolicyCell::new(&policies)),
            choices: Mutex::new(choices),
            groups: Arc::new(set),
            group_dirs,
        })
    }

    /// Makes the entry known and watches its init, which may have ended by now: then it goes again at once.
    fn insert(&self, entry: &Arc<Entry>) -> std::io::Result<()> {
        let mut maps = self.maps.write();
        self.watch.add(entry.pidfd.as_fd(), entry.slot)?;
        maps.by_name.insert(entry.name.clone(), Arc::clone(entry));
        maps.by_slot.insert(entry.slot, Arc::clone(entry));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Registers what a daemon before this one had, under the slot that it had.
    fn take_up(&self, record: &Record) -> Result<(), RegistryError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| RegistryError::Io { path, source }
        };
        let gone = || RegistryError::Verify(VerifyError::Ended(record.pid));
        let boot_file = Path::new("/proc/sys/kernel/random/boot_id");
        if boot_id().map_err(io(boot_file))? != record.boot_id {
            return Err(gone());
        }
        let pid = Pid::from_raw(record.pid.get()).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let groups = record
            .groups
            .iter()
            .map(|path| rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| io(path)(errno.into())))
            .collect::<Result<Vec<_>, _>>()?;
        let entry = self.entry(record.name.clone(), record.slot, record.policies, pidfd, groups)?;
        if entry.init_start != record.start || self.by_slot(record.slot).is_some() {
            return Err(gone());
        }
        let path = self.state.dir();
        self.insert(&Arc::new(entry)).map_err(io(path))
    }

    /// A name is free as soon as its container's init has ended, also before the watcher has come to it.
    fn remove_if_ended(&self, name: &ContainerName) {
        if let Some(entry) = self.by_name(name).filter(|entry| super::pidfd::ended(entry.pidfd.as_fd())) {
            self.remove_slot(entry.slot);
        }
    }

    /// A process of this slot has ended: of the one that stands for it, or of one before.
    fn remove_ended(&self, slot: u32) {
        if self.by_slot(slot).is_some_and(|entry| super::pidfd::ended(entry.pidfd.as_fd())) {
            self.remove_slot(slot);
        }
    }

    fn remove_slot(&self, slot: u32) {
        let entry = {
            let _order = self.changes.lock();
            let mut maps = self.maps.write();
            let Some(entry) = maps.by_slot.remove(&slot) else { return };
            maps.by_name.remove(&entry.name);
            self.generation.fetch_add(1, Ordering::Release);
            drop(maps);
            self.watch.remove(entry.pidfd.as_fd());
            if let Err(error) = self.state.remove(&entry.name) {
                log::warn!("{}: the record of {} stays: {error}", self.state.dir().display(), entry.name);
            }
            entry
        };
        for hook in self.hooks.read().iter() {
            hook(&entry);
        }
    }
}
