//! Effective memory and swap limits, headroom, and the view that `/proc/meminfo` is made of.

use crate::model::{
    Bytes, HostMeminfo, HugetlbLevel, MemoryLevel, MemoryReading, MemoryStat, Policies, SwapLevel, SwapPolicy,
};

/// The least value over all levels, and the level that gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Index into the reading's levels; `None` = the host itself.
    pub level: Option<usize>,
    /// The value there.
    pub value: Bytes,
}

impl Binding {
    const fn host(value: Bytes) -> Self {
        Self { level: None, value }
    }
}

/// What `/proc/meminfo` and `/proc/swaps` are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemoryView {
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemFree`, at most `available`.
    pub free: Bytes,
    /// `MemAvailable`, at most `total`.
    pub available: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`, at most `swap_total`.
    pub swap_free: Bytes,
    /// `CommitLimit`.
    pub commit_limit: Bytes,
    /// The group's own `memory.stat`.
    pub stat: MemoryStat,
    /// Huge pages.
    pub hugetlb: HugetlbView,
}

/// The huge page lines of `/proc/meminfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HugetlbView {
    /// `HugePages_Total`: pages of the default size.
    pub pages_total: u64,
    /// `HugePages_Free`, at most `pages_total`.
    pub pages_free: u64,
    /// `Hugetlb`: the pools of all sizes together.
    pub total: Bytes,
}

/// `MemTotal` never falls below one page: `ps` and others divide by it.
pub const MIN_TOTAL: Bytes = Bytes(4096);

/// The least of `value(level)` over the levels that have one, the host's value included. Of equal ones the
/// nearest to the group wins, the host last.
fn least(levels: &[MemoryLevel], host: Bytes, value: impl Fn(&MemoryLevel) -> Option<Bytes>) -> Binding {
    let mut best: Option<Binding> = None;
    for (index, level) in levels.iter().enumerate() {
        let Some(value) = value(level) else { continue };
        if best.is_none_or(|best| value < best.value) {
            best = Some(Binding { level: Some(index), value });
        }
    }
    match best {
        Some(best) if best.value <= host => best,
        _ => Binding::host(host),
    }
}

/// A level's limit on what can be allocated without stalling: the lower of `memory.max` and `memory.high`.
fn soft_limit(level: &MemoryLevel) -> Option<Bytes> {
    match (level.max, level.high) {
        (Some(max), Some(high)) => Some(max.min(high)),
        (max, high) => max.or(high),
    }
}

/// The effective memory limit: `memory.max` / `memory.limit_in_bytes`, host `MemTotal` (rule M1).
#[must_use]
pub fn effective_memory_limit(levels: &[MemoryLevel], host: &HostMeminfo) -> Binding {
    least(levels, host.total, |level| level.max)
}

/// Where allocations begin to stall: like [`effective_memory_limit`], with `memory.high` taken in.
#[must_use]
pub fn effective_memory_high(levels: &[MemoryLevel], host: &HostMeminfo) -> Binding {
    least(levels, host.total, soft_limit)
}

/// The least limit - usage, host `MemFree` (rule M2).
#[must_use]
pub fn memory_headroom(levels: &[MemoryLevel], host: &HostMeminfo) -> Binding {
    least(levels, host.free, |level| Some(level.max?.minus(level.usage)))
}

/// The least headroom with what can be reclaimed there, host `MemAvailable` (rule M3).
#[must_use]
pub fn memory_available(levels: &[MemoryLevel], host: &HostMeminfo) -> Binding {
    least(levels, host.available, |level| {
        let limit = soft_limit(level)?;
        // The sum first: what lies above the limit must be reclaimed before anything is available.
        Some(limit.plus(level.reclaimable).minus(level.usage).min(limit))
    })
}

/// The effective swap limit (rules M5 and M6). On v1 the level is the one whose memsw limit binds.
#[must_use]
pub fn effective_swap(reading: &MemoryReading, host: &HostMeminfo, policies: &Policies) -> Binding {
    if policies.swap == SwapPolicy::Hide {
        return Binding::host(Bytes::ZERO);
    }
    if swapping_forbidden(reading) {
        return Binding { level: Some(0), value: Bytes::ZERO };
    }
    let memory = effective_memory_limit(&reading.levels, host).value;
    least(&reading.levels, host.swap_total, |level| match level.swap {
        SwapLevel::Unknown => None,
        SwapLevel::Swap { max, .. } => max,
        SwapLevel::MemoryAndSwap { max, .. } => Some(max?.minus(memory)),
    })
}

/// How much of [`effective_swap`] is left (rule M7).
#[must_use]
pub fn swap_headroom(reading: &MemoryReading, host: &HostMeminfo, policies: &Policies) -> Binding {
    let total = effective_swap(reading, host, policies);
    // v1 counts memory and swap together: what memory can still take of that is no swap.
    let memory = reading.levels.iter().filter_map(|level| Some(level.max?.minus(level.usage))).min();
    let free = least(&reading.levels, host.swap_free, |level| match level.swap {
        SwapLevel::Unknown => None,
        SwapLevel::Swap { max, usage } => Some(max?.minus(usage)),
        SwapLevel::MemoryAndSwap { max, usage } => {
            Some(max?.minus(usage).minus(memory.unwrap_or(Bytes::ZERO)))
        }
    });
    if total.value < free.value { total } else { free }
}

/// v1 `memory.swappiness` 0 with nothing swapped: the kernel will not swap this group.
fn swapping_forbidden(reading: &MemoryReading) -> bool {
    let swapped = match reading.levels.first() {
        Some(MemoryLevel { usage: memory, swap: SwapLevel::MemoryAndSwap { usage, .. }, .. }) => {
            usage.minus(*memory)
        }
        _ => Bytes::ZERO,
    };
    reading.swappiness_zero && swapped == Bytes::ZERO
}

/// The memory view of a container.
#[must_use]
pub fn memory(reading: &MemoryReading, host: &HostMeminfo, policies: &Policies) -> MemoryView {
    let total = effective_memory_limit(&reading.levels, host).value.max(MIN_TOTAL);
    let available = memory_available(&reading.levels, host).value.min(total);
    let free = memory_headroom(&reading.levels, host).value.min(available);
    let swap_total = effective_swap(reading, host, policies).value;
    let swap_free = swap_headroom(reading, host, policies).value;
    MemoryView {
        total,
        free,
        available,
        swap_total,
        swap_free,
        // vm.overcommit_ratio is 50 by default (Documentation/mm/overcommit-accounting.rst).
        commit_limit: total.scaled(1, 2).plus(swap_total),
        stat: reading.stat,
        hugetlb: hugetlb(&reading.hugetlb, host),
    }
}

/// Rule M9: limits and headroom over the levels, the host's pool included.
fn hugetlb(levels: &[HugetlbLevel], host: &HostMeminfo) -> HugetlbView {
    let pool = HostPool::of(&host.text);
    let size = pool.page_size;
    let mut pages = pool.total;
    let mut free = pool.free;
    for level in levels.iter().filter(|level| level.page_size == size) {
        let Some(max) = level.max else { continue };
        pages = pages.min(max.0.checked_div(size.0).unwrap_or(0));
        free = free.min(max.minus(level.usage).0.checked_div(size.0).unwrap_or(0));
    }
    // The host's text has one sum for the pools of all other sizes; each of their limits caps its own part.
    let others = pool.all.minus(size.times(pool.total));
    let mut other_total = Bytes::ZERO;
    for (index, level) in levels.iter().enumerate().filter(|(_, level)| level.page_size != size) {
        if levels.iter().take(index).any(|earlier| earlier.page_size == level.page_size) {
            continue;
        }
        let same = levels.iter().filter(|other| other.page_size == level.page_size);
        other_total = other_total.plus(same.filter_map(|other| other.max).min().unwrap_or(others));
    }
    let other_total = if levels.is_empty() { others } else { other_total.min(others) };
    HugetlbView {
        pages_total: pages,
        pages_free: free.min(pages),
        total: size.times(pages).plus(other_total),
    }
}

/// The host's pool of huge pages, from the text of its `/proc/meminfo`.
#[derive(Default)]
struct HostPool {
    page_size: Bytes,
    total: u64,
    free: u64,
    all: Bytes,
}

impl HostPool {
    fn of(text: &str) -> Self {
        let mut pool = Self::default();
        // These lines stand at the end of the file.
        for line in text.lines().rev() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = || value.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match key {
                "Hugepagesize" => pool.page_size = Bytes::from_kib(value()),
                "Hugetlb" => pool.all = Bytes::from_kib(value()),
                "HugePages_Free" => pool.free = value(),
                "HugePages_Total" => {
                    pool.total = value();
                    break;
                }
                _ => {}
            }
        }
        pool
    }
}

#[cfg(test)]
mod tests;
