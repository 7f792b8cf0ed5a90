//! The daemon's side of the control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use rustix::time::{ClockId, clock_gettime};

use super::client;
use super::conversation::Service;
use super::message::{
    ConfigInfo, ContainerInfo, Hello, Refusal, RefusalKind, Registered, ShowTarget, Status, VERSION, ViewInfo,
};
use super::paths::Paths;
use crate::model::{ContainerName, Nsec, PolicyChange, PolicyChoices};

/// Clients served at once; the next one is refused at once.
pub const MAX_CLIENTS: usize = 32;
/// Each message must have come, or be taken, whole within this time.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// How long the server's end waits for clients: one that says nothing is gone by then.
pub const STOP_PATIENCE: Duration = Duration::from_millis(2500);

/// What a client passes to register a container. Nothing of it has been checked yet.
#[derive(Debug)]
pub struct RegisterRequest {
    /// The name.
    pub name: ContainerName,
    /// The container's own choices.
    pub policies: PolicyChoices,
    /// pidfd of its init.
    pub pidfd: OwnedFd,
    /// One directory per cgroup hierarchy.
    pub groups: Vec<OwnedFd>,
    /// Another process for a container that is registered.
    pub replaces: bool,
}

/// What the daemon does for its clients. Called from up to [`MAX_CLIENTS`] threads at once.
pub trait Handler: Send + Sync {
    /// Checks and registers a container.
    fn register(&self, request: RegisterRequest) -> Result<Registered, Refusal>;
    /// Ends a registration.
    fn unregister(&self, name: &ContainerName) -> Result<(), Refusal>;
    /// All registered containers, sorted by name.
    fn list(&self) -> Vec<ContainerInfo>;
    /// The bytes the target reads; `file` is a path below the mount point.
    fn show(&self, target: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal>;
    /// The policies that count for the target.
    fn view(&self, target: &ShowTarget) -> Result<ViewInfo, Refusal>;
    /// Changes a registered container's own choices.
    fn choose(&self, name: &ContainerName, changes: &[PolicyChange]) -> Result<ViewInfo, Refusal>;
    /// The configuration in force.
    fn config(&self) -> ConfigInfo;
    /// How the daemon is.
    fn status(&self) -> Status;
    /// Asks the daemon to unmount and end; it does so after the answer.
    fn umount(&self, force: bool) -> Result<(), Refusal>;
}

/// Why the socket could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon serves this mount point.
    #[error(
        "an ownproc daemon already serves {mount}; end it with `ownproc umount {mount}`, or serve another \
         mount point",
        mount = .0.display()
    )]
    Running(PathBuf),
    /// A directory, the lock or the socket.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A socket that is bound but not served yet. Its lock keeps a second daemon away from this mount point.
#[derive(Debug)]
pub struct Server {
    paths: Paths,
    listener: OwnedFd,
    /// With whoever bound the socket.
    lock: Option<OwnedFd>,
    /// The daemon's pid as clients are told it.
    pid: i32,
    deadline: Duration,
}

impl Server {
    /// Makes the directories, takes the lock of this mount point and binds the socket; a socket that a dead
    /// daemon left is replaced.
    pub fn bind(paths: Paths) -> Result<Self, ServerError> {
        let at = |path: &std::path::Path| {
            let path = path.to_owned();
            move |source: std::io::Error| ServerError::Io { path, source }
        };
        let errno = |path: &std::path::Path| {
            let path = path.to_owned();
            move |source: Errno| ServerError::Io { path, source: source.into() }
        };
        paths.create().map_err(at(&paths.dir))?;
        let lock_path = paths.dir.join("serve.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(&lock_path, flags, Mode::RUSR | Mode::WUSR).map_err(errno(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ServerError::Running(paths.mount)),
            Err(error) => return Err(errno(&lock_path)(error)),
        }
        let listener = bind_new(&paths.dir, &paths.socket)?;
        Ok(Self { paths, listener, lock: Some(lock), pid: own_pid(), deadline: DEADLINE })
    }

    /// A socket that another process of this daemon has bound, and keeps the lock of.
    #[must_use]
    pub const fn adopt(paths: Paths, listener: OwnedFd, pid: i32) -> Self {
        Self { paths, listener, lock: None, pid, deadline: DEADLINE }
    }

    /// The socket and the lock, for one who keeps them for other processes.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Option<OwnedFd>) {
        (self.listener, self.lock)
    }

    /// Where it listens.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Another time than [`DEADLINE`] for each message.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Serves on threads of its own until [`Running::stop`].
    pub fn start(self, handler: Arc<dyn Handler>) -> std::io::Result<Running> {
        let hello = Hello {
            version: VERSION,
            build: super::build_id().to_owned(),
            pid: self.pid,
            mount: self.paths.mount.clone(),
            started: boottime(),
        };
        let service = Arc::new(Service { hello, handler, deadline: self.deadline });
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let clients = Arc::new(AtomicUsize::new(0));
        let paths = self.paths.clone();
        let (stopped, admitted) = (Arc::clone(&stop), Arc::clone(&clients));
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || self.accept_loop(stopped.as_fd(), &admitted, &service))?;
        Ok(Running { paths, stop, clients, thread: Some(thread) })
    }

    fn accept_loop(&self, stop: BorrowedFd<'_>, clients: &Arc<AtomicUsize>, service: &Arc<Service>) {
        let _held_for_life = &self.lock;
        loop {
            let mut fds =
                [PollFd::from_borrowed_fd(stop, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return log::error!("control socket: poll: {errno}"),
            }
            if !fds[0].revents().is_empty() {
                return;
            }
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => admit(socket, clients, service),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    // Out of descriptors or memory: the connection stays in the queue, so do not spin.
                    log::warn!("control socket: accept: {errno}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Binds the socket for seccomp listeners. The caller has the lock of the mount point.
pub fn bind_inbox(paths: &Paths) -> Result<OwnedFd, ServerError> {
    bind_new(&paths.dir, &paths.seccomp)
}

/// A socket in a directory of root's; one that a dead daemon left is replaced.
fn bind_new(dir: &Path, socket: &Path) -> Result<OwnedFd, ServerError> {
    let at = |source: std::io::Error| ServerError::Io { path: socket.to_owned(), source };
    let errno = |source: Errno| at(source.into());
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(errno)?;
    let (address, _directory) = client::address(dir, socket).map_err(errno)?;
    bind(&listener, &address).map_err(errno)?;
    // The directory is 0700 already, so nobody else can come in between.
    rustix::fs::chmod(socket, Mode::RUSR | Mode::WUSR).map_err(errno)?;
    listen(&listener, 128).map_err(errno)?;
    Ok(listener)
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    paths: Paths,
    stop: Arc<OwnedFd>,
    clients: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Removes the socket, so that nobody finds it, stops taking clients, and lets those that are being served
    /// have their answers: the one that asked for this end is among them. Waits [`STOP_PATIENCE`] at most; not
    /// to be called by a [`Handler`].
    pub fn stop(mut self) {
        self.end(true);
    }

    /// The same, but leaves the socket for the next one, who finds there who came in the meantime.
    pub fn leave(mut self) {
        self.end(false);
    }

    /// Clients that are being served now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Acquire)
    }

    fn end(&mut self, for_good: bool) {
        let Some(thread) = self.thread.take() else { return };
        if for_good && let Err(error) = std::fs::remove_file(&self.paths.socket) {
            log::debug!("{}: {error}", self.paths.socket.display());
        }
        match rustix::io::write(&*self.stop, &1u64.to_ne_bytes()) {
            Ok(_) => {
                if thread.join().is_err() {
                    log::error!("the control socket's thread panicked");
                }
            }
            Err(errno) => log::error!("control socket: eventfd: {errno}"),
        }
        let end = Instant::now() + STOP_PATIENCE;
        while self.clients() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(true);
    }
}

/// Counts a client for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        if clients.fetch_add(1, Ordering::Relaxed) < MAX_CLIENTS {
            Some(Self(Arc::clone(clients)))
        } else {
            clients.fetch_sub(1, Ordering::Relaxed);
            None
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn admit(socket: OwnedFd, clients: &Arc<AtomicUsize>, service: &Arc<Service>) {
    let Some(place) = Place::take(clients) else {
        let reason = format!("{MAX_CLIENTS} clients are being served already; try again");
        // Fits into the empty send buffer, so it does not wait.
        return service.refuse(socket.as_fd(), Refusal::new(RefusalKind::Busy, reason));
    };
    let service = Arc::clone(service);
    let spawned = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
        let _place = place;
        if let Err(error) = service.converse(socket.as_fd()) {
            log::debug!("control client: {error}");
        }
        drop(socket); // before its place is free
    });
    if let Err(error) = spawned {
        log::warn!("control socket: no thread for a client: {error}");
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// CLOCK_BOOTTIME now.
fn boottime() -> Nsec {
    let now = clock_gettime(ClockId::Boottime);
    Nsec((now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64))
}
