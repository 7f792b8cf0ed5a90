//! `/proc/meminfo`.

use super::number::{push, width};
use crate::model::{Bytes, HostMeminfo};
use crate::view::MemoryView;

/// One line of `/proc/meminfo` that is known.
#[derive(Clone, Copy)]
pub struct MeminfoLine {
    /// The key before the colon.
    pub key: &'static str,
    /// Where the number comes from on cgroup v2, in the words of `SEMANTICS.md`.
    pub v2: &'static str,
    /// Likewise on cgroup v1.
    pub v1: &'static str,
    show: Show,
}

#[derive(Clone, Copy)]
enum Show {
    Size(fn(&MemoryView) -> Bytes),
    Count(fn(&MemoryView) -> u64),
    Host,
    Zero,
}

const fn zero(key: &'static str) -> MeminfoLine {
    MeminfoLine { key, v2: "0", v1: "0", show: Show::Zero }
}

const fn host(key: &'static str) -> MeminfoLine {
    MeminfoLine { key, v2: "host", v1: "host", show: Show::Host }
}

const fn rule(key: &'static str, id: &'static str, show: fn(&MemoryView) -> Bytes) -> MeminfoLine {
    MeminfoLine { key, v2: id, v1: id, show: Show::Size(show) }
}

const fn from(
    key: &'static str,
    v2: &'static str,
    v1: &'static str,
    show: fn(&MemoryView) -> Bytes,
) -> MeminfoLine {
    MeminfoLine { key, v2, v1, show: Show::Size(show) }
}

/// All lines that are known, in the kernel's order (`fs/proc/meminfo.c`). A line of the host's file that is
/// not here is shown with 0.
pub const MEMINFO_LINES: &[MeminfoLine] = &[
    rule("MemTotal", "M1", |v| v.total),
    rule("MemFree", "M2", |v| v.free),
    rule("MemAvailable", "M3", |v| v.available),
    zero("Buffers"),
    from("Cached", "file", "total_cache", |v| v.stat.file),
    from("SwapCached", "swapcached", "total_swapcached", |v| v.stat.swapcached),
    from("Active", "active_anon + active_file", "total_active_anon + total_active_file", |v| {
        v.stat.active_anon.plus(v.stat.active_file)
    }),
    from("Inactive", "inactive_anon + inactive_file", "total_inactive_anon + total_inactive_file", |v| {
        v.stat.inactive_anon.plus(v.stat.inactive_file)
    }),
    from("Active(anon)", "active_anon", "total_active_anon", |v| v.stat.active_anon),
    from("Inactive(anon)", "inactive_anon", "total_inactive_anon", |v| v.stat.inactive_anon),
    from("Active(file)", "active_file", "total_active_file", |v| v.stat.active_file),
    from("Inactive(file)", "inactive_file", "total_inactive_file", |v| v.stat.inactive_file),
    from("Unevictable", "unevictable", "total_unevictable", |v| v.stat.unevictable),
    from("Mlocked", "unevictable", "total_unevictable", |v| v.stat.unevictable),
    zero("HighTotal"),
    zero("HighFree"),
    zero("LowTotal"),
    zero("LowFree"),
    zero("MmapCopy"),
    rule("SwapTotal", "M5", |v| v.swap_total),
    rule("SwapFree", "M7", |v| v.swap_free),
    from("Zswap", "zswap", "0", |v| v.stat.zswap),
    from("Zswapped", "zswapped", "0", |v| v.stat.zswapped),
    from("Dirty", "file_dirty", "total_dirty", |v| v.stat.file_dirty),
    from("Writeback", "file_writeback", "total_writeback", |v| v.stat.file_writeback),
    from("AnonPages", "anon", "total_rss", |v| v.stat.anon),
    from("Mapped", "file_mapped", "total_mapped_file", |v| v.stat.file_mapped),
    from("Shmem", "shmem", "total_shmem", |v| v.stat.shmem),
    from("KReclaimable", "slab_reclaimable", "0", |v| v.stat.slab_reclaimable),
    // the sum of the two as they are shown: groups count slab in bytes, the kernel's file in pages
    from("Slab", "slab_reclaimable + slab_unreclaimable", "0", |v| {
        v.stat.slab_reclaimable.whole_pages().plus(v.stat.slab_unreclaimable.whole_pages())
    }),
    from("SReclaimable", "slab_reclaimable", "0", |v| v.stat.slab_reclaimable),
    from("SUnreclaim", "slab_unreclaimable", "0", |v| v.stat.slab_unreclaimable),
    from("KernelStack", "kernel_stack", "0", |v| v.stat.kernel_stack),
    zero("ShadowCallStack"),
    from("PageTables", "pagetables", "0", |v| v.stat.pagetables),
    from("SecPageTables", "sec_pagetables", "0", |v| v.stat.sec_pagetables),
    zero("NFS_Unstable"),
    zero("Bounce"),
    zero("WritebackTmp"),
    rule("CommitLimit", "M8", |v| v.commit_limit),
    zero("Committed_AS"),
    host("VmallocTotal"),
    from("VmallocUsed", "vmalloc", "0", |v| v.stat.vmalloc),
    zero("VmallocChunk"),
    from("Percpu", "percpu", "0", |v| v.stat.percpu),
    zero("EarlyMemtestBad"),
    zero("HardwareCorrupted"),
    from("AnonHugePages", "anon_thp", "total_rss_huge", |v| v.stat.anon_thp),
    from("ShmemHugePages", "shmem_thp", "0", |v| v.stat.shmem_thp),
    zero("ShmemPmdMapped"),
    from("FileHugePages", "file_thp", "0", |v| v.stat.file_thp),
    zero("FilePmdMapped"),
    zero("CmaTotal"),
    zero("CmaFree"),
    zero("Unaccepted"),
    zero("Balloon"),
    zero("GPUActive"),
    zero("GPUReclaim"),
    MeminfoLine { key: "HugePages_Total", v2: "M9", v1: "M9", show: Show::Count(|v| v.hugetlb.pages_total) },
    MeminfoLine { key: "HugePages_Free", v2: "M9", v1: "M9", show: Show::Count(|v| v.hugetlb.pages_free) },
    zero("HugePages_Rsvd"),
    zero("HugePages_Surp"),
    host("Hugepagesize"),
    rule("Hugetlb", "M9", |v| v.hugetlb.total),
    zero("DirectMap4k"),
    zero("DirectMap64k"),
    zero("DirectMap1M"),
    zero("DirectMap2M"),
    zero("DirectMap4M"),
    zero("DirectMap1G"),
    zero("DirectMap2G"),
];

/// The host's lines in the host's order and layout, with the container's numbers. A line that does not
/// consist of a key, a colon, a number and at most a unit is left out.
pub fn meminfo(host: &HostMeminfo, view: &MemoryView, out: &mut Vec<u8>) {
    // Both lists have the kernel's order: the next known line is mostly the very next one.
    let mut next = 0;
    for line in host.text.lines() {
        let Some(layout) = Layout::of(line) else { continue };
        let (ahead, behind) = (MEMINFO_LINES.iter().skip(next), MEMINFO_LINES.iter().take(next));
        let show = match ahead.chain(behind).position(|known| known.key == layout.key) {
            Some(distance) => {
                let index = (next + distance) % MEMINFO_LINES.len();
                next = index + 1;
                MEMINFO_LINES[index].show
            }
            None => Show::Zero,
        };
        match show {
            Show::Host => {
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
            }
            Show::Zero => layout.write(line, 0, out),
            Show::Size(size) => layout.write(line, size(view).whole_pages().kib(), out),
            Show::Count(count) => layout.write(line, count(view), out),
        }
    }
}

/// What the line `key` shows where that is a size other than 0 and the host's own.
pub(super) fn size(key: &str) -> Option<fn(&MemoryView) -> Bytes> {
    match MEMINFO_LINES.iter().find(|known| known.key == key)?.show {
        Show::Size(size) => Some(size),
        Show::Count(_) | Show::Host | Show::Zero => None,
    }
}

/// Where the parts of a line stand.
pub(super) struct Layout<'a> {
    pub(super) key: &'a str,
    /// First byte of the number.
    start: usize,
    /// First byte after it.
    end: usize,
}

/// Keys with their colon are padded to 16 columns, numbers to 8 (`show_val_kb`, fs/proc/meminfo.c).
const KEY_END: usize = 16;
const NUMBER_END: usize = KEY_END + 8;

impl<'a> Layout<'a> {
    /// Where a count without a unit begins at least in the lines of a node: `HugePages_Total: %5u`, drivers/base/node.c.
    pub(super) const NODE_COUNT_BEGIN: usize = 17;

    pub(super) fn of(line: &'a str) -> Option<Self> {
        let (key, value) = line.split_once(':')?;
        let digits = value.trim_start_matches(' ');
        let start = line.len() - digits.len();
        let end = start + digits.bytes().take_while(u8::is_ascii_digit).count();
        let rest = &line[end..];
        let unit = rest.is_empty() || rest == " kB";
        (end > start && unit && !key.is_empty()).then_some(Self { key, start, end })
    }

    fn write(&self, line: &str, value: u64, out: &mut Vec<u8>) {
        self.write_in(line, value, self.key_end() + 3, out); // HugePages_*: three blanks, then 5 columns
    }

    /// Writes the line with another value; one without a unit begins at `count_begin` or after.
    pub(super) fn write_in(&self, line: &str, value: u64, count_begin: usize, out: &mut Vec<u8>) {
        // A longer number stands out to the right, the host's too: where the field begins and ends is known.
        let begin = match (self.end == line.len(), self.key_end()) {
            (true, _) => count_begin,
            (false, key_end) if key_end <= KEY_END => KEY_END,
            (false, key_end) => key_end + 1,
        };
        let start = self.end.min(NUMBER_END).saturating_sub(width(value)).max(begin.min(self.start));
        let start = start.max(self.key_end()); // a key of a later kernel may be longer than where counts begin
        out.extend_from_slice(self.key.as_bytes());
        out.push(b':');
        out.extend(std::iter::repeat_n(b' ', start - self.key_end()));
        push(out, value);
        out.extend_from_slice(&line.as_bytes()[self.end..]);
        out.push(b'\n');
    }

    const fn key_end(&self) -> usize {
        self.key.len() + 1
    }
}

#[cfg(test)]
mod tests;
