//! The fuser layer: unpacks a request, asks [`Tree`], packs the answer. No logic lives here.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags, PollEvents as Poll,
    PollFlags, PollHandle, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::Refusal;
use super::flights::{Flight, Flights, Passage, RESENT};
use super::inode::Place;
use super::lanes::openers::Openers;
use super::lanes::{Lanes, Turn};
use super::settings;
use super::snapshots::Handle;
use super::tree::{Attr, Kind, PollEvents, Tree};
use super::triggers::Notify;

mod handles;

use handles::Handles;

/// What fuser calls.
#[derive(Debug)]
pub struct Server {
    core: Core,
    pool: Option<Pool>,
    /// Where the reading threads meet before the first request.
    meeting: Option<Arc<Barrier>>,
}

/// The node that a FORGET names which calls a reading thread to the meeting. The kernel knows of no such node.
pub const MEETING: u64 = u64::MAX;

/// What requests are answered from; a handle of it.
#[derive(Clone, Debug)]
struct Core {
    tree: Arc<Tree>,
    flights: Arc<Flights>,
    handles: Arc<Handles>,
    openers: Arc<Openers>,
}

/// A request that is done by a thread of the pool.
struct Job(Box<dyn FnOnce(&Core) + Send>);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// Who does what the threads that read requests do not do themselves.
#[derive(Debug)]
struct Pool {
    lanes: Arc<Lanes<Job>>,
    /// The kernel sends a request again that was lost with a worker.
    resend: bool,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lanes.close();
    }
}

/// A request, as far as it is looked at.
#[derive(Clone, Copy, Debug)]
struct Asked {
    unique: u64,
    /// Thread id of the caller.
    tid: u32,
}

impl From<&Request> for Asked {
    fn from(req: &Request) -> Self {
        Self { unique: req.unique().into(), tid: req.pid() }
    }
}

/// What a READ asks for.
#[derive(Clone, Copy, Debug)]
struct Read {
    asked: Asked,
    ino: INodeNo,
    fh: FileHandle,
    offset: u64,
    size: u32,
    has_owner: bool,
}

impl Server {
    /// Serves a tree; what is being answered is marked in `flights`. Each request is done by the thread that reads it.
    #[must_use]
    pub fn new(tree: Arc<Tree>, flights: Arc<Flights>) -> Self {
        Self {
            core: Core { tree, flights, handles: Arc::default(), openers: Arc::default() },
            pool: None,
            meeting: None,
        }
    }

    /// The same for a connection whose open files were kept in so many other memories before: see `Handles`.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u64) -> Self {
        self.core.handles = Arc::new(Handles::new(epoch));
        self
    }

    /// The same with a pool of threads beside the `readers` that read requests, so that no container holds up another: see
    /// [`super::lanes`]. `resend`: the kernel sends requests again that were lost with a worker.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn with_pool(mut self, readers: usize, resend: bool) -> std::io::Result<Self> {
        let lanes = Arc::new(Lanes::new(readers));
        let pool = Pool { lanes: Arc::clone(&lanes), resend };
        let core = self.core.clone();
        lanes.start_pool(move |Job(job)| job(&core))?;
        self.pool = Some(pool);
        Ok(self)
    }

    /// Does what is asked of an open file: now, or in its container's turn.
    fn serve(&self, asked: Asked, fh: FileHandle, job: impl FnOnce(Answering<'_>) + Send + 'static) {
        let known = self.core.handles.known(fh);
        self.serve_in(self.core.tree.lane(known), asked, known, job);
    }

    /// Does it now, or in the turn of a lane.
    fn serve_in(
        &self,
        lane: u16,
        asked: Asked,
        known: Handle,
        job: impl FnOnce(Answering<'_>) + Send + 'static,
    ) {
        let core = &self.core;
        let _passage = core.flights.passage();
        let now = |turn| Answering { core, flight: core.mark(asked), known, turn };
        let Some(pool) = &self.pool else { return job(now(None)) };
        if let Some(turn) = pool.lanes.enter(lane) {
            return job(now(Some(turn)));
        }
        let queued = match pool.resend {
            true => None,
            false => match core.flights.queue(asked.unique) {
                None => return job(now(None)), // it would be lost with this worker
                some => some,
            },
        };
        let marked = move |core: &Core| {
            let flight = core.mark(asked);
            drop(queued);
            job(Answering { core, flight, known, turn: None });
        };
        pool.lanes.queue(lane, Job(Box::new(marked)));
    }
}

/// A request that is being answered, marked until this is dropped.
struct Answering<'a> {
    core: &'a Core,
    flight: Flight<'a>,
    /// What is known to stand behind its handle.
    known: Handle,
    turn: Option<Turn<'a, Job>>,
}

impl Answering<'_> {
    fn open(self, asked: Asked, ino: INodeNo, flags: i32, reply: ReplyOpen) {
        let Self { core, flight, turn, .. } = self;
        let (place, unique) = (place(ino), asked.unique & !RESENT);
        let opened = match flight.is_guilty() || core.tree.is_plain() {
            true => place.and_then(|place| core.tree.open_plain(place, asked.tid, unique)),
            false => place.and_then(|place| core.tree.open(place, flags, asked.tid, unique)),
        };
        match opened {
            Ok(handle) => {
                core.openers.saw(asked.tid, core.tree.lane(handle));
                drop(turn); // before the reply, as of a read
                reply.opened(core.handles.tell(handle), open_flags());
                core.tree.answered(handle);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(self, read: Read, reply: ReplyData) {
        let Self { core, flight, known, mut turn } = self;
        let Read { asked, ino, fh, offset, size, has_owner } = read;
        #[cfg(debug_assertions)]
        if !flight.is_guilty() && !core.tree.is_plain() {
            super::injected::strike(ino.0);
        }
        let mut reply = Some(reply);
        let mut answer = |bytes: &[u8]| {
            // Before the reply: who gets it may ask for more before this thread runs again, and would find the lane in use.
            turn = None;
            if let Some(reply) = reply.take() {
                map_in(bytes);
                reply.data(bytes);
            }
        };
        let answer = match flight.is_guilty() || core.tree.is_plain() {
            // Here too nothing may get into the page cache, which all readers share and which outlasts this time.
            true if !has_owner => Err(Refusal(nix::errno::Errno::EINVAL)),
            true => core.tree.read_plain(known, ino.0, offset, size, answer),
            false => {
                let mut read =
                    |handle| core.tree.read(handle, offset, size, asked.tid, has_owner, &mut answer);
                match read(known) {
                    Err(Refusal(nix::errno::Errno::EBADF)) => {
                        core.open_again(asked, fh, known, ino).and_then(read)
                    }
                    other => other,
                }
            }
        };
        if let (Err(refusal), Some(reply)) = (answer, reply) {
            reply.error(errno(refusal));
        }
    }
}

impl Core {
    /// Opens a file again that a process before this one has opened, whose handle this one does not know: it goes on to be read
    /// as what its inode says, by whoever reads it now.
    fn open_again(
        &self,
        asked: Asked,
        fh: FileHandle,
        tried: Handle,
        ino: INodeNo,
    ) -> Result<Handle, Refusal> {
        let place = place(ino)?;
        let open = || self.tree.open(place, 0, asked.tid, asked.unique & !RESENT);
        self.handles.again(fh, tried, open, |handle| self.tree.release(handle))
    }

    /// Marks a request for as long as it is answered.
    fn mark(&self, asked: impl Into<Asked>) -> Flight<'_> {
        self.flights.enter(asked.into().unique)
    }

    /// The same for one that the thread which read it answers itself. The mark is dropped first.
    fn mark_here(&self, asked: impl Into<Asked>) -> (Flight<'_>, Passage<'_>) {
        (self.mark(asked), self.flights.passage())
    }
}

/// A mark, or EIO to a request that must not be looked at again.
macro_rules! mark {
    ($self:ident, $request:ident, $reply:ident) => {{
        let here = $self.core.mark_here($request);
        if here.0.is_guilty() {
            return $reply.error(Errno::EIO);
        }
        here
    }};
}

/// EIO to a request that must not be looked at again.
macro_rules! guilty {
    ($at:ident, $reply:ident) => {
        if $at.flight.is_guilty() {
            return $reply.error(Errno::EIO);
        }
    };
}

/// Sees to it that these bytes have their pages in this process. A text in shared memory may be of the worker before, so that nobody has
/// looked at it here yet; and a thread that is killed while the kernel copies from such a page for the first time has its reader told EIO
/// (`fuse_dev_do_write`, fs/fuse/dev.c): the kernel brings in no page for a process that is being killed.
fn map_in(bytes: &[u8]) {
    const PAGE: usize = 4096; // of larger ones some are looked at twice
    for byte in bytes.iter().step_by(PAGE).chain(bytes.last()) {
        std::hint::black_box(*byte);
    }
}

/// Numbers are never used for another node, so that one generation serves for ever.
const GENERATION: Generation = Generation(0);

/// DIRECT_IO: every read(2) reaches us, nothing is cached in pages that containers share. NOFLUSH: close(2)
/// costs no round trip. PARALLEL_DIRECT_WRITES: a writer whose buffer cannot be read does not hold the inode's lock
/// alone.
fn open_flags() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
}

fn poll_events(events: PollEvents) -> Poll {
    let ready = Poll::POLLIN | Poll::POLLOUT | Poll::POLLRDNORM | Poll::POLLWRNORM;
    match events {
        PollEvents::Ready => ready,
        PollEvents::Fired => ready | Poll::POLLPRI,
        PollEvents::Broken => ready | Poll::POLLPRI | Poll::POLLERR,
    }
}

/// What nobody may do: EACCES, where fuser would log every call and say that it is not implemented. A read-only mount
/// is not even asked.
macro_rules! refused {
    ($($name:ident($($type:ty),*; $reply:ty))*) => {
        $(fn $name(&self, _: &Request, $(_: $type,)* reply: $reply) {
            reply.error(Errno::EACCES);
        })*
    };
}

fn errno(refusal: Refusal) -> Errno {
    Errno::from_i32(refusal.0 as i32)
}

/// What tells the kernel that a polled file is to be asked again, by the handle that it polls it by.
#[must_use]
pub fn notify(notifier: &Notifier, by: u64) -> Notify {
    let notifier = notifier.clone();
    Box::new(move || {
        if let Err(error) = notifier.poll(PollHandle(by)) {
            log::debug!("telling of a pressure trigger: {error}");
        }
    })
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.place.ino()),
        size: attr.size,
        // Twice what the size takes: a file with fewer blocks than bytes is taken for a sparse one.
        blocks: attr.size / 256,
        atime: attr.time,
        mtime: attr.time,
        ctime: attr.time,
        crtime: attr.time,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: if attr.kind == Kind::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: settings::stat_blksize(attr.size),
        flags: 0,
    }
}

fn place(ino: INodeNo) -> Result<Place, Refusal> {
    Place::from_ino(ino.0).ok_or(Refusal(nix::errno::Errno::ENOENT))
}

impl Server {
    /// Where `threads` reading threads and one more meet, and part at the second time: each that is sent a FORGET of
    /// [`MEETING`].
    #[must_use]
    pub fn meet(self, threads: usize) -> (Self, Arc<Barrier>) {
        let meeting = Arc::new(Barrier::new(threads + 1));
        (Self { meeting: Some(Arc::clone(&meeting)), ..self }, meeting)
    }
}

/// What the kernel is asked for beside fuser's own wishes: READDIRPLUS, so that whoever lists a directory and then opens what
/// is in it (the launcher, `attach`) costs one request instead of one for each entry. A kernel, or a connection of another
/// build, that has it not goes on with LOOKUP.
pub fn wish(config: &mut KernelConfig) {
    let plus = InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO;
    if config.add_capabilities(plus).is_err() {
        log::debug!("no READDIRPLUS on this connection");
    }
}

impl Filesystem for Server {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        wish(config);
        Ok(())
    }

    fn forget(&self, _req: &Request, ino: INodeNo, _lookups: u64) {
        if let Some(meeting) = self.meeting.as_ref().filter(|_| ino.0 == MEETING) {
            meeting.wait();
            meeting.wait();
        }
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _here = mark!(self, req, reply);
        match place(parent).and_then(|parent| self.core.tree.lookup(parent, name)) {
            Ok(attr) => reply.entry(&attr.ttl, &file_attr(&attr), GENERATION),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let answer = |attr: Result<Attr, Refusal>, reply: ReplyAttr| match attr {
            Ok(attr) => reply.attr(&attr.ttl, &file_attr(&attr)),
            Err(refusal) => reply.error(errno(refusal)),
        };
        let Some(fh) = fh else {
            let _here = mark!(self, req, reply);
            return answer(place(ino).and_then(|place| self.core.tree.attr(place)), reply);
        };
        let asked = Asked::from(req);
        self.serve(asked, fh, move |at| {
            guilty!(at, reply);
            let attr = place(ino).and_then(|place| at.core.tree.open_attr(place, at.known, asked.tid));
            answer(attr, reply);
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let _here = mark!(self, req, reply);
        match place(ino).and_then(|place| self.core.tree.readlink(place, req.pid())) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let asked = Asked::from(req);
        match self.core.openers.lane(asked.tid) {
            Some(lane) => {
                self.serve_in(lane, asked, Handle(0), move |at| at.open(asked, ino, flags.0, reply));
            }
            None => {
                let (core, (flight, _passage)) = (&self.core, self.core.mark_here(req));
                let at = Answering { core, flight, known: Handle(0), turn: None };
                at.open(asked, ino, flags.0, reply);
            }
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = Read { asked: req.into(), ino, fh, offset, size, has_owner: lock_owner.is_some() };
        self.serve(read.asked, fh, move |at| at.read(read, reply));
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (asked, data) = (Asked::from(req), data.to_owned());
        self.serve(asked, fh, move |at| {
            guilty!(at, reply);
            match at.core.tree.write(at.known, &data, asked.tid, asked.unique & !RESENT) {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
                Err(refusal) => reply.error(errno(refusal)),
            }
        });
    }

    fn poll(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        notifier: PollNotifier,
        _events: Poll,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let wanted = flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY);
        let notify = wanted.then(|| -> (u64, Notify) {
            let by = notifier.handle().0;
            let notify = move || {
                if let Err(error) = notifier.clone().notify() {
                    log::debug!("telling of a pressure trigger: {error}");
                }
            };
            (by, Box::new(notify))
        });
        self.serve(req.into(), fh, move |at| {
            guilty!(at, reply);
            match at.core.tree.poll(at.known, notify) {
                Ok(events) => reply.poll(poll_events(events)),
                Err(refusal) => reply.error(errno(refusal)),
            }
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _here = mark!(self, req, reply);
        let owner = mode.or(uid).or(gid).is_some() || atime.or(mtime).is_some();
        let attr = match place(ino) {
            Ok(place) if size.is_some() && !owner => self.core.tree.truncate(place),
            Ok(_) => Err(Refusal(nix::errno::Errno::EACCES)),
            Err(refusal) => Err(refusal),
        };
        match attr {
            Ok(attr) => reply.attr(&attr.ttl, &file_attr(&attr)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    refused! {
        mknod(INodeNo, &OsStr, u32, u32, u32; ReplyEntry)
        mkdir(INodeNo, &OsStr, u32, u32; ReplyEntry)
        symlink(INodeNo, &OsStr, &Path; ReplyEntry)
        link(INodeNo, INodeNo, &OsStr; ReplyEntry)
        create(INodeNo, &OsStr, u32, u32, i32; ReplyCreate)
        unlink(INodeNo, &OsStr; ReplyEmpty)
        rmdir(INodeNo, &OsStr; ReplyEmpty)
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags; ReplyEmpty)
        setxattr(INodeNo, &OsStr, &[u8], i32, u32; ReplyEmpty)
        removexattr(INodeNo, &OsStr; ReplyEmpty)
        fallocate(INodeNo, FileHandle, u64, u64, i32; ReplyEmpty)
    }

    fn release(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _here = self.core.mark_here(req);
        self.core.tree.release(self.core.handles.ended(fh));
        reply.ok();
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _here = mark!(self, req, reply);
        match place(ino).and_then(|place| self.core.tree.list(place, req.pid())) {
            Ok(entries) => {
                let skip = usize::try_from(offset).unwrap_or(usize::MAX);
                for (index, entry) in entries.iter().enumerate().skip(skip) {
                    let next = index as u64 + 1;
                    if reply.add(INodeNo(entry.place.ino()), next, file_type(entry.kind), &*entry.name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _here = mark!(self, req, reply);
        match place(ino).and_then(|place| self.core.tree.list(place, req.pid())) {
            Ok(entries) => {
                let skip = usize::try_from(offset).unwrap_or(usize::MAX);
                for (index, entry) in entries.iter().enumerate().skip(skip) {
                    // a container that went meanwhile: as if it had gone before the listing
                    let Ok(attr) = self.core.tree.attr(entry.place) else { continue };
                    let (ino, next) = (INodeNo(entry.place.ino()), index as u64 + 1);
                    if reply.add(ino, next, &*entry.name, &attr.ttl, &file_attr(&attr), GENERATION) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    // The kernel asks these once and remembers ENOSYS, where fuser would log every call.
    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    // Every Python open asks whether the file is a terminal.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
