//! `ownproc serve`: from an empty directory to a served mount and back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, Session, SessionACL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::handler::{Daemon, InUse};
use super::signals::Signals;
use crate::cgroup::{CgroupError, Layout};
use crate::containers::{Registry, RegistryError, Resolver};
use crate::control::{Paths, Server, ServerError};
use crate::fs::fuse;
use crate::fs::mount::{self, Found, MountError};
use crate::fs::settings;
use crate::fs::tree::Tree;
use crate::host::{Host, HostError};
use crate::render::{PROC_FILES, SYS_CPU_FILES};

/// What to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// End, unmounting, when no container was registered for so long; `None`: serve for ever.
    pub idle_exit: Option<Duration>,
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
    /// Another daemon, or the socket.
    #[error(transparent)]
    Control(#[from] ServerError),
    /// A living mount without a daemon that we could ask.
    #[error(
        "{0} is an ownproc mount already, but its daemon does not answer on this host's socket (another container or /run?); unmount it there, or serve another directory"
    )]
    LiveMount(PathBuf),
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
        source: std::io::Error,
    },
    /// Threads, signals, descriptors.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
}

impl From<nix::errno::Errno> for SessionError {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Start(errno.into())
    }
}

/// How long the mount may take to answer the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Serves until a signal, `ownproc umount` or the idle time ends it. Returns when all is unmounted.
pub fn serve(options: &Options) -> Result<(), SessionError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(SessionError::NotRoot);
    }
    let signals = Signals::block()?;
    raise_descriptor_limit();
    let found = mount::inspect(&options.mountpoint)?;
    let paths = Paths::new(&options.mountpoint);
    // Takes the lock of this mount point: from here on no other daemon comes between.
    let server = Server::bind(paths.clone())?;
    match found {
        Found::Free => {}
        Found::Live if !mount::is_dead(&options.mountpoint) => {
            return Err(SessionError::LiveMount(options.mountpoint.clone()));
        }
        Found::Dead | Found::Live => {
            log::warn!("{}: replacing the dead mount of a daemon that is gone", options.mountpoint.display());
            mount::unmount(&options.mountpoint)?;
        }
    }

    let host = Arc::new(Host::open(Path::new("/"))?);
    let layout = Arc::new(Layout::discover(Path::new("/"))?);
    let registry = Registry::open(Arc::clone(&layout), &paths.containers)?;
    let resolver = Arc::new(
        Resolver::new(Arc::clone(&host), Arc::clone(&layout), Arc::clone(&registry))
            .map_err(SessionError::Start)?,
    );
    let tree = Arc::new(Tree::new(Arc::clone(&host), Arc::clone(&resolver), Arc::clone(&registry)));

    let session = start_fuse(&options.mountpoint, &tree, host.online()?.len())?;
    let mut mounted =
        Mounted { path: options.mountpoint.clone(), session: Some(session), device: None, held: Vec::new() };
    let forgetting = Arc::clone(&resolver);
    registry.on_removed(Box::new(move |entry| forgetting.forget(entry.slot)));
    let daemon = Daemon::new(options.mountpoint.clone(), registry, resolver, tree)?;
    let running = server.start(daemon.clone()).map_err(SessionError::Start)?;
    wait_for_answer(&options.mountpoint)?;
    mounted.hold_shared_files();
    say(
        &mut std::io::stdout(),
        &format!("serving {} (pid {})", options.mountpoint.display(), std::process::id()),
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    daemon.until_the_end(&signals, options.idle_exit)?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.stop();
    mounted.end()
}

impl Daemon {
    /// Returns when the daemon shall end.
    fn until_the_end(&self, signals: &Signals, idle_exit: Option<Duration>) -> Result<(), SessionError> {
        let mut asked = false;
        let mut said_gone = false;
        let mut idle_since = Instant::now();
        let mut next_look = idle_since;
        // Becomes ready with every change of this namespace's mounts (proc_pid_mountinfo(5)).
        let mounts = std::fs::File::open("/proc/self/mountinfo").map_err(SessionError::Start)?;
        loop {
            let gone = self.mount_is_gone();
            if gone && !std::mem::replace(&mut said_gone, true) {
                log::warn!(
                    "the mount was taken away by somebody else: ending as soon as nobody holds its files"
                );
            }
            let timeout = match idle_exit.is_some() || asked || gone {
                true => PollTimeout::from(1000_u16),
                false => PollTimeout::NONE,
            };
            let mut fds = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.ending(), PollFlags::POLLIN),
                PollFd::new(mounts.as_fd(), PollFlags::POLLPRI),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            while let Some(signal) = signals.next() {
                if signal == Signal::SIGHUP {
                    log::info!("SIGHUP: nothing to reload");
                    continue;
                }
                let in_use = self.in_use();
                if self.close_if_free(asked) {
                    return Ok(());
                }
                asked = true;
                let what = format!(
                    "{signal}: serving on until they are gone, since {in_use}; a second signal ends it at once"
                );
                say(&mut std::io::stderr(), &what);
            }
            // The look at all mount namespaces is dear: it comes last.
            let free = || !self.has_containers() && self.close_if_free(false);
            if self.is_closing() || (asked || gone) && free() {
                return Ok(());
            }
            if let Some(limit) = idle_exit {
                if self.has_containers() {
                    idle_since = Instant::now();
                } else if idle_since.elapsed() >= limit && Instant::now() >= next_look {
                    if free() {
                        return Ok(());
                    }
                    next_look = Instant::now() + Duration::from_secs(5);
                }
            }
        }
    }
}

/// One line for people. Nobody may be listening, and that is no reason to end.
fn say(to: &mut dyn std::io::Write, what: &str) {
    let _ = writeln!(to, "ownproc: {what}");
}

/// The mount and the threads that serve it.
struct Mounted {
    path: PathBuf,
    session: Option<BackgroundSession>,
    device: Option<u64>,
    held: Vec<std::fs::File>,
}

impl Mounted {
    /// Keeps the files open that all containers share: a file that somebody reads cannot be leased for writing
    /// (fcntl(2), F_SETLEASE), and a lease makes everybody else's open wait until it is broken.
    fn hold_shared_files(&mut self) {
        self.device = mount::device_number(&self.path).ok();
        let paths =
            PROC_FILES.iter().map(|(path, _)| *path).chain(SYS_CPU_FILES.iter().map(|(path, _)| *path));
        self.held = paths.filter_map(|path| std::fs::File::open(self.path.join(path)).ok()).collect();
    }

    fn end(mut self) -> Result<(), SessionError> {
        self.unmount()
    }

    fn unmount(&mut self) -> Result<(), SessionError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        self.held.clear();
        if self.device.is_none() || mount::device_number(&self.path).ok() == self.device {
            mount::unmount(&self.path)?;
        }
        // The threads end with the connection. Where another namespace still holds a mount it does not end
        // before this process does.
        let patience = Instant::now() + Duration::from_secs(1);
        while !session.guard.is_finished() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::error!("{error}");
        }
    }
}

fn start_fuse(path: &Path, tree: &Arc<Tree>, online: usize) -> Result<BackgroundSession, SessionError> {
    let device: OwnedFd = mount::open_device()?;
    mount::mount(path, &device)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(settings::threads(online));
    let failed = |source| {
        if let Err(error) = mount::unmount(path) {
            log::error!("{error}");
        }
        SessionError::Fuse { path: path.to_owned(), source }
    };
    let session =
        Session::from_fd(fuse::Server(Arc::clone(tree)), device, SessionACL::All, config).map_err(failed)?;
    session.spawn().map_err(failed)
}

/// Ready means: a read through the mount was answered.
fn wait_for_answer(path: &Path) -> Result<(), SessionError> {
    let file = path.join("proc/uptime");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("first-read".to_owned())
        .spawn({
            let file = file.clone();
            move || sender.send(std::fs::read(file))
        })
        .map_err(SessionError::Start)?;
    let answer = receiver
        .recv_timeout(FIRST_ANSWER)
        .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 s")));
    answer.map(|_| ()).map_err(|source| SessionError::Fuse { path: file, source })
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

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} registered container(s) and {} other mount namespace(s) hold its files",
            self.containers, self.namespaces
        )
    }
}
