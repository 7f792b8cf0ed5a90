//! The kernel's side of a FUSE connection, over a socket pair in place of /dev/fuse: whole messages, one read each, as the
//! device has it.

pub mod opcode;
pub mod request;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
pub use ownproc::fs::flights::RESENT;
use ownproc::fs::flights::{Flights, OWN_END, Table};
use ownproc::fs::fuse::Server;
use ownproc::fs::tree::Tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// `struct fuse_in_header`.
pub const IN_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub const OUT_HEADER: usize = 16;
/// A reply that takes longer than this is one that does not come; a busy machine keeps threads waiting for seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The one notification that the server sends.
const NOTIFY_POLL: i32 = 1;
/// The kernel takes a reply's error from here up to 0 (`fuse_dev_do_write`).
const LEAST_ERROR: i32 = -511;

/// A server's thread has panicked: its request gets an EIO by unwinding, which looks like an answer.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What the holder would keep for all sessions.
fn flights() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(Table::default)
}

/// What came back for a request.
#[derive(Debug)]
pub struct Reply {
    /// Of which request.
    pub unique: u64,
    /// 0 or an errno.
    pub error: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// How many replies a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// None at all.
    None,
    /// None or one.
    Optional,
    /// One.
    One,
}

/// A session over a tree, and the kernel's end of its connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    session: Option<JoinHandle<std::io::Result<()>>>,
    next: u64,
    /// Requests without a reply yet.
    waiting: HashMap<u64, Replies>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Starts a session with that many threads, which gets its INIT at once.
    #[must_use]
    pub fn new(tree: &Arc<Tree>, threads: usize) -> Self {
        watch_threads();
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut this = Self {
            socket,
            session: None,
            next: 2,
            waiting: HashMap::new(),
            buffer: vec![0; (1 << 20) + OUT_HEADER],
        };
        // major 7, minor 45, readahead, and all that the kernel has to offer: 16 numbers in all
        let mut init = Vec::new();
        for number in [7, 45, 128 << 10, u32::MAX, u32::MAX].into_iter().chain([0; 11]) {
            init.extend_from_slice(&u32::to_ne_bytes(number));
        }
        this.send(opcode::INIT, 0, 0, Replies::One, &init);
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(threads);
        let server = Server::new(Arc::clone(tree), Arc::new(Flights::take_over(flights(), 0)));
        let session = Session::from_fd(server, theirs, SessionACL::All, config).unwrap();
        let answer = this.receive().expect("an answer to INIT");
        assert_eq!((answer.error, answer.body.len()), (0, 64));
        this.session = Some(std::thread::spawn(move || session.run()));
        this
    }

    /// Sends a request with a right header, and gives its number.
    pub fn send(&mut self, opcode: u32, node: u64, thread: u32, replies: Replies, body: &[u8]) -> u64 {
        let unique = self.next;
        self.next += 2; // FUSE_REQ_ID_STEP
        self.send_as(unique, opcode, node, thread, replies, body);
        unique
    }

    /// Likewise, under a number of the caller's.
    pub fn send_as(
        &mut self,
        unique: u64,
        opcode: u32,
        node: u64,
        thread: u32,
        replies: Replies,
        body: &[u8],
    ) {
        let message = message(unique, opcode, node, thread, body);
        self.waiting.insert(unique, replies);
        self.send_bytes(&message);
    }

    /// Sends what may be no request.
    pub fn send_bytes(&self, message: &[u8]) {
        let sent = rustix::io::write(&self.socket, message);
        assert_eq!(sent, Ok(message.len()), "the session does not listen");
    }

    /// Makes the next request one that has ended two servers: sent again it must be answered without doing what it asks for.
    /// Nothing may be waited for.
    pub fn accuse_next(&self) -> u64 {
        for _ in 0..2 {
            std::mem::forget(Flights::take_over(flights(), 0).enter(self.next));
            drop(Flights::take_over(flights(), OWN_END));
        }
        self.next
    }

    /// The next reply, checked for what holds of all; `None` once no request waits for one.
    pub fn receive(&mut self) -> Option<Reply> {
        let until = Instant::now() + PATIENCE;
        while self.waiting.values().any(|replies| *replies == Replies::One) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(self.readable(left), "no reply to {:?} within {PATIENCE:?}", self.waiting);
            if let Some(reply) = self.read() {
                return Some(reply);
            }
        }
        None
    }

    /// Takes the replies that need not come; asserts that no other is there.
    pub fn nothing_more(&mut self) {
        while self.readable(Duration::ZERO) {
            self.read();
        }
        assert!(!PANICKED.load(Ordering::Acquire), "a thread of the session panicked");
        let next = self.next;
        self.waiting.retain(|unique, _| (unique & !RESENT) + 10_000 > next);
    }

    fn readable(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).unwrap();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return ready.unwrap() > 0,
            }
        }
    }

    /// One message; `None` for a notification.
    fn read(&mut self) -> Option<Reply> {
        let length = rustix::io::read(&self.socket, &mut self.buffer).unwrap();
        assert!(length >= OUT_HEADER, "the session ended, or sent {length} bytes");
        let header = &self.buffer[..OUT_HEADER];
        let number = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let unique = u64::from_ne_bytes(header[8..].try_into().unwrap());
        let (stated, error) = (number(0) as usize, number(4).cast_signed());
        assert_eq!(stated, length, "the length in the header");
        if unique == 0 {
            assert_eq!((error, length), (NOTIFY_POLL, OUT_HEADER + 8), "a notification of another kind");
            return None;
        }
        assert!(self.waiting.remove(&unique).is_some_and(|replies| replies != Replies::None), "{unique:#x}");
        assert!((LEAST_ERROR..=0).contains(&error), "error {error}");
        if error != 0 {
            assert_eq!(length, OUT_HEADER, "an error has no body");
            assert_ne!(Errno::from_raw(-error), Errno::UnknownErrno, "error {error}");
        }
        let body = self.buffer[OUT_HEADER..length].to_vec();
        Some(Reply { unique, error: -error, body })
    }

    /// How the session ended, which it must do now.
    pub fn ended(mut self) -> std::io::Result<()> {
        let session = self.session.take().expect("a session");
        let until = Instant::now() + PATIENCE;
        while !session.is_finished() {
            assert!(Instant::now() < until, "the session does not end");
            std::thread::sleep(Duration::from_micros(100));
        }
        session.join().expect("the session's thread")
    }
}

/// A request as the kernel writes it.
#[must_use]
pub fn message(unique: u64, opcode: u32, node: u64, thread: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(IN_HEADER + body.len()).unwrap();
    let mut message = Vec::with_capacity(IN_HEADER + body.len());
    for part in [length.to_ne_bytes(), opcode.to_ne_bytes()] {
        message.extend_from_slice(&part);
    }
    for part in [unique, node, 0] {
        message.extend_from_slice(&part.to_ne_bytes()); // the last is uid and gid
    }
    message.extend_from_slice(&thread.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(body);
    message
}

/// Notes panics of the session's threads, beside what was done about panics before.
fn watch_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("fuser")) {
                PANICKED.store(true, Ordering::Release);
            }
            before(info);
        }));
    });
}
