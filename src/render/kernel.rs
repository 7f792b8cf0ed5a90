//! What the kernel says of itself: `partitions`, `slabinfo`, `modules`, `cgroups`, counters below `sys/fs`, the boot id.

use super::ProcFile;
use super::number::push;

/// `/proc/partitions`: `show_partition_start`, block/genhd.c. No disk belongs to a container.
pub fn partitions(out: &mut Vec<u8>) {
    out.extend_from_slice(b"major minor  #blocks  name\n\n");
}

/// `/proc/slabinfo`: the host's header lines.
pub fn slabinfo(host: &str, out: &mut Vec<u8>) {
    let header = |line: &&str| line.starts_with("slabinfo - version:") || line.starts_with("# name ");
    for line in host.lines().take_while(header) {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

/// Which modules the kernel has loaded and how large they are; nothing of who uses them or where they lie.
pub fn modules(host: &str, out: &mut Vec<u8>) {
    for line in host.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(size)) = (words.next(), words.next()) else { continue };
        if name.is_empty() || size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // without CONFIG_MODULE_UNLOAD nothing is counted
        let count = if words.next() == Some("-") { "-" } else { "0" };
        for word in [name, size, count, "- Live"] {
            out.extend_from_slice(word.as_bytes());
            out.push(b' ');
        }
        let address = line.split(' ').rev().find_map(address).unwrap_or(16);
        out.extend_from_slice(b"0x");
        out.extend(std::iter::repeat_n(b'0', address));
        out.push(b'\n');
    }
}

/// The host's own modules for those whose container is the host: as they are, but for the addresses, which the kernel
/// shows to the privileged alone.
pub fn host_modules(host: &str, out: &mut Vec<u8>) {
    for line in host.lines() {
        for (number, word) in line.split(' ').enumerate() {
            if number > 0 {
                out.push(b' ');
            }
            match address(word) {
                Some(digits) => {
                    out.extend_from_slice(b"0x");
                    out.extend(std::iter::repeat_n(b'0', digits));
                }
                None => out.extend_from_slice(word.as_bytes()),
            }
        }
        out.push(b'\n');
    }
}

/// How many digits an address has; `None` for any other word.
fn address(word: &str) -> Option<usize> {
    let digits = word.strip_prefix("0x")?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits.len())
}

/// `/proc/cgroups`: the host's controllers; each has one group, as far as the container is concerned.
pub fn cgroups(host: &str, out: &mut Vec<u8>) {
    for line in host.lines() {
        if line.starts_with('#') {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            continue;
        }
        let mut columns = line.split('\t');
        let (Some(name), Some(hierarchy), Some(groups), Some(enabled), None) =
            (columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        let groups = if groups == "0" { "0" } else { "1" };
        for (word, end) in [(name, b'\t'), (hierarchy, b'\t'), (groups, b'\t'), (enabled, b'\n')] {
            out.extend_from_slice(word.as_bytes());
            out.push(end);
        }
    }
}

/// A file of counters below `/proc/sys/fs`: numbers between tabs. A counter is 0; what the kernel is set to remains.
pub fn fs_counters(file: ProcFile, host: &str, out: &mut Vec<u8>) {
    // Documentation/admin-guide/sysctl/fs.rst: file-nr's third is file-max, dentry-state's third is the age limit.
    let setting = match file {
        ProcFile::FileNr | ProcFile::DentryState => Some(2),
        _ => None,
    };
    let numbers = host.lines().next().unwrap_or_default().split_whitespace();
    for (column, word) in numbers.enumerate() {
        if column > 0 {
            out.push(b'\t');
        }
        match word.parse() {
            Ok(number) if setting == Some(column) => push(out, number),
            _ => out.push(b'0'),
        }
    }
    out.push(b'\n');
}

/// `/proc/sys/kernel/random/boot_id`.
pub fn boot_id(id: [u8; 16], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in id.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(DIGITS[usize::from(digit)]);
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
