//! Where everything is. All offsets but [`BASE`] and [`END`] count from [`BASE`]; all words are 64 bits, of this machine's
//! byte order.
//!
//! | from | what |
//! |---|---|
//! | 0 | the header: [`Header`], then how many blocks of each class were ever used |
//! | 4 KiB | [`SLOTS`] slots of 64 bytes, one for each open file |
//! | then | [`RECORDS`] records of 64 bytes, one for each container |
//! | then | the blocks, class by class |

/// The first bytes of the memfd are not the store's.
pub const BASE: usize = 65536;
/// Goes up with any change to what is written to the store, by whatever room: a program of another layout must not take up
/// what is there.
pub const VERSION: u64 = 1;
/// "ownproc" and what follows.
pub(super) const MAGIC: u64 = 0x6f77_6e70_726f_6301;

/// Open files: about a million.
pub const SLOTS: u32 = 1 << 20;
/// Containers.
pub(super) const RECORDS: u32 = 1 << 16;
/// Bytes of a slot, and of a record.
const ENTRY: usize = 64;
/// Words of a slot, and of a record.
pub(super) const ENTRY_WORDS: usize = ENTRY / 8;

/// Words of the header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Header {
    Magic,
    Version,
    JiffiesRate,
    Started,
    /// Slots from here on were never used.
    SlotsMade,
    /// Likewise records.
    RecordsMade,
}

impl Header {
    pub(super) const fn offset(self) -> usize {
        self as usize * 8
    }
}

/// A size of blocks: class 0 has 512 bytes, each next one twice as much. Small ones are for what is kept of a container; texts
/// start with a page, so that what is freed of them can be given back to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u8);

/// Blocks of class 0 have so many bytes.
const SMALLEST: usize = 512;
/// Classes 0 to 17: 512 bytes to 64 MiB.
pub(super) const CLASSES: usize = 18;
/// The classes below a page have so many blocks each.
const SMALL_BLOCKS: usize = 1 << 18;
/// Each class above a page has so many bytes in all.
const REGION: usize = 1 << 30;

impl Class {
    /// Blocks of one page of 4096 bytes.
    pub(super) const PAGE: Self = Self(3);
    /// The smallest.
    pub(super) const LEAST: Self = Self(0);

    pub(super) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    /// `None` where there is none with this number.
    pub(super) fn new(number: u8) -> Option<Self> {
        (usize::from(number) < CLASSES).then_some(Self(number))
    }

    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }

    /// The smallest class whose blocks hold `len` bytes; `None` where none does.
    pub(super) fn of(len: usize) -> Option<Self> {
        Self::all().find(|class| class.size() >= len)
    }

    /// Bytes of one block.
    pub(super) const fn size(self) -> usize {
        SMALLEST << self.0
    }

    /// How many blocks there are.
    pub(super) const fn count(self) -> u32 {
        let count = match self.0 {
            number if number < Self::PAGE.0 => SMALL_BLOCKS,
            number if number == Self::PAGE.0 => SLOTS as usize,
            _ => REGION / self.size(),
        };
        count as u32
    }

    /// Where its blocks begin.
    pub(super) const fn start(self) -> usize {
        let mut start = BLOCKS;
        let mut below = 0;
        while below < self.0 {
            start += Self(below).size() * Self(below).count() as usize;
            below += 1;
        }
        start
    }

    /// Where the header says how many of its blocks were ever used.
    pub(super) const fn made(self) -> usize {
        (Header::RecordsMade as usize + 1 + self.number()) * 8
    }

    /// Free blocks of this class that keep their pages: 1 MiB or four blocks, whatever is more, but none of the large ones.
    /// Blocks smaller than a page share theirs and have no choice.
    pub(super) const fn reserve(self) -> usize {
        match self.size() {
            ..4096 => usize::MAX,
            size if size <= 256 << 10 => (1 << 20) / size,
            size if size <= 512 << 10 => 4,
            _ => 0,
        }
    }
}

const PAGE_SIZE: usize = 4096;
const SLOTS_AT: usize = PAGE_SIZE;
const RECORDS_AT: usize = SLOTS_AT + SLOTS as usize * ENTRY;
const BLOCKS: usize = RECORDS_AT + RECORDS as usize * ENTRY;
/// The store's length.
pub(super) const LENGTH: usize = Class(CLASSES as u8).start();
/// The memfd's length.
pub(super) const END: usize = BASE + LENGTH;

/// Where a word of a slot is.
pub(super) const fn slot(index: u32, word: usize) -> usize {
    SLOTS_AT + index as usize * ENTRY + word * 8
}

/// Where a word of a record is.
pub(super) const fn record(index: u32, word: usize) -> usize {
    RECORDS_AT + index as usize * ENTRY + word * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_follow_each_other() {
        assert!(Class(CLASSES as u8 - 1).made() + 8 <= SLOTS_AT, "the header is one page");
        assert_eq!(slot(SLOTS, 0), record(0, 0));
        assert_eq!(record(RECORDS, 0), Class::LEAST.start());
        let mut end = BLOCKS;
        for class in Class::all() {
            assert_eq!(class.start(), end);
            assert_eq!(class.start() % class.size().min(PAGE_SIZE), 0);
            end += class.size() * class.count() as usize;
        }
        assert_eq!(end, LENGTH);
        assert_eq!(LENGTH % PAGE_SIZE, 0);
        assert_eq!(Class::PAGE.size(), PAGE_SIZE);
    }

    #[test]
    fn a_class_for_every_length() {
        for (len, size) in
            [(0, 512), (512, 512), (513, 1024), (4097, 8192), (100_000, 131_072), (64 << 20, 64 << 20)]
        {
            assert_eq!(Class::of(len).map(Class::size), Some(size), "{len}");
        }
        assert_eq!(Class::of((64 << 20) + 1), None);
    }
}
