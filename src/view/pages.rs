//! What `/proc/vmstat`, `/proc/zoneinfo` and `/proc/buddyinfo` are made of: the memory view in pages, and counters that
//! never go down.

use super::account::counter::Counter;
use super::memory::MemoryView;
use crate::model::saved::{Saved, put};
use crate::model::{MemoryCounter, MemoryCounters, PageSizes, Policies, SwapPolicy};

/// What the files that count in pages are made of.
#[derive(Clone, Debug)]
pub struct PagesView {
    /// The same view as that of `/proc/meminfo`.
    pub memory: MemoryView,
    /// Counters as they are shown.
    pub counters: MemoryCounters,
    /// How large a page is.
    pub sizes: PageSizes,
    /// The number of the one NUMA node that is shown.
    pub node: usize,
    /// Policy `swap = hide`.
    pub hides_swap: bool,
}

/// `vm.dirty_ratio` and `vm.dirty_background_ratio` by default, in percent (Documentation/admin-guide/sysctl/vm.rst).
const DIRTY_RATIO: u64 = 20;
const DIRTY_BACKGROUND_RATIO: u64 = 10;

impl PagesView {
    /// A view without counters, of node 0.
    #[must_use]
    pub fn new(memory: MemoryView, sizes: PageSizes, policies: &Policies) -> Self {
        let hides_swap = policies.swap == SwapPolicy::Hide;
        Self { memory, counters: MemoryCounters::default(), sizes, node: 0, hides_swap }
    }

    /// `MemFree` in whole pages.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.sizes.pages(self.memory.free)
    }

    /// `MemTotal` in whole pages, at least one.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sizes.pages(self.memory.total).max(1)
    }

    /// The part of [`Self::free`] that lies in whole page blocks, of the size of a transparent huge page.
    #[must_use]
    pub fn free_in_blocks(&self) -> u64 {
        let block = self.sizes.pages(self.sizes.huge).max(1);
        self.free() / block * block
    }

    /// Pages that may be dirty before writers must write back themselves.
    #[must_use]
    pub fn dirty_threshold(&self) -> u64 {
        self.dirtyable(DIRTY_RATIO)
    }

    /// Pages that may be dirty before writing back begins.
    #[must_use]
    pub fn dirty_background_threshold(&self) -> u64 {
        self.dirtyable(DIRTY_BACKGROUND_RATIO)
    }

    /// A share of what can become dirty: free pages and page cache (`global_dirtyable_memory`, mm/page-writeback.c).
    fn dirtyable(&self, percent: u64) -> u64 {
        let stat = &self.memory.stat;
        let dirtyable =
            self.memory.free.plus(stat.active_file).plus(stat.inactive_file).min(self.memory.total);
        self.sizes.pages(dirtyable.scaled(percent, 100))
    }
}

/// `pages` cut into blocks of 1, 2, 4, ... pages, as few as possible: how many of each of `orders` sizes, the smallest
/// first. Together they hold exactly `pages`.
pub fn blocks(pages: u64, orders: usize) -> impl Iterator<Item = u64> {
    (0..orders).map(move |order| {
        let shift = u32::try_from(order).unwrap_or(u32::MAX);
        let at_least = pages.checked_shr(shift).unwrap_or(0);
        if order + 1 == orders { at_least } else { at_least & 1 }
    })
}

/// The counters of one container over its life.
#[derive(Clone, Debug)]
pub struct CounterAccount {
    raw: [Counter; MemoryCounter::ALL.len()],
    shown: MemoryCounters,
}

impl Default for CounterAccount {
    fn default() -> Self {
        Self { raw: [Counter::default(); MemoryCounter::ALL.len()], shown: MemoryCounters::default() }
    }
}

impl CounterAccount {
    /// Takes a reading in; what is shown from now on. Without a reading it stays as it is.
    pub fn advance(&mut self, reading: Option<&MemoryCounters>) -> MemoryCounters {
        let Some(reading) = reading else { return self.shown };
        for (counter, raw) in MemoryCounter::ALL.iter().zip(&mut self.raw) {
            let more = raw.delta(reading.get(*counter));
            self.shown.set(*counter, self.shown.get(*counter).saturating_add(more));
        }
        self.shown
    }

    /// Appends all that the next call of [`Self::advance`] needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.raw.len() as u64);
        for (counter, raw) in MemoryCounter::ALL.iter().zip(&self.raw) {
            raw.encode(out);
            put(out, self.shown.get(*counter));
        }
    }

    /// From what [`Self::encode`] gave; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut saved = Saved(bytes);
        let mut account = Self::default();
        if saved.number()? != account.raw.len() as u64 {
            return None;
        }
        for (counter, raw) in MemoryCounter::ALL.iter().zip(&mut account.raw) {
            *raw = Counter::decode(&mut saved)?;
            account.shown.set(*counter, saved.number()?);
        }
        saved.end(account)
    }
}

#[cfg(test)]
mod tests;
