//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn close(left: [f64; 3], right: [f64; 3]) {
    for (left, right) in left.into_iter().zip(right) {
        assert!((left - right).abs() < 1e-9, "{left} {right}");
    }
}

/// What a steady load of one gives after some seconds.
fn risen(seconds: f64) -> [f64; 3] {
    [60.0, 300.0, 900.0].map(|minutes| 1.0 - (-seconds / minutes).exp())
}

fn asked(active: f64, seconds: f64) -> LoadSample {
    LoadSample { active, demand: Some(Usec((seconds * 1e6) as u64)), cpus: 8 }
}

#[test]
fn l1_the_three_averages_of_the_kernel() {
    let mut averages = Averages::default();
    for _ in 0..12 {
        averages.advance(2.0, SAMPLE_EVERY);
    }
    close(averages.0, risen(60.0).map(|share| 2.0 * share));
    // The kernel's own constants for 5 s are 1884, 2014 and 2037 of 2048.
    let mut one = Averages([1.0; 3]);
    one.advance(0.0, SAMPLE_EVERY);
    assert_eq!(one.0.map(|kept| (kept * 2048.0).round()), [1884.0, 2014.0, 2037.0]);
}

#[test]
fn l1_the_interval_makes_no_difference() {
    let (mut often, mut seldom) = (Averages::default(), Averages::default());
    for _ in 0..100 {
        often.advance(3.0, Nsec(SECOND));
    }
    seldom.advance(3.0, Nsec(100 * SECOND));
    close(often.0, seldom.0);
    let mut load = Load::of_age(Nsec::ZERO, Nsec(SECOND));
    load.take(asked(1.0, 0.0), Nsec(11 * SECOND));
    load.take(asked(1.0, 0.0), Nsec(11 * SECOND));
    load.take(asked(1.0, 0.0), Nsec(7 * SECOND));
    close(load.averages().0, risen(10.0));
    assert_eq!(load.at(), Nsec(11 * SECOND), "an older sample is ignored");
}

#[test]
fn l3_the_first_read_knows_what_was_used_before() {
    // 100 s old, 150 s of CPU time used, one task active now.
    let now = Nsec(1000 * SECOND);
    let mut load = Load::of_age(Nsec(100 * SECOND), now);
    load.take_first(asked(1.0, 150.0), now);
    let mut expected = Averages(risen(100.0).map(|share| 1.5 * share));
    expected.advance(1.0, SAMPLE_EVERY);
    close(load.averages().0, expected.0);
    assert!(load.averages().0[0] > 1.1);
}

#[test]
fn l3_no_more_than_the_machine_can_run() {
    // The group is older than the container, or the clock slept.
    let now = Nsec(10 * SECOND);
    let mut load = Load::of_age(Nsec(SECOND), now);
    load.take_first(asked(0.0, 1_000_000.0), now);
    assert!(load.averages().0.iter().all(|average| (0.0..=8.0).contains(average)), "{load:?}");
    let mut new = Load::of_age(Nsec::ZERO, now);
    new.take_first(asked(5.0, 1.0), now);
    close(new.averages().0, [0.0; 3]);
    let mut old = Load::of_age(Nsec(100 * SECOND), now);
    old.take_first(LoadSample { active: 0.0, demand: None, cpus: 8 }, now);
    close(old.averages().0, [0.0; 3]);
}

#[test]
fn l3_the_present_count_is_one_sample_of_at_most_the_age() {
    let now = Nsec(10 * SECOND);
    let mut load = Load::of_age(Nsec(SECOND), now);
    load.take_first(asked(4.0, 0.0), now);
    close(load.averages().0, risen(1.0).map(|share| 4.0 * share));
}

#[test]
fn l4_a_pause_is_bridged_by_the_cpu_time_of_the_pause() {
    let mut load = Load::of_age(Nsec::ZERO, Nsec(SECOND));
    load.take(asked(1.0, 3.0), Nsec(101 * SECOND));
    let before = load.averages();
    // 2000 s later, of which the container ran half a CPU's worth; at this moment ten tasks are active.
    load.take(asked(10.0, 1003.0), Nsec(2101 * SECOND));
    let mut expected = before;
    expected.advance(0.5, Nsec(2000 * SECOND));
    expected.advance(10.0, SAMPLE_EVERY);
    close(load.averages().0, expected.0);
}

#[test]
fn l4_up_to_a_quarter_of_an_hour_a_sample_stands_for_its_interval() {
    let mut load = Load::of_age(Nsec::ZERO, Nsec::ZERO);
    load.take(asked(2.0, 0.0), SAMPLED_FOR);
    close(load.averages().0, risen(900.0).map(|share| 2.0 * share));
}

#[test]
fn l5_two_percent_of_one_cpu() {
    let mut budget = Budget::new(Nsec::ZERO, Nsec::ZERO);
    // Walks of 3 ms one after the other, each as early as allowed.
    let (mut now, mut spent) = (0, 0);
    for _ in 0..1000 {
        spent += 3_000_000;
        now += 3_000_000;
        let rest = budget.rest(Nsec(now), Nsec(spent)).0;
        assert!(rest > 0);
        assert_eq!(budget.rest(Nsec(now), Nsec(spent)).0, rest, "asking costs nothing");
        now += rest;
        assert_eq!(budget.rest(Nsec(now), Nsec(spent)), Nsec::ZERO);
    }
    let share = spent as f64 / now as f64;
    assert!((0.0199..=0.0201).contains(&share), "{share}");
}

#[test]
fn l5_little_is_saved_up() {
    let mut budget = Budget::new(Nsec::ZERO, Nsec::ZERO);
    let hour = 3600 * SECOND;
    assert_eq!(budget.rest(Nsec(hour), Nsec::ZERO), Nsec::ZERO);
    assert_eq!(budget.rest(Nsec(hour), Nsec(50_000_000)), Nsec::ZERO, "1 % of 5 s at once");
    assert_eq!(
        budget.rest(Nsec(hour), Nsec(60_000_000)),
        Nsec(SECOND / 2),
        "10 ms more: half a second of rest"
    );
    assert_eq!(budget.rest(Nsec::ZERO, Nsec::ZERO), Nsec(SECOND / 2), "clocks that go back earn nothing");
}

#[test]
fn l8_a_part_stands_for_all() {
    assert_eq!(scaled(7, 10, 10), 7);
    assert_eq!(scaled(8, 256, 1024), 32);
    assert_eq!(scaled(1, 3, 10), 3);
    assert_eq!(scaled(2, 3, 10), 7);
    assert_eq!(scaled(0, 0, 10), 0);
    assert_eq!(scaled(u64::MAX, 1, u64::MAX), u64::MAX);
}

#[test]
fn l8_every_beginning_is_spread_over_all() {
    for count in [0, 1, 2, 3, 8, 100, 257, 4096] {
        for turn in [0, 1, 77] {
            let mut places: Vec<usize> = spread_order(count, turn).collect();
            let (low, high): (Vec<usize>, Vec<usize>) =
                places.iter().take(count / 4).partition(|place| **place < count / 2);
            assert!(low.len().abs_diff(high.len()) <= 2 + count / 50, "{count} {turn}");
            places.sort_unstable();
            assert!(places.into_iter().eq(0..count), "each once: {count} {turn}");
        }
    }
    let first = |turn| spread_order(1000, turn).next();
    assert_ne!(first(0), first(1), "another part with each walk");
}

#[test]
fn l7_who_used_no_cpu_time_did_not_change() {
    let mut load = Load::of_age(Nsec::ZERO, Nsec::ZERO);
    load.take(asked(3.0, 5.0), Nsec(SECOND));
    assert!(load.slept_since(Some(Usec(5_000_000))));
    assert!(!load.slept_since(Some(Usec(5_000_001))));
    load.take(LoadSample { active: 3.0, demand: None, cpus: 1 }, Nsec(2 * SECOND));
    assert!(!load.slept_since(None), "where nothing is counted nothing is known");
}
