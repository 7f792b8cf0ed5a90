//! The daemon's side of the control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use rustix::time::{ClockId, clock_gettime};

use super::message::{
    ClientHello, ContainerInfo, Hello, Refusal, RefusalKind, Registered, Reply, Request, ShowTarget, Status,
    VERSION,
};
use super::paths::Paths;
use super::wire::{self, MAX_FDS, MAX_FRAME, WireError};
use super::{client, peer};
use crate::model::{ContainerName, Nsec, Policies};

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
    /// The container's choices.
    pub policies: Policies,
    /// pidfd of its init.
    pub pidfd: OwnedFd,
    /// One directory per cgroup hierarchy.
    pub groups: Vec<OwnedFd>,
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
    lock: OwnedFd,
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
        match std::fs::remove_file(&paths.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(at(&paths.socket)(error));
            }
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(errno(&paths.socket))?;
        let (address, _directory) =
            client::address(&paths.dir, &paths.socket).map_err(errno(&paths.socket))?;
        bind(&listener, &address).map_err(errno(&paths.socket))?;
        // The directory is 0700 already, so nobody else can come in between.
        rustix::fs::chmod(&paths.socket, Mode::RUSR | Mode::WUSR).map_err(errno(&paths.socket))?;
        listen(&listener, 128).map_err(errno(&paths.socket))?;
        Ok(Self { paths, listener, lock })
    }

    /// Where it listens.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Serves on threads of its own until [`Running::stop`].
    pub fn start(self, handler: Arc<dyn Handler>) -> std::io::Result<Running> {
        let hello = Hello {
            version: VERSION,
            build: super::build_id().to_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            mount: self.paths.mount.clone(),
            started: boottime(),
        };
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let clients = Arc::new(AtomicUsize::new(0));
        let paths = self.paths.clone();
        let (stopped, admitted) = (Arc::clone(&stop), Arc::clone(&clients));
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || self.accept_loop(stopped.as_fd(), &admitted, &hello, &handler))?;
        Ok(Running { paths, stop, clients, thread: Some(thread) })
    }

    fn accept_loop(
        &self,
        stop: BorrowedFd<'_>,
        clients: &Arc<AtomicUsize>,
        hello: &Hello,
        handler: &Arc<dyn Handler>,
    ) {
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
                Ok(socket) => admit(socket, clients, hello, handler),
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
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Err(error) = std::fs::remove_file(&self.paths.socket) {
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
        while self.clients.load(Ordering::Acquire) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
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

fn admit(socket: OwnedFd, clients: &Arc<AtomicUsize>, hello: &Hello, handler: &Arc<dyn Handler>) {
    let Some(place) = Place::take(clients) else {
        let reason = format!("{MAX_CLIENTS} clients are being served already; try again");
        // Fits into the empty send buffer, so it does not wait.
        return refuse(socket.as_fd(), Refusal::new(RefusalKind::Busy, reason));
    };
    let (hello, handler) = (hello.clone(), Arc::clone(handler));
    let spawned = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
        let _place = place;
        if let Err(error) = serve_client(socket.as_fd(), &hello, &*handler) {
            log::debug!("control client: {error}");
        }
    });
    if let Err(error) = spawned {
        log::warn!("control socket: no thread for a client: {error}");
    }
}

/// One client from its first to its last byte.
fn serve_client(socket: BorrowedFd<'_>, hello: &Hello, handler: &dyn Handler) -> Result<(), WireError> {
    if let Err(refusal) = peer::check(socket) {
        refuse(socket, refusal);
        return Ok(());
    }
    let greeting: ClientHello = expect(socket, 0, |frame| frame.parse())?;
    wire::send_json(socket, &Reply::Hello(hello.clone()), &[], Instant::now() + DEADLINE)?;
    if greeting.version != VERSION {
        // The client sees the difference in the hello and says what to do.
        return Ok(());
    }
    let (request, fds) = expect(socket, MAX_FDS, |frame| Ok((frame.parse::<Request>()?, frame.fds)))?;
    match answer(request, fds, handler) {
        Ok(Answer::Reply(reply)) => wire::send_json(socket, &reply, &[], Instant::now() + DEADLINE),
        Ok(Answer::Bytes(bytes)) => {
            let head = Reply::Bytes { len: bytes.len() as u64 };
            wire::send_json(socket, &head, &[], Instant::now() + DEADLINE)?;
            bytes
                .chunks(MAX_FRAME)
                .try_for_each(|chunk| wire::send_frame(socket, chunk, &[], Instant::now() + DEADLINE))
        }
        Err(refusal) => {
            refuse(socket, refusal);
            Ok(())
        }
    }
}

/// Receives one message; tells the client what is wrong with it.
fn expect<T>(
    socket: BorrowedFd<'_>,
    max_fds: usize,
    parse: impl FnOnce(wire::Frame) -> Result<T, WireError>,
) -> Result<T, WireError> {
    wire::receive(socket, max_fds, Instant::now() + DEADLINE).and_then(parse).inspect_err(|error| {
        if !matches!(error, WireError::Closed | WireError::Truncated) {
            refuse(socket, Refusal::new(RefusalKind::Malformed, error.to_string()));
        }
    })
}

enum Answer {
    Reply(Reply),
    Bytes(Vec<u8>),
}

fn answer(request: Request, fds: Vec<OwnedFd>, handler: &dyn Handler) -> Result<Answer, Refusal> {
    if !fds.is_empty() && !matches!(request, Request::Register { .. }) {
        return Err(Refusal::new(
            RefusalKind::BadDescriptor,
            "file descriptors came with a request that takes none",
        ));
    }
    Ok(match request {
        Request::Hello => Answer::Reply(Reply::Done),
        Request::Register { name, policies } => {
            let mut fds = fds.into_iter();
            let (Some(pidfd), groups) = (fds.next(), fds.by_ref().collect::<Vec<_>>()) else {
                return Err(Refusal::new(
                    RefusalKind::BadDescriptor,
                    "a registration needs a pidfd and the group directories",
                ));
            };
            let request = RegisterRequest { name, policies, pidfd, groups };
            Answer::Reply(Reply::Registered(handler.register(request)?))
        }
        Request::Unregister { name } => {
            handler.unregister(&name)?;
            Answer::Reply(Reply::Done)
        }
        Request::List => Answer::Bytes(
            serde_json::to_vec(&handler.list())
                .map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?,
        ),
        Request::Show { target, file } => Answer::Bytes(handler.show(&target, &file)?),
        Request::Status => Answer::Reply(Reply::Status(handler.status())),
        Request::Umount { force } => {
            handler.umount(force)?;
            Answer::Reply(Reply::Done)
        }
    })
}

/// Says why, as far as the client listens.
fn refuse(socket: BorrowedFd<'_>, refusal: Refusal) {
    log::debug!("control client refused: {refusal}");
    if let Err(error) = wire::send_json(socket, &Reply::Refused(refusal), &[], Instant::now() + DEADLINE) {
        log::debug!("control client: {error}");
    }
}

/// CLOCK_BOOTTIME now.
fn boottime() -> Nsec {
    let now = clock_gettime(ClockId::Boottime);
    Nsec((now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64))
}
