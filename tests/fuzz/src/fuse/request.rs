//! Requests of any content in the form that the kernel gives them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use arbitrary::{Result, Unstructured};
use ownproc::fs::inode::{Place, Scope};

use super::opcode::*;
use crate::targets::tree::{NAMES, THREADS};

/// FUSE_READ_LOCKOWNER: read(2) has it, sendfile(2) and splice(2) have not.
pub const LOCK_OWNER: u32 = 1 << 1;
/// A connection's `max_write`, and the most that it reads at once.
const MOST: u32 = 1 << 20;

/// A request without its number.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which.
    pub opcode: u32,
    /// About which node.
    pub node: u64,
    /// By which thread.
    pub thread: u32,
    /// What follows the header.
    pub body: Vec<u8>,
    /// The file handle in it.
    pub handle: u64,
    /// The offset in it.
    pub offset: u64,
    /// How many bytes it asks for.
    pub size: u32,
    /// READ: as read(2) asks.
    pub has_owner: bool,
}

/// What is known from earlier replies.
#[derive(Debug)]
pub struct Known {
    /// Node numbers.
    pub nodes: Vec<u64>,
    /// File handles, released ones among them.
    pub handles: Vec<u64>,
}

/// A body in the making.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn u32(mut self, numbers: impl IntoIterator<Item = u32>) -> Self {
        numbers.into_iter().for_each(|number| self.0.extend_from_slice(&number.to_ne_bytes()));
        self
    }

    fn u64(mut self, numbers: impl IntoIterator<Item = u64>) -> Self {
        numbers.into_iter().for_each(|number| self.0.extend_from_slice(&number.to_ne_bytes()));
        self
    }

    fn name(mut self, name: &OsString) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A name as the kernel has it: no NUL, no slash, at most 255 bytes, and never none at all.
fn name(u: &mut Unstructured<'_>) -> Result<OsString> {
    Ok(match u.int_in_range(0..=63u8)? {
        index if usize::from(index) < NAMES.len() => {
            let name = NAMES[usize::from(index)].replace('/', "");
            if name.is_empty() { "x".into() } else { name.into() }
        }
        60 => OsString::from_vec(vec![b'a' + u.int_in_range(0..=25u8)?; 255]),
        _ => {
            let mut bytes = u.arbitrary::<[u8; 6]>()?.to_vec();
            bytes.retain(|byte| !matches!(byte, 0 | b'/'));
            bytes.push(b'y');
            OsString::from_vec(bytes)
        }
    })
}

fn node(u: &mut Unstructured<'_>, known: &Known) -> Result<u64> {
    Ok(match u.int_in_range(0..=19u8)? {
        0 => u.arbitrary()?,
        1 => u64::from(u.arbitrary::<u16>()? & 0x1ff),
        2 => Place::from_ino(*u.choose(&known.nodes)?).map_or(0, |place| {
            let scope = if place.scope == Scope::Reader { Scope::Container(1) } else { Scope::Reader };
            Place { scope, ..place }.ino()
        }),
        _ => *u.choose(&known.nodes)?,
    })
}

/// Of another epoch (`fs::fuse::handles`): the kernel knows none of this one that it was not told.
const OF_OTHERS: u64 = 1 << 20;

fn handle(u: &mut Unstructured<'_>, known: &Known) -> Result<u64> {
    let known = *u.choose(&known.handles)?;
    Ok(match u.int_in_range(0..=15u8)? {
        0 => u.arbitrary::<u64>()? | OF_OTHERS,
        1 => known.wrapping_add(1 << 32) | OF_OTHERS,
        2 => known.wrapping_add(u64::from(u.arbitrary::<u16>()?)) | OF_OTHERS,
        _ => known,
    })
}

fn offset(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=9u8)? {
        0..=3 => 0,
        4 => u64::from(u.arbitrary::<u8>()?),
        5 | 6 => u64::from(u.arbitrary::<u16>()?),
        7 => i64::MAX as u64,
        8 => u.arbitrary::<u64>()? >> 1,
        _ => u64::from(u.arbitrary::<u32>()?),
    })
}

fn size(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => 0,
        1 => u32::from(u.arbitrary::<u8>()?),
        2 | 3 => u32::from(u.arbitrary::<u16>()?),
        4 => 4096,
        5 => u.arbitrary::<u32>()?,
        _ => MOST,
    })
}

/// Seconds and nanoseconds as the kernel sends them: it cuts what utimensat(2) is given to the times of the superblock, and
/// at both ends of those the nanoseconds are 0 (`timestamp_truncate`). fuser negates the seconds, so that the least of them
/// ends a build with overflow checks, and such a build only.
pub fn time_of_the_kernel(seconds: i64, nanoseconds: u32) -> (i64, u32) {
    match seconds {
        i64::MIN => (i64::MIN + 1, 0),
        i64::MAX => (i64::MAX, 0),
        _ => (seconds, nanoseconds % 1_000_000_000),
    }
}

fn data(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => Vec::new(),
        1 => b"some 150000 1000000".to_vec(),
        2 => b"full 50000 1000000\0".to_vec(),
        3 => vec![b'x'; usize::from(u.arbitrary::<u16>()? >> 3)],
        4 => format!("some {} {}", u.arbitrary::<u32>()?, u.arbitrary::<u64>()?).into_bytes(),
        _ => u.arbitrary::<[u8; 9]>()?.to_vec(),
    })
}

fn set_attr(u: &mut Unstructured<'_>, handle: u64) -> Result<Vec<u8>> {
    let mut times = [(0, 0); 3];
    for time in &mut times {
        *time = match u.int_in_range(0..=3u8)? {
            0 => time_of_the_kernel(*u.choose(&[i64::MIN, i64::MAX, -1, 0])?, u32::MAX),
            _ => time_of_the_kernel(u.arbitrary()?, u.arbitrary()?),
        };
    }
    let body = Body::default().u32([u.arbitrary()?, 0]).u64([handle, u.arbitrary()?, u.arbitrary()?]);
    let body = body.u64(times.map(|(seconds, _)| seconds.cast_unsigned())).u32(times.map(|time| time.1));
    Ok(body.u32([u.arbitrary()?, 0, u.arbitrary()?, u.arbitrary()?, 0]).0)
}

/// Any request.
#[allow(clippy::too_many_lines)] // one line per request
pub fn any(u: &mut Unstructured<'_>, known: &Known) -> Result<Request> {
    // Those that read come more often: the others are answered without a look.
    let opcode = match u.int_in_range(0..=15u8)? {
        0 | 1 => LOOKUP,
        2 | 3 => OPEN,
        4..=6 => READ,
        7 => RELEASE,
        8 => *u.choose(&[READDIR, READDIRPLUS])?,
        9 => *u.choose(&[GETATTR, READLINK, POLL, WRITE, IOCTL, SETATTR])?,
        _ => *u.choose(SENT)?,
    };
    let node = node(u, known)?;
    let thread = *u.choose(THREADS)?;
    let handle = handle(u, known)?;
    let (offset, size) = (offset(u)?, size(u)?);
    let has_owner = u.ratio(15, 16u8)?;
    let word: u32 = u.arbitrary()?;
    let body = Body::default();
    let body = match opcode {
        LOOKUP | UNLINK | RMDIR | REMOVEXATTR => body.name(&name(u)?),
        FORGET => body.u64([u64::from(word)]),
        GETATTR => body.u32([word & 1, 0]).u64([handle]),
        SETATTR => Body(set_attr(u, handle)?),
        SYMLINK => body.name(&name(u)?).name(&name(u)?),
        MKNOD => body.u32([word, word >> 7, word >> 9, 0]).name(&name(u)?),
        MKDIR => body.u32([word, word >> 9]).name(&name(u)?),
        RENAME => body.u64([*u.choose(&known.nodes)?]).name(&name(u)?).name(&name(u)?),
        RENAME2 => body.u64([*u.choose(&known.nodes)?]).u32([word, 0]).name(&name(u)?).name(&name(u)?),
        LINK => body.u64([*u.choose(&known.nodes)?]).name(&name(u)?),
        OPEN | OPENDIR => {
            let flags = if word & 7 == 0 { word } else { libc::O_RDONLY.cast_unsigned() };
            body.u32([flags, word >> 31])
        }
        READ | READDIR | READDIRPLUS => {
            let flags = if has_owner { LOCK_OWNER } else { 0 } | word & !LOCK_OWNER;
            body.u64([handle, offset]).u32([size, flags]).u64([7]).u32([word, 0])
        }
        WRITE => {
            let data = data(u)?;
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            body.u64([handle, offset]).u32([length, word]).u64([7]).u32([word, 0]).bytes(&data)
        }
        RELEASE | RELEASEDIR => body.u64([handle]).u32([word, word >> 8]).u64([7]),
        FSYNC | FSYNCDIR => body.u64([handle]).u32([word, 0]),
        SETXATTR => {
            let data = data(u)?;
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            body.u32([length, word]).name(&name(u)?).bytes(&data)
        }
        GETXATTR => body.u32([size, 0]).name(&name(u)?),
        LISTXATTR => body.u32([size, 0]),
        FLUSH => body.u64([handle]).u32([0, 0]).u64([7]),
        GETLK | SETLK | SETLKW => body.u64([handle, 7, offset, u64::MAX]).u32([word & 3, word, word & 1, 0]),
        ACCESS => body.u32([word & 7, 0]),
        CREATE => body.u32([word, word >> 3, word >> 9, 0]).name(&name(u)?),
        INTERRUPT => body.u64([u64::from(word)]),
        BMAP => body.u64([offset]).u32([4096, 0]),
        IOCTL => {
            let data = data(u)?;
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            body.u64([handle]).u32([word & 0x3f, word]).u64([offset]).u32([length, size]).bytes(&data)
        }
        POLL => body.u64([handle, u64::from(word)]).u32([word & 1, word >> 1]),
        NOTIFY_REPLY => body.u64([0, offset]).u32([0, 0]).u64([0, 0]),
        BATCH_FORGET => {
            let nodes = usize::from(u.arbitrary::<u8>()? & 7).min(known.nodes.len());
            let pairs = known.nodes[..nodes].iter().flat_map(|node| [*node, 1]);
            body.u32([u32::try_from(nodes).unwrap_or(0), 0]).u64(pairs)
        }
        FALLOCATE => body.u64([handle, offset, u64::from(size)]).u32([word, 0]),
        LSEEK => body.u64([handle, offset]).u32([word & 7, 0]),
        COPY_FILE_RANGE => {
            let (node, other) = (*u.choose(&known.nodes)?, *u.choose(&known.handles)?);
            body.u64([handle, offset, node, other, offset, u64::from(size), 0])
        }
        SETUPMAPPING => body.u64([handle, offset, u64::from(size), 0, 0]),
        REMOVEMAPPING => body.u32([1]).u64([offset, u64::from(size)]),
        SYNCFS => body.u64([0]),
        TMPFILE => body.u32([word, word >> 3, word >> 9, 0]).name(&name(u)?),
        STATX => body.u32([word & 1, 0]).u64([handle]).u32([word, word]),
        _ => body, // READLINK, STATFS
    };
    Ok(Request { opcode, node, thread, body: body.0, handle, offset, size, has_owner })
}

/// An OPEN for reading.
#[must_use]
pub fn open(node: u64, thread: u32) -> Request {
    let body = Body::default().u32([0, 0]).0;
    Request { opcode: OPEN, node, thread, body, handle: 0, offset: 0, size: 0, has_owner: false }
}

/// A READ of an open file as read(2) asks for it.
#[must_use]
pub fn read(node: u64, thread: u32, handle: u64, offset: u64, size: u32) -> Request {
    let body = Body::default().u64([handle, offset]).u32([size, LOCK_OWNER]).u64([7]).u32([0, 0]).0;
    Request { opcode: READ, node, thread, body, handle, offset, size, has_owner: true }
}

/// The RELEASE of an open file.
#[must_use]
pub fn release(handle: u64) -> Request {
    let body = Body::default().u64([handle]).u32([0, 0]).u64([0]).0;
    Request { opcode: RELEASE, node: 1, thread: 0, body, handle, offset: 0, size: 0, has_owner: false }
}
