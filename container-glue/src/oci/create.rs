//! `create`, `start` and `run`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI32;

use oci_spec::runtime::{Hooks, Spec};
use ownproc::model::{PolicyChange, PolicyChoices};

use super::args::{CreateArgs, Global, RunArgs};
use super::builder::{BuildInputs, Builder, Created, socket};
use super::bundle::Bundle;
use super::config::{self, Config};
use super::relay::{self, Relay};
use super::store::{Entry, Record, START, Status, Store};
use super::sysinfo::Beside;
use super::tree::Sources;
use super::{Doing, OciError, console, hooks, inspect, process, rootless, scope, stop};
use crate::args::DaemonMode;
use crate::daemon::{self};
use crate::groups::Hierarchies;
use crate::preflight::{self, PreflightError};
use crate::supervise::{self, Signals, Until};

/// Annotation that says what the virtual files show, as `launch --view` does.
const VIEW: &str = "io.ownproc.view";

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
    let parts = BuildInputs {
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
    Builder::new(store, entry, levels, daemon).finish(&args.id, parts, mount, args.pid_file.as_deref())
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

/// Descriptors that the container's process gets beside the first three: sockets of systemd's
/// first.
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

/// Descriptors of socket activation that are meant for this process (sd_listen_fds(3)). They are
/// passed on.
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0)
}
