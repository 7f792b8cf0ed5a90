//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::Usec;

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

fn quota(quota: u64, period: u64) -> CpuLevel {
    CpuLevel { quota: Quota::new(Usec(quota), Usec(period)), ..Default::default() }
}

fn reading(cpuset: Option<&str>, online: &str, levels: &[CpuLevel]) -> CpuReading {
    CpuReading { cpuset: cpuset.map(set), online: set(online), levels: levels.to_vec(), ..Default::default() }
}

fn numbers(reading: &CpuReading) -> String {
    shown(reading, &Policies::default()).numbers().to_string()
}

#[test]
fn c1_effective_set_and_online() {
    assert_eq!(numbers(&reading(Some("0,2"), "0-3", &[])), "0,2");
    assert_eq!(numbers(&reading(Some("0-3"), "0-1,3", &[])), "0-1,3");
    assert_eq!(numbers(&reading(None, "0-3", &[])), "0-3", "no cpuset controller");
}

#[test]
fn c2_never_empty_while_a_cpu_is_online() {
    assert_eq!(numbers(&reading(Some("5"), "0-1", &[])), "0-1");
    assert_eq!(numbers(&reading(Some(""), "0-1", &[])), "0-1");
    assert_eq!(numbers(&reading(Some("0"), "0-1", &[quota(1, 1_000_000)])), "0");
}

#[test]
fn c3_the_tightest_quota_of_all_levels_binds() {
    let levels =
        [quota(200_000, 100_000), CpuLevel::default(), quota(50_000, 50_000), quota(150_000, 100_000)];
    assert_eq!(binding_quota(&levels).map(|(index, _)| index), Some(2));
    assert_eq!(numbers(&reading(None, "0-3", &levels)), "0");
    assert_eq!(binding_quota(&[quota(100, 100), quota(200, 200)]).map(|(index, _)| index), Some(0));
    assert_eq!(binding_quota(&[]), None);
}

#[test]
fn c4_as_many_cpus_as_the_quota_keeps_busy() {
    for (limit, online, expected) in [
        (150_000, "0-3", "0-1"),
        (100_000, "0-3", "0"),
        (100_001, "0-3", "0-1"),
        (1_000, "0-3", "0"),
        (900_000, "0-3", "0-3"),
        (150_000, "4-7", "4-5"),
    ] {
        assert_eq!(numbers(&reading(None, online, &[quota(limit, 100_000)])), expected, "{limit}");
    }
}

#[test]
fn c4_policy_cpuset_shows_the_whole_set() {
    let policies = Policies { cpus: CpusPolicy::Cpuset, ..Default::default() };
    let shown = shown(&reading(Some("1-3"), "0-3", &[quota(100_000, 100_000)]), &policies);
    assert_eq!(shown.numbers().to_string(), "1-3");
}

#[test]
fn c5_numbering() {
    let reading = reading(Some("1,3"), "0-3", &[]);
    let physical = shown(&reading, &Policies::default());
    assert_eq!(physical.numbers().to_string(), "1,3");
    assert_eq!(
        (physical.displayed(3), physical.displayed(0), physical.physical_of(3)),
        (Some(3), None, Some(3))
    );
    let policies = Policies { numbering: Numbering::Compact, ..Default::default() };
    let compact = shown(&reading, &policies);
    assert_eq!(compact.numbers().to_string(), "0-1");
    assert_eq!((compact.displayed(3), compact.displayed(0)), (Some(1), None));
    assert_eq!(
        (compact.physical_of(0), compact.physical_of(1), compact.physical_of(2)),
        (Some(1), Some(3), None)
    );
}
