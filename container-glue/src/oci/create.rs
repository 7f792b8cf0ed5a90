//! `create`, `start` and `run`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Hooks, LinuxResources, Spec};
use ownproc::model::{ContainerName, PolicyChange, PolicyChoices};

use super::args::{CreateArgs, Global, RunArgs};
use super::bundle::Bundle;
use super::config::Config;
use super::config::namespaces::CLONE_NEWTIME;
use super::init::{self, Init, Order, Report};
use super::store::{Entry, Group, Record, START, Store, identity};
use super::tree::Sources;
use super::{Doing, OciError, console, freezer, hooks, inspect, limits, process, scope, stop};
use crate::args::DaemonMode;
use crate::daemon::{self, Daemon};
use crate::groups::{GroupError, Groups, Hierarchies};
use crate::namespaces::{self, Child};
use crate::preflight::{self, PreflightError};
use crate::supervise::Signals;
use crate::sync::{self, Channel};

/// Annotation that says what the virtual files show, as `launch --view` does.
const VIEW: &str = "io.ownproc.view";

/// A container that waits for `start`.
struct Created {
    entry: Entry,
    record: Record,
}

/// `create`.
pub fn create(global: &Global, args: &CreateArgs) -> Result<(), OciError> {
    make(global, args).map(drop)
}

/// `start`.
pub fn start(global: &Global, id: &str) -> Result<(), OciError> {
    let entry = Store::open(&global.root)?.entry(id)?;
    let record = entry.read()?;
    begin(&entry, &record)
}

/// `run`: the exit code of the container, or 0 where it is left running.
pub fn run(global: &Global, args: &RunArgs) -> Result<u8, OciError> {
    // before the container is there, so that none is lost
    let signals = Signals::block().doing("block signals")?;
    let Created { entry, record } = make(global, &args.create)?;
    let started = record.alive().ok_or(OciError::NotRunning).and_then(|pidfd| {
        begin(&entry, &record)?;
        Ok(pidfd)
    });
    drop(entry); // others may look at it and signal it meanwhile
    let code = match started {
        Ok(_) if args.detach => return Ok(0),
        Ok(pidfd) => signals.relay(pidfd.as_fd()).doing("wait for the container"),
        Err(error) => Err(error),
    };
    if !args.keep {
        stop::delete_one(global, &args.create.id, true)?;
    }
    code
}

/// Connects to the process that waits, and hears whether its program runs.
fn begin(entry: &Entry, record: &Record) -> Result<(), OciError> {
    use super::store::Status;
    let status = entry.status(record);
    if status != Status::Created {
        let hint = "only one that was created can be started";
        return Err(OciError::Status { id: record.id.clone(), is: status.name(), hint });
    }
    let connection = UnixStream::connect(entry.path.join(START))
        .map_err(|source| OciError::io("connect to", entry.path.join(START), source))?;
    let _ = std::fs::remove_file(entry.path.join(START));
    let mut said = String::new();
    io::Read::read_to_string(&mut io::Read::take(&connection, 65_536), &mut said)
        .doing("hear from the container's process")?;
    if !said.is_empty() {
        return Err(OciError::Setup(said));
    }
    if let Some(hooks) = record.spec.hooks() {
        let state = inspect::state(record, Status::Running).to_string();
        if let Err(error) = hooks::run(hooks.poststart(), &state) {
            log::warn!("poststart: {error}"); // the container runs (runtime.md, step 9)
        }
    }
    Ok(())
}

fn make(global: &Global, args: &CreateArgs) -> Result<Created, OciError> {
    process::close_on_exec(args.preserve_fds.saturating_add(listen_fds())).doing("mark descriptors")?;
    let bundle = Bundle::open(&args.bundle)?;
    let config = Config::new(&bundle.spec, &bundle.path, &args.id, global.of_systemd())?;
    console::check(config.process.terminal, args.console_socket.as_deref())?;
    if let Some(hooks) = bundle.spec.hooks() {
        check_hooks(hooks)?;
    }
    let view = view(&bundle.spec)?;
    if config.scope.is_some() {
        scope::check()?;
    }
    preflight::rights()?;
    preflight::kernel()?;
    let proc = Path::new("/proc");
    let hierarchies = Hierarchies::discover_all(proc)
        .map_err(|source| PreflightError::Read { path: proc.join("self/mountinfo"), source })?;
    if hierarchies.0.is_empty() {
        return Err(PreflightError::NoCgroups.into());
    }
    // before anything of the container exists: it outlives this process and must inherit nothing
    let daemon = daemon::find_or_start(&mount_point(), DaemonMode::Auto)?;
    let sources = Sources::open(&config).map_err(|error| OciError::Setup(error.to_string()))?;
    let console = args.console_socket.as_deref().map(console::connect).transpose()?;

    let store = Store::open(&global.root)?;
    let entry = store.claim(&args.id)?;
    let mut making = Making { store, entry: Some(entry), record: None, daemon, init: None };
    let made = making.make(&config, bundle, args, view, &hierarchies, sources, console);
    match made {
        Ok(()) => making.done(args),
        Err(error) => Err(error),
    }
}

/// Makes the groups and sets their limits.
fn fill(groups: &Groups, config: &Config, record: &Record) -> Result<(), OciError> {
    groups.make(config.cgroup.parent().unwrap_or(Path::new("")), config.scope.is_some())?;
    limits::apply(resources(record), &record.groups)
}

fn resources(record: &Record) -> Option<&LinuxResources> {
    record.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref())
}

/// What is there of a container that is being made. Taken back when dropped.
struct Making {
    store: Store,
    entry: Option<Entry>,
    record: Option<Record>,
    daemon: Daemon,
    init: Option<(OwnedFd, Channel)>,
}

impl Making {
    #[allow(clippy::too_many_arguments)] // each of another kind, used once
    fn make(
        &mut self,
        config: &Config,
        bundle: Bundle,
        args: &CreateArgs,
        view: PolicyChoices,
        hierarchies: &Hierarchies,
        sources: Sources,
        console: Option<OwnedFd>,
    ) -> Result<(), OciError> {
        let entry = self.entry.take().ok_or(OciError::NotRunning)?;
        let entry = self.entry.insert(entry);
        let listener = listen(&entry.path)?;
        let mut record = Record::new(args.id.clone(), bundle, hierarchies, config);
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
        if config.scope.is_none() {
            fill(&groups, config, &record)?;
        }

        time(config)?;
        let join = joined(config)?;
        let (ours, theirs) = sync::channel().doing("make a socket pair")?;
        let leaves: Vec<_> = groups.leaves().collect();
        let state = {
            let record = record.clone();
            move |pid: i32| {
                let record = Record { pid, ..record.clone() };
                inspect::state(&record, super::store::Status::Creating).to_string()
            }
        };
        let notify = match config.seccomp.as_ref().and_then(|filter| filter.listener_path.as_deref()) {
            Some(path) => Some(console::connect(path)?),
            None => None,
        };
        // systemd makes a scope around a process, so that there is none to be born in
        let v2_group = if config.scope.is_none() { groups.v2_fd()? } else { None };
        let flags = config.namespaces.new & !libc::CLONE_NEWCGROUP & !CLONE_NEWTIME;
        let hooks = record.spec.hooks().clone();
        let mut sources = Some(sources);
        let Child { pid, pidfd } = namespaces::spawn_with(flags, v2_group.as_ref().map(AsFd::as_fd), || {
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
                no_pivot: args.no_pivot,
                keep_keyring: args.no_new_keyring,
            };
            sources.take().map_or(1, |sources| init::main(&init, sources))
        })
        .doing("start the container's process in new namespaces")?;
        drop(theirs);
        self.init = Some((pidfd.try_clone().doing("keep a descriptor")?, ours));
        if let Some((uids, gids)) = &config.namespaces.maps {
            for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
                let path = format!("/proc/{pid}/{file}");
                std::fs::write(&path, map).map_err(|source| OciError::io("write", path, source))?;
            }
        }
        if let Some(scope) = &config.scope {
            let limits = limits::of_systemd(resources(&record), &record.groups)?;
            scope.start(&record.id, pid, &config.cgroup, limits)?;
            fill(&groups, config, &record)?;
        }
        groups.attach_v1(pid)?;
        process::limit(pid, &config.process).map_err(|error| OciError::Setup(error.to_string()))?;
        record.pid = pid;
        record.start_time = identity(pid).unwrap_or(0);
        let name = daemon_name(&record.id);
        record.registered = Some(name.clone());
        let tree = self.daemon.register(&name, view, pidfd.as_fd(), &groups.fds()?)?;
        self.record = Some(record.clone());
        entry.write(&record)?;
        self.order(&Order::Go { files: tree, pid })?;
        if let Some(hooks) = &hooks {
            self.expect("Mounted")?;
            let state = inspect::state(&record, super::store::Status::Creating).to_string();
            #[allow(deprecated)] // still in configurations, and has to be run
            hooks::run(hooks.prestart(), &state)?;
            hooks::run(hooks.create_runtime(), &state)?;
            self.order(&Order::GoOn)?;
        }
        self.expect("Ready")
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
        let Some((_, channel)) = &self.init else { return Ok(()) };
        let message = channel.receive().doing("hear from the container's process")?;
        let Some(message) = message else {
            let why = "the container's process was killed while it was set up (is the memory limit too low for it?)";
            return Err(OciError::Setup(why.to_owned()));
        };
        match serde_json::from_slice(&message) {
            Ok(Report::Failed(why)) => Err(OciError::Setup(why)),
            Ok(report) if format!("{report:?}") == wanted => Ok(()),
            other => Err(OciError::Setup(format!("the container's process said {other:?}"))),
        }
    }

    /// It stands: from here on it lives by itself.
    fn done(mut self, args: &CreateArgs) -> Result<Created, OciError> {
        if let (Some(path), Some(record)) = (&args.pid_file, &self.record) {
            write_pid(path, record.pid)?;
        }
        self.order(&Order::GoOn)?;
        self.init = None;
        let (Some(entry), Some(record)) = (self.entry.take(), self.record.take()) else {
            return Err(OciError::NotRunning);
        };
        self.daemon.keep();
        Ok(Created { entry, record })
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some((init, _)) = self.init.take() {
            // with the first process of a pid namespace the kernel kills all others
            let _ = rustix::process::pidfd_send_signal(&init, rustix::process::Signal::KILL);
            let _ = crate::supervise::exit_code(init.as_fd());
        }
        let Some(entry) = self.entry.take() else { return };
        let cleared = match self.record.take() {
            Some(record) => stop::clear(&self.store, &record).and_then(|()| entry.remove()),
            None => entry.remove(),
        };
        if let Err(error) = cleared {
            log::warn!("{error}; delete --force tries again");
        }
    }
}

impl Record {
    fn new(id: String, bundle: Bundle, hierarchies: &Hierarchies, config: &Config) -> Self {
        let cgroup = &config.cgroup;
        let parent = cgroup.parent().unwrap_or(Path::new(""));
        let mut parents = Groups::missing_parents(hierarchies, parent);
        if config.scope.is_some() {
            // there systemd makes its slices, and takes them away
            let of_v2 = |path: &PathBuf| hierarchies.0.iter().any(|h| h.v2 && path.starts_with(&h.mount));
            parents.retain(|path| !of_v2(path));
        }
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
            parents,
            scope: config.scope.clone(),
            registered: None,
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

/// The socket that `start` connects to; its path may be longer than a socket's address.
fn listen(entry: &Path) -> Result<UnixListener, OciError> {
    let fail = |source| OciError::io("make the socket in", entry, source);
    let directory = crate::rootfs::mounts::open_host(entry).map_err(fail)?;
    UnixListener::bind(Path::new(&crate::rootfs::mounts::proc_path(&directory)).join(START)).map_err(fail)
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

/// Opens the namespaces that are joined; those that children are born into are joined here.
fn joined(config: &Config) -> Result<Vec<(i32, OwnedFd)>, OciError> {
    let mut found = Vec::new();
    for (kind, path) in &config.namespaces.join {
        let file =
            std::fs::File::open(path).map_err(|source| OciError::io("join the namespace", path, source))?;
        let file = OwnedFd::from(file);
        if kind & (libc::CLONE_NEWPID | CLONE_NEWTIME) != 0 {
            setns(&file, CloneFlags::from_bits_retain(*kind))
                .doing(format!("join the namespace {}", path.display()))?;
        }
        found.push((*kind, file));
    }
    Ok(found)
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

/// Where the daemon's tree is: as for `launch`.
pub fn mount_point() -> PathBuf {
    let variable = std::env::var_os("OWNPROC_MOUNT").map(PathBuf::from);
    variable.filter(|path| path.is_absolute()).unwrap_or_else(|| crate::spec::DEFAULT_MOUNT.into())
}

/// Descriptors of socket activation (sd_listen_fds(3)) are passed on, too.
fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Writes a process's number: a reader sees no half of it.
pub fn write_pid(path: &Path, pid: i32) -> Result<(), OciError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|source| OciError::io("write", path, source))
}
