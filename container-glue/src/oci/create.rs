//! `create`, `start` and `run`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI32;
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::{Hooks, LinuxResources, Spec};
use ownproc::model::{ContainerName, PolicyChange, PolicyChoices};

use super::args::{CreateArgs, Global, RunArgs};
use super::bundle::Bundle;
use super::config::namespaces::CLONE_NEWTIME;
use super::config::{self, Config};
use super::extras::Extras;
use super::init::{self, Init, Order, Report};
use super::join::{self, Joined};
use super::relay::{self, Relay};
use super::store::{Entry, Group, Levels, Record, START, Status, Store, identity};
use super::sysinfo::Beside;
use super::tree::Sources;
use super::{Doing, OciError, console, freezer, hooks, inspect, limits, process, rootless, scope, stop};
use crate::args::DaemonMode;
use crate::daemon::{self, Daemon};
use crate::groups::{GroupError, Groups, Hierarchies};
use crate::namespaces::{self, Child};
use crate::preflight::{self, PreflightError};
use crate::supervise::{self, Signals, Until};
use crate::sync::{self, Channel};

/// Annotation that says what the virtual files show, as `launch --view` does.
const VIEW: &str = "io.ownproc.view";

/// A container that waits for `start`.
pub struct Created {
    /// Its directory, locked.
    pub entry: Entry,
    /// What is known of it.
    pub record: Record,
    /// Where it is kept.
    pub store: Store,
}

/// What a container is made from, beside its configuration.
pub struct Parts<'a> {
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

/// `create`.
pub fn create(global: &Global, args: &CreateArgs) -> Result<(), OciError> {
    make(global, args, None).map(drop)
}

/// `start`.
pub fn start(global: &Global, id: &str) -> Result<u8, OciError> {
    let signals = Signals::block().doing("block signals")?;
    let entry = Store::open(&global.root)?.entry(id)?;
    let record = entry.read()?;
    let connection = connect(&entry, &record)?;
    drop(entry); // the container's process may be held up by others in its pid namespace
    match hear(&signals, connection, &record)? {
        Until::Done(result) => result.map(|()| 0),
        Until::Stopped(signal) => Ok(supervise::code_of_signal(signal)),
        Until::HeldUp => Err(OciError::HeldUp(id.to_owned())),
    }
}

/// `run`: the exit code of the container, or 0 where it is left running.
pub fn run(global: &Global, args: &RunArgs) -> Result<u8, OciError> {
    // before the container is there, so that none is lost
    let signals = Signals::block().doing("block signals")?;
    // for whoever runs it by hand
    let by_hand = args.create.console_socket.is_none() && !args.detach && relay::size().is_some();
    let relay = relay::wanted(by_hand)?;
    let Created { entry, record, store } = make(global, &args.create, relay.as_ref())?;
    let started = record.alive().ok_or(OciError::NotRunning).and_then(|pidfd| {
        let connection = connect(&entry, &record)?;
        drop(entry); // others may look at it and signal it from here on
        Ok((pidfd, hear(&signals, connection, &record)?))
    });
    let code = match started {
        Ok((_, Until::Stopped(signal))) => Ok(supervise::code_of_signal(signal)),
        Ok((_, Until::HeldUp)) => Err(OciError::HeldUp(args.create.id.clone())),
        Ok((_, Until::Done(Err(error)))) | Err(error) => Err(error),
        Ok(_) if args.detach => return Ok(0),
        Ok((pidfd, _)) => match relay {
            Some(relay) if record.has_terminal() => relay.run(pidfd.as_fd(), &signals),
            _ => signals.relay(pidfd.as_fd()),
        }
        .doing("wait for the container"),
    };
    if !args.keep {
        end(&store, &args.create.id)?;
    }
    code
}

/// Takes a container away whose first process has ended or shall; nothing where somebody else did.
pub fn end(store: &Store, id: &str) -> Result<(), OciError> {
    match store.entry(id) {
        Ok(entry) => stop::end_and_take_away(store, entry),
        Err(OciError::NoContainer(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Connects to the process that waits.
pub fn connect(entry: &Entry, record: &Record) -> Result<UnixStream, OciError> {
    let status = entry.status(record);
    if status != Status::Created {
        let hint = "only one that was created can be started";
        return Err(OciError::Status { id: record.id.clone(), is: status.name(), hint });
    }
    let connection = socket(&entry.path)
        .and_then(|(path, _directory)| UnixStream::connect(path))
        .map_err(|source| OciError::io("connect to", entry.path.join(START), source))?;
    let _ = std::fs::remove_file(entry.path.join(START));
    Ok(connection)
}

/// [`hear_from`], unless a signal ends this program.
pub fn hear(
    signals: &Signals,
    connection: UnixStream,
    record: &Record,
) -> Result<Until<Result<(), OciError>>, OciError> {
    let (record, process) = (record.clone(), AtomicI32::new(record.pid));
    signals.until_stopped(&process, move || hear_from(&connection, &record)).doing("wait for the container")
}

/// Hears whether the program runs.
fn hear_from(connection: &UnixStream, record: &Record) -> Result<(), OciError> {
    let hearing = "hear from the container's process";
    let mut said = String::new();
    if !record.filtered && config::sysinfo::filter(&record.spec)?.is_some() {
        said = Beside::new(&record.mount).serve(connection).doing(hearing)?;
    } else {
        io::Read::read_to_string(&mut io::Read::take(connection, 65_536), &mut said).doing(hearing)?;
    }
    if !said.is_empty() {
        // what is said in the container may be said by the container
        return Err(OciError::Setup(said.replace(|c: char| c.is_control(), " ")));
    }
    if let Some(hooks) = record.spec.hooks() {
        let state = inspect::state(record, Status::Running).to_string();
        if let Err(error) = hooks::run(hooks.poststart(), &state) {
            log::warn!("poststart: {error}"); // the container runs (runtime.md, step 9)
        }
    }
    Ok(())
}

/// Where groups can be made.
fn hierarchies() -> Result<Hierarchies, OciError> {
    preflight::rights()?;
    let proc = Path::new("/proc");
    let hierarchies = Hierarchies::discover(proc)
        .map_err(|source| PreflightError::Read { path: proc.join("self/mountinfo"), source })?;
    if hierarchies.0.is_empty() {
        return Err(PreflightError::NoCgroups.into());
    }
    Ok(hierarchies)
}

fn make(global: &Global, args: &CreateArgs, relay: Option<&Relay>) -> Result<Created, OciError> {
    let bundle = Bundle::open(&args.bundle)?;
    let config = Config::new(&bundle.spec, &bundle.path, &args.id, global.of_systemd())?;
    if relay.is_none() {
        console::check(config.process.terminal, args.console_socket.as_deref())?;
    }
    if let Some(hooks) = bundle.spec.hooks() {
        check_hooks(hooks)?;
    }
    let view = view(&bundle.spec)?;
    if config.scope.is_some() {
        scope::check()?;
    }
    preflight::kernel()?;
    let mount = mount_point();
    let of_user = rootless::asked(global)?;
    let (hierarchies, daemon) = if of_user {
        rootless::check(&config, &bundle.spec)?;
        log::warn!("an ordinary user's container: without limits, and its /proc shows the host's numbers");
        (Hierarchies(Vec::new()), None)
    } else {
        // before anything of the container exists: the daemon outlives this process and must inherit nothing
        (hierarchies()?, Some(daemon::find_or_start(&mount, DaemonMode::Auto)?))
    };
    // a mount namespace that is joined has its root already, and a user has the right to copy mounts in his own alone
    let sources = (config.namespaces.joined() & libc::CLONE_NEWNS == 0 && !of_user)
        .then(|| Sources::open(&config, false).map_err(|error| OciError::Setup(error.to_string())))
        .transpose()?;
    let console = match (relay, args.console_socket.as_deref()) {
        (_, Some(path)) => Some(console::connect(path)?),
        (Some(relay), None) if config.process.terminal => Some(relay.receiver()?),
        _ => None,
    };
    let parts = Parts {
        config: &config,
        bundle,
        view,
        hierarchies: &hierarchies,
        sources,
        console,
        no_pivot: args.no_pivot,
        keep_keyring: args.no_new_keyring,
        preserved: preserved(args),
        listening: listen_fds(),
        extras: None,
    };
    let store = Store::open(&global.root)?;
    let entry = store.claim(&args.id)?;
    let levels = store.levels()?;
    Making::new(store, entry, levels, daemon).finish(&args.id, parts, mount, args.pid_file.as_deref())
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

/// What is there of a container that is being made. Taken back when dropped.
pub struct Making {
    store: Option<Store>,
    entry: Option<Entry>,
    levels: Option<Levels>,
    record: Option<Record>,
    /// None for an ordinary user.
    daemon: Option<Daemon>,
    init: Option<(OwnedFd, Channel)>,
}

impl Making {
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
        parts: Parts<'_>,
        mount: PathBuf,
        pid_file: Option<&Path>,
    ) -> Result<Created, OciError> {
        self.make(id, parts, mount)?;
        self.done(pid_file)
    }

    fn make(&mut self, id: &str, parts: Parts<'_>, mount: PathBuf) -> Result<(), OciError> {
        let Parts {
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
        // delete kills all that is in them: groups in which somebody lives already are not this container's
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

    /// Takes the first process for the container, which `maker` has set up. That ends when `join` is dropped.
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

impl Drop for Making {
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

/// The name under which the daemon knows a container: its own, or one made from it where the daemon takes fewer characters.
fn daemon_name(id: &str) -> ContainerName {
    ContainerName::new(id)
        .or_else(|_| {
            let hex: String = id.bytes().take(60).map(|byte| format!("{byte:02x}")).collect();
            ContainerName::new(&format!("oci-{hex}"))
        })
        // never: `oci-` and at most 120 hex digits is a name
        .unwrap_or_else(|_| crate::spec::random_name())
}

/// The address of the socket that `start` connects to, good while the descriptor is open: its path is longer than a socket's
/// address may be where docker has its states.
fn socket(entry: &Path) -> io::Result<(PathBuf, OwnedFd)> {
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

fn view(spec: &Spec) -> Result<PolicyChoices, OciError> {
    let mut choices = PolicyChoices::default();
    let Some(text) = spec.annotations().as_ref().and_then(|all| all.get(VIEW)) else { return Ok(choices) };
    let bad = |error: ownproc::model::PolicyError| {
        OciError::config(format!("annotations.{VIEW}"), error.to_string())
    };
    for change in PolicyChange::parse_all(std::slice::from_ref(text)).map_err(bad)? {
        change.apply(&mut choices).map_err(bad)?;
    }
    Ok(choices)
}

fn check_hooks(all: &Hooks) -> Result<(), OciError> {
    #[allow(deprecated)] // still in configurations
    let prestart = all.prestart();
    hooks::check("hooks.prestart", prestart)?;
    hooks::check("hooks.createRuntime", all.create_runtime())?;
    hooks::check("hooks.createContainer", all.create_container())?;
    hooks::check("hooks.startContainer", all.start_container())?;
    hooks::check("hooks.poststart", all.poststart())?;
    hooks::check("hooks.poststop", all.poststop())
}

/// Descriptors that the container's process gets beside the first three: sockets of systemd's first.
fn preserved(args: &CreateArgs) -> u32 {
    args.preserve_fds.saturating_add(listen_fds())
}

/// Checks what the caller wants to pass on, and closes what else it had open.
pub fn take_passed(args: &CreateArgs) -> Result<(), OciError> {
    let listening = listen_fds();
    process::check_passed("LISTEN_FDS", 3, listening)?;
    process::check_passed("--preserve-fds", listening.saturating_add(3), args.preserve_fds)?;
    process::close_all_but(preserved(args), &[]);
    Ok(())
}

/// Where the daemon's tree is: as for `launch`.
pub fn mount_point() -> PathBuf {
    let variable = std::env::var_os("OWNPROC_MOUNT").map(PathBuf::from);
    variable.filter(|path| path.is_absolute()).unwrap_or_else(|| crate::spec::DEFAULT_MOUNT.into())
}

/// Descriptors of socket activation that are meant for this process (sd_listen_fds(3)). They are passed on.
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0)
}

/// Writes a process's number: a reader sees no half of it. The directory may be another user's, who must not be able to have
/// another file written.
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
