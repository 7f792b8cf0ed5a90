//! The sequence of a launch. Whatever fails, [`Cleanup`] takes back what was made.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ownproc::cgroup::Controller;
use ownproc::model::{ContainerName, CpuSet, UptimePolicy};

use crate::daemon::{self, Daemon, DaemonError};
use crate::groups::{GroupError, Groups, Hierarchies, ancestors, limits};
use crate::init::{self, Init};
use crate::namespaces::{self, Child};
use crate::pins;
use crate::preflight::{self, PreflightError, read_set};
use crate::spec::{Limits, Spec};
use crate::state::{self, State, StateDir, StateError};
use crate::supervise::{self, Signals};
use crate::sync::{self, Go};

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// See [`PreflightError`].
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// See [`DaemonError`].
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// See [`GroupError`].
    #[error(transparent)]
    Groups(#[from] GroupError),
    /// --pin
    #[error("--pin: {wanted} CPUs are needed, but there are only these to choose from: {has}; lower --cpus")]
    Pin {
        /// CPUs needed.
        wanted: usize,
        /// What there is.
        has: String,
    },
    /// A system call of the launcher.
    #[error("cannot {what}: {source}")]
    System {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What init reported.
    #[error("{0}")]
    Setup(String),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::System { what, source }
}

/// Runs the container to its end; the exit code to end with.
pub fn run(spec: &Spec) -> Result<u8, LaunchError> {
    match attempt(spec) {
        // an idle daemon ended between two of our calls: the next one finds none and starts it
        Err(LaunchError::Daemon(DaemonError::Ending)) => attempt(spec),
        other => other,
    }
}

fn attempt(spec: &Spec) -> Result<u8, LaunchError> {
    let hierarchies = preflight::check(spec)?;
    // before anything of the container exists: the daemon outlives it and must inherit nothing
    let daemon = daemon::find_or_start(&spec.mount, spec.daemon)?;
    let terminal = Terminal::new();
    let signals = Signals::block().map_err(system("block signals"))?;
    let state_dir = StateDir::open(Path::new(state::DIR))?;

    let mut cleanup = Cleanup { state_dir: &state_dir, name: &spec.name, daemon, claimed: false, init: None };
    let (groups, limits) = claim(spec, &hierarchies, &state_dir, &mut cleanup.claimed)?;
    for note in ancestors::tighter(&groups, &limits) {
        eprintln!("ownproc-run: note: {note}");
    }
    hint(spec);

    // A time namespace has a clock of its own, whatever a file says: who wants the host's uptime does without.
    if spec.view.uptime != Some(UptimePolicy::Host) {
        namespaces::new_time().map_err(system("make a time namespace"))?;
    }
    let (ours, theirs) = sync::channel().map_err(system("make a socket pair"))?;
    let v2_group = groups.v2_fd()?;
    let plan = Init {
        spec,
        groups: groups.leaves().collect(),
        channel: &theirs,
        caller_mask: &signals.caller_mask,
        with_terminal: terminal.is_some(),
    };
    let Child { pid, pidfd } =
        namespaces::spawn(spec.network, v2_group.as_ref().map(AsFd::as_fd), || init::main(&plan))
            .map_err(system("start the container's init in new namespaces"))?;
    drop(theirs);
    let init = &*cleanup.init.insert(pidfd);
    groups.attach_v1(pid)?;
    let fds = groups.fds()?;
    let tree = cleanup.daemon.register(&spec.name, spec.view, init.as_fd(), &fds)?;
    drop(fds);
    let go = serde_json::to_vec(&Go { tree }).map_err(|e| system("write the message to init")(e.into()))?;
    signals.catch_up(init.as_fd()).map_err(system("pass on a signal"))?;
    // an init that is dead already is reported by supervise
    let _ = ours.send(&go);

    let (code, said) = signals.supervise(init, &ours).map_err(system("wait for the container"))?;
    cleanup.init = None;
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    match said {
        Some(message) => Err(LaunchError::Setup(message)),
        None => Ok(code),
    }
}

/// Under the lock: clears up after dead launchers, claims the name, chooses CPUs, makes and limits the groups. With them
/// the limits that were set: those asked for, and the CPUs chosen.
fn claim(
    spec: &Spec,
    hierarchies: &Hierarchies,
    state_dir: &StateDir,
    claimed: &mut bool,
) -> Result<(Groups, Limits), LaunchError> {
    let locked = state_dir.lock()?;
    let living = locked.sweep(&spec.name)?;
    let mut limits = spec.limits.clone();
    let pinned = if spec.pin { Some(pin(spec, hierarchies, &living)?) } else { None };
    if pinned.is_some() {
        limits.cpuset_cpus.clone_from(&pinned);
    }
    let paths = Groups::paths(hierarchies, &spec.cgroup_parent, &spec.name);
    if let Some(taken) = paths.iter().find(|path| path.exists()) {
        return Err(GroupError::Taken(taken.clone()).into());
    }
    let parents = Groups::missing_parents(hierarchies, &spec.cgroup_parent);
    // before the groups, so that no death of this process leaves one that nobody knows of
    *claimed = true;
    locked.write(&State::new(spec.name.clone(), paths, parents, pinned.as_ref()))?;
    let groups = Groups::create(hierarchies, &spec.cgroup_parent, &spec.name)?;
    limits::apply(&groups, &limits)?;
    Ok((groups, limits))
}

/// The CPUs for --pin.
fn pin(spec: &Spec, hierarchies: &Hierarchies, living: &[State]) -> Result<CpuSet, LaunchError> {
    let allowed = allowed_cpus(spec, hierarchies)?;
    let nodes: Vec<CpuSet> = read_set(Path::new("/sys/devices/system/node/online"))
        .unwrap_or_default()
        .iter()
        .filter_map(|node| {
            read_set(&PathBuf::from(format!("/sys/devices/system/node/node{node}/cpulist"))).ok()
        })
        .collect();
    let taken: Vec<CpuSet> = living.iter().map(State::pins).collect();
    let wanted = spec.limits.whole_cpus().unwrap_or(1);
    pins::choose(&allowed, &nodes, &taken, wanted)
        .ok_or_else(|| LaunchError::Pin { wanted, has: allowed.to_string() })
}

/// The CPUs that the container could have: those of the nearest group above that exists, within --cpuset-cpus.
fn allowed_cpus(spec: &Spec, hierarchies: &Hierarchies) -> Result<CpuSet, LaunchError> {
    let online = read_set(Path::new("/sys/devices/system/cpu/online"))?;
    let mut allowed = online.clone();
    if let Some(hierarchy) = hierarchies.of(Controller::Cpuset) {
        let file = if hierarchy.v2 { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        let parent = hierarchy.mount.join(&spec.cgroup_parent);
        let above = parent.ancestors().take_while(|level| level.starts_with(&hierarchy.mount));
        let effective =
            above.filter_map(|level| read_set(&level.join(file)).ok()).find(|set| !set.is_empty());
        allowed = allowed.and(&effective.unwrap_or(online));
    }
    Ok(match &spec.limits.cpuset_cpus {
        Some(asked) => allowed.and(asked),
        None => allowed,
    })
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

/// Takes everything back, in the order that the kernel wants.
struct Cleanup<'a> {
    state_dir: &'a StateDir,
    name: &'a ContainerName,
    daemon: Daemon,
    /// The state file is ours, and lists what was made.
    claimed: bool,
    /// Init, while it may be alive.
    init: Option<OwnedFd>,
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        if let Some(init) = &self.init {
            // with process 1 the kernel kills the whole container, before the wait returns
            let _ = rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL);
            let _ = supervise::exit_code(init.as_fd());
        }
        self.daemon.unregister(self.name);
        if !self.claimed {
            return;
        }
        let clear = || -> Result<(), StateError> {
            let locked = self.state_dir.lock()?;
            match locked.read(self.name)? {
                Some(state) => locked.clear(state),
                None => Ok(()),
            }
        };
        if let Err(error) = clear() {
            log::warn!("{error}; the next launch tries again");
        }
    }
}
