//! What the block I/O controllers count: v2 `io.stat`, v1 `blkio.throttle.*`.

use super::lines;
use super::scalar::number;
use crate::model::{Bytes, DiskId, DiskUse, Transfer};

/// v1's word for a direction. `Sync`, `Async` and `Total` are sums over others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `Read`
    Read,
    /// `Write`
    Write,
    /// `Discard`
    Discard,
}

impl Operation {
    /// A use that has these numbers in this direction and 0 elsewhere.
    #[must_use]
    pub const fn only(self, transfer: Transfer) -> DiskUse {
        match self {
            Self::Read => DiskUse { read: transfer, ..DiskUse::NONE },
            Self::Write => DiskUse { write: transfer, ..DiskUse::NONE },
            Self::Discard => DiskUse { discard: transfer, ..DiskUse::NONE },
        }
    }
}

/// `io.stat`: one line per disk, `MAJ:MIN key=value ...` in any order. A line without keys is a disk that the group
/// has nothing to do with (any more); other keys (`cost.usage` and the like) are skipped. (`blkcg_print_one_stat` in
/// block/blk-cgroup.c.)
pub fn stat(text: &[u8]) -> impl Iterator<Item = (DiskId, DiskUse)> {
    lines(text).filter_map(|line| {
        let mut words = words(line);
        let disk = disk(words.next()?)?;
        let mut used = DiskUse::NONE;
        for word in words {
            let Some(equals) = word.iter().position(|&byte| byte == b'=') else { continue };
            let (key, value) = word.split_at(equals);
            let Some(value) = value.get(1..).and_then(number) else { continue };
            match key {
                b"rbytes" => used.read.bytes = Bytes(value),
                b"wbytes" => used.write.bytes = Bytes(value),
                b"dbytes" => used.discard.bytes = Bytes(value),
                b"rios" => used.read.operations = value,
                b"wios" => used.write.operations = value,
                b"dios" => used.discard.operations = value,
                _ => {}
            }
        }
        Some((disk, used))
    })
}

/// `blkio.throttle.io_service_bytes_recursive` and `io_serviced_recursive`: lines `MAJ:MIN Operation NUMBER`, and a
/// line `Total NUMBER`.
pub fn throttle(text: &[u8]) -> impl Iterator<Item = (DiskId, Operation, u64)> {
    lines(text).filter_map(|line| {
        let mut words = words(line);
        let disk = disk(words.next()?)?;
        let operation = match words.next()? {
            b"Read" => Operation::Read,
            b"Write" => Operation::Write,
            b"Discard" => Operation::Discard,
            _ => return None,
        };
        Some((disk, operation, number(words.next()?)?))
    })
}

/// `MAJ:MIN`.
fn disk(word: &[u8]) -> Option<DiskId> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    let part = |text: &[u8]| u32::try_from(number(text)?).ok();
    let (major, minor) = word.split_at(colon);
    Some(DiskId { major: part(major)?, minor: part(minor.get(1..)?)? })
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VDA: DiskId = DiskId { major: 254, minor: 0 };

    fn transfer(bytes: u64, operations: u64) -> Transfer {
        Transfer { bytes: Bytes(bytes), operations }
    }

    #[test]
    fn io_stat_by_exact_key() {
        let text = b"254:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=7 dios=1 cost.usage=9 cost.rbytes=8\n\
            7:0 \n8:16\nnonsense\n8:x rbytes=1\n259:1 wbytes=4096 xrbytes=5 cost.rios=7 rbytesx=6 wios=1 rios=x =3 rbytes\n";
        let all: Vec<_> = stat(text).collect();
        let of = |major, minor| {
            all.iter().find(|(disk, _)| *disk == DiskId { major, minor }).map(|(_, used)| *used)
        };
        assert_eq!(all.len(), 4);
        let used = of(254, 0).unwrap();
        assert_eq!(used.read, transfer(1_459_200, 192));
        assert_eq!((used.write, used.discard), (transfer(314_773_504, 353), transfer(7, 1)));
        assert_eq!((of(7, 0), of(8, 16)), (Some(DiskUse::NONE), Some(DiskUse::NONE)));
        assert_eq!(of(259, 1), Some(DiskUse { write: transfer(4096, 1), ..DiskUse::NONE }));
    }

    #[test]
    fn throttle_files_without_their_sums() {
        let text = b"254:0 Read 3\n254:0 Write 10\n254:0 Sync 6\n254:0 Async 7\n254:0 Discard 2\n254:0 Total 15\nTotal 15\n";
        let all: Vec<_> = throttle(text).collect();
        assert_eq!(
            all,
            [(VDA, Operation::Read, 3), (VDA, Operation::Write, 10), (VDA, Operation::Discard, 2)]
        );
        assert_eq!(Operation::Write.only(transfer(1, 2)).write, transfer(1, 2));
        assert_eq!(Operation::Discard.only(transfer(1, 2)).write, Transfer::default());
    }
}
