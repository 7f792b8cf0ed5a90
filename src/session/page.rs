//! The session page: the first 64 KiB of the shared memory, through which the holder and its workers know of each other.
//!
//! It holds what was negotiated with the kernel, the worker's heartbeat, and the requests that are being answered: what
//! a worker was doing when it died is read here by the next one.
//!
//! Its beginning, the [`Head`], is read by every build, whatever came after it: a holder of another build that takes a
//! connection over from systemd's store needs it, and makes new memory for the rest.

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::calls::table::Table as Calls;
use crate::fs::flights::Table;

/// Length of the page in bytes; what follows in the same memory is the [`crate::store`]'s.
pub const LENGTH: usize = 64 * 1024;

/// Words of 64 bits in it.
const WORDS: usize = LENGTH / 8;

/// "ownproc" and one byte for the layout of the [`Head`], which does not change: what it has no place for goes elsewhere.
const MAGIC: u64 = u64::from_le_bytes(*b"ownproc\x01");

/// Goes up with any change in the meaning of what follows the head, where its places stay the same.
const VERSION: u64 = 1;

/// What follows the head, as one number: a worker of another layout refuses to serve, and a holder makes new memory.
pub const LAYOUT: u64 = {
    // FNV-1a over what tells one layout from another
    let parts = [
        VERSION,
        crate::store::VERSION,
        size_of::<Layout>() as u64,
        offset_of!(Layout, beat) as u64,
        offset_of!(Layout, story) as u64,
        offset_of!(Layout, flights) as u64,
        size_of::<Story>() as u64,
        size_of::<Table>() as u64,
        offset_of!(Layout, calls) as u64,
        size_of::<Calls>() as u64,
    ];
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < parts.len() {
        hash = (hash ^ parts[at]).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
};

/// Room for a message of the INIT exchange: the request has 104 bytes, the reply 80 (linux/fuse.h).
const MESSAGE: usize = 128;

/// A message of up to 128 bytes.
#[repr(C)]
#[derive(Debug)]
struct Message {
    len: AtomicU64,
    words: [AtomicU64; MESSAGE / 8],
}

/// What every build can read, of the memory of any other.
#[repr(C)]
#[derive(Debug)]
pub struct Head {
    magic: AtomicU64,
    /// [`LAYOUT`] of the build that made the memory.
    layout: AtomicU64,
    /// Where the numbers of the requests that are being answered stand, in bytes from the page's beginning, and how many
    /// places there are; 0 is none.
    marks_at: AtomicU64,
    marks: AtomicU64,
    /// Where the highest number of a request stands that was marked so far.
    last_unique_at: AtomicU64,
    /// How many memories this connection had before: handles of open files are told apart by it.
    pub epoch: AtomicU64,
    /// 1 where the kernel sends requests again to a new worker.
    pub resend: AtomicU64,
    /// Device number of the mount.
    pub mounted: AtomicU64,
    request: Message,
    reply: Message,
}

const _: () = assert!(size_of::<Head>() == 8 * (8 + 2 * (1 + MESSAGE / 8)));

/// Counters that tell how the session went, for `doctor`.
#[repr(C)]
#[derive(Debug)]
pub struct Story {
    /// Workers that died or were killed for hanging.
    pub deaths: AtomicU64,
    /// How the last one ended: see [`super::end::End`].
    pub last_end: AtomicU64,
    /// Workers that took over from a living one.
    pub upgrades: AtomicU64,
    /// New workers that ended before they could take over.
    pub failed_upgrades: AtomicU64,
    /// 1 while a worker serves the host's files because others kept dying.
    pub degraded: AtomicU64,
    /// Pid of the holder.
    pub holder: AtomicU64,
    /// Pid of the worker that serves.
    pub worker: AtomicU64,
    /// 1 where systemd keeps the connection.
    pub stored: AtomicU64,
    /// Requests that were interrupted since the kernel could not send them again.
    pub interrupted: AtomicU64,
}

/// What the page holds. Only atomics: two processes look at it at the same time.
#[repr(C)]
#[derive(Debug)]
pub struct Layout {
    /// What other builds read too.
    pub head: Head,
    /// Counted up by the worker while it lives.
    pub beat: AtomicU64,
    /// How the session went.
    pub story: Story,
    /// Requests that are being answered, and those that ended workers.
    pub flights: Table,
    /// Calls of containers that are being answered.
    pub calls: Calls,
}

const _: () = assert!(size_of::<Layout>() <= LENGTH);

/// The mapped page. It stays mapped for as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct Page(&'static Layout);

/// Why shared memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A system call.
    #[error("cannot map the shared memory: {0}")]
    System(#[from] rustix::io::Errno),
    /// It is of another build.
    #[error("the shared memory is of a build that lays it out otherwise")]
    Incompatible,
    /// Nothing that any build made.
    #[error("the shared memory is none of ownproc's")]
    Foreign,
}

impl Page {
    /// The requests in flight.
    #[must_use]
    pub const fn flights(self) -> &'static Table {
        &self.0.flights
    }

    /// The calls of containers that are being answered.
    #[must_use]
    pub const fn calls(self) -> &'static Calls {
        &self.0.calls
    }
}

impl std::ops::Deref for Page {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        self.0
    }
}

impl Page {
    /// Nobody can make the memory shorter from now on: a worker that somebody took over would end the holder with it, by
    /// SIGBUS.
    pub fn seal(memory: BorrowedFd<'_>) -> Result<(), PageError> {
        match fcntl_add_seals(memory, SealFlags::SHRINK | SealFlags::SEAL) {
            // EPERM: an earlier holder has sealed it. EINVAL: one that sealed nothing has made it.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// New shared memory with an empty page.
    pub fn create() -> Result<(OwnedFd, Self), PageError> {
        let memory = memfd_create(c"ownproc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memory, LENGTH as u64)?;
        let page = Self::map(memory.as_fd())?;
        let head = &page.head;
        let flights = offset_of!(Layout, flights);
        let places = [
            (&head.marks_at, flights + offset_of!(Table, marks)),
            (&head.marks, page.flights.marks.len()),
            (&head.last_unique_at, flights + offset_of!(Table, last_unique)),
        ];
        places.iter().for_each(|(word, value)| word.store(*value as u64, Ordering::Relaxed));
        head.layout.store(LAYOUT, Ordering::Relaxed);
        head.magic.store(MAGIC, Ordering::Release);
        Ok((memory, page))
    }

    /// The page of a memory that another process of this build made.
    pub fn open(memory: BorrowedFd<'_>) -> Result<Self, PageError> {
        let page = Self::open_any(memory)?;
        match page.layout() {
            LAYOUT => Ok(page),
            _ => Err(PageError::Incompatible),
        }
    }

    /// The page of a memory that any build made: only its head may be looked at.
    fn open_any(memory: BorrowedFd<'_>) -> Result<Self, PageError> {
        // A shorter file would end this process with SIGBUS.
        if rustix::fs::fstat(memory)?.st_size < LENGTH as i64 {
            return Err(PageError::Foreign);
        }
        let page = Self::map(memory)?;
        match page.head.magic.load(Ordering::Acquire) {
            MAGIC => Ok(page),
            _ => Err(PageError::Foreign),
        }
    }

    /// [`LAYOUT`] of whoever made it.
    #[must_use]
    pub fn layout(self) -> u64 {
        self.head.layout.load(Ordering::Relaxed)
    }

    /// Takes over from a process that is gone, of whatever build: the same memory where it is laid out as ours is, else new
    /// memory for the same connection, which comes with the page.
    pub fn succeed(memory: BorrowedFd<'_>) -> Result<(Option<OwnedFd>, Self), PageError> {
        let before = Self::open_any(memory)?;
        if before.layout() == LAYOUT {
            return Ok((None, before));
        }
        let (memory, page) = Self::create()?;
        page.set_negotiated(&before.request(), &before.reply());
        let (head, old) = (&page.head, &before.head);
        for (new, old) in [(&head.resend, &old.resend), (&head.mounted, &old.mounted)] {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        head.epoch.store(old.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // What was being answered is sent again, or told EINTR by its number.
        let count = usize::try_from(old.marks.load(Ordering::Relaxed)).unwrap_or(0).min(WORDS);
        let marked =
            (0..count).map(|index| before.word_at(&old.marks_at, index)).filter(|unique| *unique != 0);
        for (mark, unique) in page.flights.marks.iter().zip(marked) {
            mark.store(unique, Ordering::Relaxed);
        }
        page.flights.last_unique.store(before.word_at(&old.last_unique_at, 0), Ordering::Relaxed);
        Ok((Some(memory), page))
    }

    /// The word so many words after a place that the head tells; 0 where that is not within the page.
    fn word_at(self, place: &AtomicU64, further: usize) -> u64 {
        // SAFETY: a `Page` is a mapping of LENGTH bytes, page-aligned, which lives as long as the process; any bytes are valid
        // atomics.
        let words = unsafe { &*std::ptr::from_ref(self.0).cast::<[AtomicU64; WORDS]>() };
        let at = usize::try_from(place.load(Ordering::Relaxed)).ok().filter(|at| at.is_multiple_of(8));
        let word = at.and_then(|at| words.get((at / 8).saturating_add(further)));
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn map(memory: BorrowedFd<'_>) -> Result<Self, PageError> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that is there.
        let address =
            unsafe { mmap(std::ptr::null_mut(), LENGTH, access, MapFlags::SHARED, memory, 0) }?.cast();
        let Some(layout) = NonNull::<Layout>::new(address) else { return Err(PageError::Foreign) };
        // SAFETY: the mapping is page-aligned, at least as long as `Layout`, readable and writable, never unmapped, and the
        // memory is never made shorter. Any bytes are a valid `Layout`, which is nothing but atomics.
        Ok(Self(unsafe { layout.as_ref() }))
    }

    /// The kernel's INIT request and our reply to it.
    pub fn set_negotiated(&self, request: &[u8], reply: &[u8]) {
        self.head.request.set(request);
        self.head.reply.set(reply);
    }

    /// The kernel's INIT request as it came.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        self.head.request.get()
    }

    /// Our reply to it.
    #[must_use]
    pub fn reply(&self) -> Vec<u8> {
        self.head.reply.get()
    }
}

impl Message {
    fn set(&self, bytes: &[u8]) {
        let len = bytes.len().min(MESSAGE);
        for (word, chunk) in self.words.iter().zip(bytes.get(..len).unwrap_or_default().chunks(8)) {
            let mut whole = [0; 8];
            for (to, from) in whole.iter_mut().zip(chunk) {
                *to = *from;
            }
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        self.len.store(len as u64, Ordering::Release);
    }

    fn get(&self) -> Vec<u8> {
        let len = usize::try_from(self.len.load(Ordering::Acquire)).unwrap_or(0).min(MESSAGE);
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (memory, page) = Page::create().expect("memory");
        page.set_negotiated(&[7; 104], &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let other = Page::open(memory.as_fd()).expect("the same");
        assert_eq!(other.request(), [7; 104]);
        assert_eq!(other.reply(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        other.beat.fetch_add(1, Ordering::Relaxed);
        assert_eq!(page.beat.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn another_layout_is_refused() {
        let (memory, page) = Page::create().expect("memory");
        page.head.layout.store(LAYOUT + 1, Ordering::Relaxed);
        assert!(matches!(Page::open(memory.as_fd()), Err(PageError::Incompatible)));
        page.head.magic.store(MAGIC + 1, Ordering::Relaxed);
        assert!(matches!(Page::open(memory.as_fd()), Err(PageError::Foreign)));
        assert!(matches!(Page::succeed(memory.as_fd()), Err(PageError::Foreign)));
        rustix::fs::ftruncate(&memory, 4096).expect("shorter");
        assert!(matches!(Page::open(memory.as_fd()), Err(PageError::Foreign)));
    }

    #[test]
    fn the_same_layout_is_taken_up_as_it_is() {
        let (memory, page) = Page::create().expect("memory");
        page.story.deaths.store(3, Ordering::Relaxed);
        let (new, again) = Page::succeed(memory.as_fd()).expect("taken up");
        assert!(new.is_none());
        assert_eq!(again.story.deaths.load(Ordering::Relaxed), 3);
    }

    /// The head as bytes: what stands here is what builds of all times have to understand.
    #[test]
    fn the_head_of_another_build_is_understood() {
        let memory = memfd_create(c"other", MemfdFlags::CLOEXEC).expect("memory");
        rustix::fs::ftruncate(&memory, 100_000).expect("size");
        let mut words = vec![0_u64; WORDS];
        // magic, layout, marks at, how many, last unique at, epoch, resend, mounted
        let head = [u64::from_le_bytes(*b"ownproc\x01"), 77, 60_000, 3, 50_000, 5, 1, 0x35];
        words[..8].copy_from_slice(&head);
        (words[8], words[9]) = (12, 0x0706_0504_0302_0100);
        (words[25], words[26]) = (3, 0xaabb_ccdd);
        (words[7500], words[7502], words[6250]) = (14, 18, 20);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        rustix::io::pwrite(&memory, &bytes, 0).expect("written");
        let (new, page) = Page::succeed(memory.as_fd()).expect("understood");
        assert_eq!(Page::open(new.expect("new memory").as_fd()).expect("ours").layout(), LAYOUT);
        assert_eq!(page.request(), [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]);
        assert_eq!(page.reply(), [0xdd, 0xcc, 0xbb]);
        let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
        assert_eq!((get(&page.head.epoch), get(&page.head.resend), get(&page.head.mounted)), (6, 1, 0x35));
        let marks: Vec<u64> = page.flights.marks.iter().map(get).filter(|mark| *mark != 0).collect();
        assert_eq!((marks, get(&page.flights.last_unique)), (vec![14, 18], 20));
    }

    #[test]
    fn sealed_memory_keeps_its_length() {
        let (memory, _) = Page::create().expect("memory");
        rustix::fs::ftruncate(&memory, 2 * LENGTH as u64).expect("longer");
        Page::seal(memory.as_fd()).expect("sealed");
        Page::seal(memory.as_fd()).expect("sealed by an earlier holder");
        assert_eq!(rustix::fs::ftruncate(&memory, LENGTH as u64), Err(Errno::PERM));
        let plain = memfd_create(c"plain", MemfdFlags::CLOEXEC).expect("memory");
        Page::seal(plain.as_fd()).expect("as earlier holders made it");
    }

    #[test]
    fn places_outside_of_the_page_are_nothing() {
        let (memory, page) = Page::create().expect("memory");
        page.flights.marks[0].store(9, Ordering::Relaxed);
        for (at, count) in [(u64::MAX, 1), (LENGTH as u64, 1), (4, 1), (LENGTH as u64 - 8, u64::MAX)] {
            page.head.layout.store(LAYOUT + 1, Ordering::Relaxed);
            page.head.marks_at.store(at, Ordering::Relaxed);
            page.head.marks.store(count, Ordering::Relaxed);
            page.head.last_unique_at.store(at, Ordering::Relaxed);
            let (_, new) = Page::succeed(memory.as_fd()).expect("new");
            assert!(new.flights.marks.iter().all(|mark| mark.load(Ordering::Relaxed) == 0), "{at} {count}");
        }
    }
}
