//! The bytes that each open file serves.
//!
//! A file handle is a slot number and a generation. A slot is rendered when offset 0 is read and serves every
//! later offset from those bytes, so that a program that reads in pieces never sees two moments mixed. A
//! RELEASE may come twice and may be missed; the generation makes the first harmless.
//!
//! Slots and texts are in the [`Store`], so that a process that takes over serves the same bytes. An OPEN may come twice
//! too: its answer was lost with the process that gave it. The second has the number of the first, and gets the same slot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::store::{KeptFile, NewFile, SLOTS, Store, Text};

/// Slots are made in chunks of this many, when needed.
const CHUNK: usize = 1024;
/// So many chunks hold all slots.
const CHUNKS: usize = SLOTS as usize / CHUNK;
/// Free slots are kept in this many lists, so that readers seldom meet at one lock.
const SHARDS: usize = 16;

/// A file handle as the kernel carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl KeptFile {
    /// Its handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.generation, self.index)
    }
}

impl Handle {
    fn new(generation: u32, index: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    fn parts(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }
}

/// What a slot holds: the owner's data of type `T`, the text, and what was written to it.
#[derive(Debug)]
struct Slot<T> {
    /// What the file was opened as; `None` while the slot is free.
    opened: Option<T>,
    /// The snapshot; `None` until it was rendered.
    text: Option<Text>,
    /// A rendering has failed since: the next read renders.
    stale: bool,
    trigger: Option<Text>,
    /// The kernel knows of it for certain.
    known: bool,
}

/// Whose requests wait for each other.
pub trait Laned {
    /// The number of its container's lane.
    fn lane(&self) -> u16;
}

/// A slot, and what is told of it without its lock.
#[derive(Debug)]
struct Cell<T> {
    /// Of the container that it counts for.
    lane: AtomicU16,
    slot: Mutex<Slot<T>>,
}

impl<T> Default for Cell<T> {
    fn default() -> Self {
        Self { lane: AtomicU16::new(0), slot: Mutex::default() }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { opened: None, text: None, stale: false, trigger: None, known: false }
    }
}

/// An open file, locked.
#[derive(Debug)]
pub struct Open<'a, T> {
    store: &'a Store,
    index: u32,
    lane: &'a AtomicU16,
    slot: MutexGuard<'a, Slot<T>>,
}

impl<T: Laned> Open<'_, T> {
    /// What it was opened as.
    pub fn opened(&mut self) -> Option<&mut T> {
        self.slot.opened.as_mut()
    }

    /// The snapshot; `None` before it was rendered, and after that has failed.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        self.slot.text.as_ref().filter(|_| !self.slot.stale).map(|text| self.store.bytes(text))
    }

    /// How many bytes the last snapshot takes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.slot.text.as_ref().map_or(0, Text::len)
    }

    /// The snapshot is not to be served any more.
    pub fn spoil(&mut self) {
        self.slot.stale = true;
    }

    /// Puts a new snapshot in place of the last. False where the store has no room.
    #[must_use]
    pub fn replace(&mut self, bytes: &[u8]) -> bool {
        let Some(text) = self.store.text(bytes) else { return false };
        self.store.set_text(self.index, &text);
        self.slot.stale = false;
        if let Some(old) = self.slot.text.replace(text) {
            self.store.give_back(old);
        }
        true
    }

    /// What was written to it and kept.
    #[must_use]
    pub fn written(&self) -> Option<&[u8]> {
        self.slot.trigger.as_ref().map(|text| self.store.bytes(text))
    }

    /// Keeps what was written to it, which moves the file's position by `moved`. False where the store has no room.
    #[must_use]
    pub fn keep_written(&mut self, bytes: &[u8], moved: u64) -> bool {
        let Some(text) = self.store.text(bytes) else { return false };
        self.store.set_written(self.index, moved);
        self.store.set_trigger(self.index, &text);
        if let Some(old) = self.slot.trigger.replace(text) {
            self.store.give_back(old);
        }
        true
    }

    /// Keeps how far writes have moved its position.
    pub fn move_position(&self, moved: u64) {
        self.store.set_written(self.index, moved);
    }

    /// Keeps the handle that the kernel polls it by.
    pub fn keep_poll(&self, handle: u64) {
        self.store.set_poll(self.index, handle);
    }

    /// Keeps which record it counts for.
    pub fn keep_owner(&self, tid: u32, owner: Option<u32>) {
        self.lane.store(self.slot.opened.as_ref().map_or(0, Laned::lane), Ordering::Relaxed);
        self.store.set_owner(self.index, tid, owner);
    }
}

type Chunk<T> = Box<[Cell<T>]>;

/// All open files.
#[derive(Debug)]
pub struct Snapshots<T> {
    store: Arc<Store>,
    chunks: Vec<OnceLock<Chunk<T>>>,
    made: AtomicU32,
    free: [Mutex<Vec<u32>>; SHARDS],
    /// Files that the kernel may not know of, by the request that opened them: it is sent again then.
    unanswered: Mutex<HashMap<u64, u32>>,
    /// How many those are.
    unanswered_count: AtomicUsize,
}

impl<T: Laned> Snapshots<T> {
    /// Takes up the files that are open in the store; `open` says what each was opened as, if
    /// that can be told.
    pub fn take_up(store: Arc<Store>, mut open: impl FnMut(&KeptFile) -> Option<T>) -> Self {
        let kept = store.take_files();
        let made = kept.iter().map(|file| file.index + 1).max().unwrap_or(0);
        let files = Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            made: AtomicU32::new(made),
            free: [const { Mutex::new(Vec::new()) }; SHARDS],
            unanswered: Mutex::default(),
            unanswered_count: AtomicUsize::new(0),
            store,
        };
        let mut used = kept.iter().map(|file| file.index).rev().peekable();
        for index in (0..made).rev() {
            if used.peek() == Some(&index) {
                used.next();
            } else {
                files.free[index as usize % SHARDS].lock().push(index);
            }
        }
        drop(used);
        for file in kept {
            let opened = open(&file);
            if opened.is_some() && !file.known {
                files.store.set_owner(file.index, file.file.tid, None);
                files.unanswered.lock().insert(file.file.unique, file.index);
                files.unanswered_count.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(cell) = files.cell(file.index) {
                let KeptFile { text, trigger, known, .. } = file;
                let handle = Handle::new(file.generation, file.index);
                let told = opened.is_some();
                cell.lane.store(opened.as_ref().map_or(0, Laned::lane), Ordering::Relaxed);
                *cell.slot.lock() = Slot { opened, text, stale: false, trigger, known };
                if !told {
                    files.end(handle);
                }
            }
        }
        files
    }

    /// Takes a slot for a file that is opened; `shard` is any number that differs between threads. The same slot again where a
    /// process before this one has opened it for the same request. `None` when a million files are open.
    pub fn open(&self, file: &NewFile, opened: T, shard: usize) -> Option<Handle> {
        if let Some(index) = self.opened_before(file) {
            self.store.set_owner(index, file.tid, file.owner);
            let cell = self.cell(index)?;
            cell.lane.store(opened.lane(), Ordering::Relaxed);
            cell.slot.lock().opened = Some(opened);
            return Some(Handle::new(self.store.generation(index)?, index));
        }
        let index = self.free_slot(shard)?;
        let cell = self.cell(index)?;
        cell.lane.store(opened.lane(), Ordering::Relaxed);
        let mut slot = cell.slot.lock();
        let generation = self.store.open_slot(index, file);
        *slot = Slot { opened: Some(opened), ..Slot::default() };
        Some(Handle::new(generation, index))
    }

    /// The slot that a process before this one has opened for this very request.
    fn opened_before(&self, file: &NewFile) -> Option<u32> {
        if self.unanswered_count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.unanswered.lock().get(&file.unique).copied().filter(|index| {
            self.store.file(*index).is_some_and(|before| (before.ino, before.tid) == (file.ino, file.tid))
        })
    }

    /// The file behind a handle, locked; `None` if it was released. Whoever has the handle has it from the kernel.
    pub fn get(&self, handle: Handle) -> Option<Open<'_, T>> {
        let cell = self.cell(handle.parts().1)?;
        self.check(handle, cell, cell.slot.lock())
    }

    /// Takes note that the kernel knows a handle. Never waits: whoever has the file locked has had the handle from the kernel.
    pub fn answered(&self, handle: Handle) {
        if let Some(cell) = self.cell(handle.parts().1)
            && let Some(slot) = cell.slot.try_lock()
        {
            drop(self.check(handle, cell, slot));
        }
    }

    /// The lane of the container that an open file counts for. Never waits; a guess, for a handle that is none.
    #[must_use]
    pub fn lane(&self, handle: Handle) -> u16 {
        self.cell(handle.parts().1).map_or(0, |cell| cell.lane.load(Ordering::Relaxed))
    }

    fn check<'a>(
        &'a self,
        handle: Handle,
        cell: &'a Cell<T>,
        mut slot: MutexGuard<'a, Slot<T>>,
    ) -> Option<Open<'a, T>> {
        let (generation, index) = handle.parts();
        if self.store.generation(index) != Some(generation) || slot.opened.is_none() {
            return None;
        }
        if !slot.known {
            slot.known = true;
            self.now_known(index, generation);
        }
        Some(Open { store: &self.store, index, lane: &cell.lane, slot })
    }

    fn now_known(&self, index: u32, generation: u32) {
        self.store.known(index, generation);
        if self.unanswered_count.load(Ordering::Relaxed) > 0 {
            let mut unanswered = self.unanswered.lock();
            unanswered.retain(|_, slot| *slot != index);
            self.unanswered_count.store(unanswered.len(), Ordering::Relaxed);
        }
    }

    /// Gives a slot back. A second call with the same handle does nothing.
    pub fn release(&self, handle: Handle) {
        if self.get(handle).is_some() {
            self.end(handle);
        }
    }

    fn end(&self, handle: Handle) {
        let (generation, index) = handle.parts();
        let Some(cell) = self.cell(index) else { return };
        let old = {
            let mut slot = cell.slot.lock();
            if self.store.generation(index) != Some(generation) {
                return;
            }
            self.store.close_slot(index);
            std::mem::take(&mut *slot)
        };
        [old.text, old.trigger].into_iter().flatten().for_each(|text| self.store.give_back(text));
        drop(old.opened); // outside the lock: it may be the last owner of a container's descriptors
        self.free[index as usize % SHARDS].lock().push(index);
    }

    /// How many files are open now.
    pub fn open_files(&self) -> usize {
        let free: usize = self.free.iter().map(|list| list.lock().len()).sum();
        (self.made.load(Ordering::Relaxed) as usize).saturating_sub(free)
    }

    /// Calls `each` with the handle of every file that is open.
    pub fn for_each(&self, mut each: impl FnMut(Handle)) {
        for index in 0..self.made.load(Ordering::Relaxed) {
            if let Some(generation) = self.store.generation(index) {
                each(Handle::new(generation, index));
            }
        }
    }

    fn free_slot(&self, shard: usize) -> Option<u32> {
        for step in 0..SHARDS {
            if let Some(index) = self.free[(shard + step) % SHARDS].lock().pop() {
                return Some(index);
            }
        }
        let more = |made: u32| (made < SLOTS).then(|| made + 1);
        let index = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.store.make_slots(index + 1);
        Some(index)
    }

    fn cell(&self, index: u32) -> Option<&Cell<T>> {
        if index >= self.made.load(Ordering::Relaxed) {
            return None;
        }
        let index = index as usize;
        let chunk = self.chunks.get(index / CHUNK)?;
        let cells = chunk.get_or_init(|| (0..CHUNK).map(|_| Cell::default()).collect());
        cells.get(index % CHUNK)
    }
}

#[cfg(test)]
mod tests;
