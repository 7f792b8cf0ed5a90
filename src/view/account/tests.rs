//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{CpuLevel, CpuUsage, CpusPolicy, Nsec, Numbering, Policies, Quota};
use crate::view::shown;

const MS: u64 = 1000;
const S: u64 = 1_000_000;

/// A container on four CPUs, and the time since its start.
struct Bench {
    reading: CpuReading,
    policies: Policies,
    now: Usec,
    account: CpuAccount,
}

impl Bench {
    fn new(cpus: &str, levels: &[CpuLevel]) -> Self {
        Self {
            reading: CpuReading {
                levels: levels.to_vec(),
                cpuset: Some(CpuSet::parse(cpus).unwrap()),
                online: CpuSet::first(4),
                ..Default::default()
            },
            policies: Policies::default(),
            now: Usec::ZERO,
            account: CpuAccount::default(),
        }
    }

    /// Lets time pass, then reads. The host is up for an hour when the container starts.
    fn read(&mut self, elapsed: u64) -> CpuTimes {
        self.now = self.now.plus(Usec(elapsed));
        let start = Nsec(3_600_000_000_000);
        let time = TimeReading {
            boottime: start.plus(Nsec(self.now.0 * 1000)),
            monotonic: Nsec(3_500_000_000_000).plus(Nsec(self.now.0 * 1000)),
            start,
            ..Default::default()
        };
        let shown = shown(&self.reading, &self.policies);
        self.account.advance(&self.reading, &shown, &time);
        self.account.total()
    }

    /// v2: `user`, `system` more.
    fn burn(&mut self, more_user: u64, more_system: u64) {
        let (user, system) = match &self.reading.usage {
            CpuUsage::Total { user, system, .. } => (*user, *system),
            _ => (Usec::ZERO, Usec::ZERO),
        };
        self.reading.usage = CpuUsage::Total {
            user: user.plus(Usec(more_user)),
            system: system.plus(Usec(more_system)),
            nice: Usec::ZERO,
        };
    }

    /// v1: time per CPU so far, and the samples so far.
    fn percpu(&mut self, percpu: [u64; 4], user: u64, system: u64) {
        self.reading.usage = CpuUsage::PerCpu {
            percpu: percpu.map(|usec| Nsec(usec * 1000)).to_vec(),
            user: Nsec(user * 1000),
            system: Nsec(system * 1000),
        };
    }

    fn used(&self, cpu: usize) -> u64 {
        self.account.cpu(cpu).used().0
    }
}

fn quota(quota: u64) -> CpuLevel {
    CpuLevel { quota: Quota::new(Usec(quota), Usec(100 * MS)), ..Default::default() }
}

/// Ten periods of 100 ms, in all of which a level ran dry.
fn throttle(level: &mut CpuLevel, throttled: u64) {
    level.nr_throttled += 10;
    level.throttled = level.throttled.plus(Usec(throttled));
}

#[test]
fn s1_v1_time_stays_on_its_cpu() {
    let mut bench = Bench::new("0-1", &[]);
    bench.percpu([300 * MS, 100 * MS, 0, 0], 400 * MS, 0);
    bench.read(S);
    assert_eq!((bench.used(0), bench.used(1)), (300 * MS, 100 * MS));
    bench.percpu([300 * MS, 600 * MS, 0, 0], 900 * MS, 0);
    bench.read(S);
    assert_eq!((bench.used(0), bench.used(1)), (300 * MS, 600 * MS));
}

#[test]
fn s1_v1_bursts_that_no_tick_saw_are_counted() {
    let mut bench = Bench::new("0", &[]);
    for step in 1..=1000 {
        bench.percpu([step * 1200, 0, 0, 0], 0, 0);
        bench.read(10 * MS);
    }
    assert_eq!(bench.used(0), 1_200_000);
}

#[test]
fn s1_no_fraction_of_a_microsecond_is_lost() {
    let mut bench = Bench::new("0", &[]);
    for step in 1..=1000u64 {
        bench.reading.usage =
            CpuUsage::PerCpu { percpu: vec![Nsec(step * 1500)], user: Nsec(0), system: Nsec(0) };
        bench.read(MS);
    }
    assert_eq!(bench.used(0), 1500);
}

#[test]
fn s2_v1_time_on_cpus_not_shown_fills_those_with_most_room() {
    let mut bench = Bench::new("0-3", &[quota(200 * MS)]);
    bench.percpu([600 * MS, 100 * MS, 300 * MS, 400 * MS], 1400 * MS, 0);
    let total = bench.read(S);
    assert_eq!((bench.used(0), bench.used(1)), (700 * MS, 700 * MS));
    assert_eq!(total.used().0, 1400 * MS);
    // Never above the elapsed time while another idles.
    bench.percpu([1600 * MS, 100 * MS, 300 * MS, 1100 * MS], 3100 * MS, 0);
    bench.read(S);
    assert_eq!((bench.used(0), bench.used(1)), (1700 * MS, 1400 * MS));
}

#[test]
fn s3_v2_totals_are_spread_evenly() {
    let mut bench = Bench::new("1-3", &[]);
    bench.burn(900 * MS, 300 * MS);
    let total = bench.read(S);
    assert_eq!((total.user.0, total.system.0), (900 * MS, 300 * MS));
    for cpu in 1..=3 {
        let times = bench.account.cpu(cpu);
        assert_eq!((times.user.0, times.system.0, times.idle.0), (300 * MS, 100 * MS, 600 * MS));
    }
    assert_eq!(bench.account.cpu(0), CpuTimes::default());
}

#[test]
fn s4_the_split_follows_the_samples_of_the_whole_life() {
    let mut bench = Bench::new("0", &[]);
    bench.percpu([400 * MS, 0, 0, 0], 0, 0); // not sampled yet: user
    assert_eq!(bench.read(S).user.0, 400 * MS);
    bench.percpu([800 * MS, 0, 0, 0], 100 * MS, 100 * MS); // half system: it catches up
    let total = bench.read(S);
    assert_eq!((total.user.0, total.system.0), (400 * MS, 400 * MS));
    bench.percpu([1000 * MS, 0, 0, 0], 300 * MS, 100 * MS);
    let total = bench.read(S);
    assert_eq!((total.user.0, total.system.0), (600 * MS, 400 * MS), "700/300 is not to be had");
    bench.percpu([1200 * MS, 0, 0, 0], 300 * MS, 100 * MS); // a burst without samples keeps the ratio
    let total = bench.read(S);
    assert_eq!((total.user.0, total.system.0), (800 * MS, 400 * MS));
}

#[test]
fn s5_nice_is_taken_out_of_user_without_wrapping() {
    let mut bench = Bench::new("0", &[]);
    let usage = |user, nice| CpuUsage::Total { user: Usec(user), system: Usec(5), nice: Usec(nice) };
    bench.reading.usage = usage(990_840, 992_000);
    let total = bench.read(S);
    assert_eq!((total.user.0, total.nice.0, total.system.0), (0, 990_840, 5));
    bench.reading.usage = usage(1_090_840, 992_000);
    let total = bench.read(S);
    assert_eq!((total.user.0, total.nice.0), (98_840, 992_000), "nice makes up for what it was cut by");
}

#[test]
fn s6_three_quarters_used_one_quarter_stolen() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    for second in 1..=5 {
        bench.burn(1500 * MS, 0);
        throttle(&mut bench.reading.levels[0], 1600 * MS); // summed over the host's CPUs
        let total = bench.read(S);
        assert_eq!((total.user.0, total.steal.0), (second * 1500 * MS, second * 500 * MS));
        assert_eq!(total.idle.0, 0);
    }
    for second in 1..=3 {
        let total = bench.read(S);
        assert_eq!((total.steal.0, total.idle.0), (2500 * MS, second * 2 * S), "idle at once afterwards");
    }
}

#[test]
fn s6_steal_is_at_most_what_the_quota_takes_in_the_throttled_periods() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    bench.burn(300 * MS, 0);
    bench.reading.levels[0].nr_throttled = 2;
    bench.reading.levels[0].throttled = Usec(10 * S);
    assert_eq!(bench.read(S).steal.0, 2 * 50 * MS);
}

#[test]
fn s6_steal_is_at_most_the_throttled_time() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    bench.burn(300 * MS, 0);
    bench.reading.levels[0].nr_throttled = 10;
    bench.reading.levels[0].throttled = Usec(70 * MS);
    assert_eq!(bench.read(S).steal.0, 70 * MS);
}

#[test]
fn s6_steal_is_at_most_what_was_not_used() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    bench.burn(1900 * MS, 0);
    throttle(&mut bench.reading.levels[0], 10 * S);
    let total = bench.read(S);
    assert_eq!((total.steal.0, total.idle.0), (100 * MS, 0));
}

#[test]
fn s6_without_a_quota_nothing_is_stolen() {
    let mut bench = Bench::new("0-3", &[CpuLevel::default()]);
    bench.reading.throttled_local = Some(Usec(S));
    throttle(&mut bench.reading.levels[0], S);
    assert_eq!(bench.read(S).steal.0, 0);
}

#[test]
fn s6_steal_levels_the_cpus_out() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    bench.percpu([S, 500 * MS, 0, 0], 1500 * MS, 0);
    throttle(&mut bench.reading.levels[0], S);
    bench.read(S);
    assert_eq!((bench.account.cpu(0).steal.0, bench.account.cpu(1).steal.0), (0, 500 * MS));
}

#[test]
fn s7_the_groups_own_waiting_counts_not_its_siblings() {
    // The parent has the quota and a sibling used it up; this group idled.
    let mut bench = Bench::new("0-3", &[CpuLevel::default(), quota(150 * MS)]);
    bench.reading.throttled_local = Some(Usec::ZERO);
    throttle(&mut bench.reading.levels[1], S);
    assert_eq!(bench.read(S).steal.0, 0);
    bench.reading.throttled_local = Some(Usec(200 * MS));
    throttle(&mut bench.reading.levels[1], S);
    assert_eq!(bench.read(S).steal.0, 200 * MS);
}

#[test]
fn s7_without_cpu_stat_local_the_levels_time_is_scaled_by_the_groups_share() {
    let mut bench = Bench::new("0-3", &[CpuLevel::default(), quota(150 * MS)]);
    throttle(&mut bench.reading.levels[1], 400 * MS);
    bench.reading.levels[1].usage = Usec(1500 * MS);
    assert_eq!(bench.read(S).steal.0, 0, "the sibling's alone");
    bench.burn(375 * MS, 0);
    throttle(&mut bench.reading.levels[1], 400 * MS);
    bench.reading.levels[1].usage = Usec(3000 * MS);
    assert_eq!(bench.read(S).steal.0, 100 * MS, "a quarter of the level's use in this interval");
}

/// A v2 group below an ancestor's quota that has no cpu controller itself: the ancestor is the first level.
#[test]
fn s7_a_group_without_the_controller_does_not_take_its_siblings_waiting() {
    let mut bench = Bench::new("0-3", &[CpuLevel { is_ancestor: true, ..quota(50 * MS) }]);
    bench.read(S);
    throttle(&mut bench.reading.levels[0], 2 * S);
    bench.reading.levels[0].usage = Usec(500 * MS);
    assert_eq!(bench.read(S).steal.0, 0);
}

#[test]
fn s7_a_quota_of_its_own_counts_its_own_time() {
    let mut bench = Bench::new("0-3", &[quota(50 * MS), quota(150 * MS)]);
    throttle(&mut bench.reading.levels[1], 9 * S);
    throttle(&mut bench.reading.levels[0], 300 * MS);
    assert_eq!(bench.read(S).steal.0, 300 * MS);
}

#[test]
fn s7_a_change_of_the_binding_level_starts_from_its_counters_then() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS), CpuLevel::default()]);
    bench.reading.levels[1].nr_throttled = 1000;
    bench.reading.levels[1].throttled = Usec(100 * S);
    bench.reading.levels[1].usage = Usec(100 * S);
    bench.read(S);
    bench.reading.levels[1].quota = Quota::new(Usec(50 * MS), Usec(100 * MS));
    assert_eq!(bench.read(S).steal.0, 0);
    // A level that is seen later brings its past along.
    let past = CpuLevel { nr_throttled: 99, throttled: Usec(9 * S), usage: Usec(9 * S), ..quota(10 * MS) };
    bench.reading.levels.insert(0, past);
    assert_eq!(bench.read(S).steal.0, 0);
    bench.reading.throttled_local = Some(Usec(9 * S));
    bench.reading.levels[0].nr_throttled += 10;
    assert_eq!(bench.read(S).steal.0, 0, "and so does cpu.stat.local");
}

#[test]
fn s8_idle_is_the_rest_of_the_elapsed_time() {
    let mut bench = Bench::new("0-1", &[]);
    bench.burn(500 * MS, 0);
    assert_eq!(bench.read(S).idle.0, 1500 * MS);
    assert_eq!(bench.read(S).idle.0, 3500 * MS);
    assert_eq!(bench.account.idle().0, 3500 * MS);
}

#[test]
fn s8_use_read_a_moment_early_or_late_does_not_add_up() {
    let mut bench = Bench::new("0", &[]);
    for second in 1..=100 {
        bench.burn(if second % 2 == 0 { S + 5 * MS } else { S - 5 * MS }, 0);
        bench.read(S);
    }
    let total = bench.read(S);
    assert_eq!(total.used().0, 100 * S);
    assert!(total.idle.0 <= S + 5 * MS, "{total:?}");
}

#[test]
fn s8_a_quota_used_up_early_in_its_period_is_made_up_for() {
    let mut bench = Bench::new("0-3", &[quota(150 * MS)]);
    bench.read(S);
    bench.burn(150 * MS, 0); // four threads, in 40 ms
    bench.read(40 * MS);
    bench.reading.levels[0].nr_throttled += 1;
    bench.reading.levels[0].throttled = Usec(240 * MS);
    let total = bench.read(60 * MS);
    assert_eq!((total.user.0, total.steal.0, total.idle.0), (150 * MS, 50 * MS, 2 * S));
}

#[test]
fn s8_much_use_in_a_short_time_does_not_stop_the_clock() {
    // The group is older than the container and used 1000 s before.
    let mut bench = Bench::new("0", &[]);
    bench.burn(1000 * S, 0);
    let before = bench.read(3 * S);
    assert_eq!((before.user.0, before.idle.0), (1000 * S, 0));
    assert_eq!(bench.read(S).idle.0, S);
    bench.burn(1000 * S, 0);
    bench.read(S);
    let before = bench.account.idle().0;
    assert_eq!(bench.read(S).idle.0, before + S - 10 * MS);
}

#[test]
fn s9_the_first_reading_counts_from_the_containers_start() {
    let mut bench = Bench::new("0-1", &[]);
    bench.burn(5 * S, S);
    let total = bench.read(60 * S);
    assert_eq!((total.user.0, total.system.0, total.idle.0), (5 * S, S, 114 * S));
}

#[test]
fn s9_later_elapsed_time_is_monotonic_time() {
    let mut account = CpuAccount::default();
    let reading = CpuReading { online: CpuSet::first(1), ..Default::default() };
    let shown = shown(&reading, &Policies::default());
    let at = |boottime: u64, monotonic: u64| TimeReading {
        boottime: Nsec(boottime * 1_000_000_000),
        monotonic: Nsec(monotonic * 1_000_000_000),
        start: Nsec(10_000_000_000),
        ..Default::default()
    };
    account.advance(&reading, &shown, &at(15, 15));
    account.advance(&reading, &shown, &at(1016, 16)); // suspended for 1000 s
    assert_eq!(account.idle().0, 6 * S);
}

#[test]
fn s10_counters_that_go_down_count_as_no_use() {
    let mut bench = Bench::new("0-1", &[quota(150 * MS)]);
    bench.burn(500 * MS, 100 * MS);
    throttle(&mut bench.reading.levels[0], 100 * MS);
    let before = bench.read(S);
    bench.reading.usage = CpuUsage::Unknown;
    bench.reading.levels.clear();
    bench.read(S);
    bench.reading.levels.push(quota(150 * MS));
    bench.burn(10 * MS, 0); // made anew
    let after = bench.read(S);
    assert_eq!((after.user, after.system, after.steal), (before.user, before.system, before.steal));
    bench.burn(10 * MS, 0);
    assert_eq!(bench.read(S).user.0, 510 * MS, "and is counted from there");
}

#[test]
fn s10_a_reading_that_is_not_newer_is_ignored() {
    let mut bench = Bench::new("0", &[]);
    bench.burn(500 * MS, 0);
    let (late, late_reading) = (bench.now, bench.reading.clone());
    bench.burn(100 * MS, 0);
    let newer = (bench.read(2 * S), bench.reading.clone());
    (bench.now, bench.reading) = (late, late_reading);
    assert_eq!(bench.read(S), newer.0);
    bench.reading = newer.1;
    let total = bench.read(2 * S);
    assert_eq!((total.user.0, total.idle.0), (600 * MS, 2400 * MS), "nothing is counted twice");
}

#[test]
fn s10_other_counters_than_before_start_from_their_value() {
    let mut bench = Bench::new("0", &[]);
    bench.burn(500 * MS, 0);
    bench.read(S);
    bench.percpu([600 * MS, 0, 0, 0], 600 * MS, 0);
    assert_eq!(bench.read(S).used().0, 500 * MS);
    bench.percpu([700 * MS, 0, 0, 0], 700 * MS, 0);
    assert_eq!(bench.read(S).used().0, 600 * MS);
}

#[test]
fn s10_the_fork_count_never_goes_down() {
    let mut account = CpuAccount::default();
    let tasks = |last_pid| TaskCounts { last_pid, ..Default::default() };
    assert_eq!(account.processes(&tasks(9)), 9);
    assert_eq!(account.processes(&tasks(4)), 9);
}

#[test]
fn s11_the_total_keeps_cpus_that_are_no_longer_shown() {
    let mut bench = Bench::new("0-3", &[]);
    bench.burn(2 * S, 0);
    bench.read(S);
    bench.reading.cpuset = Some(CpuSet::parse("2").unwrap());
    bench.burn(S, 0);
    let total = bench.read(S);
    assert_eq!((total.user.0, total.idle.0), (3 * S, 2 * S));
    assert_eq!((bench.used(0), bench.used(2)), (500 * MS, 1500 * MS), "later use goes to those shown now");
}

#[test]
fn s11_compact_lines_do_not_go_down_when_the_set_moves() {
    let mut bench = Bench::new("0-1", &[]);
    bench.policies =
        Policies { numbering: Numbering::Compact, cpus: CpusPolicy::Cpuset, ..Default::default() };
    bench.percpu([S, 0, 0, 0], S, 0);
    bench.read(S);
    bench.reading.cpuset = Some(CpuSet::parse("1").unwrap());
    bench.percpu([S, 250 * MS, 0, 0], S, 0);
    bench.read(S);
    assert_eq!(bench.used(0), 1250 * MS);
}

/// Each policy in turn, with time and use in between: the cpu line, each cpuN line and the idle time only grow.
#[test]
fn o7_a_change_of_policy_lowers_no_counter() {
    let mut bench = Bench::new("1,3", &[quota(100 * MS)]);
    let mut last = bench.read(S);
    let mut lines: Vec<CpuTimes> = Vec::new();
    let policies = |cpus, numbering| Policies { cpus, numbering, ..Default::default() };
    for (step, policies) in [
        policies(CpusPolicy::Quota, Numbering::Physical),
        policies(CpusPolicy::Cpuset, Numbering::Physical),
        policies(CpusPolicy::Cpuset, Numbering::Compact),
        policies(CpusPolicy::Quota, Numbering::Compact),
        policies(CpusPolicy::Cpuset, Numbering::Physical),
    ]
    .into_iter()
    .cycle()
    .take(20)
    .enumerate()
    {
        bench.policies = policies;
        bench.burn(300 * MS, 100 * MS);
        let total = bench.read(S);
        assert!(total.used() > last.used() && total.idle >= last.idle, "step {step}: {last:?} {total:?}");
        let now: Vec<CpuTimes> = (0..4).map(|cpu| bench.account.cpu(cpu)).collect();
        for (before, now) in lines.iter().zip(&now) {
            assert!(now.used() >= before.used() && now.idle >= before.idle, "step {step}");
        }
        (last, lines) = (total, now);
    }
}
