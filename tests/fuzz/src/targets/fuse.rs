//! Requests as they come from the kernel, through fuser: its parser, the thin layer above it, the tree, and back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arbitrary::{Result, Unstructured};
use nix::errno::Errno;
use ownproc::fs::tree::Tree;

use super::tree::{THREADS, World, world};
use crate::fuse::opcode::{
    self, DESTROY, GETATTR, IOCTL, LOOKUP, OPEN, POLL, READ, READDIR, READDIRPLUS, RELEASE, SETATTR,
    SETXATTR, WRITE,
};
use crate::fuse::request::{self, Known, Request};
use crate::fuse::{Connection, RESENT, Replies, Reply, message};
use crate::input::with;

/// What was done with a file handle.
#[derive(Clone, Debug, PartialEq, Eq)]
enum File {
    /// Open, and the text that it serves where that is known.
    Open(Option<Vec<u8>>),
    /// Released.
    Released,
}

/// One input's requests to a session, and what their replies said.
struct Run<'a> {
    world: &'a World,
    connection: Connection,
    known: Known,
    files: HashMap<u64, File>,
    registered: bool,
    /// The tree looks at no container.
    plain: bool,
}

/// What a request that was sent must be answered with.
struct Sent {
    request: Request,
    /// Nothing that was sent along changes what its file is.
    alone: bool,
    /// The file was no open one before.
    dead: bool,
    /// It is answered without a look at any container.
    plain: bool,
}

impl Run<'_> {
    fn sent(&self, request: Request, alone: bool) -> Sent {
        // A READ or an OPEN beside it may open the file.
        let dead = alone && !matches!(self.files.get(&request.handle), Some(File::Open(_)));
        Sent { request, alone, dead, plain: self.plain }
    }

    fn send(&mut self, request: &Request, unique: Option<u64>) -> u64 {
        let Request { opcode, node, thread, body, .. } = request;
        let replies = opcode::replies(*opcode);
        match unique {
            None => self.connection.send(*opcode, *node, *thread, replies, body),
            Some(unique) => {
                self.connection.send_as(unique, *opcode, *node, *thread, replies, body);
                unique
            }
        }
    }

    /// Sends one and takes its reply, where it has one.
    fn ask(&mut self, request: Request) -> Option<Reply> {
        let sent = self.sent(request, true);
        let unique = self.send(&sent.request, None);
        let mut answer = None;
        while let Some(reply) = self.connection.receive() {
            // An earlier request's that need not have one may come here.
            if reply.unique == unique {
                self.took(&sent, &reply);
                answer = Some(reply);
            }
        }
        answer
    }

    /// Checks a reply, and learns from it.
    fn took(&mut self, sent: &Sent, reply: &Reply) {
        let Sent { request, alone, dead, plain } = sent;
        if reply.error == 0 {
            opcode::check(request.opcode, request.size, reply);
        }
        let number = |at: usize| u64::from_ne_bytes(reply.body[at..at + 8].try_into().unwrap());
        let errno = Errno::from_raw(reply.error);
        match (request.opcode, reply.error) {
            (LOOKUP, 0) => self.known.nodes.push(number(0)),
            (READDIR | READDIRPLUS, 0) => {
                let plus = request.opcode == READDIRPLUS;
                self.known.nodes.extend(opcode::entries(&reply.body, plus).first());
            }
            (OPEN, 0) => {
                let before = self.files.insert(number(0), File::Open(None));
                assert_eq!(before, None, "a handle is given once");
                self.known.handles.push(number(0));
            }
            (READ, _) if !request.has_owner => assert_eq!(errno, Errno::EINVAL),
            // A file that was opened before is known by its node alone.
            (READ, _) if *plain => self.forget_text(request.handle),
            // A file of a process before this one is opened again by what reads it, under the same handle.
            (READ, _) if !matches!(self.files.get(&request.handle), Some(File::Open(_))) => {
                self.files.insert(request.handle, File::Open(None));
            }
            (WRITE | POLL, _) if *dead && !(*plain && errno == Errno::EIO) => {
                assert_eq!(errno, Errno::EBADF, "request {} about a dead handle", request.opcode);
            }
            (READ, error) if *alone => self.read(request, error, &reply.body),
            (READ, _) => self.forget_text(request.handle),
            (RELEASE, error) => {
                assert_eq!(error, 0, "the end of a file cannot fail");
                if let Some(file) = self.files.get_mut(&request.handle) {
                    *file = File::Released;
                }
            }
            _ => {}
        }
    }

    /// What was read at an offset is of the text that was read at 0.
    fn read(&mut self, request: &Request, error: i32, body: &[u8]) {
        let Some(File::Open(text)) = self.files.get_mut(&request.handle) else { return };
        match text {
            _ if error != 0 => *text = None,
            _ if request.offset == 0 => {
                *text = (body.len() < request.size as usize).then(|| body.to_vec());
            }
            Some(text) => {
                let start = usize::try_from(request.offset).unwrap_or(usize::MAX).min(text.len());
                let end = start.saturating_add(request.size as usize).min(text.len());
                assert_eq!(body, &text[start..end], "pieces are of one moment");
            }
            None => {}
        }
    }

    fn forget_text(&mut self, handle: u64) {
        if let Some(File::Open(text)) = self.files.get_mut(&handle) {
            *text = None;
        }
    }

    /// Reads a file at once and then in pieces: one of `proc` that is opened for it, or any that is open.
    fn pieces(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let thread = *u.choose(THREADS)?;
        let mut handle = *u.choose(&self.known.handles)?;
        if u.ratio(7, 8u8)? {
            let node = 0x101 + u64::from(u.int_in_range(0..=27u8)?);
            let open = self.ask(request::open(node, thread)).expect("a reply");
            handle = if open.error == 0 { *self.known.handles.last().unwrap_or(&0) } else { handle };
        }
        let piece = u32::from(u.int_in_range(1..=200u8)?) * 16;
        let whole = self.ask(request::read(1, thread, handle, 0, 1 << 20)).expect("a reply");
        if whole.error != 0 {
            return Ok(());
        }
        let mut offset = u64::from(piece);
        self.use_memory(u)?;
        loop {
            let reply = self.ask(request::read(1, thread, handle, offset, piece)).expect("a reply");
            assert_eq!(reply.error, 0, "what was rendered is there");
            if reply.body.is_empty() {
                return Ok(());
            }
            offset += reply.body.len() as u64;
        }
    }

    /// Several requests at once, which the session's threads answer in any order; some twice, as after a server's death.
    fn burst(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut sent = HashMap::new();
        let requests = u.int_in_range(2..=8u8)?;
        let guilty = if u.ratio(1, 4u8)? { Some(self.connection.accuse_next()) } else { None };
        for _ in 0..requests {
            let Ok(request) = request::any(u, &self.known) else { break };
            self.forget_text(request.handle);
            let again = u.ratio(1, 4u8).unwrap_or_default();
            let unique = self.send(&request, None);
            sent.insert(unique, self.sent(request.clone(), false));
            if again || guilty == Some(unique) {
                let plain = self.plain || guilty == Some(unique);
                self.send(&request, Some(unique | RESENT));
                sent.insert(unique | RESENT, Sent { plain, ..self.sent(request, false) });
            }
        }
        while let Some(reply) = self.connection.receive() {
            if let Some(request) = sent.remove(&reply.unique) {
                self.took(&request, &reply);
            }
        }
        Ok(())
    }

    /// What the groups use becomes another number, so that another moment is another text.
    fn use_memory(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let used = u32::from(u.arbitrary::<u16>()?) << 10;
        for group in ["web", "web/sub", "other"] {
            let file = format!("sys/fs/cgroup/{group}/memory.current");
            self.world.fixture.write(&file, &format!("{used}\n"));
        }
        Ok(())
    }

    /// What is not the kernel's doing: a container comes and goes, a process moves, memory is used.
    fn event(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=3u8)? {
            3 => return self.use_memory(u),
            0 if self.registered => self.world.go(),
            0 => self.world.come(),
            which => {
                let group = u.choose(&["/web", "/web/sub", "/other", "/gone", "/"])?;
                let thread = 102 + u32::from(which);
                self.world.fixture.write(&format!("proc/{thread}/cgroup"), &format!("0::{group}\n"));
                return Ok(());
            }
        }
        self.registered = !self.registered;
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15u8)? {
            0 | 1 => self.pieces(u),
            2..=5 => self.burst(u),
            6 => self.event(u),
            _ => {
                let request = request::any(u, &self.known)?;
                self.ask(request);
                Ok(())
            }
        }
    }

    /// Nothing stays open, and nothing was answered twice.
    fn end(mut self) -> Connection {
        let open: Vec<u64> = self.files.keys().copied().collect();
        for handle in open {
            self.ask(request::release(handle));
            self.ask(request::release(handle));
        }
        self.connection.nothing_more();
        if !self.registered {
            self.world.come();
        }
        for (thread, group) in [(103, "/web/sub"), (104, "/other")] {
            self.world.fixture.write(&format!("proc/{thread}/cgroup"), &format!("0::{group}\n"));
        }
        self.connection
    }
}

/// The session of one target; a finding leaves none behind.
fn take(place: &Mutex<Option<Connection>>, tree: &Arc<Tree>, threads: usize) -> Connection {
    let kept = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    kept.unwrap_or_else(|| Connection::new(tree, threads))
}

fn keep(place: &Mutex<Option<Connection>>, connection: Connection) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
}

/// Requests of the kernel's form, one by one and several at once, by any threads about any nodes and handles: each has its
/// replies and no more, in a form that the kernel takes; a file that is read in pieces shows one moment; nobody writes to or
/// polls a file that was released.
pub fn fuse_requests(data: &[u8]) {
    static SESSION: Mutex<Option<Connection>> = Mutex::new(None);
    requests(data, &SESSION, world(), &world().tree, false);
}

/// The same while workers keep dying: everybody is shown the host's files, and no container is looked at.
pub fn fuse_degraded(data: &[u8]) {
    static SESSION: Mutex<Option<Connection>> = Mutex::new(None);
    requests(data, &SESSION, world(), &world().plain, true);
}

fn requests(
    data: &[u8],
    session: &Mutex<Option<Connection>>,
    world: &'static World,
    tree: &Arc<Tree>,
    plain: bool,
) {
    let open_before = tree.open_files();
    let known = Known { nodes: vec![1, 0x101, 0x103], handles: vec![0] };
    let connection = take(session, tree, 2);
    let mut run = Run { world, connection, known, files: HashMap::new(), registered: true, plain };
    with(data, |u| {
        while !u.is_empty() {
            run.step(u)?;
        }
        Ok(())
    });
    let connection = run.end();
    assert_eq!(tree.open_files(), open_before);
    keep(session, connection);
}

/// Numbers that the kernel never sends, made into some that it does, since fuser ends its process at the others: seconds
/// and nanoseconds of SETATTR (see [`request::time_of_the_kernel`]), and IOCTL, WRITE and SETXATTR
/// that come with less input than they say: the kernel takes both from one number (`fuse_do_ioctl`, `fuse_write_args_fill`, `fuse_setxattr`).
fn mend(opcode: u32, body: &mut [u8]) {
    // Where the input begins, and where its length stands.
    let input = match opcode {
        IOCTL => Some((32, 24)),
        WRITE => Some((40, 16)),
        // after the name's NUL
        SETXATTR => body.iter().skip(8).position(|byte| *byte == 0).map(|end| (8 + end + 1, 0)),
        _ => None,
    };
    if let Some((begin, at)) = input
        && body.len() >= begin
    {
        let there = u32::try_from(body.len() - begin).unwrap();
        body[at..at + 4].copy_from_slice(&there.to_ne_bytes());
    }
    if opcode != SETATTR || body.len() < 88 {
        return;
    }
    for index in 0..3 {
        let (at, below) = (32 + 8 * index, 56 + 4 * index);
        let seconds = i64::from_ne_bytes(body[at..at + 8].try_into().unwrap());
        let nanoseconds = u32::from_ne_bytes(body[below..below + 4].try_into().unwrap());
        let (seconds, nanoseconds) = request::time_of_the_kernel(seconds, nanoseconds);
        body[at..at + 8].copy_from_slice(&seconds.to_ne_bytes());
        body[below..below + 4].copy_from_slice(&nanoseconds.to_ne_bytes());
    }
}

/// Closes files. One number may stand for two: a wild one that was read, and the file that got it later.
fn release(connection: &mut Connection, handles: &mut Vec<u64>) {
    for handle in handles.iter().chain(&*handles) {
        let request = request::release(*handle);
        connection.send(request.opcode, 1, 0, Replies::One, &request.body);
        while connection.receive().is_some() {}
    }
    handles.clear();
}

/// Any bytes behind a header with the right length, then such as have a wrong one. fuser ends its loop at a message that is
/// shorter than its header says; the kernel cannot send one, since it counts the length from what it copies
/// (`fuse_len_args`, `fuse_dev_do_read`), and one read gives one whole request or EINVAL.
pub fn fuse_raw(data: &[u8]) {
    static SESSION: Mutex<Option<Connection>> = Mutex::new(None);
    let tree = &world().tree;
    let open_before = tree.open_files();
    let mut connection = take(&SESSION, tree, 1);
    let mut rest = data;
    let mut handles = Vec::new();
    while let Some((&[kind, length, node, thread], after)) = rest.split_first_chunk::<4>() {
        let (body, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let mut body = body.to_vec();
        let opcode = match kind {
            0..=0x7f => u32::from(kind & 63),
            0x80..=0xbf => opcode::SENT[usize::from(kind & 63) % opcode::SENT.len()],
            _ => u32::from(kind) << 4, // CUSE_INIT and such as do not exist
        };
        let thread = THREADS[usize::from(thread) % THREADS.len()];
        let node = match node {
            0..=0x7f => [1, 2, 3, 0x10, 0x101, 0x103, 1 << 36, 2 << 36][usize::from(node & 7)],
            _ => u64::from(node) << 38 | u64::from(node & 15),
        };
        mend(opcode, &mut body);
        if kind == 0xff {
            // Shorter than it says, or than a header: the session ends, and says why. What it opened again for handles of
            // others it alone knows.
            release(&mut connection, &mut handles);
            let mut short = message(0x7fff_ffff, GETATTR, 1, thread, &body);
            short.truncate(short.len() - 1 - usize::from(length) % 40);
            connection.send_bytes(&short);
            let error = connection.ended().expect_err("no request");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
            connection = Connection::new(tree, 1);
            continue;
        }
        if opcode == DESTROY {
            release(&mut connection, &mut handles);
        }
        // Without a whole body a request is refused, also one that otherwise has no reply.
        let replies = match opcode::replies(opcode) {
            Replies::None => Replies::Optional,
            replies => replies,
        };
        let unique = connection.send(opcode, node, thread, replies, &body);
        if opcode == READ {
            // Of whatever number, the file is opened again.
            handles.extend(body.first_chunk().map(|handle| u64::from_ne_bytes(*handle)));
        }
        while let Some(reply) = connection.receive() {
            if reply.unique == unique && opcode == OPEN && reply.error == 0 {
                handles.push(u64::from_ne_bytes(reply.body[..8].try_into().unwrap()));
            }
        }
        if opcode == DESTROY {
            connection.ended().expect("an end as it should be");
            connection = Connection::new(tree, 1);
        }
    }
    release(&mut connection, &mut handles);
    connection.nothing_more();
    assert_eq!(tree.open_files(), open_before);
    keep(&SESSION, connection);
}
