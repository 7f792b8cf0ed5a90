//! Event counters of the memory controller: what happened since the group was made, never a size.

/// Names the counters once: the variant, and the key that `memory.stat` and `/proc/vmstat` both have for it.
macro_rules! counters {
    ($($variant:ident $key:literal,)*) => {
        /// One event counter that groups keep under the name that `/proc/vmstat` has for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the kernel's own names: Documentation/admin-guide/cgroup-v2.rst, memory.stat
        pub enum MemoryCounter { $($variant,)* }

        impl MemoryCounter {
            /// All of them, sorted by their keys.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The key in `/proc/vmstat` and in v2's `memory.stat`.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }
        }
    };
}

counters! {
    NumaHintFaults "numa_hint_faults",
    NumaPagesMigrated "numa_pages_migrated",
    NumaPteUpdates "numa_pte_updates",
    OomKill "oom_kill",
    Pgactivate "pgactivate",
    Pgdeactivate "pgdeactivate",
    PgdemoteDirect "pgdemote_direct",
    PgdemoteKhugepaged "pgdemote_khugepaged",
    PgdemoteKswapd "pgdemote_kswapd",
    PgdemoteProactive "pgdemote_proactive",
    Pgfault "pgfault",
    Pglazyfree "pglazyfree",
    Pglazyfreed "pglazyfreed",
    Pgmajfault "pgmajfault",
    PgpromoteSuccess "pgpromote_success",
    Pgrefill "pgrefill",
    PgscanDirect "pgscan_direct",
    PgscanKhugepaged "pgscan_khugepaged",
    PgscanKswapd "pgscan_kswapd",
    PgscanProactive "pgscan_proactive",
    PgstealDirect "pgsteal_direct",
    PgstealKhugepaged "pgsteal_khugepaged",
    PgstealKswapd "pgsteal_kswapd",
    PgstealProactive "pgsteal_proactive",
    Pswpin "pswpin",
    Pswpout "pswpout",
    SwpinZero "swpin_zero",
    SwpoutZero "swpout_zero",
    ThpCollapseAlloc "thp_collapse_alloc",
    ThpFaultAlloc "thp_fault_alloc",
    ThpSwpout "thp_swpout",
    ThpSwpoutFallback "thp_swpout_fallback",
    WorkingsetActivateAnon "workingset_activate_anon",
    WorkingsetActivateFile "workingset_activate_file",
    WorkingsetNodereclaim "workingset_nodereclaim",
    WorkingsetRefaultAnon "workingset_refault_anon",
    WorkingsetRefaultFile "workingset_refault_file",
    WorkingsetRestoreAnon "workingset_restore_anon",
    WorkingsetRestoreFile "workingset_restore_file",
    Zswpin "zswpin",
    Zswpout "zswpout",
    Zswpwb "zswpwb",
}

impl MemoryCounter {
    /// The counter with exactly this key.
    #[must_use]
    pub fn find(key: &[u8]) -> Option<Self> {
        let index = Self::ALL.binary_search_by_key(&key, |counter| counter.key().as_bytes()).ok()?;
        Self::ALL.get(index).copied()
    }
}

/// The value of every counter; 0 for those that a version or kernel does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCounters([u64; MemoryCounter::ALL.len()]);

impl Default for MemoryCounters {
    fn default() -> Self {
        Self([0; MemoryCounter::ALL.len()])
    }
}

impl MemoryCounters {
    /// How often it happened.
    #[must_use]
    pub fn get(&self, counter: MemoryCounter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default()
    }

    /// Sets one.
    pub fn set(&mut self, counter: MemoryCounter, value: u64) {
        if let Some(slot) = self.0.get_mut(counter as usize) {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_counter() {
        assert!(MemoryCounter::ALL.is_sorted_by_key(|counter| counter.key()));
        let mut counters = MemoryCounters::default();
        for (index, counter) in MemoryCounter::ALL.iter().enumerate() {
            assert_eq!(MemoryCounter::find(counter.key().as_bytes()), Some(*counter));
            counters.set(*counter, index as u64 + 1);
        }
        assert!(MemoryCounter::ALL.iter().zip(1..).all(|(counter, value)| counters.get(*counter) == value));
        assert_eq!(MemoryCounter::find(b"pgfaul"), None);
        assert_eq!(MemoryCounter::find(b"pgpgin"), None, "v1 counts charges under that name");
    }
}
