//! `launch`: what was asked becomes an OCI configuration, which takes the same road as a bundle (`oci::create`).

mod claim;
mod config;
mod host;
mod profile;
mod users;

use std::ffi::CString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ownproc::model::ContainerName;

use crate::daemon::{self, DaemonError};
use crate::oci::OciError;
use crate::oci::builder::{BuildInputs, Builder, Created};
use crate::oci::bundle::Bundle;
use crate::oci::config::Config;
use crate::oci::create;
use crate::oci::extras::{Extras, Stdio};
use crate::oci::relay::{self, Relay};
use crate::oci::store::Store;
use crate::oci::tree::Sources;
use crate::preflight::{self, PreflightError};
use crate::spec::Spec;
use crate::supervise::{self, Signals, Until};

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// See [`PreflightError`].
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// See [`DaemonError`].
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// See [`OciError`].
    #[error(transparent)]
    Oci(#[from] OciError),
    /// --name
    #[error(
        "a container named {0} is there already: choose another --name, or ownproc-run delete --force {0}"
    )]
    Taken(ContainerName),
    /// Groups of that name that nobody here made.
    #[error("group {} exists already; remove it or choose another --name", .0.display())]
    TakenGroup(PathBuf),
    /// --pin
    #[error("--pin: {wanted} CPUs are needed, but there are only these to choose from: {has}; lower --cpus")]
    Pin {
        /// CPUs needed.
        wanted: usize,
        /// What there is.
        has: String,
    },
    /// --user
    #[error("--user {user}: {reason}")]
    User {
        /// The flag's value.
        user: String,
        /// What is wrong.
        reason: String,
    },
    /// --device or --io-max
    #[error("device {}: {reason}", path.display())]
    Device {
        /// Of the host.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A system call of the launcher.
    #[error("cannot {what}: {source}")]
    System {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::System { what, source }
}

/// Runs the container, in the foreground to its end; the exit code to end with. `root`: directory of the containers' states.
pub fn run(root: &Path, spec: &Spec) -> Result<u8, LaunchError> {
    match attempt(root, spec) {
        // an idle daemon ended between two of our calls: the next one finds none and starts it
        Err(
            LaunchError::Oci(OciError::Daemon(DaemonError::Ending))
            | LaunchError::Daemon(DaemonError::Ending),
        ) => attempt(root, spec),
        other => other,
    }
}

fn attempt(root: &Path, spec: &Spec) -> Result<u8, LaunchError> {
    let hierarchies = preflight::check(spec)?;
    // before anything of the container exists: the daemon outlives it and must inherit nothing
    let daemon = daemon::find_or_start(&spec.mount, spec.daemon)?;
    let terminal = if spec.detached || spec.terminal { None } else { Terminal::new() };
    let stdio = match &terminal {
        _ if spec.detached => Stdio::Nowhere,
        _ if spec.terminal => Stdio::Terminal,
        shared => Stdio::Callers { terminal: shared.is_some() },
    };
    let relay = relay::wanted(spec.terminal)?;
    let signals = Signals::block().map_err(system("block signals"))?;
    hint(spec);

    let store = Store::open(root)?;
    // the throw-away layer is mounted there
    Store::open(Path::new(crate::oci::args::DEFAULT_ROOT))?;
    let claim::Claimed { entry, levels, daemon, limits } = claim::claim(spec, &hierarchies, &store, daemon)?;
    // from here on whatever fails gives the name back
    let making = Builder::new(store, entry, levels, Some(daemon));
    let name = if terminal.is_some() { terminal_name() } else { None };
    let host = config::Host {
        time: Path::new("/proc/self/ns/time_for_children").exists(),
        whole_trees: crate::rootfs::mounts::can_set_below(),
        terminal: name.as_deref(),
        spared: std::fs::read_to_string("/proc/self/oom_score_adj")
            .is_ok_and(|text| text.trim_start().starts_with('-')),
        user: host::user(spec)?,
        devices: host::devices(&spec.devices)?,
        block_io: host::block_io(&spec.io_max)?,
    };
    let extras = Extras { layer: spec.rootfs.is_none(), limits, stdio, mask: signals.caller_mask };
    let created = make(spec, &host, &extras, &hierarchies, making, relay.as_ref())?;
    follow(spec, created, &signals, terminal.as_ref(), relay)
}

/// By the common road, to the container that waits for its start.
fn make(
    spec: &Spec,
    host: &config::Host<'_>,
    extras: &Extras,
    hierarchies: &crate::groups::Hierarchies,
    making: Builder,
    relay: Option<&Relay>,
) -> Result<Created, LaunchError> {
    let path = PathBuf::from("/");
    let document = config::configuration(spec, &extras.limits, host)
        .map_err(|source| OciError::Json { path: "config.json".into(), source })?;
    let mut config = Config::new(&document, &path, spec.name.as_str(), false)?;
    // a configuration cannot hold words that are not UTF-8
    let word = |word: &std::ffi::OsString| CString::new(word.as_bytes());
    config.process.args = spec
        .command
        .iter()
        .map(word)
        .collect::<Result<_, _>>()
        .map_err(|error| system("pass the command on")(error.into()))?;
    config.process.size = relay::size();
    let mut sources =
        Sources::open(&config, extras.layer).map_err(|error| OciError::Setup(error.to_string()))?;
    sources.no_devices = true;
    let parts = BuildInputs {
        config: &config,
        bundle: Bundle { path, spec: document },
        view: spec.view,
        hierarchies,
        sources: Some(sources),
        console: relay.map(Relay::receiver).transpose()?,
        no_pivot: false,
        keep_keyring: false,
        preserved: 0,
        listening: 0,
        extras: Some(extras),
    };
    Ok(making.finish(spec.name.as_str(), parts, spec.mount.clone(), None)?)
}

/// Starts the command, and waits for it unless it shall run on by itself.
fn follow(
    spec: &Spec,
    created: Created,
    signals: &Signals,
    terminal: Option<&Terminal>,
    relay: Option<Relay>,
) -> Result<u8, LaunchError> {
    let Created { entry, record, store } = created;
    let init = record.alive().ok_or(OciError::NotRunning);
    let started = init.and_then(|init| {
        signals
            .catch_up(init.as_fd())
            .map_err(|source| OciError::System { what: "pass on a signal".into(), source })?;
        let connection = create::connect(&entry, &record)?;
        // under the lock: nobody starts a process beside process 1 before that has given up its
        // rights
        Ok((create::hear(signals, connection, &record)?, init))
    });
    drop(entry); // from here on others may look at it and signal it
    let code = match started {
        Ok((Until::Stopped(signal), _)) => Ok(supervise::code_of_signal(signal)),
        Ok((Until::HeldUp, _)) => Err(OciError::HeldUp(spec.name.to_string()).into()),
        Ok((Until::Done(Ok(())), init)) if spec.detached => {
            println!("{}", spec.name);
            if spec.remove {
                remove_later(&store, &spec.name, &init, signals)?;
            }
            return Ok(0);
        }
        Ok((Until::Done(Ok(())), init)) => match relay {
            Some(relay) => relay.run(init.as_fd(), signals),
            None => signals.supervise(init.as_fd()),
        }
        .map_err(system("wait for the container")),
        // process 1 ends with the code that the command's failure has
        Ok((Until::Done(Err(OciError::Setup(said))), init)) => {
            eprintln!("ownproc-run: {said}");
            signals.supervise(init.as_fd()).map_err(system("wait for the container"))
        }
        Ok((Until::Done(Err(error)), _)) | Err(error) => Err(error.into()),
    };
    let taken = create::end(&store, spec.name.as_str());
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    if let Err(error) = taken {
        log::warn!("{error}; ownproc-run delete --force {} tries again", spec.name);
    }
    code
}

/// For `-d --rm`: a process that waits for the container's end, in the background.
fn remove_later(
    store: &Store,
    name: &ContainerName,
    init: &OwnedFd,
    signals: &Signals,
) -> Result<(), LaunchError> {
    use nix::unistd::ForkResult;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }
        .map_err(|error| system("start the process that deletes it")(error.into()))?
    {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let _ = nix::unistd::setsid();
            crate::command::reset_signals(&signals.caller_mask);
            let null = std::fs::File::options().read(true).write(true).open("/dev/null");
            for number in 0..3 {
                // SAFETY: 0 to 2 belong to nobody else in this process, which writes to none of them.
                null.as_ref()
                    .map(|null| unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(null), number) })
                    .ok();
            }
            let mut fds = [nix::poll::PollFd::new(init.as_fd(), nix::poll::PollFlags::POLLIN)];
            while nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE) == Err(nix::Error::EINTR) {}
            let code = match store.entry(name.as_str()) {
                Ok(entry) => i32::from(crate::oci::stop::end_and_take_away(store, entry).is_err()),
                Err(_) => 0,
            };
            // SAFETY: ends the process without running its parent's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// The caller's terminal by its name in this mount namespace, if it has one: nothing but its name is missed else.
fn terminal_name() -> Option<PathBuf> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter();
    let terminal = standard.find(IsTerminal::is_terminal)?;
    nix::unistd::ttyname(terminal).ok().filter(|name| crate::rootfs::mounts::open_host(name).is_ok())
}

/// For people at a terminal: a quota alone lowers the CPUs that files show, not those that sched_getaffinity does.
fn hint(spec: &Spec) {
    let quota_alone = spec.limits.cpus.is_some() && spec.limits.cpuset_cpus.is_none() && !spec.pin;
    if quota_alone && io::stderr().is_terminal() {
        eprintln!(
            "ownproc-run: hint: add --pin and programs that ask the scheduler (nproc, Go, OpenMP) see --cpus, too"
        );
    }
}

/// The terminal that the container borrows.
struct Terminal {
    tty: OwnedFd,
    /// The launcher's process group, when it is the one in the foreground.
    foreground: Option<nix::unistd::Pid>,
}

impl Terminal {
    /// The controlling terminal, if there is one.
    fn new() -> Option<Self> {
        let tty = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/tty").ok()?);
        let own = nix::unistd::getpgrp();
        let foreground = nix::unistd::tcgetpgrp(&tty).ok().filter(|group| *group == own);
        Some(Self { tty, foreground })
    }

    /// A shell in the container has made its own group the foreground one, and could not give it back: groups
    /// outside have no number in its pid namespace.
    fn take_back(&self) {
        use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
        let Some(group) = self.foreground else { return };
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let mut old = SigSet::empty();
        if sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), Some(&mut old)).is_ok() {
            let _ = nix::unistd::tcsetpgrp(&self.tty, group);
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old), None);
        }
    }
}
