//! `/proc/diskstats`: its shape, and the names of the disks.

use crate::cgroup::parse::{lines, scalar::number};
use crate::model::{DiskId, HostDisks};

/// Columns of a host that shows no disk: those of Linux 5.5 and later.
const COLUMNS: usize = 17;

/// The disks in order, and the most columns that any has; a line that is not understood is skipped.
#[must_use]
pub fn diskstats(text: &[u8]) -> HostDisks {
    let mut host = HostDisks::default();
    for line in lines(text) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut part = || u32::try_from(number(words.next()?)?).ok();
        let (Some(major), Some(minor)) = (part(), part()) else { continue };
        let Some(name) = words.next().and_then(|name| std::str::from_utf8(name).ok()) else { continue };
        host.names.push((DiskId { major, minor }, name.to_owned()));
        host.columns = host.columns.max(words.count());
    }
    if host.names.is_empty() {
        host.columns = COLUMNS;
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_columns() {
        let text = b" 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n   8      17 cciss/c0d0p1 1 2\nx\n8 x sda 1\n";
        let host = diskstats(text);
        assert_eq!(host.columns, 17);
        let names: Vec<_> = host.names.iter().map(|(id, name)| (id.major, id.minor, name.as_str())).collect();
        assert_eq!(names, [(254, 0, "vda"), (8, 17, "cciss/c0d0p1")]);
        assert_eq!(diskstats(b"").columns, 17);
        assert_eq!(diskstats(b"8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n").columns, 11);
    }
}
