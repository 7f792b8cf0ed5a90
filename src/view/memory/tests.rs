//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::MemoryStat;

const MIB: u64 = 1 << 20;

fn mib(n: u64) -> Bytes {
    Bytes(n * MIB)
}

fn host() -> HostMeminfo {
    HostMeminfo {
        text: "".into(),
        total: mib(8000),
        free: mib(6000),
        available: mib(7000),
        swap_total: mib(1000),
        swap_free: mib(900),
    }
}

fn level(max: Option<u64>, usage: u64) -> MemoryLevel {
    MemoryLevel { max: max.map(mib), usage: mib(usage), ..Default::default() }
}

fn v2_swap(level: MemoryLevel, max: Option<u64>, usage: u64) -> MemoryLevel {
    MemoryLevel { swap: SwapLevel::Swap { max: max.map(mib), usage: mib(usage) }, ..level }
}

fn v1_swap(level: MemoryLevel, max: Option<u64>, usage: u64) -> MemoryLevel {
    MemoryLevel { swap: SwapLevel::MemoryAndSwap { max: max.map(mib), usage: mib(usage) }, ..level }
}

fn view(levels: &[MemoryLevel]) -> MemoryView {
    let reading = MemoryReading { levels: levels.to_vec(), ..Default::default() };
    memory(&reading, &host(), &Policies::default())
}

#[test]
fn m1_total_is_the_least_limit_of_all_levels() {
    // Parent 500 MiB, child 600 MiB, leaf unlimited.
    let levels = [level(None, 1), level(Some(600), 1), level(Some(500), 1)];
    assert_eq!(view(&levels).total, mib(500));
    assert_eq!(
        effective_memory_limit(&levels, &host()),
        Binding { level: Some(2), value: mib(500) },
        "the level that binds"
    );
    assert_eq!(view(&[level(Some(300), 1), level(Some(500), 1)]).total, mib(300));
}

#[test]
fn m1_the_host_is_a_level() {
    for levels in [vec![], vec![level(None, 1)], vec![level(Some(9000), 1)]] {
        assert_eq!(view(&levels).total, mib(8000));
        assert_eq!(effective_memory_limit(&levels, &host()), Binding { level: None, value: mib(8000) });
    }
}

#[test]
fn m1_of_equal_limits_the_nearest_binds() {
    let levels = [level(Some(500), 1), level(Some(500), 1)];
    assert_eq!(effective_memory_limit(&levels, &host()).level, Some(0));
    assert_eq!(effective_memory_limit(&[level(Some(8000), 1)], &host()).level, Some(0));
}

#[test]
fn m1_total_is_never_zero() {
    assert_eq!(view(&[level(Some(0), 3)]).total, Bytes(4096));
    assert_eq!(effective_memory_limit(&[level(Some(0), 3)], &host()).value, Bytes::ZERO);
}

#[test]
fn m1_high_does_not_lower_the_total() {
    let high = MemoryLevel { high: Some(mib(100)), ..level(Some(300), 1) };
    assert_eq!(view(&[high]).total, mib(300));
}

#[test]
fn m2_free_is_the_least_headroom() {
    // A sibling uses 300 of the parent's 500: this lowers MemFree and MemAvailable, not MemTotal.
    let shown = view(&[level(Some(450), 100), level(Some(500), 400)]);
    assert_eq!((shown.total, shown.free, shown.available), (mib(450), mib(100), mib(100)));
    let levels = [level(Some(450), 100), level(Some(500), 400)];
    assert_eq!(memory_headroom(&levels, &host()).level, Some(1));
    assert_eq!(view(&[level(None, 50)]).free, mib(6000), "the host's own");
}

#[test]
fn m2_usage_above_the_limit_leaves_nothing() {
    let shown = view(&[level(Some(256), 300)]);
    assert_eq!((shown.free, shown.available), (Bytes::ZERO, Bytes::ZERO));
    let cache = MemoryLevel { reclaimable: mib(100), ..level(Some(256), 300) };
    assert_eq!((view(&[cache]).free, view(&[cache]).available), (Bytes::ZERO, mib(56)));
}

#[test]
fn m2_free_is_at_most_available() {
    // MemAvailable is bound by memory.high, MemFree by memory.max alone.
    let high = MemoryLevel { high: Some(mib(120)), ..level(Some(300), 100) };
    let shown = view(&[high]);
    assert_eq!((shown.available, shown.free), (mib(20), mib(20)));
    // The kernel's own file breaks it.
    let host = HostMeminfo { free: mib(7500), ..host() };
    let shown = memory(&MemoryReading::default(), &host, &Policies::default());
    assert_eq!((shown.available, shown.free), (mib(7000), mib(7000)));
}

#[test]
fn m3_available_counts_what_can_be_reclaimed_at_each_level() {
    let cache = |level, reclaimable| MemoryLevel { reclaimable: mib(reclaimable), ..level };
    let shown = view(&[cache(level(Some(256), 200), 150)]);
    assert_eq!((shown.free, shown.available), (mib(56), mib(206)));
    // The parent binds: 500 - 450 + 30.
    let levels = [cache(level(Some(256), 200), 150), cache(level(Some(500), 450), 30)];
    assert_eq!(view(&levels).available, mib(80));
    assert_eq!(memory_available(&levels, &host()), Binding { level: Some(1), value: mib(80) });
}

#[test]
fn m3_high_binds_where_it_is_lower() {
    let high = |high, max, usage| MemoryLevel { high: Some(mib(high)), ..level(max, usage) };
    assert_eq!(view(&[high(160, Some(256), 22)]).available, mib(138));
    assert_eq!(view(&[high(300, Some(256), 22)]).available, mib(234));
    assert_eq!(view(&[level(Some(256), 22), high(100, None, 50)]).available, mib(50));
    assert_eq!(effective_memory_high(&[high(160, Some(256), 22)], &host()).value, mib(160));
}

#[test]
fn m3_what_lies_above_high_must_be_reclaimed_first() {
    let over = MemoryLevel { high: Some(mib(100)), reclaimable: mib(50), ..level(Some(256), 120) };
    assert_eq!(view(&[over]).available, mib(30));
}

#[test]
fn m3_available_is_at_most_the_total_and_the_hosts() {
    // memory.stat may run ahead of memory.current.
    let ahead = MemoryLevel { reclaimable: mib(200), ..level(Some(256), 100) };
    assert_eq!(view(&[ahead]).available, mib(256));
    let high = MemoryLevel { high: Some(mib(150)), ..ahead };
    assert_eq!(view(&[high]).available, mib(150));
    let odd = HostMeminfo { available: mib(9000), ..host() };
    assert_eq!(memory(&MemoryReading::default(), &odd, &Policies::default()).available, mib(8000));
    assert_eq!(view(&[level(Some(7900), 0)]).available, mib(7000));
}

#[test]
fn m4_the_groups_own_statistics() {
    let stat = MemoryStat { file: mib(7), anon: mib(9), ..Default::default() };
    let reading = MemoryReading { stat, ..Default::default() };
    assert_eq!(memory(&reading, &host(), &Policies::default()).stat, stat);
}

#[test]
fn m5_swap_on_v2_is_the_least_of_all_levels() {
    let memory = level(Some(256), 100);
    let shown = view(&[v2_swap(memory, Some(200), 10), v2_swap(memory, Some(64), 50)]);
    assert_eq!((shown.swap_total, shown.swap_free), (mib(64), mib(14)));
    let shown = view(&[v2_swap(memory, None, 10)]);
    assert_eq!((shown.swap_total, shown.swap_free), (mib(1000), mib(900)), "the host's");
    assert_eq!(view(&[v2_swap(memory, Some(0), 0)]).swap_total, Bytes::ZERO);
}

#[test]
fn m5_where_nothing_counts_swap_the_host_binds() {
    let shown = view(&[level(Some(256), 100)]);
    assert_eq!((shown.swap_total, shown.swap_free), (mib(1000), mib(900)));
}

#[test]
fn m6_swap_on_v1_is_memsw_less_memory() {
    let shown = view(&[v1_swap(level(Some(256), 100), Some(512), 100)]);
    assert_eq!(shown.swap_total, mib(256));
    // The minimum of each: memsw 600 of the parent, memory 400 of the child.
    let levels =
        [v1_swap(level(Some(400), 10), Some(1000), 10), v1_swap(level(Some(500), 10), Some(600), 10)];
    assert_eq!(view(&levels).swap_total, mib(200));
    let reading = MemoryReading { levels: levels.to_vec(), ..Default::default() };
    assert_eq!(effective_swap(&reading, &host(), &Policies::default()).level, Some(1));
    assert_eq!(view(&[v1_swap(level(Some(256), 1), None, 1)]).swap_total, mib(1000));
    assert_eq!(view(&[v1_swap(level(Some(256), 1), Some(256), 1)]).swap_total, Bytes::ZERO);
    assert_eq!(view(&[v1_swap(level(Some(256), 1), Some(100), 1)]).swap_total, Bytes::ZERO, "no wrap");
}

#[test]
fn m6_swappiness_zero_forbids_swap_unless_some_is_used() {
    let shown = |usage| {
        let reading = MemoryReading {
            levels: vec![v1_swap(level(Some(256), 100), Some(512), usage)],
            swappiness_zero: true,
            ..Default::default()
        };
        memory(&reading, &host(), &Policies::default()).swap_total
    };
    assert_eq!(shown(100), Bytes::ZERO);
    assert_eq!(shown(120), mib(256));
}

#[test]
fn m7_swap_free() {
    let used = v1_swap(level(Some(256), 200), Some(512), 300);
    assert_eq!(view(&[used]).swap_free, mib(156));
    // A sibling's memory takes from the memsw limit that it shares: 600 - 300 - 200 of memory headroom.
    let levels =
        [v1_swap(level(Some(400), 0), Some(1000), 0), v1_swap(level(Some(500), 300), Some(600), 300)];
    assert_eq!(view(&levels).swap_free, mib(100));
    // 300 used of 64: nothing wraps.
    let shown = view(&[v2_swap(level(Some(256), 1), Some(64), 300)]);
    assert_eq!((shown.swap_total, shown.swap_free), (mib(64), Bytes::ZERO));
    // The host's free swap is less than the group's.
    assert_eq!(view(&[v2_swap(level(Some(256), 1), Some(950), 0)]).swap_free, mib(900));
}

#[test]
fn m7_swap_free_is_at_most_the_total() {
    let host = HostMeminfo { swap_total: mib(10), ..host() };
    let shown = memory(&MemoryReading::default(), &host, &Policies::default());
    assert_eq!((shown.swap_total, shown.swap_free), (mib(10), mib(10)));
}

#[test]
fn m8_commit_limit_is_made_of_the_containers_totals() {
    let shown = view(&[v2_swap(level(Some(256), 1), Some(64), 0)]);
    assert_eq!(shown.commit_limit, mib(128 + 64));
}

#[test]
fn m9_huge_pages_are_bounded_by_every_level_and_the_hosts_pool() {
    let text = "MemTotal: 1 kB\nHugePages_Total: 100\nHugePages_Free: 80\nHugePages_Rsvd: 0\n\
                Hugepagesize: 2048 kB\nHugetlb: 1253376 kB\n"; // 100 of 2 MiB and 1 of 1 GiB
    let host = HostMeminfo { text: text.into(), ..host() };
    let level = |page_size: u64, max: Option<u64>, usage: u64| HugetlbLevel {
        page_size: mib(page_size),
        max: max.map(mib),
        usage: mib(usage),
    };
    let shown = |levels: &[HugetlbLevel]| hugetlb(levels, &host);
    let all = HugetlbView { pages_total: 100, pages_free: 80, total: mib(1224) };
    assert_eq!(shown(&[]), all);
    assert_eq!(shown(&[level(2, None, 4), level(1024, None, 0)]), all);
    let small = [level(2, Some(40), 8), level(1024, Some(0), 0), level(2, Some(60), 50)];
    assert_eq!(shown(&small), HugetlbView { pages_total: 20, pages_free: 5, total: mib(40) });
    let full = shown(&[level(2, Some(40), 60)]);
    assert_eq!((full.pages_total, full.pages_free), (20, 0));
    let odd = HostMeminfo { text: host.text.replace("Free: 80", "Free: 800").into(), ..host.clone() };
    assert_eq!(hugetlb(&[], &odd).pages_free, 100);
}

#[test]
fn m12_swap_hidden_by_policy() {
    let reading =
        MemoryReading { levels: vec![v2_swap(level(Some(256), 1), Some(64), 0)], ..Default::default() };
    let policies = Policies { swap: SwapPolicy::Hide, ..Default::default() };
    let shown = memory(&reading, &host(), &policies);
    assert_eq!((shown.swap_total, shown.swap_free), (Bytes::ZERO, Bytes::ZERO));
}
