//! `/proc/vmstat`, and the lines of it that `/proc/zoneinfo` repeats.

use super::number::push;
use crate::model::{Bytes, MemoryCounter, MemoryStat};
use crate::view::PagesView;

/// One line of `/proc/vmstat` that is not 0.
#[derive(Clone, Copy)]
pub struct VmstatLine {
    /// The first word.
    pub key: &'static str,
    /// Where the number comes from on cgroup v2, in the words of `SEMANTICS.md`.
    pub v2: &'static str,
    /// Likewise on cgroup v1.
    pub v1: &'static str,
    /// Shown as 0 under the policy `swap = hide`.
    pub swap: bool,
    show: Show,
}

#[derive(Clone, Copy)]
enum Show {
    /// In pages.
    Pages(fn(&MemoryStat) -> Bytes),
    /// In transparent huge pages.
    HugePages(fn(&MemoryStat) -> Bytes),
    /// In kB.
    Kib(fn(&MemoryStat) -> Bytes),
    Counter(MemoryCounter),
    Rule(fn(&PagesView) -> u64),
}

const fn pages(
    key: &'static str,
    v2: &'static str,
    v1: &'static str,
    size: fn(&MemoryStat) -> Bytes,
) -> VmstatLine {
    VmstatLine { key, v2, v1, swap: false, show: Show::Pages(size) }
}

const fn huge(
    key: &'static str,
    v2: &'static str,
    v1: &'static str,
    size: fn(&MemoryStat) -> Bytes,
) -> VmstatLine {
    VmstatLine { key, v2, v1, swap: false, show: Show::HugePages(size) }
}

const fn rule(key: &'static str, id: &'static str, number: fn(&PagesView) -> u64) -> VmstatLine {
    VmstatLine { key, v2: id, v1: id, swap: false, show: Show::Rule(number) }
}

/// A counter that v1 does not have.
const fn counter(counter: MemoryCounter) -> VmstatLine {
    both(counter, "0")
}

const fn both(counter: MemoryCounter, v1: &'static str) -> VmstatLine {
    let key = counter.key();
    VmstatLine { key, v2: key, v1, swap: false, show: Show::Counter(counter) }
}

const fn swap(line: VmstatLine) -> VmstatLine {
    VmstatLine { swap: true, ..line }
}

use MemoryCounter as C;

/// All lines that are not 0, sorted by their keys. Any other line of the host's file is shown with 0.
pub const VMSTAT_LINES: &[VmstatLine] = &[
    pages("nr_active_anon", "active_anon", "total_active_anon", |s| s.active_anon),
    pages("nr_active_file", "active_file", "total_active_file", |s| s.active_file),
    pages("nr_anon_pages", "anon", "total_rss", |s| s.anon),
    huge("nr_anon_transparent_hugepages", "anon_thp", "total_rss_huge", |s| s.anon_thp),
    pages("nr_dirty", "file_dirty", "total_dirty", |s| s.file_dirty),
    rule("nr_dirty_background_threshold", "V7", PagesView::dirty_background_threshold),
    rule("nr_dirty_threshold", "V7", PagesView::dirty_threshold),
    huge("nr_file_hugepages", "file_thp", "0", |s| s.file_thp),
    pages("nr_file_pages", "file + swapcached", "total_cache + total_swapcached", |s| {
        s.file.plus(s.swapcached)
    }),
    rule("nr_free_pages", "V3", PagesView::free),
    rule("nr_free_pages_blocks", "V3", PagesView::free_in_blocks),
    pages("nr_inactive_anon", "inactive_anon", "total_inactive_anon", |s| s.inactive_anon),
    pages("nr_inactive_file", "inactive_file", "total_inactive_file", |s| s.inactive_file),
    VmstatLine {
        key: "nr_kernel_stack",
        v2: "kernel_stack",
        v1: "0",
        swap: false,
        show: Show::Kib(|s| s.kernel_stack),
    },
    pages("nr_mapped", "file_mapped", "total_mapped_file", |s| s.file_mapped),
    pages("nr_mlock", "unevictable", "total_unevictable", |s| s.unevictable),
    pages("nr_page_table_pages", "pagetables", "0", |s| s.pagetables),
    pages("nr_sec_page_table_pages", "sec_pagetables", "0", |s| s.sec_pagetables),
    pages("nr_shmem", "shmem", "total_shmem", |s| s.shmem),
    huge("nr_shmem_hugepages", "shmem_thp", "0", |s| s.shmem_thp),
    pages("nr_slab_reclaimable", "slab_reclaimable", "0", |s| s.slab_reclaimable),
    pages("nr_slab_unreclaimable", "slab_unreclaimable", "0", |s| s.slab_unreclaimable),
    swap(pages("nr_swapcached", "swapcached", "total_swapcached", |s| s.swapcached)),
    pages("nr_unevictable", "unevictable", "total_unevictable", |s| s.unevictable),
    pages("nr_writeback", "file_writeback", "total_writeback", |s| s.file_writeback),
    pages("nr_zone_active_anon", "active_anon", "total_active_anon", |s| s.active_anon),
    pages("nr_zone_active_file", "active_file", "total_active_file", |s| s.active_file),
    pages("nr_zone_inactive_anon", "inactive_anon", "total_inactive_anon", |s| s.inactive_anon),
    pages("nr_zone_inactive_file", "inactive_file", "total_inactive_file", |s| s.inactive_file),
    pages("nr_zone_unevictable", "unevictable", "total_unevictable", |s| s.unevictable),
    pages("nr_zone_write_pending", "file_dirty + file_writeback", "total_dirty + total_writeback", |s| {
        s.file_dirty.plus(s.file_writeback)
    }),
    counter(C::NumaHintFaults),
    counter(C::NumaPagesMigrated),
    counter(C::NumaPteUpdates),
    VmstatLine { key: "oom_kill", v2: "V5", v1: "V5", swap: false, show: Show::Counter(C::OomKill) },
    counter(C::Pgactivate),
    counter(C::Pgdeactivate),
    counter(C::PgdemoteDirect),
    counter(C::PgdemoteKhugepaged),
    counter(C::PgdemoteKswapd),
    counter(C::PgdemoteProactive),
    both(C::Pgfault, "total_pgfault"),
    counter(C::Pglazyfree),
    counter(C::Pglazyfreed),
    both(C::Pgmajfault, "total_pgmajfault"),
    counter(C::PgpromoteSuccess),
    counter(C::Pgrefill),
    counter(C::PgscanDirect),
    counter(C::PgscanKhugepaged),
    counter(C::PgscanKswapd),
    counter(C::PgscanProactive),
    counter(C::PgstealDirect),
    counter(C::PgstealKhugepaged),
    counter(C::PgstealKswapd),
    counter(C::PgstealProactive),
    swap(counter(C::Pswpin)),
    swap(counter(C::Pswpout)),
    swap(counter(C::SwpinZero)),
    swap(counter(C::SwpoutZero)),
    counter(C::ThpCollapseAlloc),
    counter(C::ThpFaultAlloc),
    swap(counter(C::ThpSwpout)),
    swap(counter(C::ThpSwpoutFallback)),
    counter(C::WorkingsetActivateAnon),
    counter(C::WorkingsetActivateFile),
    counter(C::WorkingsetNodereclaim),
    both(C::WorkingsetRefaultAnon, "total_workingset_refault_anon"),
    both(C::WorkingsetRefaultFile, "total_workingset_refault_file"),
    counter(C::WorkingsetRestoreAnon),
    counter(C::WorkingsetRestoreFile),
    swap(counter(C::Zswpin)),
    swap(counter(C::Zswpout)),
    swap(counter(C::Zswpwb)),
];

fn line(key: &str) -> Option<&'static VmstatLine> {
    let found = VMSTAT_LINES.binary_search_by_key(&key, |line| line.key);
    found.ok().and_then(|index| VMSTAT_LINES.get(index))
}

/// The number of the line with this key, 0 for any other.
pub(super) fn number(key: &str, view: &PagesView) -> u64 {
    let Some(line) = line(key) else { return 0 };
    if line.swap && view.hides_swap {
        return 0;
    }
    let stat = &view.memory.stat;
    match line.show {
        Show::Pages(size) => view.sizes.pages(size(stat)),
        Show::HugePages(size) => view.sizes.huge_pages(size(stat)),
        Show::Kib(size) => size(stat).kib(),
        Show::Counter(counter) => view.counters.get(counter),
        Show::Rule(number) => number(view),
    }
}

/// Whether the line with this key counts events.
pub(super) fn is_counter(key: &str) -> bool {
    line(key).is_some_and(|line| matches!(line.show, Show::Counter(_)))
}

/// The host's keys in the host's order, with the container's numbers. A line that is not a key, a blank and a
/// number is left out.
pub fn vmstat(host: &str, view: &PagesView, out: &mut Vec<u8>) {
    for key in keys(host) {
        out.extend_from_slice(key.as_bytes());
        out.push(b' ');
        push(out, number(key, view));
        out.push(b'\n');
    }
}

/// The keys of a text of lines `KEY NUMBER`.
pub(super) fn keys(host: &str) -> impl Iterator<Item = &str> {
    host.lines().filter_map(|line| {
        let (key, number) = line.split_once(' ')?;
        (!key.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty()).then_some(key)
    })
}

#[cfg(test)]
mod tests;
