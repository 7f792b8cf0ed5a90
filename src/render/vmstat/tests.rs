//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{MemoryCounters, PageSizes, Policies, SwapPolicy};
use crate::view::MemoryView;

const MIB: u64 = 1 << 20;

fn view(stat: MemoryStat) -> PagesView {
    let memory = MemoryView { total: Bytes(64 * MIB), free: Bytes(24 * MIB), stat, ..Default::default() };
    PagesView::new(memory, PageSizes::new(Bytes(4096), None), &Policies::default())
}

fn rendered(host: &str, view: &PagesView) -> String {
    let mut out = Vec::new();
    vmstat(host, view, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn v1_the_hosts_keys_in_its_order_and_0_for_what_is_not_known() {
    let host = "pgfault 7\nnr_free_pages 99\nbrand_new 5\nnr_free_pagesx 5\npgalloc_normal 335927922";
    let mut shown = view(MemoryStat::default());
    shown.counters.set(C::Pgfault, 12);
    assert_eq!(
        rendered(host, &shown),
        "pgfault 12\nnr_free_pages 6144\nbrand_new 0\nnr_free_pagesx 0\npgalloc_normal 0\n"
    );
    for line in ["", " 5", "pgfault", "pgfault ", "pgfault -5", "pgfault 5 6", "pgfault  5", "pgfault\t5"] {
        assert_eq!(rendered(&format!("{line}\noom_kill 9\n"), &shown), "oom_kill 0\n", "{line:?}");
    }
}

/// The words of every line, evaluated on a `memory.stat` in which every number is another.
#[test]
fn v2_every_line_shows_what_its_origin_says() {
    let unit = |n: u64| Bytes(n * 4096 * 512);
    let names = [
        "anon",
        "file",
        "shmem",
        "file_mapped",
        "file_dirty",
        "file_writeback",
        "swapcached",
        "active_anon",
        "inactive_anon",
        "active_file",
        "inactive_file",
        "unevictable",
        "anon_thp",
        "shmem_thp",
        "file_thp",
        "slab_reclaimable",
        "slab_unreclaimable",
        "kernel_stack",
        "pagetables",
        "sec_pagetables",
    ];
    let value = |word: &str| {
        let at = names.iter().position(|name| *name == word).unwrap_or_else(|| panic!("no key {word}"));
        unit(1 << at)
    };
    let text: String = names.iter().map(|name| format!("{name} {}\n", value(name).0)).collect();
    let shown = view(crate::cgroup::parse::memory::stat(text.as_bytes(), crate::cgroup::Version::V2));
    let own = |line: &&VmstatLine| !line.v2.starts_with('V') && !matches!(line.show, Show::Counter(_));
    for line in VMSTAT_LINES.iter().filter(own) {
        let bytes: Bytes = line.v2.split(" + ").map(value).sum();
        let expected = match line.key {
            "nr_kernel_stack" => bytes.kib(),
            key if key.ends_with("hugepages") => bytes.0 / (2 * MIB),
            _ => bytes.0 / 4096,
        };
        assert_eq!(rendered(&format!("{} 5\n", line.key), &shown), format!("{} {expected}\n", line.key));
    }
}

#[test]
fn v2_sizes_are_in_pages_of_the_kernel() {
    let stat = MemoryStat { anon: Bytes(3 * 65_536 + 65_535), ..Default::default() };
    let shown = PagesView { sizes: PageSizes::new(Bytes(65_536), None), ..view(stat) };
    assert_eq!(
        rendered("nr_anon_pages 1\nnr_free_pages 1\n", &shown),
        "nr_anon_pages 3\nnr_free_pages 384\n"
    );
}

#[test]
fn v4_every_counter_has_its_line() {
    let mut shown = view(MemoryStat::default());
    let mut counters = MemoryCounters::default();
    for (number, counter) in C::ALL.iter().enumerate() {
        counters.set(*counter, number as u64 + 1);
    }
    shown.counters = counters;
    for counter in C::ALL {
        let key = counter.key();
        assert_eq!(rendered(&format!("{key} 0\n"), &shown), format!("{key} {}\n", counters.get(*counter)));
    }
}

#[test]
fn v5_oom_kills_are_not_in_memory_stat() {
    use crate::cgroup::parse::memory::oom_kills;
    let mut shown = view(MemoryStat::default());
    for (text, line) in [
        ("low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n", "oom_kill 5\n"),
        ("oom_kill_disable 1\nunder_oom 2\noom_kill 3\n", "oom_kill 3\n"),
        ("oom_kill_disable 1\nunder_oom 2\n", "oom_kill 0\n"),
    ] {
        shown.counters.set(C::OomKill, oom_kills(text.as_bytes()).unwrap_or_default());
        assert_eq!(rendered("oom_kill 15\n", &shown), line, "{text}");
    }
}

#[test]
fn v6_no_number_of_disks() {
    let mut shown = view(MemoryStat::default());
    shown.counters.set(C::Pgfault, 5);
    let host = "pgpgin 38340109\npgpgout 135405488\npgfree 337833879\n";
    assert_eq!(rendered(host, &shown), "pgpgin 0\npgpgout 0\npgfree 0\n");
}

#[test]
fn v8_hidden_swap_has_no_counters() {
    let stat = MemoryStat { swapcached: Bytes(MIB), file: Bytes(MIB), ..Default::default() };
    let hidden = Policies { swap: SwapPolicy::Hide, ..Default::default() };
    let mut shown = PagesView::new(view(stat).memory, PageSizes::new(Bytes(4096), None), &hidden);
    for counter in C::ALL {
        shown.counters.set(*counter, 7);
    }
    let keys =
        ["nr_swapcached", "pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb"];
    for key in keys.into_iter().chain(["thp_swpout", "thp_swpout_fallback"]) {
        assert_eq!(rendered(&format!("{key} 3\n"), &shown), format!("{key} 0\n"));
    }
    assert_eq!(rendered("pgfault 3\nnr_file_pages 1\n", &shown), "pgfault 7\nnr_file_pages 512\n");
}

#[test]
fn v1_lines_are_sorted() {
    assert!(VMSTAT_LINES.is_sorted_by_key(|line| line.key));
}
