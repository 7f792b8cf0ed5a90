//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{Bytes, MemoryCounter, MemoryStat, PageSizes, Policies};
use crate::view::MemoryView;

const MIB: u64 = 1 << 20;

const HOST: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 86994
      nr_mapped    42583
      pgdemote_kswapd 5
  pages free     3840
        boost    0
        min      10
        managed  3840
        protection: (0, 3019, 24090)
      nr_free_pages 3840
      numa_hit     7
  pagesets
    cpu: 0
              count:    1
              high_max: 240
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone   Normal
  pages free     987399
        boost    3
        min      14769
        spanned  5505024
        present  5505024
        managed  5394266
        cma      16
        protection: (0, 0, 12)
      nr_free_pages 987399
      nr_zone_active_anon 403
      numa_hit     300084627
  pagesets
    cpu: 0
              count:    7813
              high_max: 337141
  vm stats threshold: 36
    cpu: 1
              count:    6691
              high_max: 337141
  vm stats threshold: 36
  node_unreclaimable:  2
  start_pfn:           1048576
Node 0, zone  Movable
  pages free     0
        protection: (0, 0, 0)
Node 1, zone   Normal
  per-node stats
      nr_inactive_anon 1
  pages free     5
  pagesets
    cpu: 0
              count:    1
";

fn view() -> PagesView {
    let stat = MemoryStat {
        inactive_anon: Bytes(4 * 4096),
        file_mapped: Bytes(5 * 4096),
        active_anon: Bytes(6 * 4096),
        ..Default::default()
    };
    let memory = MemoryView { total: Bytes(64 * MIB), free: Bytes(24 * MIB), stat, ..Default::default() };
    let mut view = PagesView::new(memory, PageSizes::new(Bytes(4096), None), &Policies::default());
    view.counters.set(MemoryCounter::PgdemoteKswapd, 9);
    view
}

fn rendered(host: &str, view: &PagesView, cpus: &str) -> String {
    let mut out = Vec::new();
    zoneinfo(host, view, &CpuSet::parse(cpus).unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn z1_one_normal_zone_in_the_hosts_layout() {
    let expected = "\
Node 0, zone   Normal
  per-node stats
      nr_inactive_anon 4
      nr_mapped    5
      pgdemote_kswapd 9
  pages free     6144
        boost    0
        min      0
        spanned  16384
        present  16384
        managed  16384
        cma      0
        protection: (0, 0, 0)
      nr_free_pages 6144
      nr_zone_active_anon 6
      numa_hit     0
  pagesets
    cpu: 1
              count:    0
              high_max: 0
  vm stats threshold: 0
    cpu: 5
              count:    0
              high_max: 0
  vm stats threshold: 0
  node_unreclaimable:  0
  start_pfn:           0
";
    assert_eq!(rendered(HOST, &view(), "1,5"), expected);
}

#[test]
fn z1_without_a_normal_zone_the_first_populated_one() {
    let host = HOST.replace("zone   Normal", "zone  Movable");
    let text = rendered(&host, &view(), "0");
    assert!(text.starts_with("Node 0, zone   Normal\n  per-node stats\n"), "{text}");
    assert!(text.contains("        managed  16384\n") && !text.contains("spanned"), "that of DMA: {text}");
    assert_eq!(rendered("Node 0, zone  Movable\n  pages free     0\n", &view(), "0"), "");
    assert_eq!(rendered("", &view(), "0"), "");
}

#[test]
fn z1_lines_of_another_form_are_left_out() {
    let host = "junk\nNode 0, zone   Normal\n  pages free     9\n  new heading\n        odd 5x\n  pagesets\n  later:  77";
    assert_eq!(
        rendered(host, &view(), "0"),
        "Node 0, zone   Normal\n  pages free     6144\n  pagesets\n  later:  0\n"
    );
}

#[test]
fn z2_the_zone_has_the_containers_size() {
    let text = rendered(HOST, &view(), "0");
    for line in ["pages free     6144", "spanned  16384", "present  16384", "managed  16384"] {
        assert!(text.contains(&format!(" {line}\n")), "{line}: {text}");
    }
}

#[test]
fn z2_no_reserve_is_kept() {
    let text = rendered(HOST, &view(), "0");
    for line in ["boost    0", "min      0", "cma      0", "protection: (0, 0, 0)", "start_pfn:           0"]
    {
        assert!(text.contains(&format!(" {line}\n")), "{line}: {text}");
    }
}

#[test]
fn z3_lines_that_vmstat_has_show_the_same() {
    let text = rendered(HOST, &view(), "0");
    let mut vmstat = Vec::new();
    super::super::vmstat(
        "nr_mapped 1\nnr_zone_active_anon 1\nnr_free_pages 1\npgdemote_kswapd 1\n",
        &view(),
        &mut vmstat,
    );
    for line in std::str::from_utf8(&vmstat).unwrap().lines() {
        let (key, value) = line.split_once(' ').unwrap();
        let ours = text.lines().find_map(|line| line.trim_start().strip_prefix(key)).unwrap();
        assert_eq!(ours.trim(), value, "{key}");
    }
}

#[test]
fn z4_page_sets_of_the_shown_cpus() {
    let cpus = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("    cpu: ")).map(str::to_owned).collect()
    };
    assert_eq!(cpus(&rendered(HOST, &view(), "0-2,255")), ["0", "1", "2", "255"]);
    assert_eq!(rendered(HOST, &view(), "7").matches("count:    0").count(), 1);
    assert_eq!(cpus(&rendered(HOST, &view(), "")), [""; 0]);
}

#[test]
fn z5_the_node_that_the_container_has() {
    let view = PagesView { node: 3, ..view() };
    assert!(rendered(HOST, &view, "0").starts_with("Node 3, zone   Normal\n"));
}
