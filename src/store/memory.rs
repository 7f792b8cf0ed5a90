//! The mapping: words and blocks. All of the room's `unsafe` is here.
//!
//! Nothing else in this process writes below [`BASE`]'s offset and up, and no other process does at the same time: the
//! holder keeps to its own page, and starts one worker only after the one before was reaped.

use std::ffi::c_void;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munlock, munmap};

use super::StoreError;
use super::layout::{BASE, Class, LENGTH};

/// The mapping.
pub(super) struct Memory {
    fd: OwnedFd,
    start: NonNull<u8>,
    /// Tells its blocks from those of another mapping.
    id: u64,
    /// One bit for each block of each class: somebody has it.
    claimed: Vec<Box<[AtomicU64]>>,
    #[cfg(test)]
    pub(super) life: Life,
}

// SAFETY: the mapping belongs to no thread. Words are accessed as atomics only, and bytes through a `Block`, of which there is
// one at a time for each place: a shared reference to it gives shared bytes, only a unique one lets them be written.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// One block. While it exists nobody else has it.
#[derive(Debug)]
pub(super) struct Block {
    class: Class,
    index: u32,
    memory: u64,
}

impl Block {
    pub(super) const fn class(&self) -> Class {
        self.class
    }

    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    const fn offset(&self) -> usize {
        self.class.start() + self.index as usize * self.class.size()
    }
}

impl Memory {
    /// Maps the store's part of a memfd that is at least as long as the layout says.
    pub(super) fn map(fd: BorrowedFd<'_>) -> Result<Self, StoreError> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(StoreError::io("dup"))?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so that nothing of this process is there.
        let start = unsafe { mmap(std::ptr::null_mut(), LENGTH, access, MapFlags::SHARED, &fd, BASE as u64) };
        let start = start.map_err(StoreError::io("mmap"))?;
        // A core dump would walk through all of it while readers wait.
        // SAFETY: exactly what was mapped; the advice changes no byte.
        if let Err(errno) = unsafe { madvise(start, LENGTH, Advice::LinuxDontDump) } {
            log::debug!("madvise: {errno}");
        }
        // A worker's own memory stays in RAM; what many open files show may be swapped out.
        // SAFETY: exactly what was mapped; where its pages are changes no byte.
        if let Err(errno) = unsafe { munlock(start, LENGTH) } {
            log::debug!("munlock: {errno}");
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(StoreError::Foreign)?;
        let bits = |class: Class| (0..class.count().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            fd,
            start,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            claimed: Class::all().map(bits).collect(),
            #[cfg(test)]
            life: Life::default(),
        })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // Offsets come from the layout. One that did not would be a fault of ours, and must not reach beyond the mapping.
        debug_assert!(offset.is_multiple_of(8) && offset < LENGTH);
        let offset = (offset & !7).min(LENGTH - 8);
        // SAFETY: within the mapping and aligned, since the mapping is to a page. It lives as long as `self`. Nobody accesses
        // these bytes but as an atomic: blocks are elsewhere.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The value of a word.
    pub(super) fn get(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Publishes a word: whoever reads it finds all that was written before.
    pub(super) fn set(&self, offset: usize, value: u64) {
        if self.lives() {
            self.word(offset).store(value, Ordering::Release);
        }
    }

    /// Publishes a word unless it is higher already.
    pub(super) fn raise(&self, offset: usize, value: u64) {
        if self.lives() {
            self.word(offset).fetch_max(value, Ordering::AcqRel);
        }
    }

    /// Publishes `new` if the word is `old`.
    pub(super) fn replace(&self, offset: usize, old: u64, new: u64) -> bool {
        self.lives()
            && self.word(offset).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A block, unless somebody has it or there is none.
    pub(super) fn claim(&self, class: Class, index: u32) -> Option<Block> {
        if index >= class.count() {
            return None;
        }
        let (word, bit) = self.claim_bit(class, index)?;
        let taken = word.fetch_or(bit, Ordering::AcqRel) & bit != 0;
        (!taken).then_some(Block { class, index, memory: self.id })
    }

    /// Gives a block up.
    pub(super) fn release(&self, block: Block) {
        if block.memory == self.id
            && let Some((word, bit)) = self.claim_bit(block.class, block.index)
        {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Whether somebody has the block.
    pub(super) fn is_claimed(&self, class: Class, index: u32) -> bool {
        self.claim_bit(class, index).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    fn claim_bit(&self, class: Class, index: u32) -> Option<(&AtomicU64, u64)> {
        let word = self.claimed.get(class.number())?.get(index as usize / 64)?;
        Some((word, 1 << (index % 64)))
    }

    /// Writes a block from its beginning; what does not fit is left out.
    pub(super) fn fill(&self, block: &mut Block, bytes: &[u8]) {
        let mut len = bytes.len().min(block.class.size());
        if block.memory != self.id {
            return;
        }
        if !self.lives() {
            len = self.last_words(len);
        }
        // SAFETY: the block lies within the mapping, since `claim` checked its index, and is the only one for its place, so
        // that a unique reference to it rules out any other to these bytes. `bytes` is no part of it: slices of the mapping come
        // from `bytes` alone and borrow a block.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(block.offset()), len);
        }
    }

    /// The first `len` bytes of a block, or as many as it has.
    pub(super) fn bytes<'a>(&'a self, block: &'a Block, len: usize) -> &'a [u8] {
        if block.memory != self.id {
            return &[];
        }
        let len = len.min(block.class.size());
        // SAFETY: within the mapping as in `fill`; initialized, since a memfd reads as zeros; and not written while it is
        // borrowed, since that takes a unique reference to the block.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(block.offset()), len) }
    }

    /// Gives a block's pages back to the kernel.
    pub(super) fn punch(&self, block: &mut Block) {
        if block.memory == self.id {
            self.punch_blocks(block.class, block.index, 1);
        }
    }

    /// Gives the pages of some free blocks back that follow each other.
    pub(super) fn punch_free(&self, class: Class, first: u32, count: u32) {
        let claimed = (first..first.saturating_add(count)).any(|index| self.is_claimed(class, index));
        debug_assert!(!claimed);
        if !claimed && count > 0 {
            self.punch_blocks(class, first, count);
        }
    }

    fn punch_blocks(&self, class: Class, first: u32, count: u32) {
        if !self.lives() {
            return;
        }
        let offset = BASE + class.start() + first as usize * class.size();
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = (count as usize).saturating_mul(class.size());
        if let Err(errno) = fallocate(&self.fd, how, offset as u64, len as u64) {
            log::debug!("giving memory back: {errno}"); // it is used again all the same
        }
    }

    #[cfg(not(test))]
    #[inline]
    const fn lives(&self) -> bool {
        true
    }

    #[cfg(not(test))]
    #[inline]
    const fn last_words(&self, len: usize) -> usize {
        len
    }

    #[cfg(test)]
    fn lives(&self) -> bool {
        self.life.step()
    }

    /// A write in whose midst the process dies is done by half; later ones not at all.
    #[cfg(test)]
    fn last_words(&self, len: usize) -> usize {
        if self.life.just_died() { len / 2 } else { 0 }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; every slice of it borrows `self`.
        if let Err(errno) = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), LENGTH) } {
            log::debug!("munmap: {errno}");
        }
    }
}

/// How many more writes a process lives for: tests let it die at each.
#[cfg(test)]
pub(super) struct Life {
    left: std::sync::atomic::AtomicI64,
}

#[cfg(test)]
impl Default for Life {
    fn default() -> Self {
        Self { left: std::sync::atomic::AtomicI64::new(i64::MAX) }
    }
}

#[cfg(test)]
impl Life {
    /// It dies at write number `steps` from now on (0: the next).
    pub(super) fn ends_after(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    fn step(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) > 0
    }

    fn just_died(&self) -> bool {
        self.left.load(Ordering::SeqCst) == -1
    }

    /// Whether it lives.
    pub(super) fn is_over(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}
