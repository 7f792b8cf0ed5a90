//! The open files. A slot is eight words; the first says whether it is in use, and while it is not the others mean nothing.

use super::Store;
use super::blocks::Text;
use super::layout::{Header, SLOTS, slot};
use super::memory::Memory;

/// Generation in the upper half, flags below.
const STATE: usize = 0;
/// The number of the inode.
const INO: usize = 1;
/// The id of the request that opened it.
const UNIQUE: usize = 2;
/// The thread that opened it in the upper half, then the owner's record + 1 (0: none).
const WHO: usize = 3;
/// Its text.
const TEXT: usize = 4;
/// How far writes have moved it.
const WRITTEN: usize = 5;
/// What was written to it.
const TRIGGER: usize = 6;
/// The handle that the kernel polls it by, + 1 (0: none).
const POLL: usize = 7;

const OPEN: u64 = 1;
/// The kernel was told, or has used it: it knows of it.
const KNOWN: u64 = 2;
/// Opened for writing.
const WRITES: u64 = 4;
/// By a thread that may do more.
const PRIVILEGED: u64 = 8;

/// What is remembered of a file from the time it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The number of the inode.
    pub ino: u64,
    /// The id of the request that opens it, without the bit that tells a request that is sent again.
    pub unique: u64,
    /// The thread that opens it.
    pub tid: u32,
    /// The record of the container that it counts for.
    pub owner: Option<u32>,
    /// Opened for writing: whether by a thread with CAP_SYS_RESOURCE.
    pub writer: Option<bool>,
}

/// An open file of the process before this one.
#[derive(Debug)]
pub struct KeptFile {
    /// Its slot.
    pub index: u32,
    /// Of the slot.
    pub generation: u32,
    /// As it was opened.
    pub file: NewFile,
    /// Whether the kernel knows of it for certain. Where it does not, the request that opens it may be sent again.
    pub known: bool,
    /// What it shows.
    pub text: Option<Text>,
    /// How far writes have moved it.
    pub written: u64,
    /// What was written to it.
    pub trigger: Option<Text>,
    /// The handle that the kernel polls it by.
    pub poll: Option<u64>,
}

fn state(generation: u32, flags: u64) -> u64 {
    u64::from(generation) << 32 | flags
}

/// All that are open, with their texts claimed.
pub(super) fn take_up(memory: &Memory) -> Vec<KeptFile> {
    let made = u32::try_from(memory.get(Header::SlotsMade.offset())).unwrap_or(u32::MAX).min(SLOTS);
    (0..made).filter_map(|index| kept(memory, index)).collect()
}

fn kept(memory: &Memory, index: u32) -> Option<KeptFile> {
    let word = |word| memory.get(slot(index, word));
    let state = word(STATE);
    Some(KeptFile {
        index,
        generation: (state >> 32) as u32,
        file: file(state, &word)?,
        known: state & KNOWN != 0,
        text: Text::claim(word(TEXT), memory),
        written: word(WRITTEN),
        trigger: Text::claim(word(TRIGGER), memory),
        poll: word(POLL).checked_sub(1),
    })
}

fn file(state: u64, word: &impl Fn(usize) -> u64) -> Option<NewFile> {
    let who = word(WHO);
    (state & OPEN != 0).then(|| NewFile {
        ino: word(INO),
        unique: word(UNIQUE),
        tid: (who >> 32) as u32,
        owner: (who as u32).checked_sub(1),
        writer: (state & WRITES != 0).then_some(state & PRIVILEGED != 0),
    })
}

impl Store {
    /// The open files that the process before this one left, once.
    #[must_use]
    pub fn take_files(&self) -> Vec<KeptFile> {
        std::mem::take(&mut *self.kept_files.lock())
    }

    /// How many slots were ever used.
    #[must_use]
    pub fn slots_made(&self) -> u32 {
        u32::try_from(self.memory.get(Header::SlotsMade.offset())).unwrap_or(u32::MAX).min(SLOTS)
    }

    /// Slots below `made` may be in use from now on.
    pub fn make_slots(&self, made: u32) {
        self.memory.raise(Header::SlotsMade.offset(), u64::from(made));
    }

    /// The generation of the file in a slot, if one is open there.
    #[must_use]
    pub fn generation(&self, index: u32) -> Option<u32> {
        let state = self.memory.get(slot(index, STATE));
        (state & OPEN != 0).then_some((state >> 32) as u32)
    }

    /// As what the file in a slot was opened, if one is open there.
    #[must_use]
    pub fn file(&self, index: u32) -> Option<NewFile> {
        let word = |word| self.memory.get(slot(index, word));
        file(word(STATE), &word)
    }

    /// Opens a file in a free slot, whose generation then is returned: one that no handle of the slot ever had.
    pub fn open_slot(&self, index: u32, file: &NewFile) -> u32 {
        let before = (self.memory.get(slot(index, STATE)) >> 32) as u32;
        let generation = before.checked_add(1).unwrap_or(1);
        let who =
            u64::from(file.tid) << 32 | u64::from(file.owner.map_or(0, |owner| owner.saturating_add(1)));
        for (word, value) in [
            (INO, file.ino),
            (UNIQUE, file.unique),
            (WHO, who),
            (TEXT, 0),
            (WRITTEN, 0),
            (TRIGGER, 0),
            (POLL, 0),
        ] {
            self.memory.set(slot(index, word), value);
        }
        let flags = match file.writer {
            None => OPEN,
            Some(false) => OPEN | WRITES,
            Some(true) => OPEN | WRITES | PRIVILEGED,
        };
        self.memory.set(slot(index, STATE), state(generation, flags));
        generation
    }

    /// The kernel knows of this file. Nothing happens where it was released meanwhile.
    pub fn known(&self, index: u32, generation: u32) {
        let at = slot(index, STATE);
        let now = self.memory.get(at);
        if now >> 32 == u64::from(generation) && now & (OPEN | KNOWN) == OPEN {
            self.memory.replace(at, now, now | KNOWN);
        }
    }

    /// Which record it counts for from now on.
    pub fn set_owner(&self, index: u32, tid: u32, owner: Option<u32>) {
        let owner = owner.map_or(0, |owner| owner.saturating_add(1));
        self.memory.set(slot(index, WHO), u64::from(tid) << 32 | u64::from(owner));
    }

    /// Publishes its text. The one before is no longer named: give it back.
    pub fn set_text(&self, index: u32, text: &Text) {
        self.memory.set(slot(index, TEXT), text.word());
    }

    /// Publishes how far writes have moved it.
    pub fn set_written(&self, index: u32, written: u64) {
        self.memory.set(slot(index, WRITTEN), written);
    }

    /// Publishes what was written to it.
    pub fn set_trigger(&self, index: u32, trigger: &Text) {
        self.memory.set(slot(index, TRIGGER), trigger.word());
    }

    /// Publishes the handle that the kernel polls it by.
    pub fn set_poll(&self, index: u32, handle: u64) {
        let word = handle.saturating_add(1);
        if self.memory.get(slot(index, POLL)) != word {
            self.memory.set(slot(index, POLL), word);
        }
    }

    /// Ends the file in a slot. Its texts are no longer named: give them back.
    pub fn close_slot(&self, index: u32) {
        let generation = self.memory.get(slot(index, STATE)) >> 32;
        self.memory.set(slot(index, STATE), generation << 32);
    }
}
