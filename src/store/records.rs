//! The containers: one record for each that was read of, found again by its key.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use super::Store;
use super::blocks::Text;
use super::layout::{ENTRY_WORDS, Header, RECORDS, record};
use super::memory::Memory;

/// 1 while the record is in use; while it is not the other words mean nothing.
const STATE: usize = 0;
/// Whose it is: bytes that the owner of the store compares in full.
const KEY: usize = 1;
/// The first of what is kept, one word for each [`Kind`].
const KEPT: usize = 2;

/// What is kept of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CPU time.
    Cpu,
    /// Event counters of memory.
    Memory,
    /// Block I/O.
    Disks,
    /// Load averages.
    Load,
}

const KINDS: usize = ENTRY_WORDS - KEPT;

/// A record that the process before this one left.
#[derive(Debug)]
pub(super) struct KeptRecord {
    index: u32,
    key: Text,
    kept: [Option<Text>; KINDS],
}

/// Which records are free.
pub(super) struct RecordTable {
    free: Mutex<Vec<u32>>,
    made: AtomicU32,
}

/// All that are in use, with their texts claimed, and the rest.
pub(super) fn take_up(memory: &Memory) -> (RecordTable, Vec<KeptRecord>) {
    let made = u32::try_from(memory.get(Header::RecordsMade.offset())).unwrap_or(u32::MAX).min(RECORDS);
    let (mut free, mut kept) = (Vec::new(), Vec::new());
    for index in (0..made).rev() {
        let word = |word| memory.get(record(index, word));
        let key = (word(STATE) == 1).then(|| Text::claim(word(KEY), memory)).flatten();
        match key {
            Some(key) => {
                let texts = std::array::from_fn(|kind| Text::claim(word(KEPT + kind), memory));
                kept.push(KeptRecord { index, key, kept: texts });
            }
            None => free.push(index),
        }
    }
    (RecordTable { free: Mutex::new(free), made: AtomicU32::new(made) }, kept)
}

/// The record of one container. It stays in the store when this is dropped, unless it was discarded before.
pub struct Record {
    store: Arc<Store>,
    index: u32,
    key: Mutex<Option<Text>>,
    kept: [Mutex<Option<Text>>; KINDS],
    discarded: AtomicBool,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Store {
    /// The records that the process before this one left, each with its key; once.
    #[must_use]
    pub fn take_records(self: &Arc<Self>) -> Vec<(Box<[u8]>, Arc<Record>)> {
        let kept = std::mem::take(&mut *self.kept_records.lock());
        let record = |KeptRecord { index, key, kept }: KeptRecord| {
            let bytes = self.bytes(&key).into();
            let kept = kept.map(Mutex::new);
            let key = Mutex::new(Some(key));
            let discarded = AtomicBool::new(false);
            (bytes, Arc::new(Record { store: Arc::clone(self), index, key, kept, discarded }))
        };
        kept.into_iter().map(record).collect()
    }

    /// A new record. `None` where there is no room: what is kept there will not be.
    #[must_use]
    pub fn new_record(self: &Arc<Self>, key: &[u8]) -> Option<Arc<Record>> {
        let key = self.small_text(key)?;
        let Some(index) = self.records.take(self) else {
            self.give_back(key);
            return None;
        };
        let word = |word, value| self.memory.set(record(index, word), value);
        (0..KINDS).for_each(|kind| word(KEPT + kind, 0));
        word(KEY, key.word());
        word(STATE, 1);
        Some(Arc::new(Record {
            store: Arc::clone(self),
            index,
            key: Mutex::new(Some(key)),
            kept: std::array::from_fn(|_| Mutex::new(None)),
            discarded: AtomicBool::new(false),
        }))
    }
}

impl RecordTable {
    fn take(&self, store: &Store) -> Option<u32> {
        if let Some(index) = self.free.lock().pop() {
            return Some(index);
        }
        let more = |made: u32| (made < RECORDS).then(|| made + 1);
        let index = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        store.memory.raise(Header::RecordsMade.offset(), u64::from(index) + 1);
        Some(index)
    }
}

impl Record {
    /// Its number, for [`super::NewFile::owner`].
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The store that it is in.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Keeps `bytes`, in place of what was kept before: whoever opens the store next finds the one or the other. Where there
    /// is no room, the one before.
    pub fn save(&self, kind: Kind, bytes: &[u8]) {
        let Some(cell) = self.kept.get(kind as usize) else { return };
        let mut held = cell.lock();
        let Some(text) = self.store.small_text(bytes) else { return };
        self.store.memory.set(record(self.index, KEPT + kind as usize), text.word());
        if let Some(old) = held.replace(text) {
            self.store.give_back(old);
        }
    }

    /// The same with what `encode` appends to an empty buffer.
    pub fn save_with(&self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) {
        thread_local!(static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
        let mut bytes = BUFFER.take();
        bytes.clear();
        encode(&mut bytes);
        self.save(kind, &bytes);
        BUFFER.set(bytes);
    }

    /// What `read` makes of what is kept; `None` where nothing is.
    pub fn load<R>(&self, kind: Kind, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let held = self.kept.get(kind as usize)?.lock();
        held.as_ref().map(|text| read(self.store.bytes(text)))
    }

    /// Its container is gone: it leaves the store with the last who holds it.
    pub fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.discarded.load(Ordering::Acquire) {
            return;
        }
        self.store.memory.set(record(self.index, STATE), 0);
        let texts = self.kept.iter().chain([&self.key]).filter_map(|cell| cell.lock().take());
        texts.for_each(|text| self.store.give_back(text));
        self.store.records.free.lock().push(self.index);
    }
}
