//! What the memory and hugetlb controllers say of one group and its ancestors.

use super::units::Bytes;

/// Swap at one level. The two versions count different things: v2 swap alone, v1 memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SwapLevel {
    /// The kernel keeps no swap count for groups here (`swapaccount=0`, no swap, no such file).
    #[default]
    Unknown,
    /// cgroup v2: `memory.swap.max` (`None` = `max`) and `memory.swap.current`.
    Swap {
        /// The most swap the level may use.
        max: Option<Bytes>,
        /// Swap in use.
        usage: Bytes,
    },
    /// cgroup v1: `memory.memsw.limit_in_bytes` (`None` = unlimited) and `memory.memsw.usage_in_bytes`.
    MemoryAndSwap {
        /// The most memory and swap together.
        max: Option<Bytes>,
        /// Memory and swap in use.
        usage: Bytes,
    },
}

/// One level: a group, or one of its ancestors below the host's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemoryLevel {
    /// `memory.max` / `memory.limit_in_bytes`; `None` = unlimited.
    pub max: Option<Bytes>,
    /// `memory.high`; `None` = unlimited or v1 (whose soft limit does not throttle).
    pub high: Option<Bytes>,
    /// `memory.current` / `memory.usage_in_bytes`.
    pub usage: Bytes,
    /// What the kernel can reclaim there without swap: active_file + inactive_file (+ slab_reclaimable on
    /// v2), of the whole subtree. 0 is given where no limit at this level needs it.
    pub reclaimable: Bytes,
    /// Swap at this level.
    pub swap: SwapLevel,
}

/// `memory.stat` of the group itself, whole subtree (v1: the `total_*` keys). What a version does not have is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the kernel's own names: Documentation/admin-guide/cgroup-v2.rst, memory.stat
pub struct MemoryStat {
    pub anon: Bytes,
    /// v2 `file`, v1 `total_cache`: page cache, shmem included, as in the kernel's `Cached` + `Buffers`.
    pub file: Bytes,
    pub shmem: Bytes,
    pub file_mapped: Bytes,
    pub file_dirty: Bytes,
    pub file_writeback: Bytes,
    pub swapcached: Bytes,
    pub active_anon: Bytes,
    pub inactive_anon: Bytes,
    pub active_file: Bytes,
    pub inactive_file: Bytes,
    pub unevictable: Bytes,
    pub anon_thp: Bytes,
    pub shmem_thp: Bytes,
    pub file_thp: Bytes,
    pub slab: Bytes,
    pub slab_reclaimable: Bytes,
    pub slab_unreclaimable: Bytes,
    pub kernel_stack: Bytes,
    pub pagetables: Bytes,
    pub sec_pagetables: Bytes,
    pub percpu: Bytes,
    pub vmalloc: Bytes,
    pub zswap: Bytes,
    pub zswapped: Bytes,
}

/// The hugetlb controller at one level, for one page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HugetlbLevel {
    /// The size of one huge page.
    pub page_size: Bytes,
    /// `hugetlb.SIZE.max` / `.limit_in_bytes`; `None` = unlimited.
    pub max: Option<Bytes>,
    /// `hugetlb.SIZE.current` / `.usage_in_bytes`.
    pub usage: Bytes,
}

/// All that is read of the memory side of one container in one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemoryReading {
    /// From the group itself upwards; the hierarchy's root (the host) is not among them. Empty where no
    /// memory controller covers the container.
    pub levels: Vec<MemoryLevel>,
    /// The group's own `memory.stat`, or that of the nearest level that has one.
    pub stat: MemoryStat,
    /// v1 only: `memory.swappiness` is 0 at the group, which forbids swapping its memory.
    pub swappiness_zero: bool,
    /// hugetlb levels, one entry per level and page size.
    pub hugetlb: Vec<HugetlbLevel>,
}
