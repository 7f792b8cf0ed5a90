//! Reader -> container.
//!
//! Nothing here forks, enters a namespace or waits for a container's own processes.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::gone::Gone;
use super::kept::{Kept, KeptOwner, Limits, Owner, RecordKey};
use super::pidns;
use super::registry::{Entry, Registry};

use super::unregistered::{MOST, Others, Unregistered, shown_groups};
use crate::cgroup::kept::read_fd;
use crate::cgroup::{GroupSet, Hierarchy, Layout, Membership};
use crate::config::PolicyCell;
use crate::host::Host;
use crate::model::{HostPid, Nsec, OnUnreadable, Policies, Policy, TimeNamespace};
use crate::readings::{LoadSampler, Subject};
use crate::store::Store;

/// Whose numbers a file shows.
#[derive(Clone, Debug)]
pub enum View {
    /// The host's own.
    Host,
    /// A container that cannot be looked at just now, for want of descriptors or memory: no numbers are better than
    /// the host's.
    Unknown,
    /// A container's.
    Container(Arc<Contained>),
}

/// A view as an open file remembers it. Of a container it keeps nothing alive: its descriptors are counted against what all
/// unregistered ones may hold together, and one that was forgotten for want of room must not live on by a file that somebody
/// holds open.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// The host's own.
    Host,
    /// A container that could not be looked at.
    Unknown,
    /// A container's.
    Container(Weak<Contained>),
}

impl Remembered {
    /// The view; `None` where the container was forgotten meanwhile: it is to be found again.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        match self {
            Self::Host => Some(View::Host),
            Self::Unknown => Some(View::Unknown),
            Self::Container(contained) => contained.upgrade().map(View::Container),
        }
    }
}

/// A container as its readers see it.
#[derive(Debug)]
pub struct Contained {
    /// Its groups, clocks and counters.
    pub subject: Arc<Subject>,
    /// Its policies, shared with those who change them.
    policies: Arc<PolicyCell>,
    /// What it has in use of this process.
    pub limits: Arc<Limits>,
}

impl Contained {
    /// A container of which no file is open.
    #[must_use]
    pub fn new(subject: Subject, policies: Arc<PolicyCell>) -> Arc<Self> {
        Self::within(Arc::default(), subject, policies)
    }

    /// One with these limits.
    fn within(limits: Arc<Limits>, subject: Subject, policies: Arc<PolicyCell>) -> Arc<Self> {
        Arc::new(Self { subject: Arc::new(subject), policies, limits })
    }

    /// Nothing of it will be asked for any more: what was kept of it need not be.
    pub(super) fn discard(&self) {
        if let Some(record) = self.subject.record() {
            record.discard();
        }
    }

    /// The policies that count for it now. One reading takes them once, so that it is of one moment.
    #[must_use]
    pub fn policies(&self) -> Policies {
        self.policies.get()
    }

    /// Whether it is the registered container of this entry.
    #[must_use]
    pub fn is(&self, entry: &Entry) -> bool {
        Arc::ptr_eq(&self.policies, &entry.policies)
    }
}

/// What is known of one pid namespace while its init lives.
#[derive(Debug)]
struct Init {
    pid: HostPid,
    /// `/proc/PID/cgroup` of the init, kept open: a read fails once it is dead, and shows a move at once.
    cgroup: OwnedFd,
    /// It has a cgroup namespace of its own, so that its group is the container's.
    own_cgroupns: bool,
    start: Nsec,
    timens: Option<TimeNamespace>,
}

/// What is known of one reading thread while it lives.
#[derive(Debug)]
struct Reader {
    cgroup: OwnedFd,
    /// A living thread never changes its pid namespace.
    pidns: u64,
}

/// A view is found again by the groups that its reader and its init are in: text of two `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pidns: u64,
    reader: Box<[u8]>,
    init: Box<[u8]>,
}

/// A view and the registry's generation when it was found.
#[derive(Clone, Debug)]
struct Known {
    generation: u64,
    view: View,
}

/// Readers that are remembered; those that read again and again are few.
const READERS: usize = 256;
/// Views that are remembered before those whose groups are gone are dropped.
const VIEWS: usize = MOST;

/// Finds the container of a reader.
#[derive(Debug)]
pub struct Resolver {
    layout: Arc<Layout>,
    registry: Arc<Registry>,
    host: Arc<Host>,
    own_pidns: u64,
    own_cgroupns: u64,
    inits: RwLock<HashMap<u64, Arc<Init>>>,
    readers: Mutex<HashMap<HostPid, Option<Arc<Reader>>>>,
    views: RwLock<HashMap<Key, Known>>,
    unregistered: Unregistered,
    /// None where the kernel gives no descriptor for it.
    gone: Option<Gone>,
    registered: RwLock<HashMap<u32, Arc<Contained>>>,
    loads: Arc<LoadSampler>,
    kept: Kept,
    unknown: AtomicU64,
    unopened: AtomicU64,
}

impl Resolver {
    /// A resolver for readers that this host's `/proc` shows. What `store` has of containers is taken up.
    pub fn new(
        host: Arc<Host>,
        layout: Arc<Layout>,
        registry: Arc<Registry>,
        store: Arc<Store>,
    ) -> std::io::Result<Self> {
        let own = HostPid::new(nix::unistd::getpid().as_raw()).and_then(|pid| host.process(pid));
        let own = own.ok_or_else(|| std::io::Error::other("/proc does not show this process"))?;
        let namespace = |kind| {
            own.namespace(kind)
                .ok_or_else(|| std::io::Error::other(format!("/proc/self/ns/{kind} is not readable")))
        };
        let (own_pidns, own_cgroupns) = (namespace("pid")?, namespace("cgroup")?);
        if let Some(rate) = store.jiffies_rate() {
            host.know_jiffies_rate(rate);
        }
        let kept = Kept::take_up(store, |slot| registry.by_slot(slot).is_some());
        Ok(Self {
            layout,
            registry,
            host,
            own_pidns,
            own_cgroupns,
            inits: RwLock::default(),
            readers: Mutex::default(),
            views: RwLock::default(),
            unregistered: Unregistered::default(),
            gone: Gone::new()
                .inspect_err(|error| log::warn!("removed cgroups are not noticed: {error}"))
                .ok(),
            registered: RwLock::default(),
            loads: Arc::default(),
            kept,
            unknown: AtomicU64::new(0),
            unopened: AtomicU64::new(0),
        })
    }

    /// What samples the load of its containers, once started.
    #[must_use]
    pub const fn loads(&self) -> &Arc<LoadSampler> {
        &self.loads
    }

    /// The view of the thread that the kernel names in a request. One outside our pid namespace (0) cannot be
    /// identified and sees what the policy `on-unreadable` says. Any other is there, since it waits for us: if it cannot be looked at the
    /// fault is ours.
    #[must_use]
    pub fn reader(&self, tid: u32) -> View {
        match i32::try_from(tid).ok().and_then(HostPid::new) {
            Some(pid) => self.process(pid).unwrap_or(View::Unknown),
            None => {
                let policy = self.registry.on_unreadable();
                if self.unknown.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn!(
                        "a reader outside this pid namespace: by the policy on-unreadable = {:?} {}",
                        policy.name(),
                        match policy {
                            OnUnreadable::Host => "it is shown the host's files",
                            OnUnreadable::Error => "its reads fail",
                        }
                    );
                }
                unreadable(policy)
            }
        }
    }

    /// The view of a process or thread; `None` if there is none with this number.
    #[must_use]
    pub fn process(&self, pid: HostPid) -> Option<View> {
        let (pidns, own_text) = self.known_reader(pid)?;
        let init = (pidns != self.own_pidns).then(|| self.init(pidns, pid)).flatten();
        if pidns != self.own_pidns && init.is_none() && self.is_starved() {
            return None; // its init is there, and we cannot look: half a container may look like the host
        }
        // Without its init a container is known by halves: shown, but asked again the next time.
        let certain = pidns == self.own_pidns || init.is_some();
        let (init, init_text) = match init {
            Some((init, text)) => (Some(init), text),
            None => (None, Box::default()),
        };
        let key = Key { pidns, reader: own_text, init: init_text };
        let generation = self.registry.generation();
        if let Some(known) = self.views.read().get(&key)
            && known.generation == generation
            && known.view.is_alive()
        {
            return Some(known.view.clone());
        }
        let view = self.find(&key, init.as_deref());
        let mut views = self.views.write();
        if views.len() >= VIEWS {
            views.retain(|_, known| known.generation == generation && known.view.is_alive());
            if views.len() >= VIEWS {
                views.clear();
            }
        }
        if certain && view.is_alive() {
            views.insert(key, Known { generation, view: view.clone() });
        }
        Some(view)
    }

    /// The view of a registered container; `None` when it is gone.
    #[must_use]
    pub fn registered(&self, slot: u32) -> Option<View> {
        let entry = self.registry.by_slot(slot)?;
        Some(self.contained(&entry))
    }

    /// Lets go of a registered container that has ended, and with it of its groups' descriptors.
    pub fn forget(&self, slot: u32) {
        if let Some(contained) = self.registered.write().remove(&slot) {
            contained.discard();
        }
        self.kept.forget(usize::MAX, |key| key.owner == Owner::Registered(slot));
        self.views.write().retain(|_, known| known.generation == self.registry.generation());
    }

    /// What a process in this group would see. The group is a directory below a cgroup mount, or its path inside
    /// the hierarchies; in those where no group has that path the root counts. `None` if no hierarchy has it.
    #[must_use]
    pub fn group(&self, directory: &Path) -> Option<View> {
        let hierarchies = self.layout.hierarchies();
        let inside = hierarchies
            .iter()
            .filter_map(|hierarchy| Some((hierarchy, directory.strip_prefix(hierarchy.mountpoint()).ok()?)))
            .max_by_key(|(hierarchy, _)| hierarchy.mountpoint().as_os_str().len())
            .map_or_else(|| directory.to_owned(), |(hierarchy, below)| hierarchy.root().join(below));
        let exists = |hierarchy: &Hierarchy| hierarchy.file_path(&inside, "").is_dir();
        if !hierarchies.iter().any(exists) {
            return None;
        }
        let root = Membership::parse("", &self.layout);
        let groups = root.map(|index, root| match hierarchies.get(index) {
            Some(hierarchy) if exists(hierarchy) => inside.clone(),
            _ => root.to_owned(),
        });
        Some(self.by_groups(0, &groups, None))
    }

    /// Whether a thread may open the files of a registered container: it is in our pid namespace, in the
    /// container's, or in the container's group.
    #[must_use]
    pub fn may_open(&self, slot: u32, tid: u32) -> bool {
        let Some(pid) = i32::try_from(tid).ok().and_then(HostPid::new) else { return false };
        let Some(entry) = self.registry.by_slot(slot) else { return false };
        let pidns = self.host.namespace_of(pid, "pid");
        if pidns.is_some()
            && (pidns == Some(self.own_pidns) || pidns == entry.pidns.as_ref().map(|ns| ns.inode))
        {
            return true;
        }
        let Some(process) = self.host.process(pid) else { return false };
        process
            .cgroup()
            .is_some_and(|text| self.ancestry(&entry, &Membership::parse(text, &self.layout)).is_some())
    }

    /// Whether a thread that reads the files of a registered container looks at it from outside: it is in our pid
    /// namespace and the container is not.
    #[must_use]
    pub fn is_outside(&self, slot: u32, reader: HostPid) -> bool {
        self.registry.by_slot(slot).is_some_and(|entry| entry.pidns.is_some())
            && self.host.namespace_of(reader, "pid") == Some(self.own_pidns)
    }

    /// Whether the groups lie at or below those of a registered container, and if so how deep its own are. Its
    /// root groups say nothing: everything lies below them.
    fn ancestry(&self, entry: &Entry, groups: &Membership) -> Option<usize> {
        let mut depth = None;
        for (hierarchy, path) in groups.paths().iter().enumerate() {
            let container = entry.groups.path(hierarchy);
            if container == Path::new("/") {
                continue;
            }
            if !path.starts_with(container) {
                return None;
            }
            depth = depth.max(Some(container.components().count()));
        }
        depth
    }

    /// The reader's pid namespace and the text of its `/proc/TID/cgroup` now. The file is kept from the second
    /// read on: most readers read once.
    fn known_reader(&self, pid: HostPid) -> Option<(u64, Box<[u8]>)> {
        let known = self.readers.lock().get(&pid).cloned();
        if let Some(Some(reader)) = &known
            && let Ok(text) = read_fd(reader.cgroup.as_fd(), bytes)
        {
            return Some((reader.pidns, text));
        }
        let process = self.host.process(pid)?;
        let cgroup = process.keep("cgroup")?;
        let text = read_fd(cgroup.as_fd(), bytes).ok()?;
        // A thread with more rights than we have hides its namespaces, not its groups: those decide then.
        let pidns = process.namespace("pid").unwrap_or(self.own_pidns);
        let mut readers = self.readers.lock();
        if readers.len() >= READERS {
            readers.clear(); // short-lived readers fill it; the others come back at once
        }
        readers.insert(pid, known.is_some().then(|| Arc::new(Reader { cgroup, pidns })));
        Some((pidns, text))
    }

    /// Whether this process, or the host, has no descriptor left: then not even this process can be looked at.
    fn is_starved(&self) -> bool {
        HostPid::new(nix::unistd::getpid().as_raw()).and_then(|own| self.host.process(own)).is_none()
    }

    /// The init of a pid namespace, and the text of its `/proc/PID/cgroup` now.
    fn init(&self, pidns: u64, reader: HostPid) -> Option<(Arc<Init>, Box<[u8]>)> {
        let known = self.inits.read().get(&pidns).cloned();
        if let Some(init) = known
            && let Ok(text) = read_fd(init.cgroup.as_fd(), bytes)
        {
            return Some((init, text));
        }
        let pid = pidns::init_of(&self.host, reader, pidns)?;
        // One descriptor of the process: nothing below can be about another that was given its number.
        let process = self.host.process(pid)?;
        if process.namespace("pid") != Some(pidns) {
            return None;
        }
        let init = Arc::new(Init {
            pid,
            own_cgroupns: process.namespace("cgroup").is_some_and(|ns| ns != self.own_cgroupns),
            start: process.start().unwrap_or_default(),
            timens: process.timens(&self.host),
            cgroup: process.keep("cgroup")?,
        });
        let text = read_fd(init.cgroup.as_fd(), bytes).ok()?;
        let mut inits = self.inits.write();
        if inits.len() >= VIEWS {
            inits.retain(|_, init| read_fd(init.cgroup.as_fd(), |_| ()).is_ok());
        }
        inits.insert(pidns, Arc::clone(&init));
        Some((init, text))
    }

    /// The deeper of the longest registered ancestor of the reader's group and the group of its init.
    fn find(&self, key: &Key, init: Option<&Init>) -> View {
        let own = Membership::parse(&*key.reader, &self.layout);
        let groups = match init {
            Some(init) if init.own_cgroupns => {
                let of_init = Membership::parse(&*key.init, &self.layout);
                own.map(|hierarchy, own| {
                    let container = without_init_scope(of_init.path(hierarchy));
                    if own.starts_with(container) { container.to_owned() } else { own.to_owned() }
                })
            }
            _ => own.clone(),
        };
        let registered = self
            .registry
            .list()
            .into_iter()
            .filter_map(|entry| self.ancestry(&entry, &own).map(|depth| (depth, entry)))
            .max_by_key(|(depth, _)| *depth);
        if let Some((depth, entry)) = registered
            && (init.is_none_or(|init| !init.own_cgroupns) || depth >= self.depth(&groups))
        {
            return self.contained(&entry);
        }
        self.by_groups(key.pidns, &groups, init)
    }

    /// The view of a container that nobody registered; the same one for as long as its groups live, since its
    /// counters are in there.
    fn by_groups(&self, pidns: u64, groups: &Membership, init: Option<&Init>) -> View {
        if groups.is_root() && init.is_none() {
            return View::Host;
        }
        let groups = &shown_groups(groups);
        let key = (pidns, groups.clone());
        let start = init.map_or(Nsec::ZERO, |init| init.start);
        if let Some(known) = self.unregistered.find(&key, start) {
            return View::Container(known);
        }
        // Opened without a lock, which other containers' readers want too.
        match GroupSet::open(&self.layout, groups) {
            Ok(set) => {
                let timens = init.and_then(|init| init.timens);
                // Whoever makes many pid namespaces in one group has its limits once.
                let owner = Owner::Groups(groups.clone());
                let record = RecordKey { owner, pidns, start, group: set.identity() };
                let descriptors = set.descriptors();
                let make = || {
                    let subject = Subject::new(Arc::new(set), start, timens, init.map(|init| init.pid));
                    self.kept_as(&record, subject, Arc::clone(self.registry.defaults()))
                };
                let (contained, others) = self.unregistered.add(key, start, descriptors, make);
                if let (Some(gone), Some(above)) = (&self.gone, self.above(groups)) {
                    gone.watch(above);
                }
                match others {
                    Others::Stay => {}
                    Others::GoneForgotten => self.views.write().retain(|_, known| known.view.is_alive()),
                    Others::Forgotten => {
                        self.kept.forget(VIEWS / 4, |_| false);
                        // What was forgotten is to be freed: the others are found again at once.
                        self.views.write().clear();
                    }
                }
                View::Container(contained)
            }
            Err(error) => {
                if self.unopened.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
                    log::warn!("a reader's groups cannot be opened, its reads fail: {error}");
                }
                View::Unknown
            }
        }
    }

    /// The directory in which the deepest of these groups lies: with it the others are removed as well.
    fn above(&self, groups: &Membership) -> Option<PathBuf> {
        let paths = groups.paths().iter().enumerate();
        let (hierarchy, path) = paths.max_by_key(|(_, path)| path.components().count())?;
        Some(self.layout.hierarchies().get(hierarchy)?.file_path(path.parent()?, ""))
    }

    /// Lets go of containers whose groups are removed, as often as that happens. Returns where it cannot be noticed.
    pub fn let_go_of_removed(&self) {
        let Some(gone) = &self.gone else { return };
        while gone.wait().is_ok() {
            if let Some(left) = self.unregistered.forget_gone() {
                self.views.write().retain(|_, known| known.view.is_alive());
                gone.only(&left.iter().filter_map(|groups| self.above(groups)).collect());
            }
        }
    }

    fn contained(&self, entry: &Entry) -> View {
        if let Some(known) = self.registered.read().get(&entry.slot) {
            return View::Container(Arc::clone(known));
        }
        // Made under the lock: a second one would have counters of its own.
        let mut registered = self.registered.write();
        let contained = registered.entry(entry.slot).or_insert_with(|| {
            let (owner, start) = (Owner::Registered(entry.slot), entry.init_start);
            let key = RecordKey { owner, pidns: 0, start, group: entry.groups.identity() };
            self.kept_as(&key, self.subject_of(entry), Arc::clone(&entry.policies))
        });
        View::Container(Arc::clone(contained))
    }

    fn subject_of(&self, entry: &Entry) -> Subject {
        let timens = self.host.process(entry.init).and_then(|init| init.timens(&self.host));
        Subject::new(Arc::clone(&entry.groups), entry.init_start, timens, Some(entry.init))
    }

    /// A container whose counters go on where the process before this one left them, and are kept for the next.
    fn kept_as(&self, key: &RecordKey, subject: Subject, policies: Arc<PolicyCell>) -> Arc<Contained> {
        let subject = subject.kept_in(self.kept.record(key)).sampled_by(&self.loads);
        Contained::within(self.kept.limits(&key.owner), subject, policies)
    }

    /// The containers whose records were taken up and that nobody has asked for since, by the number of the record.
    #[must_use]
    pub fn owners(&self) -> HashMap<u32, KeptOwner> {
        self.kept.owners()
    }

    /// Lets go of what was kept of containers whose groups are gone. It opens each group: nothing for a thread that answers.
    pub fn forget_gone(&self) {
        let gone = |key: &RecordKey| match &key.owner {
            Owner::Registered(_) => false, // told by the registry
            // where the group is not there its nearest ancestor is found, which is another
            Owner::Groups(groups) => {
                GroupSet::open(&self.layout, groups).is_ok_and(|set| set.identity() != key.group)
            }
        };
        let gone: HashSet<RecordKey> = self.kept.unclaimed().into_iter().filter(gone).collect();
        if !gone.is_empty() {
            self.kept.forget(usize::MAX, |key| gone.contains(key));
        }
    }

    /// The container of a record that was taken up, for what needs its groups but no thread of it; `None` if it is gone.
    #[must_use]
    pub fn of_record(&self, key: &RecordKey) -> Option<(Arc<Subject>, Arc<Limits>)> {
        let subject = match &key.owner {
            Owner::Registered(slot) => {
                let View::Container(contained) = self.registered(*slot)? else { return None };
                Arc::clone(&contained.subject)
            }
            Owner::Groups(groups) => {
                let set = GroupSet::open(&self.layout, groups).ok()?;
                if set.identity() != key.group {
                    return None; // another of the same name
                }
                // Which process its init is does not matter here, only that it has one.
                let init = (key.pidns != self.own_pidns).then(|| HostPid::new(1)).flatten();
                Arc::new(Subject::new(Arc::new(set), key.start, None, init))
            }
        };
        Some((subject, self.kept.limits(&key.owner)))
    }

    /// What its containers are kept in.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        self.kept.store()
    }

    /// How deep the groups lie, in the hierarchy where they lie deepest.
    fn depth(&self, groups: &Membership) -> usize {
        groups.paths().iter().map(|path| path.components().count()).max().unwrap_or(0)
    }
}

impl View {
    /// Whether its groups are there, as far as the last reading saw.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Host => true,
            Self::Unknown => false,
            Self::Container(contained) => !contained.subject.groups.is_gone(),
        }
    }

    /// What an open file keeps of it.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        match self {
            Self::Host => Remembered::Host,
            Self::Unknown => Remembered::Unknown,
            Self::Container(contained) => Remembered::Container(Arc::downgrade(contained)),
        }
    }
}

/// The view of a reader whose container cannot be identified at all.
const fn unreadable(policy: OnUnreadable) -> View {
    match policy {
        OnUnreadable::Host => View::Host,
        OnUnreadable::Error => View::Unknown,
    }
}

fn bytes(text: &[u8]) -> Box<[u8]> {
    text.into()
}

/// systemd as a container's init sits in `init.scope` below the container's group.
fn without_init_scope(path: &Path) -> &Path {
    match path.file_name() {
        Some(name) if name == "init.scope" => path.parent().unwrap_or(path),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o6_a_reader_without_a_container() {
        assert!(matches!(unreadable(OnUnreadable::Host), View::Host));
        assert!(matches!(unreadable(OnUnreadable::Error), View::Unknown), "its reads give EIO");
    }

    #[test]
    fn the_scope_of_systemd_is_cut() {
        for (path, container) in [
            ("/a/init.scope", "/a"),
            ("/init.scope", "/"),
            ("/a/b", "/a/b"),
            ("/", "/"),
            ("/init.scope/a", "/init.scope/a"),
        ] {
            assert_eq!(without_init_scope(Path::new(path)), Path::new(container));
        }
    }
}
