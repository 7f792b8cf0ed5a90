//! The memory controller: limits, usage, swap and `memory.stat` over all levels.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::{GroupSet, Resource};
use crate::cgroup::kept::KeptFile;
use crate::cgroup::parse::{memory as parse, scalar};
use crate::model::{Bytes, MemoryCounter, MemoryCounters, MemoryLevel, MemoryReading, MemoryStat, SwapLevel};

/// The files of one level.
#[derive(Debug)]
pub(in crate::cgroup) struct Files {
    pub(in crate::cgroup) max: KeptFile,
    /// v2 only.
    pub(in crate::cgroup) high: Option<KeptFile>,
    usage: KeptFile,
    /// The last good values, for a read that fails while the group is there (out of descriptors or memory).
    last_usage: AtomicU64,
    last_kills: AtomicU64,
    last_stat: Mutex<MemoryStat>,
    pub(in crate::cgroup) swap_max: KeptFile,
    swap_usage: KeptFile,
    stat: KeptFile,
    /// Where `oom_kill` is counted.
    events: KeptFile,
    /// v1 only.
    swappiness: Option<KeptFile>,
}

impl Files {
    pub(in crate::cgroup) fn new(version: Version, _: &GroupDir) -> Self {
        let [max, usage, swap_max, swap_usage] = match version {
            Version::V1 => [
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "memory.memsw.limit_in_bytes",
                "memory.memsw.usage_in_bytes",
            ],
            Version::V2 => ["memory.max", "memory.current", "memory.swap.max", "memory.swap.current"],
        };
        Self {
            max: KeptFile::new(max),
            high: (version == Version::V2).then(|| KeptFile::new("memory.high")),
            usage: KeptFile::new(usage),
            last_usage: AtomicU64::new(0),
            last_kills: AtomicU64::new(0),
            last_stat: Mutex::default(),
            swap_max: KeptFile::new(swap_max),
            swap_usage: KeptFile::new(swap_usage),
            stat: KeptFile::new("memory.stat"),
            events: KeptFile::new(match version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            }),
            swappiness: (version == Version::V1).then(|| KeptFile::new("memory.swappiness")),
        }
    }
}

impl GroupSet {
    /// Everything about memory and swap.
    #[must_use]
    pub fn memory(&self) -> MemoryReading {
        self.memory_with(true)
    }

    /// Like [`Self::memory`], but without reading any swap file when `swap` is false: on a host without swap
    /// they say nothing. Levels then have [`SwapLevel::Unknown`].
    #[must_use]
    pub fn memory_with(&self, swap: bool) -> MemoryReading {
        self.read_memory(swap, None)
    }

    /// Like [`Self::memory_with`], with the event counters of the group (or of the nearest level that has them), taken
    /// from the same text as the sizes. `None` where they could not be read.
    #[must_use]
    pub fn memory_and_counters(&self, swap: bool) -> (MemoryReading, Option<MemoryCounters>) {
        let mut counters = None;
        let reading = self.read_memory(swap, Some(&mut counters));
        (reading, counters)
    }

    fn read_memory(&self, swap: bool, mut counters: Option<&mut Option<MemoryCounters>>) -> MemoryReading {
        let Some(memory) = &self.memory else { return MemoryReading::default() };
        let mut reading = MemoryReading::default();
        let mut found = false; // a level that has the controller, lowest first
        let mut lowest = None::<Bytes>; // the least limit of the levels below
        for (dir, files) in self.each(memory) {
            let Some(max) = self.value(dir, &files.max, scalar::limit) else { continue };
            let high = files.high.as_ref().and_then(|file| self.value(dir, file, scalar::limit)).flatten();
            let own = !found;
            found = true;
            let limit = least(max, high);
            let mut level = MemoryLevel { max, high, ..MemoryLevel::default() };
            if own || limit.is_some() {
                level.usage = self.usage(dir, files);
            }
            if own {
                reading.stat = match counters.take() {
                    Some(counters) => self.counted_stat(memory, dir, files, counters),
                    None => self.memory_stat(memory, dir, files),
                };
                level.reclaimable = parse::reclaimable(&reading.stat);
            } else if needs_reclaimable(limit, level.usage, lowest) {
                let stat = self.memory_stat(memory, dir, files);
                level.reclaimable = parse::reclaimable(&stat);
            }
            if swap {
                level.swap = self.swap(memory.version, dir, files, own);
                if let (true, Some(file)) = (own && level.swap != SwapLevel::Unknown, &files.swappiness) {
                    reading.swappiness_zero = self.value(dir, file, scalar::counter) == Some(0);
                }
            }
            reading.levels.push(level);
            lowest = least(lowest, max);
        }
        reading
    }

    fn memory_stat(&self, memory: &Resource<Files>, dir: &GroupDir, files: &Files) -> MemoryStat {
        let mut last = files.last_stat.lock();
        if let Some(stat) = self.value(dir, &files.stat, |text| Ok(parse::stat(text, memory.version))) {
            *last = stat;
        }
        *last
    }

    fn counted_stat(
        &self,
        memory: &Resource<Files>,
        dir: &GroupDir,
        files: &Files,
        counters: &mut Option<MemoryCounters>,
    ) -> MemoryStat {
        let both =
            |text: &[u8]| Ok((parse::stat(text, memory.version), parse::counters(text, memory.version)));
        let mut last = files.last_stat.lock();
        if let Some((stat, mut found)) = self.value(dir, &files.stat, both) {
            *last = stat;
            let kills = self.value(dir, &files.events, |text| Ok(parse::oom_kills(text)));
            let kills = match kills.flatten() {
                Some(kills) => {
                    files.last_kills.store(kills, Ordering::Relaxed);
                    kills
                }
                None => files.last_kills.load(Ordering::Relaxed),
            };
            found.set(MemoryCounter::OomKill, kills);
            *counters = Some(found);
        }
        *last
    }

    fn usage(&self, dir: &GroupDir, files: &Files) -> Bytes {
        if let Some(usage) = self.value(dir, &files.usage, scalar::counter) {
            files.last_usage.store(usage, Ordering::Relaxed);
            return Bytes(usage);
        }
        Bytes(files.last_usage.load(Ordering::Relaxed))
    }

    fn bytes(&self, dir: &GroupDir, file: &KeptFile) -> Bytes {
        Bytes(self.value(dir, file, scalar::counter).unwrap_or_default())
    }

    /// The usage of a level without a limit is read at the group itself only: elsewhere nothing depends on it.
    fn swap(&self, version: Version, dir: &GroupDir, files: &Files, own: bool) -> SwapLevel {
        let Some(max) = self.value(dir, &files.swap_max, scalar::limit) else { return SwapLevel::Unknown };
        let usage = if own || max.is_some() { self.bytes(dir, &files.swap_usage) } else { Bytes::ZERO };
        match version {
            Version::V1 => SwapLevel::MemoryAndSwap { max, usage },
            Version::V2 => SwapLevel::Swap { max, usage },
        }
    }
}

/// Whether a level's `memory.stat` (10 us) can matter: it has a limit, and what is free below that limit
/// without reclaiming anything is less than a lower level allows anyway.
fn needs_reclaimable(limit: Option<Bytes>, usage: Bytes, lowest: Option<Bytes>) -> bool {
    match (limit, lowest) {
        (None, _) => false,
        (Some(limit), Some(lowest)) => limit.minus(usage) < lowest,
        (Some(_), None) => true,
    }
}

fn least(a: Option<Bytes>, b: Option<Bytes>) -> Option<Bytes> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ancestors_stat_is_read_only_where_it_can_bind() {
        assert!(!needs_reclaimable(None, Bytes(5), None));
        assert!(needs_reclaimable(Some(Bytes(100)), Bytes(5), None));
        assert!(needs_reclaimable(Some(Bytes(100)), Bytes(60), Some(Bytes(50))));
        assert!(!needs_reclaimable(Some(Bytes(100)), Bytes(50), Some(Bytes(50))));
    }
}
