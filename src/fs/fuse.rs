//! The fuser layer: unpacks a request, asks [`Tree`], packs the answer. No logic lives here.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    IoctlFlags, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::Refusal;
use super::inode::Place;
use super::settings;
use super::snapshots::Handle;
use super::tree::{Attr, Kind, Tree};

/// What fuser calls.
#[derive(Debug)]
pub struct Server(pub Arc<Tree>);

/// Numbers are never used for another node, so that one generation serves for ever.
const GENERATION: Generation = Generation(0);

/// DIRECT_IO: every read(2) reaches us, nothing is cached in pages that containers share. NOFLUSH: close(2)
/// costs no round trip.
fn open_flags() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH
}

fn errno(refusal: Refusal) -> Errno {
    Errno::from_i32(refusal.0 as i32)
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

impl Filesystem for Server {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match place(parent).and_then(|parent| self.0.lookup(parent, name)) {
            Ok(attr) => reply.entry(&attr.ttl, &file_attr(&attr), GENERATION),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let attr = place(ino).and_then(|place| match fh {
            Some(fh) => self.0.open_attr(place, Handle(fh.0), req.pid()),
            None => self.0.attr(place),
        });
        match attr {
            Ok(attr) => reply.attr(&attr.ttl, &file_attr(&attr)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        match place(ino).and_then(|place| self.0.readlink(place, req.pid())) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match place(ino).and_then(|place| self.0.open(place, flags.0, req.pid())) {
            Ok(handle) => reply.opened(FileHandle(handle.0), open_flags()),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let answer = self.0.read(Handle(fh.0), offset, size, req.pid(), lock_owner.is_some(), |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(refusal), Some(reply)) = (answer, reply) {
            reply.error(errno(refusal));
        }
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.release(Handle(fh.0));
        reply.ok();
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match place(ino).and_then(|place| self.0.list(place, req.pid())) {
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
