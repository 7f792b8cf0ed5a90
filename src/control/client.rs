//! The launcher's and the command line's side of the control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::message::{
    ClientHello, ConfigInfo, ContainerInfo, Hello, Refusal, RefusalKind, Registered, Reply, Request,
    ShowTarget, Status, VERSION, ViewInfo,
};
use super::paths::Paths;
use super::wire::{self, WireError};
use crate::model::{ContainerName, PolicyChange, PolicyChoices};

/// How long a client waits for one message of the daemon: it may have to read a thousand groups first, on a
/// machine that is short of CPU.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many processes of the daemon may end under one request before it is given up.
const DEATHS: u32 = 5;
/// The largest answer that a client accepts.
const MAX_ANSWER: u64 = 64 << 20;

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No socket, or nobody listens on it.
    #[error(
        "no ownproc daemon serves {mount}: nothing answers on {socket}; start one with `ownproc serve {mount}`",
        mount = .mount.display(), socket = .socket.display()
    )]
    NotRunning {
        /// The mount point asked for.
        mount: PathBuf,
        /// Where its daemon would listen.
        socket: PathBuf,
    },
    /// The socket is there but not for us.
    #[error("may not talk to the daemon at {}: permission denied; run as root", .socket.display())]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon answered with a reason.
    #[error("the daemon refused: {0}")]
    Refused(#[from] Refusal),
    /// The daemon speaks another protocol.
    #[error(
        "the daemon of {mount} (pid {pid}, build {build}) speaks version {version} of the control protocol, \
         this program {VERSION}; restart it: `ownproc umount {mount}`, then `ownproc serve {mount}`",
        mount = .0.mount.display(), pid = .0.pid, build = .0.build, version = .0.version
    )]
    Version(Box<Hello>),
    /// The daemon answered something that does not belong here.
    #[error("the daemon at {} answered out of turn", .socket.display())]
    OutOfTurn {
        /// The socket.
        socket: PathBuf,
    },
    /// The conversation broke.
    #[error("talking to the daemon at {}: {source}", .socket.display())]
    Wire {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        source: WireError,
    },
}

impl ControlError {
    /// Whether the process that was to answer has ended.
    const fn is_cut_off(&self) -> bool {
        matches!(self, Self::Wire { source: WireError::Closed | WireError::Truncated, .. })
    }

    /// The kind of refusal, where the daemon answered with one.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }
}

/// What [`Client::register`] passes.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// The name, which must be free.
    pub name: ContainerName,
    /// The container's own choices.
    pub policies: PolicyChoices,
    /// pidfd of the container's init.
    pub pidfd: BorrowedFd<'a>,
    /// One open directory per cgroup hierarchy; the init must be in each of these groups.
    pub groups: Vec<BorrowedFd<'a>>,
    /// The container is registered, and this process stands for it from now on. Its policies stay.
    pub replaces: bool,
}

/// A daemon that answered. It holds no connection: each request makes its own, so that a client that lives as
/// long as its container takes none of the daemon's places.
#[derive(Clone, Debug)]
pub struct Client {
    paths: Paths,
    hello: Hello,
}

impl Client {
    /// Asks the daemon of this mount point who it is.
    pub fn connect(mount: &Path) -> Result<Self, ControlError> {
        Self::at(Paths::new(mount))
    }

    /// The same with paths that the caller has.
    pub fn at(paths: Paths) -> Result<Self, ControlError> {
        let hello = waiting(&paths, |connection| connection.greet())?.0;
        Ok(Self { paths, hello })
    }

    /// Who the daemon was when this client connected.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Registers a container.
    pub fn register(&self, registration: Registration<'_>) -> Result<Registered, ControlError> {
        let request = Request::Register {
            name: registration.name,
            policies: registration.policies,
            replaces: registration.replaces,
        };
        let mut fds = vec![registration.pidfd];
        fds.extend(registration.groups);
        match self.ask(&request, &fds)? {
            Answer::Reply(Reply::Registered(registered)) => Ok(registered),
            _ => Err(self.out_of_turn()),
        }
    }

    /// Ends a registration.
    pub fn unregister(&self, name: &ContainerName) -> Result<(), ControlError> {
        self.done(&Request::Unregister { name: name.clone() })
    }

    /// All registered containers, sorted by name.
    pub fn list(&self) -> Result<Vec<ContainerInfo>, ControlError> {
        self.json(&Request::List)
    }

    /// The policies that count for the target.
    pub fn view(&self, target: ShowTarget) -> Result<ViewInfo, ControlError> {
        self.json(&Request::View { target })
    }

    /// Changes a registered container's own choices, all of them or none; what counts then.
    pub fn choose(&self, name: &ContainerName, changes: Vec<PolicyChange>) -> Result<ViewInfo, ControlError> {
        self.json(&Request::Choose { name: name.clone(), changes })
    }

    /// The configuration in force.
    pub fn config(&self) -> Result<ConfigInfo, ControlError> {
        self.json(&Request::Config)
    }

    /// The bytes that the target reads from this file; `file` is a path below the mount point.
    pub fn show(&self, target: ShowTarget, file: String) -> Result<Vec<u8>, ControlError> {
        match self.ask(&Request::Show { target, file }, &[])? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Reply(_) => Err(self.out_of_turn()),
        }
    }

    /// How the daemon is.
    pub fn status(&self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status, &[])? {
            Answer::Reply(Reply::Status(status)) => Ok(status),
            _ => Err(self.out_of_turn()),
        }
    }

    /// Unmounts and ends the daemon. Refused with [`RefusalKind::InUse`] while containers hold files, unless
    /// forced. Returns when the daemon has taken the order; it is gone when its [`Hello::pid`] is.
    pub fn umount(&self, force: bool) -> Result<(), ControlError> {
        self.done(&Request::Umount { force })
    }

    fn json<T: serde::de::DeserializeOwned>(&self, request: &Request) -> Result<T, ControlError> {
        match self.ask(request, &[])? {
            Answer::Bytes(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| self.wire_error(WireError::Json(error)))
            }
            Answer::Reply(_) => Err(self.out_of_turn()),
        }
    }

    fn done(&self, request: &Request) -> Result<(), ControlError> {
        match self.ask(request, &[])? {
            Answer::Reply(Reply::Done) => Ok(()),
            _ => Err(self.out_of_turn()),
        }
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer, ControlError> {
        let mut deaths = 0;
        loop {
            let (_, connection) = waiting(&self.paths, |connection| connection.begin(request, fds))?;
            match connection.answer() {
                Err(error) if error.is_cut_off() && may_be_asked_again(request) && deaths < DEATHS => {
                    deaths += 1;
                }
                other => return other,
            }
        }
    }

    fn out_of_turn(&self) -> ControlError {
        ControlError::OutOfTurn { socket: self.paths.socket.clone() }
    }

    fn wire_error(&self, source: WireError) -> ControlError {
        ControlError::Wire { socket: self.paths.socket.clone(), source }
    }
}

enum Answer {
    Reply(Reply),
    Bytes(Vec<u8>),
}

/// Whether a request may be done twice: the process that was asked has ended, and may have done it.
const fn may_be_asked_again(request: &Request) -> bool {
    !matches!(request, Request::Unregister { .. } | Request::Umount { .. })
}

/// A connection whose daemon has said hello. While others take all its places this waits for one; where the process that was to
/// say it ends, it asks the next one: nothing was done yet.
fn waiting<'a>(
    paths: &'a Paths,
    begin: impl Fn(&Connection<'_>) -> Result<Hello, ControlError>,
) -> Result<(Hello, Connection<'a>), ControlError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    let mut deaths = 0;
    loop {
        let connection = Connection::open(paths)?;
        match begin(&connection) {
            Err(error) if error.is_cut_off() && deaths < DEATHS => deaths += 1,
            Err(error) if error.refusal() == Some(RefusalKind::Busy) && Instant::now() < until => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            other => return other.map(|hello| (hello, connection)),
        }
    }
}

struct Connection<'a> {
    paths: &'a Paths,
    socket: OwnedFd,
}

impl<'a> Connection<'a> {
    fn open(paths: &'a Paths) -> Result<Self, ControlError> {
        use rustix::io::Errno;
        let open = || -> Result<OwnedFd, Errno> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let (address, _directory) = address(&paths.dir, &paths.socket)?;
            // A full backlog of a stalled daemon must not hold the client for ever.
            rustix::net::sockopt::set_socket_timeout(
                &socket,
                rustix::net::sockopt::Timeout::Send,
                Some(PATIENCE),
            )?;
            connect(&socket, &address)?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self { paths, socket }),
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR) => {
                Err(ControlError::NotRunning { mount: paths.mount.clone(), socket: paths.socket.clone() })
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                Err(ControlError::NotAllowed { socket: paths.socket.clone() })
            }
            Err(errno) => Err(ControlError::Wire {
                socket: paths.socket.clone(),
                source: match errno {
                    Errno::AGAIN => WireError::Deadline,
                    other => WireError::Io(other.into()),
                },
            }),
        }
    }

    /// Both say hello; nothing is asked.
    fn greet(&self) -> Result<Hello, ControlError> {
        let greeted = self.say_hello();
        self.hear_hello(greeted)
    }

    /// Both say hello, and one request is sent. It is on its way before the daemon's hello is: one that speaks another version
    /// does not look at it.
    fn begin(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Hello, ControlError> {
        let asked = self.say_hello().and_then(|()| self.send(request, fds));
        self.hear_hello(asked)
    }

    fn answer(&self) -> Result<Answer, ControlError> {
        match self.receive()? {
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Bytes { len } => Ok(Answer::Bytes(self.bytes(len)?)),
            reply => Ok(Answer::Reply(reply)),
        }
    }

    fn say_hello(&self) -> Result<(), ControlError> {
        self.send(&ClientHello { version: VERSION, build: super::build_id().to_owned() }, &[])
    }

    /// `said`: how far what was said before has come.
    fn hear_hello(&self, said: Result<(), ControlError>) -> Result<Hello, ControlError> {
        // A server that refuses may have closed before it read: its reason still waits to be read.
        let hello = match self.receive() {
            Ok(Reply::Hello(hello)) => hello,
            Ok(Reply::Refused(refusal)) => return Err(refusal.into()),
            Ok(_) => return Err(ControlError::OutOfTurn { socket: self.paths.socket.clone() }),
            Err(error) => return Err(said.err().unwrap_or(error)),
        };
        if hello.version != VERSION {
            return Err(ControlError::Version(Box::new(hello)));
        }
        said.map(|()| hello)
    }

    fn send<T: serde::Serialize>(&self, value: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ControlError> {
        wire::send_json(self.socket.as_fd(), value, fds, Instant::now() + PATIENCE)
            .map_err(|source| self.error(source))
    }

    fn receive(&self) -> Result<Reply, ControlError> {
        wire::receive(self.socket.as_fd(), 0, Instant::now() + PATIENCE)
            .and_then(|frame| frame.parse())
            .map_err(|source| self.error(source))
    }

    fn bytes(&self, len: u64) -> Result<Vec<u8>, ControlError> {
        let too_large = || self.error(WireError::TooLarge(usize::try_from(len).unwrap_or(usize::MAX)));
        if len > MAX_ANSWER {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let frame = wire::receive(self.socket.as_fd(), 0, Instant::now() + PATIENCE)
                .map_err(|source| self.error(source))?;
            if frame.bytes.is_empty() || (bytes.len() + frame.bytes.len()) as u64 > len {
                return Err(too_large());
            }
            bytes.extend_from_slice(&frame.bytes);
        }
        Ok(bytes)
    }

    fn error(&self, source: WireError) -> ControlError {
        ControlError::Wire { socket: self.paths.socket.clone(), source }
    }
}

/// The socket's address. A path of more than 107 bytes does not fit into one, so it then goes through a
/// descriptor of the directory, which the caller keeps until it has used the address.
pub(super) fn address(
    dir: &Path,
    socket: &Path,
) -> Result<(SocketAddrUnix, Option<OwnedFd>), rustix::io::Errno> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    if let Ok(address) = SocketAddrUnix::new(socket) {
        return Ok((address, None));
    }
    let directory = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = socket.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((SocketAddrUnix::new(&short)?, Some(directory)))
}
