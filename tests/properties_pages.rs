//! Invariants of the files that count in pages, and of those laid out as the host's, for every reading and every text.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use ownproc::model::{
    Bytes, CpuSet, HostMeminfo, HostPid, MemoryCounter, MemoryCounters, MemoryLevel, MemoryReading,
    MemoryStat, Nsec, PageSizes, Policies, SwapLevel, SwapPolicy,
};
use ownproc::render::{self, ProcFile};
use ownproc::view::{self, CounterAccount, Identity, PagesView};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Mostly of a size that is met in life, sometimes at the ends of the range.
fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![6 => 0..1u64 << 36, 2 => 0..10_000u64, 1 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn bytes() -> impl Strategy<Value = Bytes> + Clone {
    number().prop_map(Bytes)
}

fn sizes() -> impl Strategy<Value = PageSizes> {
    let base = prop_oneof![3 => Just(4096u64), 1 => Just(16_384), 1 => Just(65_536), 1 => number()];
    (base, option::of(bytes())).prop_map(|(base, huge)| PageSizes::new(Bytes(base), huge))
}

fn policies() -> impl Strategy<Value = Policies> {
    any::<bool>().prop_map(|hide| Policies {
        swap: if hide { SwapPolicy::Hide } else { SwapPolicy::Show },
        ..Policies::default()
    })
}

fn level() -> impl Strategy<Value = MemoryLevel> {
    let swap = (option::of(bytes()), bytes(), 0..3).prop_map(|(max, usage, kind)| match kind {
        0 => SwapLevel::Unknown,
        1 => SwapLevel::Swap { max, usage },
        _ => SwapLevel::MemoryAndSwap { max, usage },
    });
    (option::of(bytes()), bytes(), bytes(), swap).prop_map(|(max, usage, reclaimable, swap)| MemoryLevel {
        max,
        high: None,
        usage,
        reclaimable,
        swap,
    })
}

fn host() -> impl Strategy<Value = HostMeminfo> {
    (bytes(), bytes(), bytes(), bytes(), bytes()).prop_map(
        |(total, free, available, swap_total, swap_free)| {
            let text =
                "SwapTotal:             0 kB\nSwapFree:              0 kB\nMemFree:               0 kB\n"
                    .into();
            HostMeminfo { text, total, free, available, swap_total, swap_free }
        },
    )
}

fn pages() -> impl Strategy<Value = PagesView> {
    (vec(level(), 0..4), host(), policies(), sizes(), vec(bytes(), 6), number(), 0..70usize).prop_map(
        |(levels, host, policies, sizes, stat, counter, node)| {
            let stat = MemoryStat {
                anon: stat[0],
                file: stat[1],
                active_file: stat[2],
                inactive_file: stat[3],
                file_dirty: stat[4],
                swapcached: stat[5],
                ..MemoryStat::default()
            };
            let reading = MemoryReading { levels, stat, ..MemoryReading::default() };
            let mut view = PagesView::new(view::memory(&reading, &host, &policies), sizes, &policies);
            MemoryCounter::ALL.iter().for_each(|key| view.counters.set(*key, counter));
            PagesView { node, ..view }
        },
    )
}

/// Text that looks like one of the templates, and text that does not.
fn template() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("  per-node stats".to_owned()),
        Just("  pages free     5".to_owned()),
        Just("  pagesets".to_owned()),
        Just("Node 0, zone   Normal".to_owned()),
        "Node [0-9]{1,2}, zone +(DMA|Normal|Movable)( +[0-9]{1,9}){0,3} ?",
        "    cpu: [0-9]{1,4}",
        " {0,14}(count|high|min|managed|nr_free_pages|pgfault|nr_dirty|x): {0,4}[0-9]{0,20}",
        "        protection: \\([0-9, ]{0,20}\\)",
        "(pgfault|nr_free_pages|oom_kill|x|) [0-9]{0,21}",
        "[a-z0-9]{0,5}( |\t)[0-9-]{0,5}( |\t)[0-9,-]{0,5}( |\t)Live 0x[0-9a-f]{0,20}",
        "\\PC{0,30}",
    ];
    vec(line, 0..14).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn buddyinfo_sums_to_memfree(view in pages(), orders in 1..20usize) {
        let host = format!("Node 0, zone   Normal {}", "     1 ".repeat(orders));
        let mut out = Vec::new();
        render::buddyinfo(&host, &view, &mut out);
        let text = String::from_utf8(out).unwrap();
        let counts: Vec<u64> = text.split_whitespace().skip(4).map(|word| word.parse().unwrap()).collect();
        prop_assert_eq!(counts.len(), orders);
        let sum: u128 = counts.iter().enumerate().map(|(order, count)| u128::from(*count) << order).sum();
        prop_assert_eq!(sum, u128::from(view.memory.free.0 / view.sizes.base.0));
        let mut out = Vec::new();
        render::vmstat("nr_free_pages 1\n", &view, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("nr_free_pages {sum}\n"));
    }

    #[test]
    fn swaps_agrees_with_meminfo(view in pages(), host in host()) {
        let (mut meminfo, mut swaps) = (Vec::new(), Vec::new());
        render::meminfo(&host, &view.memory, &mut meminfo);
        render::swaps(&view.memory, &mut swaps);
        let (meminfo, swaps) = (String::from_utf8(meminfo).unwrap(), String::from_utf8(swaps).unwrap());
        let line = |key: &str| -> u64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
        };
        let (total, free) = (line("SwapTotal:"), line("SwapFree:"));
        prop_assert!(swaps.starts_with("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"));
        let words: Vec<&str> = swaps.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        let expected = [total.to_string(), (total - free).to_string()];
        match words[..] {
            [] => prop_assert_eq!(total, 0),
            ["none", "virtual", size, used, "-2"] => prop_assert_eq!([size, used], [&expected[0], &expected[1]]),
            _ => prop_assert!(false, "{}", swaps),
        }
        prop_assert!(!view.hides_swap || total == 0);
    }

    /// No text of the host's makes anything panic, and none of its numbers comes through where it must not.
    #[test]
    fn any_template(text in template(), view in pages(), cpus in vec(0..300usize, 0..4)) {
        let cpus: CpuSet = cpus.into_iter().collect();
        let mut out = Vec::new();
        render::vmstat(&text, &view, &mut out);
        render::zoneinfo(&text, &view, &cpus, &mut out);
        render::buddyinfo(&text, &view, &mut out);
        render::slabinfo(&text, &mut out);
        render::modules(&text, &mut out);
        render::host_modules(&text, &mut out);
        render::cgroups(&text, &mut out);
        for file in [ProcFile::FileNr, ProcFile::DentryState, ProcFile::AioNr, ProcFile::InodeNr] {
            render::fs_counters(file, &text, &mut out);
        }
        prop_assert!(String::from_utf8(out).is_ok());
    }

    /// However many lines and zones the host has, every number of the zone is one of the container's.
    #[test]
    fn no_number_of_the_hosts_zones_shows(view in pages(), secret in 1_000_000_000_000_000u64..9_000_000_000_000_000) {
        let zone = |name: &str| format!(
            "Node 0, zone {name:>8}\n  per-node stats\n      nr_mapped    {secret}\n      pgpromote_candidate {secret}\n\
             \x20 pages free     {secret}\n        min      {secret}\n        managed  {secret}\n        protection: (0, {secret})\n\
             \x20     numa_hit     {secret}\n  pagesets\n    cpu: 0\n              count:    {secret}\n\
             \x20 vm stats threshold: {secret}\n  node_unreclaimable:  {secret}\n  start_pfn:           {secret}\n");
        let host = format!("{}{}{}", zone("DMA32"), zone("Normal"), zone("Movable"));
        let mut out = Vec::new();
        render::zoneinfo(&host, &view, &CpuSet::first(2), &mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.lines().count(), zone("Normal").lines().count() + 3, "one more CPU");
        let own = [view.free().to_string(), view.total().to_string()];
        prop_assert!(own.contains(&secret.to_string()) || !text.contains(&secret.to_string()), "{}", text);
    }

    #[test]
    fn counters_never_fall(readings in vec(option::of(number()), 1..20)) {
        let mut account = CounterAccount::default();
        let mut last = 0;
        for reading in readings {
            let reading = reading.map(|value| {
                let mut counters = MemoryCounters::default();
                counters.set(MemoryCounter::Pgfault, value);
                counters
            });
            let shown = account.advance(reading.as_ref()).get(MemoryCounter::Pgfault);
            prop_assert!(shown >= last);
            last = shown;
        }
    }

    #[test]
    fn boot_ids_are_valid_and_differ(host: [u8; 16], pid in 1..i32::MAX, start in number(), other in number()) {
        let id = |start| view::boot_id(host, &Identity::Init(HostPid::new(pid).unwrap(), Nsec(start)));
        let own = id(start);
        prop_assert_eq!((own[6] >> 4, own[8] >> 6), (4, 2));
        prop_assert_eq!(own == id(other), start == other);
        let mut text = Vec::new();
        render::boot_id(own, &mut text);
        prop_assert_eq!(text.len(), 37);
    }
}
