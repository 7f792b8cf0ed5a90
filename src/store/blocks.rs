//! Hands out blocks, and knows which are free: all that no word names.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Store;
use super::layout::{CLASSES, Class};
use super::memory::{Block, Memory};

/// Bytes in the store: a block and how much of it counts. Not in the store by itself: publish its word.
#[derive(Debug)]
pub struct Text {
    /// `None`: no bytes.
    block: Option<Block>,
    len: u32,
}

/// In a text's word: there is one.
const PRESENT: u64 = 1 << 63;
/// The class of a text without bytes, which has no block.
const NO_CLASS: u8 = 31;

impl Text {
    /// What stands for it in the store, never 0. From the top: present; class (bits 56 to 60), block (32 to 55), length.
    pub(super) fn word(&self) -> u64 {
        let (class, index) = match &self.block {
            Some(block) => (block.class().number() as u64, block.index()),
            None => (u64::from(NO_CLASS), 0),
        };
        PRESENT | class << 56 | u64::from(index) << 32 | u64::from(self.len)
    }

    /// The text that a word in the store names. `None` for 0, and for a word that names a block that there is not or that
    /// somebody has: nothing can be said of its bytes.
    pub(super) fn claim(word: u64, memory: &Memory) -> Option<Self> {
        if word & PRESENT == 0 {
            return None;
        }
        let (class, index, len) = ((word >> 56 & 31) as u8, (word >> 32 & 0xff_ffff) as u32, word as u32);
        if class == NO_CLASS {
            return (len == 0).then_some(Self { block: None, len: 0 });
        }
        let class = Class::new(class).filter(|class| class.size() >= len as usize)?;
        if u64::from(index) >= memory.get(class.made()) {
            return None;
        }
        Some(Self { block: Some(memory.claim(class, index)?), len })
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Free blocks are kept in this many lists, so that threads seldom meet at one lock.
const SHARDS: usize = 4;

#[derive(Default)]
struct Free {
    /// Blocks that have their pages. The one that was freed last comes first: it is in the processor's cache.
    warm: [Mutex<Vec<u32>>; SHARDS],
    /// How many those are.
    count: AtomicUsize,
    /// Blocks without pages.
    cold: Mutex<Vec<u32>>,
    /// Blocks from here on were never used.
    made: AtomicU32,
}

/// The free blocks of each class.
pub(super) struct Pool {
    classes: [Free; CLASSES],
}

impl Pool {
    /// All blocks are free that nobody claimed. Few keep their pages.
    pub(super) fn sweep(memory: &Memory) -> Self {
        let pool = Self { classes: std::array::from_fn(|_| Free::default()) };
        for (class, free) in Class::all().zip(&pool.classes) {
            let made = u32::try_from(memory.get(class.made())).unwrap_or(u32::MAX).min(class.count());
            let used =
                (0..made).rev().find(|index| memory.is_claimed(class, *index)).map_or(0, |last| last + 1);
            // What lies beyond the last one that is in use is as if it had never been.
            memory.punch_free(class, used, made - used);
            if made > used {
                memory.set(class.made(), u64::from(used));
            }
            free.made.store(used, Ordering::Relaxed);
            free.sweep(memory, class, used);
        }
        pool
    }

    /// A block of at least `len` bytes, of class `least` or above. A class that is used up borrows from the next.
    fn take(&self, memory: &Memory, len: usize, least: Class) -> Option<Block> {
        let first = Class::of(len)?.max(least);
        Class::all().filter(|class| *class >= first).take(3).find_map(|class| {
            let free = self.classes.get(class.number())?;
            free.take(memory, class)
        })
    }

    fn give_back(&self, memory: &Memory, block: Block) {
        if let Some(free) = self.classes.get(block.class().number()) {
            free.give_back(memory, block);
        }
    }
}

impl Free {
    fn sweep(&self, memory: &Memory, class: Class, used: u32) {
        let (mut warm, mut cold) = (Vec::new(), Vec::new());
        let mut run = None;
        for index in (0..used).filter(|index| !memory.is_claimed(class, *index)) {
            if warm.len() < class.reserve() {
                warm.push(index);
                continue;
            }
            cold.push(index);
            run = match run {
                Some((first, count)) if first + count == index => Some((first, count + 1)),
                before => {
                    if let Some((first, count)) = before {
                        memory.punch_free(class, first, count);
                    }
                    Some((index, 1))
                }
            };
        }
        if let Some((first, count)) = run {
            memory.punch_free(class, first, count);
        }
        self.count.store(warm.len(), Ordering::Relaxed);
        cold.reverse(); // the lowest is used first
        *self.cold.lock() = cold;
        for (place, index) in warm.into_iter().rev().enumerate() {
            if let Some(list) = self.warm.get(place % SHARDS) {
                list.lock().push(index);
            }
        }
    }

    fn take(&self, memory: &Memory, class: Class) -> Option<Block> {
        let own = shard();
        let warm = (0..SHARDS).find_map(|step| self.warm.get((own + step) % SHARDS)?.lock().pop());
        if let Some(index) = warm {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return memory.claim(class, index);
        }
        if let Some(index) = self.cold.lock().pop() {
            return memory.claim(class, index);
        }
        let more = |made: u32| (made < class.count()).then(|| made + 1);
        let index = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        memory.raise(class.made(), u64::from(index) + 1);
        memory.claim(class, index)
    }

    fn give_back(&self, memory: &Memory, mut block: Block) {
        let (class, index) = (block.class(), block.index());
        let keep = |count: usize| (count < class.reserve()).then(|| count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep).is_ok() {
            memory.release(block);
            if let Some(list) = self.warm.get(shard()) {
                list.lock().push(index);
            }
        } else {
            memory.punch(&mut block);
            memory.release(block);
            self.cold.lock().push(index);
        }
    }
}

/// A number of this thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS));
    SHARD.get()
}

impl Store {
    /// Puts the text of a file into a block. `None` where there is no room.
    #[must_use]
    pub fn text(&self, bytes: &[u8]) -> Option<Text> {
        self.put(bytes, Class::PAGE)
    }

    /// The same for what is small and stays.
    pub(super) fn small_text(&self, bytes: &[u8]) -> Option<Text> {
        self.put(bytes, Class::LEAST)
    }

    fn put(&self, bytes: &[u8], least: Class) -> Option<Text> {
        let len = u32::try_from(bytes.len()).ok()?;
        if len == 0 {
            return Some(Text { block: None, len });
        }
        let mut block = self.pool.take(&self.memory, bytes.len(), least)?;
        self.memory.fill(&mut block, bytes);
        Some(Text { block: Some(block), len })
    }

    /// The bytes of a text.
    #[must_use]
    pub fn bytes<'a>(&'a self, text: &'a Text) -> &'a [u8] {
        text.block.as_ref().map_or(&[], |block| self.memory.bytes(block, text.len()))
    }

    /// Gives up a text that no word names any more.
    pub fn give_back(&self, text: Text) {
        if let Some(block) = text.block {
            self.pool.give_back(&self.memory, block);
        }
    }
}
