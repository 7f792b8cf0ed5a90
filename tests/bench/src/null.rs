//! The null server: fixed bytes from a flat directory, no work at all. It is the floor that any FUSE server
//! written on the same library pays for the same requests.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};

use ownproc::fs::settings::{TTL, stat_blksize};

use crate::error::{Result, on};
use crate::settings;

struct Null {
    /// (name, content); the inode number is the position + 2.
    files: Vec<(String, Vec<u8>)>,
}

impl Null {
    fn file(&self, ino: INodeNo) -> Option<&(String, Vec<u8>)> {
        let position = usize::try_from(u64::from(ino).checked_sub(2)?).ok()?;
        self.files.get(position)
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = if u64::from(ino) == 1 {
            (FileType::Directory, 0o555, 0)
        } else {
            (FileType::RegularFile, 0o444, settings::st_size(self.file(ino)?.1.len()))
        };
        Some(FileAttr {
            ino,
            size,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: stat_blksize(size),
            flags: 0,
        })
    }
}

impl Filesystem for Null {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = self.files.iter().zip(2_u64..).find(|((own, _), _)| name == own.as_str());
        match ino.and_then(|(_, ino)| self.attr(INodeNo(ino))) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), settings::OPEN_FLAGS);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((_, content)) = self.file(ino) else { return reply.error(Errno::ENOENT) };
        if lock_owner.is_none() {
            return reply.error(Errno::EINVAL); // sendfile and splice must fall back to read(2)
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(size as usize).min(content.len());
        reply.data(content.get(start..end).unwrap_or_default());
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for ((name, _), position) in self.files.iter().zip(0_u64..) {
            if position >= offset
                && reply.add(INodeNo(position + 2), position + 1, FileType::RegularFile, name)
            {
                break;
            }
        }
        reply.ok();
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}

/// Serves copies of the files in `source` on `mountpoint` until it is unmounted or the process ends.
///
/// # Errors
/// `source` cannot be read, or the mount fails.
pub fn serve(source: &Path, mountpoint: &Path, threads: usize) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(source).map_err(on("list", source))? {
        let path = entry.map_err(on("list", source))?.path();
        let content = fs::read(&path).map_err(on("read", &path))?;
        if let Some(name) = path.file_name() {
            files.push((name.to_string_lossy().into_owned(), content));
        }
    }
    files.sort();
    settings::serve(Null { files }, mountpoint, threads)
}
