//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::MemoryStat;

fn rendered(host: &str, view: &MemoryView) -> String {
    let mut out = Vec::new();
    meminfo(&HostMeminfo { text: host.into(), ..Default::default() }, view, &mut out);
    String::from_utf8(out).unwrap()
}

fn view(total_kib: u64) -> MemoryView {
    MemoryView { total: Bytes::from_kib(total_kib), ..Default::default() }
}

#[test]
fn m10_a_line_that_is_not_known_shows_0() {
    let host = "MemTotal:       24684096 kB\nNewThing:       12345678 kB\nHugePages_New:      77\n";
    let expected = "MemTotal:         262144 kB\nNewThing:              0 kB\nHugePages_New:       0\n";
    assert_eq!(rendered(host, &view(262_144)), expected);
}

#[test]
fn m10_keys_are_matched_whole() {
    let host = "MemTotalX:             5 kB\nMem:                   5 kB\n";
    let expected = "MemTotalX:             0 kB\nMem:                   0 kB\n";
    assert_eq!(rendered(host, &view(262_144)), expected);
}

#[test]
fn m10_lines_of_another_form_are_left_out() {
    for line in [
        "",
        "no colon 5 kB",
        "MemTotal:",
        "MemTotal: kB",
        ": 5 kB",
        "MemTotal: 5 6 kB",
        "MemTotal: -5 kB",
        "MemTotal: 5 kBx",
        "MemTotal:\t5 kB",
    ] {
        assert_eq!(
            rendered(&format!("{line}\nMemTotal:              1 kB\n"), &view(8)),
            "MemTotal:              8 kB\n",
            "{line:?}"
        );
    }
}

#[test]
fn m11_the_kernels_columns() {
    // A host with more than 8 digits: its numbers stand out to the right, the container's need not.
    let host = "MemTotal:       134217728 kB\nHardwareCorrupted:     5 kB\nHugePages_Total:   100000\n";
    let mut shown = view(262_144);
    shown.hugetlb.pages_total = 12;
    let expected = "MemTotal:         262144 kB\nHardwareCorrupted:     0 kB\nHugePages_Total:      12\n";
    assert_eq!(rendered(host, &shown), expected);
    shown.total = Bytes::from_kib(134_217_724);
    shown.hugetlb.pages_total = 123_456;
    let expected = "MemTotal:       134217724 kB\nHardwareCorrupted:     0 kB\nHugePages_Total:   123456\n";
    assert_eq!(rendered(host, &shown), expected);
}

#[test]
fn m11_a_file_without_final_newline_or_in_another_order() {
    let host = "SwapFree:              3 kB\nMemTotal:              1 kB\nMemTotal:              1 kB\nSwapFree:              2 kB";
    let shown = MemoryView { swap_free: Bytes::from_kib(12), ..view(8) };
    let expected = "SwapFree:             12 kB\nMemTotal:              8 kB\nMemTotal:              8 kB\nSwapFree:             12 kB\n";
    assert_eq!(rendered(host, &shown), expected);
}

#[test]
fn m14_sizes_are_whole_pages() {
    let host = "MemFree: 1 kB\nSlab: 1 kB\nSReclaimable: 1 kB\nSUnreclaim: 1 kB\n";
    let stat = crate::model::MemoryStat {
        slab_reclaimable: Bytes(4096 * 3 + 4000),
        slab_unreclaimable: Bytes(4096 * 2 + 500),
        ..Default::default()
    };
    let shown = MemoryView { free: Bytes(8191), stat, ..view(8) };
    let text = rendered(host, &shown);
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(numbers, ["4", "20", "12", "8"]);
}

#[test]
fn m13_only_constants_of_the_architecture_remain() {
    let remaining: Vec<_> =
        MEMINFO_LINES.iter().filter(|line| matches!(line.show, Show::Host)).map(|line| line.key).collect();
    assert_eq!(remaining, ["VmallocTotal", "Hugepagesize"]);
    let host = "VmallocTotal:   34359738367 kB\nDirectMap4k:       28672 kB\nHugepagesize:       2048 kB\n";
    let expected =
        "VmallocTotal:   34359738367 kB\nDirectMap4k:           0 kB\nHugepagesize:       2048 kB\n";
    assert_eq!(rendered(host, &view(1)), expected);
}

/// The v2 word of every line, evaluated on a `memory.stat` in which every number is another.
#[test]
fn m4_every_line_shows_what_its_origin_says() {
    let mut next = 0;
    let mut number = || {
        next += 1;
        Bytes::from_kib(4 << next)
    };
    let stat = MemoryStat {
        anon: number(),
        file: number(),
        shmem: number(),
        file_mapped: number(),
        file_dirty: number(),
        file_writeback: number(),
        swapcached: number(),
        active_anon: number(),
        inactive_anon: number(),
        active_file: number(),
        inactive_file: number(),
        unevictable: number(),
        anon_thp: number(),
        shmem_thp: number(),
        file_thp: number(),
        slab: number(),
        slab_reclaimable: number(),
        slab_unreclaimable: number(),
        kernel_stack: number(),
        pagetables: number(),
        sec_pagetables: number(),
        percpu: number(),
        vmalloc: number(),
        zswap: number(),
        zswapped: number(),
    };
    let value = |word: &str| match word {
        "anon" => stat.anon,
        "file" => stat.file,
        "shmem" => stat.shmem,
        "file_mapped" => stat.file_mapped,
        "file_dirty" => stat.file_dirty,
        "file_writeback" => stat.file_writeback,
        "swapcached" => stat.swapcached,
        "active_anon" => stat.active_anon,
        "inactive_anon" => stat.inactive_anon,
        "active_file" => stat.active_file,
        "inactive_file" => stat.inactive_file,
        "unevictable" => stat.unevictable,
        "anon_thp" => stat.anon_thp,
        "shmem_thp" => stat.shmem_thp,
        "file_thp" => stat.file_thp,
        "slab" => stat.slab,
        "slab_reclaimable" => stat.slab_reclaimable,
        "slab_unreclaimable" => stat.slab_unreclaimable,
        "kernel_stack" => stat.kernel_stack,
        "pagetables" => stat.pagetables,
        "sec_pagetables" => stat.sec_pagetables,
        "percpu" => stat.percpu,
        "vmalloc" => stat.vmalloc,
        "zswap" => stat.zswap,
        "zswapped" => stat.zswapped,
        "0" => Bytes::ZERO,
        other => panic!("{other} is no key of memory.stat"),
    };
    let shown = MemoryView { stat, ..Default::default() };
    for line in MEMINFO_LINES.iter().filter(|line| line.v2 != "host" && !line.v2.starts_with('M')) {
        let expected: Bytes = line.v2.split(" + ").map(value).sum();
        let text = rendered(&format!("{}: 5 kB\n", line.key), &shown);
        assert_eq!(text.split_whitespace().nth(1), Some(expected.kib().to_string().as_str()), "{}", line.key);
    }
}

#[test]
fn m4_the_totals_stand_in_their_lines() {
    let shown = MemoryView {
        total: Bytes::from_kib(24),
        free: Bytes::from_kib(8),
        available: Bytes::from_kib(12),
        swap_total: Bytes::from_kib(16),
        swap_free: Bytes::from_kib(20),
        commit_limit: Bytes::from_kib(28),
        hugetlb: crate::view::memory::HugetlbView {
            pages_total: 7,
            pages_free: 8,
            total: Bytes::from_kib(36),
        },
        ..Default::default()
    };
    for (key, expected) in [
        ("MemTotal", "24"),
        ("MemFree", "8"),
        ("MemAvailable", "12"),
        ("SwapTotal", "16"),
        ("SwapFree", "20"),
        ("CommitLimit", "28"),
        ("HugePages_Total", "7"),
        ("HugePages_Free", "8"),
        ("Hugetlb", "36"),
    ] {
        let text = rendered(&format!("{key}: 77 kB\n"), &shown);
        assert_eq!(text.split_whitespace().nth(1), Some(expected), "{key}");
    }
}
