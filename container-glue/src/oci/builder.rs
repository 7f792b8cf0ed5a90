//! The sequence in which a container is made, and how it is taken back when a step fails.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::LinuxResources;
use ownproc::model::{ContainerName, PolicyChoices};

use super::bundle::Bundle;
use super::config::Config;
use super::config::namespaces::CLONE_NEWTIME;
use super::extras::Extras;
use super::init::{self, Init, Order, Report};
use super::join::{self, Joined};
use super::store::{Entry, Group, Levels, Record, START, Status, Store, identity};
use super::sysinfo::Beside;
use super::tree::Sources;
use super::{Doing, OciError, console, freezer, hooks, inspect, limits, process, rootless, stop};
use crate::daemon::Daemon;
use crate::groups::{GroupError, Groups, Hierarchies};
use crate::namespaces::{self, Child};
use crate::supervise::{self};
use crate::sync::{self, Channel};

/// A container that waits for `start`.
pub struct Created {
    /// Its directory, locked.
    pub entry: Entry,
    /// What is known of it.
    pub record: Record,
    /// Where it is kept.
    pub store: Store,
}

/// What a container is made from.
pub struct BuildInputs<'a> {
    /// The configuration, checked.
    pub config: &'a Config,
    /// Where it came from.
    pub bundle: Bundle,
    /// What its files show.
    pub view: PolicyChoices,
    /// Those in which it gets groups.
    pub hierarchies: &'a Hierarchies,
    /// What was opened of the host; `None` where a mount namespace is joined.
    pub sources: Option<Sources>,
    /// Gets the terminal.
    pub console: Option<OwnedFd>,
    /// Enter the root without pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub keep_keyring: bool,
    /// Descriptors that the program gets beside the first three.
    pub preserved: u32,
    /// Those of them that are sockets of systemd's.
    pub listening: u32,
    /// What `launch` asks for.
    pub extras: Option<&'a Extras>,
}

/// Makes the groups and sets their limits.
fn fill(
    groups: &Groups,
    levels: Levels,
    config: &Config,
    record: &Record,
    extras: Option<&Extras>,
) -> Result<(), OciError> {
    let parent = config.cgroup.parent().unwrap_or(Path::new(""));
    // on v2 systemd makes its slices, and takes them away
    let of_systemd = config.scope.is_some();
    let missing = groups.missing_parents(parent, of_systemd);
    let made = levels.note(&missing).and_then(|()| Ok(groups.make(parent, of_systemd)?));
    drop(levels); // whatever failed: to take it back needs them again
    made?;
    let Some(extras) = extras else { return limits::apply(resources(record), &record.groups) };
    crate::groups::limits::apply(groups, &extras.limits)?;
    limits::apply(resources(record).map(limits::without_flags).as_ref(), &record.groups)?;
    for note in crate::groups::ancestors::tighter(groups, &extras.limits) {
        eprintln!("ownproc-run: note: {note}");
    }
    Ok(())
}

fn resources(record: &Record) -> Option<&LinuxResources> {
    record.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref())
}

/// Makes a container. What is there of it is taken back when this is dropped.
pub struct Builder {
    store: Option<Store>,
    entry: Option<Entry>,
    levels: Option<Levels>,
    record: Option<Record>,
    /// None for an ordinary user.
    daemon: Option<Daemon>,
    init: Option<(OwnedFd, Channel)>,
}

impl Builder {
    /// Begins with a directory that was claimed, and the levels above all groups.
    pub fn new(store: Store, entry: Entry, levels: Levels, daemon: Option<Daemon>) -> Self {
        Self {
            store: Some(store),
            entry: Some(entry),
            levels: Some(levels),
            record: None,
            daemon,
            init: None,
        }
    }

    /// Makes it.
    pub fn finish(
        mut self,
        id: &str,
        parts: BuildInputs<'_>,
        mount: PathBuf,
        pid_file: Option<&Path>,
    ) -> Result<Created, OciError> {
        self.make(id, parts, mount)?;
        self.done(pid_file)
    }

    fn make(&mut self, id: &str, parts: BuildInputs<'_>, mount: PathBuf) -> Result<(), OciError> {
        let BuildInputs {
            config,
            bundle,
            view,
            hierarchies,
            sources,
            console,
            no_pivot,
            keep_keyring,
            preserved,
            listening,
            extras,
        } = parts;
        let entry = self.entry.take().ok_or(OciError::NotRunning)?;
        let entry = self.entry.insert(entry);
        let listener = listen(&entry.path)?;
        let mut record = Record::new(id.to_owned(), bundle, mount, hierarchies, config);
        // delete kills all that is in them: groups in which somebody lives already are not this
        // container's
        for group in &record.groups {
            if !freezer::processes(std::slice::from_ref(group))?.is_empty() {
                return Err(GroupError::Taken(group.path.clone()).into());
            }
        }
        // before the groups, so that no death of this process leaves one that nobody knows of
        entry.write(&record)?;
        self.record = Some(record.clone());
        let groups = Groups::at(hierarchies, &config.cgroup);
        let levels = self.levels.take().ok_or(OciError::NotRunning)?;
        if config.scope.is_none() {
            fill(&groups, levels, config, &record, extras)?;
        } else {
            drop(levels);
        }

        time(config)?;
        let join = Joined::open(config)?;
        let hooks = record.spec.hooks().clone();
        let in_container = hooks.as_ref().and_then(|hooks| hooks.create_container().as_ref());
        if join.shows_hooks() && in_container.is_some_and(|hooks| !hooks.is_empty()) {
            return Err(OciError::config(
                "hooks.createContainer",
                "cannot be run unseen: the pid namespace that is joined belongs to another user namespace",
            ));
        }
        let (ours, theirs) = sync::channel().doing("make a socket pair")?;
        let leaves: Vec<_> = groups.leaves().collect();
        let state = {
            let record = record.clone();
            move |pid: i32| {
                let record = Record { pid, ..record.clone() };
                inspect::state(&record, Status::Creating).to_string()
            }
        };
        let notify = match config.seccomp.as_ref().and_then(|filter| filter.listener_path.as_deref()) {
            Some(path) => Some(console::connect(path)?),
            None => None,
        };
        // systemd makes a scope around a process, so that there is none to be born in
        let of_systemd = config.scope.is_some();
        let v2_group = if of_systemd { None } else { groups.v2_fd()? };
        let entrances = if of_systemd { None } else { Some(groups.entrances()?) };
        let flags = config.namespaces.new & !libc::CLONE_NEWCGROUP & !CLONE_NEWTIME;
        // installed before `start`, while its rights are there
        record.filtered = extras.is_none()
            && !config.process.no_new_privileges
            && (config.sysinfo.is_some() || config.seccomp.is_some());
        let filter = record.filtered.then(UnixStream::pair).transpose().doing("make a socket pair")?;
        let beside = filter.as_ref().filter(|_| config.sysinfo.is_some()).map(|_| Beside::new(&record.mount));
        let lock = self.entry.as_ref().and_then(Entry::lock_fd);
        let _ = inspect::owner();
        let Child { pid, pidfd } = join.spawn(flags, v2_group.as_ref().map(AsFd::as_fd), || {
            process::let_go(ours.fd());
            // whoever looks at the container does not wait for this process
            if let Some(lock) = lock {
                process::let_go(&lock);
            }
            let init = Init {
                config,
                hooks: hooks.as_ref(),
                state: &state,
                groups: &leaves,
                channel: &theirs,
                start: &listener,
                console: console.as_ref(),
                listener: notify.as_ref(),
                join: &join,
                new: flags,
                beside: filter.as_ref().map(|(_, theirs)| theirs.as_fd()),
                no_pivot,
                keep_keyring,
                extras,
                preserved,
                listening,
            };
            init::main(&init, entrances, sources)
        })?;
        drop(theirs);
        if config.namespaces.new & CLONE_NEWTIME != 0 {
            namespaces::own_time().doing("go on in the own time namespace")?;
        }
        let filter = filter.map(|(ours, _)| ours);
        self.init = Some((pidfd.try_clone().doing("keep a descriptor")?, ours));
        if join.is_watched() {
            self.expect("Inside")?;
        }
        if rootless::is_user() {
            config.namespaces.maps.iter().try_for_each(|maps| rootless::map(pid, maps))?;
        } else if let Some(maps) = &config.namespaces.maps {
            for (file, map) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
                let path = format!("/proc/{pid}/{file}");
                std::fs::write(&path, map).map_err(|source| OciError::io("write", path, source))?;
            }
        }
        if let Some(scope) = &config.scope {
            let limits = limits::of_systemd(resources(&record), &record.groups)?;
            scope.start(&record.id, pid, &config.cgroup, limits)?;
            let levels = self.store.as_ref().ok_or(OciError::NotRunning)?.levels()?;
            fill(&groups, levels, config, &record, extras)?;
            groups.attach_v1(pid)?;
        } else {
            self.expect("Grouped")?;
        }
        process::limit(pid, &config.process).map_err(|error| OciError::Setup(error.to_string()))?;
        record.pid = pid;
        record.start_time = identity(pid).unwrap_or(0);
        let tree = match &mut self.daemon {
            Some(daemon) => {
                let name = daemon_name(&record.id);
                record.registered = Some(name.clone());
                Some(daemon.register(&name, view, pidfd.as_fd(), &groups.fds()?)?)
            }
            None => None,
        };
        self.record = Some(record.clone());
        self.entry.as_ref().ok_or(OciError::NotRunning)?.write(&record)?;
        self.order(&Order::Go { files: tree, pid })?;
        if let Some(hooks) = &hooks {
            self.expect("Mounted")?;
            let state = inspect::state(&record, Status::Creating).to_string();
            #[allow(deprecated)] // still in configurations, and has to be run
            hooks::run(hooks.prestart(), &state)?;
            hooks::run(hooks.create_runtime(), &state)?;
            self.order(&Order::GoOn { pid })?;
        }
        if let (Some(ours), Some(beside)) = (filter, beside) {
            // until the filter is there, or the process has ended
            beside.serve(&ours).doing("hear from the container's process")?;
        }
        if join.is_watched() {
            self.move_to_first(Child { pid, pidfd }, join)?;
        } else {
            self.expect("Ready")?;
        }
        let pid = self.record.as_ref().map_or(0, |record| record.pid);
        process::schedule(pid, &config.process).map_err(|error| OciError::Setup(error.to_string()))
    }

    /// Takes the first process for the container, which `maker` has set up. That ends when `join`
    /// is dropped.
    fn move_to_first(&mut self, maker: Child, join: Joined) -> Result<(), OciError> {
        let (mut born, mut ready) = (None, false);
        while born.is_none() || !ready {
            match self.hear()? {
                Report::Born(pid) if born.is_none() => born = Some(pid),
                Report::Ready if !ready => ready = true,
                other => return Err(OciError::Setup(format!("the container's process said {other:?}"))),
            }
        }
        let pid = born.unwrap_or(0);
        let pidfd = join::child(pid, maker.pid)?;
        let first = pidfd.try_clone().doing("keep a descriptor")?;
        if let Some((init, _)) = &mut self.init {
            *init = first;
        }
        let record = self.record.as_mut().ok_or(OciError::NotRunning)?;
        record.pid = pid;
        record.start_time = identity(pid).unwrap_or(0);
        self.entry.as_ref().ok_or(OciError::NotRunning)?.write(record)?;
        if let (Some(daemon), Some(name)) = (&mut self.daemon, &record.registered) {
            daemon.replace(name, pidfd.as_fd(), &record.open_groups()?)?;
        }
        drop(join);
        supervise::reap_within(maker.pidfd.as_fd(), stop::PATIENCE);
        Ok(())
    }

    fn order(&self, order: &Order) -> Result<(), OciError> {
        let Some((_, channel)) = &self.init else { return Ok(()) };
        let message = serde_json::to_vec(order).map_err(io::Error::from).doing("write an order")?;
        // a process that is dead already has said why, or is heard to be silent
        let _ = channel.send(&message);
        Ok(())
    }

    /// The next report is this one.
    fn expect(&self, wanted: &str) -> Result<(), OciError> {
        match self.hear()? {
            report if format!("{report:?}") == wanted => Ok(()),
            other => Err(OciError::Setup(format!("the container's process said {other:?}"))),
        }
    }

    /// The next report.
    fn hear(&self) -> Result<Report, OciError> {
        let Some((_, channel)) = &self.init else { return Err(OciError::NotRunning) };
        let message = channel.receive().doing("hear from the container's process")?;
        let Some(message) = message else {
            let why = "the container's process was killed while it was set up (is the memory limit too low for it?)";
            return Err(OciError::Setup(why.to_owned()));
        };
        match serde_json::from_slice(&message) {
            Ok(Report::Failed(why)) => Err(OciError::Setup(why)),
            Ok(report) => Ok(report),
            Err(error) => Err(OciError::Setup(format!("the container's process said {error}"))),
        }
    }

    /// It stands: from here on it lives by itself.
    fn done(mut self, pid_file: Option<&Path>) -> Result<Created, OciError> {
        if let (Some(path), Some(record)) = (pid_file, &self.record) {
            write_pid(path, record.pid)?;
        }
        self.order(&Order::GoOn { pid: self.record.as_ref().map_or(0, |record| record.pid) })?;
        let (Some(entry), Some(record), Some(store)) =
            (self.entry.take(), self.record.take(), self.store.take())
        else {
            return Err(OciError::NotRunning);
        };
        self.init = None;
        Ok(Created { entry, record, store })
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        if let Some((init, _)) = self.init.take() {
            // with the first process of a pid namespace the kernel kills all others
            let _ = rustix::process::pidfd_send_signal(&init, rustix::process::Signal::KILL);
            supervise::reap_within(init.as_fd(), stop::PATIENCE);
        }
        let (Some(entry), Some(store)) = (self.entry.take(), self.store.take()) else { return };
        let cleared = match self.record.take() {
            Some(record) => stop::clear(&store, self.levels.as_ref(), &record).and_then(|()| entry.remove()),
            None => entry.remove(),
        };
        if let Err(error) = cleared {
            log::warn!("{error}; delete --force tries again");
        }
    }
}

impl Record {
    fn new(id: String, bundle: Bundle, mount: PathBuf, hierarchies: &Hierarchies, config: &Config) -> Self {
        let cgroup = &config.cgroup;
        Self {
            version: 1,
            id,
            pid: 0,
            start_time: 0,
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            groups: hierarchies
                .0
                .iter()
                .map(|hierarchy| Group {
                    path: hierarchy.mount.join(cgroup),
                    v2: hierarchy.v2,
                    controllers: hierarchy.names.clone(),
                })
                .collect(),
            mount,
            scope: config.scope.clone(),
            registered: None,
            filtered: false,
            bundle: bundle.path,
            spec: bundle.spec,
        }
    }
}

/// The name under which the daemon knows a container: its own, or one made from it where the daemon
/// takes fewer characters.
fn daemon_name(id: &str) -> ContainerName {
    ContainerName::new(id)
        .or_else(|_| {
            let hex: String = id.bytes().take(60).map(|byte| format!("{byte:02x}")).collect();
            ContainerName::new(&format!("oci-{hex}"))
        })
        // never: `oci-` and at most 120 hex digits is a name
        .unwrap_or_else(|_| crate::spec::random_name())
}

/// The address of the socket that `start` connects to, good while the descriptor is open: its path
/// is longer than a socket's address may be where docker has its states.
pub fn socket(entry: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let directory = crate::rootfs::mounts::open_host(entry)?;
    Ok((Path::new(&crate::rootfs::mounts::proc_path(&directory)).join(START), directory))
}

fn listen(entry: &Path) -> Result<UnixListener, OciError> {
    socket(entry)
        .and_then(|(path, _directory)| UnixListener::bind(path))
        .map_err(|source| OciError::io("make the socket in", entry, source))
}

/// A time namespace for the container's process, with its clocks.
fn time(config: &Config) -> Result<(), OciError> {
    if config.namespaces.new & CLONE_NEWTIME == 0 {
        return Ok(());
    }
    let what = "make a time namespace";
    let made = match config.namespaces.offsets {
        None => namespaces::new_time().doing(what)?,
        Some(offsets) => namespaces::new_time_with(offsets).doing(what)?,
    };
    if made {
        Ok(())
    } else {
        Err(OciError::config("linux.namespaces", "this kernel has no time namespaces"))
    }
}

/// Writes a process's number: a reader sees no half of it. The directory may be another user's, who
/// must not be able to have another file written.
pub fn write_pid(path: &Path, pid: i32) -> Result<(), OciError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let write = || {
        let _ = std::fs::remove_file(&new); // of a process of that number that was killed
        // O_EXCL follows no link
        let mut file = std::fs::File::options().write(true).create_new(true).open(&new)?;
        io::Write::write_all(&mut file, pid.to_string().as_bytes())?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&new);
        OciError::io("write", path, source)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, file) = (dir.path().join("victim"), dir.path().join("pid"));
        std::fs::write(&victim, "precious").unwrap();
        for name in [".pid.new".to_owned(), format!(".pid.{}.new", std::process::id()), "pid".to_owned()] {
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        super::write_pid(&file, 42).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "42");
        assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
}
