//! The requests of the FUSE protocol, and what the kernel takes for an answer to each.

use super::{Replies, Reply};

#[allow(missing_docs)]
mod numbers {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const GETLK: u32 = 31;
    pub const SETLK: u32 = 32;
    pub const SETLKW: u32 = 33;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const BMAP: u32 = 37;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const POLL: u32 = 40;
    pub const NOTIFY_REPLY: u32 = 41;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SETUPMAPPING: u32 = 48;
    pub const REMOVEMAPPING: u32 = 49;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
}
pub use numbers::*;

/// All but INIT and DESTROY, which open and end a connection.
pub const SENT: &[u32] = &[
    LOOKUP,
    FORGET,
    GETATTR,
    SETATTR,
    READLINK,
    SYMLINK,
    MKNOD,
    MKDIR,
    UNLINK,
    RMDIR,
    RENAME,
    LINK,
    OPEN,
    READ,
    WRITE,
    STATFS,
    RELEASE,
    FSYNC,
    SETXATTR,
    GETXATTR,
    LISTXATTR,
    REMOVEXATTR,
    FLUSH,
    OPENDIR,
    READDIR,
    RELEASEDIR,
    FSYNCDIR,
    GETLK,
    SETLK,
    SETLKW,
    ACCESS,
    CREATE,
    INTERRUPT,
    BMAP,
    IOCTL,
    POLL,
    NOTIFY_REPLY,
    BATCH_FORGET,
    FALLOCATE,
    READDIRPLUS,
    RENAME2,
    LSEEK,
    COPY_FILE_RANGE,
    SETUPMAPPING,
    REMOVEMAPPING,
    SYNCFS,
    TMPFILE,
    STATX,
];

/// How many replies a well-formed request has. fuser says ENOSYS to INTERRUPT, which the kernel takes for "never again",
/// and to NOTIFY_REPLY, which the kernel sends only where it was asked for an inode's pages.
#[must_use]
pub const fn replies(opcode: u32) -> Replies {
    match opcode {
        FORGET | BATCH_FORGET => Replies::None,
        INTERRUPT | NOTIFY_REPLY => Replies::Optional,
        _ => Replies::One,
    }
}

/// `struct fuse_entry_out`.
const ENTRY: usize = 128;
/// The longest name (FUSE_NAME_MAX).
const NAME_MAX: usize = 1024;

fn number(body: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(body[at..at + 8].try_into().unwrap())
}

/// Checks the body of a reply without an error, as the kernel does: a length that it did not ask for ends in EIO for the
/// caller. `size` is what the request asked for, where it says.
///
/// # Panics
/// Where the kernel would not take it.
pub fn check(opcode: u32, size: u32, reply: &Reply) {
    let body = &reply.body;
    let exact = match opcode {
        LOOKUP | SYMLINK | MKNOD | MKDIR | LINK => ENTRY,
        GETATTR | SETATTR => 104,
        OPEN | OPENDIR => 16,
        CREATE | TMPFILE => ENTRY + 16,
        WRITE | COPY_FILE_RANGE | POLL | LSEEK | BMAP => 8,
        STATFS => 80,
        GETLK => 24,
        READ => {
            assert!(body.len() <= size as usize, "{} bytes of {size}", body.len());
            return;
        }
        READDIR => {
            assert!(body.len() <= size as usize, "{} bytes of {size}", body.len());
            let _ = entries(body, false);
            return;
        }
        READDIRPLUS => {
            assert!(body.len() <= size as usize, "{} bytes of {size}", body.len());
            let _ = entries(body, true);
            return;
        }
        READLINK => {
            assert!(!body.is_empty() && body.len() < 4096, "a link of {} bytes", body.len());
            return;
        }
        _ => 0,
    };
    assert_eq!(body.len(), exact, "the answer to request {opcode}");
    match opcode {
        LOOKUP => {
            assert!(number(body, 0) > 1, "no name leads to nothing or to the root");
            entry(body);
        }
        GETATTR | SETATTR => attributes(&body[16..]),
        _ => {}
    }
}

/// The kernel refuses other kinds and sizes (`fuse_invalid_attr`).
fn attributes(attr: &[u8]) {
    assert!(i64::try_from(number(attr, 8)).is_ok(), "size {}", number(attr, 8));
    let mode = u32::from_ne_bytes(attr[60..64].try_into().unwrap());
    let kinds = [libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK];
    assert!(kinds.contains(&(mode & libc::S_IFMT)), "mode {mode:o}");
    assert_eq!(mode & 0o7000, 0, "mode {mode:o}");
}

/// `struct fuse_entry_out`.
fn entry(body: &[u8]) {
    assert_eq!(number(body, 8), 0, "one generation for ever");
    attributes(&body[40..]);
    assert_eq!(number(body, 0), number(body, 40), "the node's number is the inode's");
}

/// Takes a directory apart as `parse_dirfile` does, or, where `plus`, `parse_dirplusfile`; node numbers in it.
///
/// # Panics
/// Where the kernel would answer EIO.
#[must_use]
pub fn entries(mut body: &[u8], plus: bool) -> Vec<u64> {
    let mut nodes = Vec::new();
    while body.len() >= if plus { ENTRY + 24 } else { 24 } {
        if plus {
            entry(body);
            let found = number(body, 0);
            body = &body[ENTRY..];
            assert_eq!(found, number(body, 0), "the entry's number is its node's");
        }
        let length = u32::from_ne_bytes(body[16..20].try_into().unwrap()) as usize;
        assert!((1..=NAME_MAX).contains(&length), "a name of {length} bytes");
        let name = body.get(24..24 + length).expect("a whole name");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{}", name.escape_ascii());
        nodes.push(number(body, 0));
        body = body.get((24 + length).next_multiple_of(8)..).unwrap_or_default();
    }
    assert!(body.is_empty(), "{} bytes after the last entry", body.len());
    nodes
}
