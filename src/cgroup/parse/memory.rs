//! `memory.stat` of both versions.

use super::pairs;
use crate::cgroup::Version;
use crate::model::{Bytes, MemoryCounter, MemoryCounters, MemoryStat};

/// `memory.stat`; keys that a version or kernel does not have stay 0, unknown keys are skipped.
///
/// v1 prints every key twice: plain for the group alone and `total_` for its subtree; the subtree is what the
/// limit charges, so those are taken. v1 `total_rss` holds anonymous memory, huge pages included.
#[must_use]
pub fn stat(text: &[u8], version: Version) -> MemoryStat {
    let mut stat = MemoryStat::default();
    for (key, value) in pairs(text) {
        let field = match version {
            Version::V1 => v1_field(&mut stat, key),
            Version::V2 => v2_field(&mut stat, key),
        };
        if let Some(field) = field {
            *field = Bytes(value);
        }
    }
    if version == Version::V2 {
        let parts = stat.slab_reclaimable.plus(stat.slab_unreclaimable);
        stat.slab = stat.slab.max(parts);
    }
    stat
}

fn v1_field<'a>(stat: &'a mut MemoryStat, key: &[u8]) -> Option<&'a mut Bytes> {
    Some(match key.strip_prefix(b"total_")? {
        b"cache" => &mut stat.file,
        b"rss" => &mut stat.anon,
        b"rss_huge" => &mut stat.anon_thp,
        b"shmem" => &mut stat.shmem,
        b"mapped_file" => &mut stat.file_mapped,
        b"dirty" => &mut stat.file_dirty,
        b"writeback" => &mut stat.file_writeback,
        b"swapcached" => &mut stat.swapcached,
        b"inactive_anon" => &mut stat.inactive_anon,
        b"active_anon" => &mut stat.active_anon,
        b"inactive_file" => &mut stat.inactive_file,
        b"active_file" => &mut stat.active_file,
        b"unevictable" => &mut stat.unevictable,
        _ => return None,
    })
}

fn v2_field<'a>(stat: &'a mut MemoryStat, key: &[u8]) -> Option<&'a mut Bytes> {
    Some(match key {
        b"anon" => &mut stat.anon,
        b"file" => &mut stat.file,
        b"shmem" => &mut stat.shmem,
        b"file_mapped" => &mut stat.file_mapped,
        b"file_dirty" => &mut stat.file_dirty,
        b"file_writeback" => &mut stat.file_writeback,
        b"swapcached" => &mut stat.swapcached,
        b"inactive_anon" => &mut stat.inactive_anon,
        b"active_anon" => &mut stat.active_anon,
        b"inactive_file" => &mut stat.inactive_file,
        b"active_file" => &mut stat.active_file,
        b"unevictable" => &mut stat.unevictable,
        b"anon_thp" => &mut stat.anon_thp,
        b"shmem_thp" => &mut stat.shmem_thp,
        b"file_thp" => &mut stat.file_thp,
        b"slab" => &mut stat.slab,
        b"slab_reclaimable" => &mut stat.slab_reclaimable,
        b"slab_unreclaimable" => &mut stat.slab_unreclaimable,
        b"kernel_stack" => &mut stat.kernel_stack,
        b"pagetables" => &mut stat.pagetables,
        b"sec_pagetables" => &mut stat.sec_pagetables,
        b"percpu" => &mut stat.percpu,
        b"vmalloc" => &mut stat.vmalloc,
        b"zswap" => &mut stat.zswap,
        b"zswapped" => &mut stat.zswapped,
        _ => return None,
    })
}

/// The event counters of `memory.stat`, of the group's whole subtree (v1: the `total_` keys).
#[must_use]
pub fn counters(text: &[u8], version: Version) -> MemoryCounters {
    let mut counters = MemoryCounters::default();
    for (key, value) in pairs(text) {
        let key = match version {
            Version::V1 => key.strip_prefix(b"total_"),
            Version::V2 => Some(key),
        };
        if let Some(counter) = key.and_then(MemoryCounter::find) {
            counters.set(counter, value);
        }
    }
    counters
}

/// How many processes the OOM killer ended: `oom_kill` of v2's `memory.events` (subtree) and of v1's
/// `memory.oom_control` (the group alone). `None` on kernels that do not count it (v1 before 4.13).
#[must_use]
pub fn oom_kills(text: &[u8]) -> Option<u64> {
    pairs(text).find_map(|(key, value)| (key == b"oom_kill").then_some(value))
}

/// What the kernel can reclaim without swap. Shared memory is on the anonymous lists, locked pages on the
/// unevictable one, so neither is counted.
#[must_use]
pub fn reclaimable(stat: &MemoryStat) -> Bytes {
    stat.active_file.plus(stat.inactive_file).plus(stat.slab_reclaimable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_takes_the_subtree_and_whole_keys() {
        let text = b"cache 1\nrss 2\nrss_huge 3\ntotal_cache 40\ntotal_rss 50\ntotal_rss_huge 60\n\
            total_inactive_file 7\ntotal_active_file 8\ntotal_workingset_refault_file 9\nhierarchical_memory_limit 1\n";
        let stat = stat(text, Version::V1);
        assert_eq!((stat.file, stat.anon, stat.anon_thp), (Bytes(40), Bytes(50), Bytes(60)));
        assert_eq!(reclaimable(&stat), Bytes(15));
    }

    #[test]
    fn v2_keys_do_not_shadow_each_other() {
        let text = b"anon 1\nfile 2\nfile_mapped 3\nfile_thp 4\nslab_reclaimable 5\nslab_unreclaimable 6\n\
            slab 11\nzswap 7\nzswapped 8\nanon_thp 9\nactive_file 10\n";
        let stat = stat(text, Version::V2);
        assert_eq!((stat.anon, stat.file, stat.file_mapped), (Bytes(1), Bytes(2), Bytes(3)));
        assert_eq!((stat.file_thp, stat.slab, stat.zswap), (Bytes(4), Bytes(11), Bytes(7)));
        assert_eq!((stat.zswapped, stat.anon_thp), (Bytes(8), Bytes(9)));
        assert_eq!(reclaimable(&stat), Bytes(15));
    }

    #[test]
    fn counters_of_both_versions() {
        let v2 = b"anon 1\npgfault 2\npgmajfault 3\nworkingset_refault_file 4\npgscan 5\npgscan_kswapd 6\n";
        let found = counters(v2, Version::V2);
        let get = |counter| found.get(counter);
        assert_eq!((get(MemoryCounter::Pgfault), get(MemoryCounter::Pgmajfault)), (2, 3));
        assert_eq!((get(MemoryCounter::WorkingsetRefaultFile), get(MemoryCounter::PgscanKswapd)), (4, 6));
        let v1 = b"pgfault 2\npgpgin 9\ntotal_pgfault 20\ntotal_pgmajfault 30\ntotal_pgpgin 90\n";
        let found = counters(v1, Version::V1);
        assert_eq!((found.get(MemoryCounter::Pgfault), found.get(MemoryCounter::Pgmajfault)), (20, 30));
        assert_eq!(counters(b"\xff\npgfault\npgfault -1\n", Version::V2), MemoryCounters::default());
    }

    #[test]
    fn oom_kills_by_the_whole_key() {
        assert_eq!(oom_kills(b"low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n"), Some(4));
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn nonsense_is_zero() {
        assert_eq!(stat(b"\xff\xfe\nanon\nanon x\nanon -1\n", Version::V2), MemoryStat::default());
    }
}
