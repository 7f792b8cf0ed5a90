//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{Bytes, MemoryStat};

const MIB: u64 = 1 << 20;

fn sizes() -> PageSizes {
    PageSizes::new(Bytes(4096), None)
}

fn view(total: u64, free: u64) -> PagesView {
    let memory = MemoryView { total: Bytes(total), free: Bytes(free), ..Default::default() };
    PagesView::new(memory, sizes(), &Policies::default())
}

#[test]
fn v3_free_is_memfree_in_pages() {
    assert_eq!(view(64 * MIB, 5 * MIB + 4095).free(), 1280);
    assert_eq!(view(64 * MIB, 5 * MIB + 4095).free_in_blocks(), 1024, "two page blocks of 2 MiB");
    let large = PagesView { sizes: PageSizes::new(Bytes(65_536), None), ..view(MIB, MIB) };
    assert_eq!((large.free(), large.total(), large.free_in_blocks()), (16, 16, 0), "64 KiB pages");
}

#[test]
fn v4_counters_never_go_down() {
    let mut account = CounterAccount::default();
    let mut show = |faults: u64| {
        let mut reading = MemoryCounters::default();
        reading.set(MemoryCounter::Pgfault, faults);
        account.advance(Some(&reading)).get(MemoryCounter::Pgfault)
    };
    let shown: Vec<u64> = [500, 510, 505, 520, 7, 9, 30].into_iter().map(&mut show).collect();
    assert_eq!(shown, [500, 510, 510, 520, 520, 522, 543], "overtaken once, then made anew");
    assert_eq!(account.advance(None).get(MemoryCounter::Pgfault), 543, "a reading that failed");
}

#[test]
fn v7_thresholds_are_shares_of_what_can_be_dirty() {
    let mut view = view(100 * MIB, 30 * MIB);
    view.memory.stat =
        MemoryStat { active_file: Bytes(10 * MIB), inactive_file: Bytes(10 * MIB), ..Default::default() };
    let page = 4096;
    assert_eq!(view.dirty_threshold(), 10 * MIB / page);
    assert_eq!(view.dirty_background_threshold(), 5 * MIB / page);
    view.memory.stat.inactive_file = Bytes::MAX;
    assert_eq!(view.dirty_threshold(), 20 * MIB / page, "never more than of the whole memory");
}

#[test]
fn z2_the_zone_is_never_empty() {
    assert_eq!(view(1 << 30, 0).total(), 262_144);
    let tiny = PagesView { sizes: PageSizes::new(Bytes(65_536), None), ..view(4096, 0) };
    assert_eq!(tiny.total(), 1);
}

#[test]
fn z6_blocks_hold_exactly_the_free_pages() {
    let cut = |pages, orders| blocks(pages, orders).collect::<Vec<_>>();
    assert_eq!(cut(0, 3), [0, 0, 0]);
    assert_eq!(cut(0b1101, 3), [1, 0, 3]);
    assert_eq!(cut(13, 1), [13]);
    assert_eq!(cut(13, 0), [0; 0]);
    for orders in 1..70 {
        let sum: u128 = blocks(u64::MAX, orders).enumerate().map(|(order, n)| u128::from(n) << order).sum();
        assert_eq!(sum, u128::from(u64::MAX), "{orders}");
    }
}
