//! The bytes that each open file serves.
//!
//! A file handle is a slot number and a generation. A slot is rendered when offset 0 is read and serves every
//! later offset from those bytes, so that a program that reads in pieces never sees two moments mixed. A
//! RELEASE may come twice and may be missed; the generation makes the first harmless.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// Slots are made in chunks of this many, when needed.
const CHUNK: usize = 1024;
/// At most this many chunks: about a million open files.
const CHUNKS: usize = 1024;
/// Free slots are kept in this many lists, so that readers seldom meet at one lock.
const SHARDS: usize = 16;
/// A slot keeps its buffer for the next file unless that is larger than this.
const KEEP_CAPACITY: usize = 64 * 1024;

/// Slots from here on give their buffer back: so many are in use at once only when somebody hoards open files.
const KEEP_SLOTS: usize = 256;

/// A file handle as the kernel carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl Handle {
    fn new(generation: u32, index: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    fn parts(self) -> (u32, usize) {
        ((self.0 >> 32) as u32, (self.0 & u64::from(u32::MAX)) as usize)
    }
}

/// What a slot holds: the owner's data of type `T` and the text.
#[derive(Debug)]
pub struct Slot<T> {
    generation: u32,
    /// What the file was opened as; `None` while the slot is free.
    pub opened: Option<T>,
    /// The snapshot; empty until it was rendered.
    pub text: Vec<u8>,
    /// Whether `text` was rendered since the open.
    pub rendered: bool,
}

type Chunk<T> = Box<[Mutex<Slot<T>>]>;

/// All open files.
#[derive(Debug)]
pub struct Snapshots<T> {
    chunks: Vec<OnceLock<Chunk<T>>>,
    made: AtomicU32,
    free: [Mutex<Vec<u32>>; SHARDS],
}

impl<T> Default for Snapshots<T> {
    fn default() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            made: AtomicU32::new(0),
            free: [const { Mutex::new(Vec::new()) }; SHARDS],
        }
    }
}

impl<T> Snapshots<T> {
    /// Takes a slot for a file that was just opened; `shard` is any number that differs between threads.
    /// `None` when a million files are open.
    pub fn open(&self, opened: T, shard: usize) -> Option<Handle> {
        let index = self.free_slot(shard)?;
        let mut slot = self.cell(index as usize)?.lock();
        slot.opened = Some(opened);
        slot.rendered = false;
        slot.text.clear();
        Some(Handle::new(slot.generation, index))
    }

    /// The slot behind a handle, locked; `None` if it was released.
    pub fn get(&self, handle: Handle) -> Option<MutexGuard<'_, Slot<T>>> {
        let (generation, index) = handle.parts();
        let slot = self.cell(index)?.lock();
        (slot.generation == generation && slot.opened.is_some()).then_some(slot)
    }

    /// Gives a slot back. A second call with the same handle does nothing.
    pub fn release(&self, handle: Handle) {
        let (generation, index) = handle.parts();
        let Some(cell) = self.cell(index) else { return };
        let opened = {
            let mut slot = cell.lock();
            if slot.generation != generation || slot.opened.is_none() {
                return;
            }
            slot.generation = slot.generation.wrapping_add(1);
            slot.rendered = false;
            if slot.text.capacity() > KEEP_CAPACITY || index >= KEEP_SLOTS {
                slot.text = Vec::new();
            }
            slot.opened.take()
        };
        drop(opened); // outside the lock: it may be the last owner of a container's descriptors
        self.free[index % SHARDS].lock().push(index as u32);
    }

    /// How many files are open now.
    pub fn open_files(&self) -> usize {
        let free: usize = self.free.iter().map(|list| list.lock().len()).sum();
        (self.made.load(Ordering::Relaxed) as usize).saturating_sub(free)
    }

    fn free_slot(&self, shard: usize) -> Option<u32> {
        for step in 0..SHARDS {
            if let Some(index) = self.free[(shard + step) % SHARDS].lock().pop() {
                return Some(index);
            }
        }
        let limit = (CHUNK * CHUNKS) as u32;
        self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1)).ok()
    }

    fn cell(&self, index: usize) -> Option<&Mutex<Slot<T>>> {
        if index >= self.made.load(Ordering::Relaxed) as usize {
            return None;
        }
        let chunk = self.chunks.get(index / CHUNK)?;
        let cells = chunk.get_or_init(|| {
            (0..CHUNK)
                .map(|_| Mutex::new(Slot { generation: 1, opened: None, text: Vec::new(), rendered: false }))
                .collect()
        });
        cells.get(index % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_handle_is_dead_and_its_slot_lives_on() {
        let files: Snapshots<&str> = Snapshots::default();
        let first = files.open("a", 0).expect("slot");
        files.get(first).expect("open").text.extend_from_slice(b"text of a");
        files.release(first);
        files.release(first);
        assert!(files.get(first).is_none());
        let second = files.open("b", 0).expect("slot");
        assert_ne!(first, second);
        assert_eq!(first.parts().1, second.parts().1, "the slot is used again");
        let slot = files.get(second).expect("open");
        assert!(slot.text.is_empty() && !slot.rendered, "nothing of the old file is left");
        drop(slot);
        assert_eq!(files.open_files(), 1);
        assert!(files.get(Handle(u64::MAX)).is_none());
        assert!(files.get(Handle(0)).is_none());
    }

    #[test]
    fn many_files_from_many_threads() {
        let files: Snapshots<usize> = Snapshots::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let files = &files;
                scope.spawn(move || {
                    for round in 0..2000 {
                        let handles: Vec<_> =
                            (0..3).map(|n| files.open(thread * 10 + n, thread).expect("slot")).collect();
                        for (n, handle) in handles.iter().enumerate() {
                            assert_eq!(
                                files.get(*handle).expect("open").opened,
                                Some(thread * 10 + n),
                                "{round}"
                            );
                        }
                        handles.into_iter().for_each(|handle| files.release(handle));
                    }
                });
            }
        });
        assert_eq!(files.open_files(), 0);
        assert!(files.made.load(Ordering::Relaxed) <= 12);
    }
}
