//! `/proc/diskstats`.

use super::number::{push, width};
use crate::model::{Bytes, DiskUse};
use crate::view::DiskView;

/// A number of a line, after the device's numbers and name.
#[derive(Clone, Copy, Debug)]
pub struct DiskColumn {
    /// What the kernel counts there (Documentation/admin-guide/iostats.rst).
    pub name: &'static str,
    /// The rule of `SEMANTICS.md`, or `0`.
    pub rule: &'static str,
    value: fn(&DiskUse) -> u64,
}

const fn counted(name: &'static str, rule: &'static str, value: fn(&DiskUse) -> u64) -> DiskColumn {
    DiskColumn { name, rule, value }
}

const fn unknown(name: &'static str) -> DiskColumn {
    DiskColumn { name, rule: "0", value: |_| 0 }
}

/// The columns in order (`diskstats_show` in block/genhd.c). A group's I/O is counted in requests and bytes only.
pub const DISK_COLUMNS: &[DiskColumn] = &[
    counted("reads", "D2", |used| used.read.operations),
    unknown("reads merged"),
    counted("sectors read", "D3", |used| sectors(used.read.bytes)),
    unknown("ms reading"),
    counted("writes", "D2", |used| used.write.operations),
    unknown("writes merged"),
    counted("sectors written", "D3", |used| sectors(used.write.bytes)),
    unknown("ms writing"),
    unknown("in flight"),
    unknown("ms doing I/O"),
    unknown("weighted ms doing I/O"),
    counted("discards", "D2", |used| used.discard.operations),
    unknown("discards merged"),
    counted("sectors discarded", "D3", |used| sectors(used.discard.bytes)),
    unknown("ms discarding"),
    unknown("flushes"),
    unknown("ms flushing"),
];

/// The kernel's sectors have 512 bytes whatever the disk's have.
const fn sectors(bytes: Bytes) -> u64 {
    bytes.0 / 512
}

/// One line per disk, `"%4d %7d %s"` and `columns` numbers.
pub fn diskstats(columns: usize, disks: &[DiskView<'_>], out: &mut Vec<u8>) {
    for line in disks {
        push_wide(out, line.disk.major, 4);
        out.push(b' ');
        push_wide(out, line.disk.minor, 7);
        out.push(b' ');
        out.extend_from_slice(line.name.as_bytes());
        for column in 0..columns {
            out.push(b' ');
            push(out, DISK_COLUMNS.get(column).map_or(0, |column| (column.value)(&line.used)));
        }
        out.push(b'\n');
    }
}

/// Appends a number in a field of at least so many characters, right-aligned.
fn push_wide(out: &mut Vec<u8>, number: u32, field: usize) {
    let number = u64::from(number);
    out.extend(std::iter::repeat_n(b' ', field.saturating_sub(width(number))));
    push(out, number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DiskId, Transfer};

    fn text(columns: usize, used: DiskUse) -> String {
        let disk = DiskId { major: 254, minor: 16 };
        let mut out = Vec::new();
        diskstats(columns, &[DiskView { disk, name: "vdb", used }], &mut out);
        String::from_utf8(out).unwrap()
    }

    fn used() -> DiskUse {
        let transfer = |bytes, operations| Transfer { bytes: Bytes(bytes), operations };
        DiskUse { read: transfer(1_459_200, 192), write: transfer(1023, 7), discard: transfer(512, 1) }
    }

    #[test]
    fn d2_operations_of_each_kind() {
        let line = text(17, used());
        let words: Vec<_> = line.split_whitespace().skip(3).collect();
        assert_eq!((words[0], words[4], words[11]), ("192", "7", "1"));
    }

    #[test]
    fn d3_sectors_of_512_bytes() {
        let line = text(17, used());
        let words: Vec<_> = line.split_whitespace().skip(3).collect();
        assert_eq!((words[2], words[6], words[13]), ("2850", "1", "1"));
    }

    #[test]
    fn d6_columns_as_the_kernel_has_them() {
        let line = text(17, used());
        assert_eq!(line, " 254      16 vdb 192 0 2850 0 7 0 1 0 0 0 0 1 0 1 0 0 0\n");
        assert_eq!(text(11, used()), " 254      16 vdb 192 0 2850 0 7 0 1 0 0 0 0\n");
        assert_eq!(text(19, DiskUse::NONE).split_whitespace().count(), 22, "columns of a later kernel are 0");
        let mut out = Vec::new();
        diskstats(17, &[], &mut out);
        assert!(out.is_empty());
    }
}
