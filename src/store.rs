//! Memory that outlives the process that serves: what open files show, and what each container was shown last.
//!
//! It is a memfd that one process at a time maps (the one before it has been reaped), so that locks within the process are
//! enough; but that process may be killed between any two instructions. Hence the one rule of this room: **write a new
//! block, publish it by one atomic word, only then give the old one back.** Whoever opens the memory next finds each text
//! either as it was or as it became. Which blocks are free is written nowhere: all are, that no word names.
//!
//! `layout` says where everything is, `memory` has the mapping and all of the room's `unsafe`, `blocks` hands out
//! blocks, `slots` are the open files, `records` the containers.

mod blocks;
mod layout;
mod memory;
mod records;
mod slots;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};

use blocks::Pool;
pub use blocks::Text;
use layout::Header;
pub use layout::{BASE, SLOTS, VERSION};
use memory::Memory;
use records::{KeptRecord, RecordTable};
pub use records::{Kind, Record};
pub use slots::{KeptFile, NewFile};

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Written by a program that lays it out in another way. The one that wrote it must go on, or all that is open is lost.
    #[error(
        "the shared memory has layout {found}, this program knows {VERSION}: they cannot take over from each other"
    )]
    Incompatible {
        /// Its layout.
        found: u64,
    },
    /// Nothing that [`create`] made, or cut short.
    #[error("the shared memory is none of ownproc's")]
    Foreign,
    /// What the kernel says.
    #[error("the shared memory: {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl StoreError {
    fn io(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { step, source: errno.into() }
    }
}

/// Sets the size of a fresh memfd (some 19 GiB, of which nothing takes memory before it is written) and writes what it
/// is. The first [`BASE`] bytes are left alone.
pub fn create(fd: BorrowedFd<'_>) -> Result<(), StoreError> {
    rustix::fs::ftruncate(fd, layout::END as u64).map_err(StoreError::io("ftruncate"))?;
    // The magic number comes last: with it, all is there.
    for (word, value) in [(Header::Version, VERSION), (Header::Magic, layout::MAGIC)] {
        let at = (BASE + word.offset()) as u64;
        rustix::io::pwrite(fd, &value.to_ne_bytes(), at).map_err(StoreError::io("write"))?;
    }
    Ok(())
}

/// Whether [`Store::open`] would take it, without looking at what is in it: a process that may take over from another asks
/// before that one ends.
pub fn check(fd: BorrowedFd<'_>) -> Result<(), StoreError> {
    let mut words = [0; 16];
    let read = rustix::io::pread(fd, &mut words, BASE as u64).map_err(StoreError::io("read"))?;
    let (magic, version) = words.split_at(8);
    if read < words.len() || magic != layout::MAGIC.to_ne_bytes() {
        return Err(StoreError::Foreign);
    }
    if version != VERSION.to_ne_bytes() {
        let found = version.try_into().map_or(0, u64::from_ne_bytes);
        return Err(StoreError::Incompatible { found });
    }
    let size = rustix::fs::fstat(fd).map_err(StoreError::io("fstat"))?.st_size;
    if u64::try_from(size).unwrap_or(0) < layout::END as u64 {
        return Err(StoreError::Foreign); // a touch beyond its end would be SIGBUS
    }
    Ok(())
}

/// The memory, mapped.
pub struct Store {
    memory: Memory,
    pool: Pool,
    records: RecordTable,
    /// What was found when it was opened, until somebody takes it up.
    kept_files: Mutex<Vec<KeptFile>>,
    kept_records: Mutex<Vec<KeptRecord>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Maps what [`create`] made and finds out what is in it. No other process may have it open to write at the same time.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Arc<Self>, StoreError> {
        check(fd)?;
        let memory = Memory::map(fd)?;
        // Words before blocks: a block is free that no word names.
        let (records, kept_records) = records::take_up(&memory);
        let kept_files = slots::take_up(&memory);
        let pool = Pool::sweep(&memory);
        let (kept_files, kept_records) = (Mutex::new(kept_files), Mutex::new(kept_records));
        Ok(Arc::new(Self { memory, pool, records, kept_files, kept_records }))
    }

    /// Memory of this process alone, for what serves nobody for long: commands, tests.
    pub fn private() -> Result<Arc<Self>, StoreError> {
        Self::open(private_memory()?.as_fd())
    }

    /// How many jiffies a second has on this host, as far as it was found out.
    #[must_use]
    pub fn jiffies_rate(&self) -> Option<u64> {
        Some(self.memory.get(Header::JiffiesRate.offset())).filter(|rate| *rate > 0)
    }

    /// Remembers it. It never changes while the host is up.
    pub fn set_jiffies_rate(&self, rate: u64) {
        if self.jiffies_rate() != Some(rate) {
            self.memory.set(Header::JiffiesRate.offset(), rate);
        }
    }

    /// When serving began, by the first process that did: what `first` says if nobody has asked before. In nanoseconds since
    /// 1970.
    pub fn started(&self, first: u64) -> u64 {
        let at = Header::Started.offset();
        if self.memory.get(at) == 0 {
            self.memory.set(at, first);
            return first;
        }
        self.memory.get(at)
    }
}

#[cfg(test)]
impl Store {
    /// From now on so many writes to the store are done, and none after: as if the process had been killed there.
    pub(crate) fn dies_after(&self, writes: i64) {
        self.memory.life.ends_after(writes);
    }

    /// Whether it was.
    pub(crate) fn is_dead(&self) -> bool {
        self.memory.life.is_over()
    }
}

/// A memfd with an empty store in it.
pub fn private_memory() -> Result<OwnedFd, StoreError> {
    let fd = memfd_create("ownproc", MemfdFlags::CLOEXEC).map_err(StoreError::io("memfd_create"))?;
    create(fd.as_fd())?;
    Ok(fd)
}

#[cfg(test)]
mod tests;
