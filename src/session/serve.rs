//! `ownproc serve`: from an empty directory to a served mount and back.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::confine::{self, ConfineError, WorkerNeeds};
use super::end::End;
use super::holder::{Ended, Holder, Holdings};
use super::negotiate::{self, NegotiateError};
use super::page::{Page, PageError};
use super::policies::Source;
use super::signals::Signals;
use super::spawn::{self, Program};
use super::{degraded, fdstore, keeper, shared_files, worker};
use crate::cgroup::CgroupError;
use crate::config::{ConfigError, ConfigFile};
use crate::containers::RegistryError;
use crate::control::{Paths, Server, ServerError, bind_inbox};
use crate::fs::mount::{self, Found, MountError};
use crate::host::{Host, HostError};
use crate::model::DaemonChoices;
use crate::store::{self, StoreError};

/// What to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// Where its policies stand.
    pub config: ConfigFile,
    /// Those given on the command line.
    pub flags: DaemonChoices,
    /// End, unmounting, when no container was registered for so long; `None`: serve for ever.
    pub idle_exit: Option<Duration>,
    /// Take triggers on pressure files: the mount is then writable.
    pub psi_triggers: bool,
    /// Behave as on a kernel that cannot send requests again (before Linux 6.9): for tests.
    pub no_resend: bool,
    /// Which process of the daemon this one is.
    pub role: Role,
}

/// The processes of a daemon: all run the same program with the same arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Keeps the connection, and starts the others.
    #[default]
    Holder,
    /// Answers.
    Worker,
    /// Answers with the host's files while others keep dying.
    Degraded,
    /// Reads through the mount for the first time.
    Opener,
    /// Keeps the connection while the holder is gone.
    Keeper,
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "holder" => Ok(Self::Holder),
            "worker" => Ok(Self::Worker),
            "degraded" => Ok(Self::Degraded),
            "opener" => Ok(Self::Opener),
            "keeper" => Ok(Self::Keeper),
            _ => Err("roles are holder, worker, degraded, opener and keeper, given by the daemon to itself"),
        }
    }
}

/// Why a daemon did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Not root.
    #[error("serving needs root: it mounts a file system and reads every container's groups; try sudo")]
    NotRoot,
    /// The mount point.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another daemon, or the socket.
    #[error(transparent)]
    Control(#[from] ServerError),
    /// A living mount without a daemon that we could ask.
    #[error(
        "{0} is an ownproc mount already, but its daemon does not answer on this host's socket (another container or /run?); unmount it there, or serve another directory"
    )]
    LiveMount(PathBuf),
    /// A process of the daemon before.
    #[error("{0}: the daemon before has not ended yet, and two must not serve one connection; try again")]
    StillThere(PathBuf),
    /// The host's files.
    #[error("cannot read the host's files: {0}; is /proc mounted?")]
    Host(#[from] HostError),
    /// The control group mounts.
    #[error("cannot read the control groups: {0}")]
    Cgroup(#[from] CgroupError),
    /// The registrations on disk.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// FUSE's own start.
    #[error("the kernel did not accept the FUSE session on {path}: {source}")]
    Fuse {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: NegotiateError,
    },
    /// The INIT of a worker.
    #[error("cannot take over: {0}")]
    TakeOver(#[from] NegotiateError),
    /// What is kept in the shared memory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shared memory.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Its own files where the host's should be.
    #[error("{path} of the host is covered by this daemon's own files: umount {path}, they are for containers", path = .0.display())]
    OverItself(PathBuf),
    /// A worker started by hand.
    #[error("a worker is started by the daemon itself: leave --role out")]
    NoHolder,
    /// The opener.
    #[error("{path}: the first read failed: {source}")]
    FirstRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first worker.
    #[error("the worker {0} before it served: see above")]
    NeverServed(End),
    /// A start that failed while systemd keeps the connection: it is not lost, and the next start may do better.
    #[error("{0}; systemd keeps the connection, and the next start tries again")]
    Later(Box<Self>),
    /// The connection.
    #[error("{0}: ended, since the connection to the kernel was lost")]
    Aborted(PathBuf),
    /// Rights.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// Threads, signals, descriptors.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
}

impl From<rustix::io::Errno> for SessionError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Start(errno.into())
    }
}

impl From<nix::errno::Errno> for SessionError {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Start(errno.into())
    }
}

/// What is left when a process of the daemon has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Nothing.
    Done,
    /// The mount: systemd keeps the connection, and the next start takes it over.
    Kept,
}

/// Serves until a signal, `ownproc umount` or the idle time ends it. Returns when all is unmounted, or
/// [kept](Finish::Kept).
pub fn serve(options: &Options) -> Result<Finish, SessionError> {
    match options.role {
        Role::Holder => hold(options),
        Role::Worker => worker::work(options).map(|()| Finish::Done),
        Role::Degraded => degraded::work(options).map(|()| Finish::Done),
        Role::Opener => shared_files::work(options).map(|()| Finish::Done),
        Role::Keeper => keeper::work(options).map(|()| Finish::Done),
    }
}

fn hold(options: &Options) -> Result<Finish, SessionError> {
    let stored = fdstore::take();
    let kept = !stored.is_empty();
    match prepare(options, stored) {
        Ok(prepared) => hold_on(options, prepared),
        Err(error) if kept => Err(SessionError::Later(Box::new(error))),
        Err(error) => Err(error),
    }
}

/// What there is once the daemon has a connection.
struct Prepared {
    has: Holdings,
    signals: Signals,
    /// Under which names systemd keeps memories.
    memories: Vec<String>,
    /// The control socket, and that for seccomp listeners.
    sockets: [PathBuf; 2],
}

/// Gets the connection: the one that systemd has kept, or a new one.
fn prepare(options: &Options, mut stored: fdstore::Stored) -> Result<Prepared, SessionError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(SessionError::NotRoot);
    }
    // What can be said before anything is done is said here, and not by a worker. Where readers wait, a mistake in the
    // configuration must not keep them waiting: the workers take the last good one and tell.
    if stored.is_empty() {
        Source::start(options.config.clone(), options.flags)?;
    }
    Host::open(Path::new("/"))?;
    let signals = Signals::block()?;
    raise_descriptor_limit();
    let paths = Paths::new(&options.mountpoint);
    let (sockets, registrations) = ([paths.socket.clone(), paths.seccomp.clone()], paths.containers.clone());
    if !stored.is_empty() {
        fdstore::wait_until_alone(&paths)?;
    }
    // Asks nobody who may not answer: what was kept is looked at under the lock.
    let found = if stored.is_empty() { Some(mount::inspect(&options.mountpoint)?) } else { None };
    // Takes the lock of this mount point: from here on no other daemon comes between.
    let inbox_paths = paths.clone();
    let (listener, lock) = bind(paths, !stored.is_empty())?.into_parts();
    let inbox = bind_inbox(&inbox_paths)?;
    let memories = stored.memories();
    let mut older = stored.keeper.take();
    let listeners = std::mem::take(&mut stored.listeners);
    let connection = match (found, stored.connection(&options.mountpoint)) {
        (_, Some(connection)) => connection,
        (found, None) => {
            if found.is_none() {
                // With the last descriptor the connection ends, and what is left of it here is a dead mount.
                fdstore::forget(&memories);
                if let Some(older) = older.take() {
                    keeper::dismiss(older.as_fd());
                }
            }
            make_room(&options.mountpoint, found)?;
            connect(options)?
        }
    };
    let Connection { device, memory, page, adopted } = connection;
    let above = |fd| spawn::above(fd).map_err(|errno| SessionError::Start(errno.into()));
    let c_path = |path: &Path| {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes());
        path.map_err(|error| SessionError::Start(error.into()))
    };
    let program = |role| Program::this(&options.arguments(role)).map_err(SessionError::Start);
    page.story.holder.store(u64::from(std::process::id()), Relaxed);
    let mut has = Holdings {
        device: above(device)?,
        memory: above(memory)?,
        page,
        listener: above(listener)?,
        inbox: above(inbox)?,
        lock,
        program: program(Role::Worker)?,
        degraded: program(Role::Degraded)?,
        opener: program(Role::Opener)?,
        keeper: program(Role::Keeper)?,
        older: older.map(above).transpose()?,
        listeners: listeners
            .into_iter()
            .map(|(number, listener)| Ok((number, above(listener)?)))
            .collect::<Result<_, SessionError>>()?,
        mounted: page.head.mounted.load(Relaxed),
        path: c_path(&options.mountpoint)?,
        sockets: [c_path(&sockets[0])?, c_path(&sockets[1])?],
        adopted,
        stored: false,
        alone: !fdstore::keeps(),
    };
    if adopted {
        // At once: it may be new memory, and a signal may come before anybody was served.
        has.stored = fdstore::store(&has, &memories);
    }
    // From here on nothing is opened, made or mounted that takes root's full rights.
    Page::seal(has.memory.as_fd())?;
    confine::holder(&options.needs(), &registrations)?;
    Ok(Prepared { has, signals, memories, sockets })
}

/// Holds the connection until the daemon ends.
fn hold_on(options: &Options, prepared: Prepared) -> Result<Finish, SessionError> {
    let Prepared { has, signals, memories, sockets } = prepared;
    let holder = Holder::new(has, signals).map_err(|errno| SessionError::Start(errno.into()))?;
    let (ended, has, keeper) = holder.run(&mut |has| {
        let what = format_args!("serving {} (pid {})", options.mountpoint.display(), std::process::id());
        let _ = writeln!(std::io::stdout(), "ownproc: {what}"); // nobody may be listening
        let stored = fdstore::store(has, &memories);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        stored
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let (kept, result) = match ended {
        Ended::Orderly { kept: true, code: 0 } => (true, Ok(Finish::Kept)),
        Ended::Orderly { kept: false, code: 0 } => (false, Ok(Finish::Done)),
        Ended::Orderly { kept, .. } => (kept, Err(SessionError::Aborted(options.mountpoint.clone()))),
        Ended::NeverServed(end) => (false, Err(SessionError::NeverServed(end))),
    };
    if !kept {
        has.unmount();
        fdstore::forget(&memories);
        // A worker that was killed could not take it away.
        for socket in sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
    if let Some(keeper) = keeper {
        keeper.dismiss();
    }
    if let Some(older) = has.older {
        keeper::dismiss(older.as_fd());
    }
    result
}

/// Binds the control socket. `patient`: waits a little for one that started in the meantime, sees that the mount is not
/// its own to serve, and ends.
fn bind(paths: Paths, patient: bool) -> Result<Server, ServerError> {
    let until = std::time::Instant::now() + 2 * ANSWER;
    loop {
        match Server::bind(paths.clone()) {
            Err(ServerError::Running(_)) if patient && std::time::Instant::now() < until => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// How long a living mount may take to answer.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(2);

/// Takes away what is left at the mount point of a daemon that is gone; `found`: what was seen there, if it was looked at.
fn make_room(mountpoint: &Path, found: Option<Found>) -> Result<(), SessionError> {
    match found.map_or_else(|| mount::inspect(mountpoint), Ok)? {
        Found::Free => return Ok(()),
        Found::Live if mount::is_dead_within(mountpoint, ANSWER) != Some(true) => {
            return Err(SessionError::LiveMount(mountpoint.to_owned()));
        }
        Found::Dead | Found::Live => {}
    }
    log::warn!("{}: replacing the dead mount of a daemon that is gone", mountpoint.display());
    Ok(mount::unmount(mountpoint)?)
}

/// A connection to the kernel, and the memory that goes with it.
pub(super) struct Connection {
    pub(super) device: OwnedFd,
    pub(super) memory: OwnedFd,
    pub(super) page: Page,
    pub(super) adopted: bool,
}

/// Mounts, and agrees with the kernel on the protocol.
fn connect(options: &Options) -> Result<Connection, SessionError> {
    let path = &options.mountpoint;
    let (memory, page) = Page::create()?;
    store::create(memory.as_fd())?;
    let device = mount::open_device()?;
    mount::mount(path, &device, options.psi_triggers)?;
    let agreed = negotiate::with_kernel(device.as_fd(), page).map_err(|source| {
        if let Err(error) = mount::unmount(path) {
            log::error!("{error}");
        }
        SessionError::Fuse { path: path.clone(), source }
    });
    agreed?;
    if options.no_resend {
        page.head.resend.store(0, Relaxed);
    }
    page.head.mounted.store(worker::device_at(path).unwrap_or_default(), Relaxed);
    Ok(Connection { device, memory, page, adopted: false })
}

impl Options {
    /// What a worker has to be able to do.
    pub(super) const fn needs(&self) -> WorkerNeeds {
        WorkerNeeds { psi_triggers: self.psi_triggers }
    }

    /// The command line of a worker: this process's own, and which role it has.
    fn arguments(&self, role: Role) -> Vec<std::ffi::OsString> {
        let role = match role {
            Role::Holder => "holder",
            Role::Worker => "worker",
            Role::Degraded => "degraded",
            Role::Opener => "opener",
            Role::Keeper => "keeper",
        };
        std::env::args_os().chain(["--role".into(), role.into()]).collect()
    }
}

/// Each group that is read costs a few descriptors; the soft limit of 1024 is made for select(2).
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("cannot raise the limit of open files: {errno}");
    }
}
