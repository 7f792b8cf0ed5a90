//! Invariants of the load averages and of the tables per CPU, whatever the readings say.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use ownproc::model::{CountersPolicy, CpuReading, CpuSet, Nsec, Numbering, Policies, Usec};
use ownproc::render;
use ownproc::view::load::{SAMPLED_FOR, scaled, spread_order};
use ownproc::view::{self, Averages, Budget, CpuAccount, Load, LoadSample, LoadView};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn sample() -> impl Strategy<Value = LoadSample> {
    let active = prop_oneof![(0..10_000u32).prop_map(f64::from), any::<f64>()];
    (active, option::of(any::<u64>().prop_map(Usec)), 1..1024usize)
        .prop_map(|(active, demand, cpus)| LoadSample { active, demand, cpus })
}

/// Something like one of the kernel's tables, or anything.
fn template() -> impl Strategy<Value = String> {
    let cell = prop_oneof![
        6 => "[ ]{0,12}[0-9]{1,22}",
        1 => "[ A-Za-z:0-9-]{0,12}",
        1 => ".{0,6}",
    ];
    let line =
        ("[ ]{0,12}[A-Z0-9]{0,8}:?", vec(cell, 0..6)).prop_map(|(label, cells)| label + &cells.concat());
    let header = prop_oneof![4 => "[ ]{0,20}(CPU[0-9]{1,3}[ ]{0,8}){0,5}", 1 => ".{0,20}"];
    (header, vec(line, 0..6)).prop_map(|(header, lines)| format!("{header}\n{}", lines.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn between_nothing_and_the_most_that_was_seen(
        steps in vec((0..500u32, 1..20_000_000_000u64), 1..60),
    ) {
        let mut load = Load::of_age(Nsec::ZERO, Nsec(SECOND));
        let (mut now, mut most) = (SECOND, 0.0f64);
        for (active, elapsed) in steps {
            now += elapsed;
            most = most.max(f64::from(active));
            let sample = LoadSample { active: f64::from(active), demand: None, cpus: 4 };
            load.take(sample, Nsec(now));
            for average in load.averages().0 {
                prop_assert!((0.0..=most * (1.0 + 1e-12)).contains(&average), "{} of {}", average, most);
            }
        }
    }

    #[test]
    fn a_steady_load_is_approached_from_one_side(
        start in vec((0..500u32, 1..20_000_000_000u64), 0..10),
        active in 0..500u32,
        intervals in vec(1..60_000_000_000u64, 1..60),
    ) {
        let mut averages = Averages::default();
        for (active, elapsed) in start {
            averages.advance(f64::from(active), Nsec(elapsed));
        }
        let active = f64::from(active);
        for elapsed in intervals {
            let before = averages;
            averages.advance(active, Nsec(elapsed));
            for (before, after) in before.0.into_iter().zip(averages.0) {
                let rounding = 1e-9;
                prop_assert!((after - active).abs() <= (before - active).abs() + rounding);
                prop_assert!((after - active) * (before - active) >= -rounding, "not beyond it");
            }
        }
    }

    #[test]
    fn the_longer_average_moves_less(active in 1..500u32, elapsed in 1..100_000_000_000u64) {
        let mut averages = Averages::default();
        averages.advance(f64::from(active), Nsec(elapsed));
        let [one, five, fifteen] = averages.0;
        prop_assert!(one >= five && five >= fifteen && fifteen >= 0.0);
    }

    #[test]
    fn any_sample_at_any_time_leaves_a_number(
        age in any::<u64>(), now in any::<u64>(), first in sample(), steps in vec((sample(), any::<u64>()), 0..12),
    ) {
        let mut load = Load::of_age(Nsec(age), Nsec(now));
        load.take_first(first, Nsec(now));
        let mut last = load.at();
        for (sample, at) in steps {
            load.take(sample, Nsec(at));
            prop_assert!(load.at() >= last, "never back");
            last = load.at();
            prop_assert!(load.averages().0.iter().all(|average| average.is_finite() && *average >= 0.0));
        }
        let mut out = Vec::new();
        render::loadavg(&LoadView { averages: load.averages(), ..LoadView::default() }, &mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.split(' ').count(), 5);
    }

    #[test]
    fn a_bridge_is_bounded_by_the_cpus(age in 1..10_000u64, used in any::<u64>(), cpus in 1..256usize, pause in 901..100_000u64) {
        let now = Nsec(20_000 * SECOND);
        let idle = |demand| LoadSample { active: 0.0, demand: Some(Usec(demand)), cpus };
        let mut load = Load::of_age(Nsec(age * SECOND), now);
        load.take_first(idle(used / 2), now);
        load.take(idle(used), now.plus(Nsec(pause * SECOND)));
        prop_assert!(pause * SECOND > SAMPLED_FOR.0);
        for average in load.averages().0 {
            prop_assert!((0.0..=cpus as f64).contains(&average), "{}", average);
        }
    }

    #[test]
    fn sampling_stays_below_its_share(walks in vec((0..20_000_000u64, 0..3_000_000_000u64), 1..200)) {
        let mut budget = Budget::new(Nsec::ZERO, Nsec::ZERO);
        let (mut now, mut spent, mut longest) = (0u64, 0u64, 0u64);
        for (walk, pause) in walks {
            longest = longest.max(walk);
            spent += walk;
            now += walk;
            now += budget.rest(Nsec(now), Nsec(spent)).0 + pause;
            // One walk may overdraw, and 50 ms may have been saved up.
            prop_assert!(spent <= now / 50 + 50_000_000 + longest, "{} of {}", spent, now);
        }
    }

    #[test]
    fn each_place_once(count in 0..3000usize, turn in any::<usize>()) {
        let mut places: Vec<usize> = spread_order(count, turn).collect();
        places.sort_unstable();
        prop_assert!(places.into_iter().eq(0..count));
    }

    #[test]
    fn scaling_keeps_to_the_total(looked in 0..5000u64, counted in 0..5000u64, total in 0..100_000u64) {
        let (counted, total) = (counted.min(looked), total.max(looked));
        let all = scaled(counted, looked, total);
        prop_assert!(all >= counted && all <= total);
    }

    #[test]
    fn any_template_is_survived(text in template(), cpus in vec(0..6usize, 1..4), compact in any::<bool>()) {
        let cpus: CpuSet = cpus.into_iter().collect();
        let numbering = if compact { Numbering::Compact } else { Numbering::Physical };
        let reading = CpuReading { online: cpus, ..Default::default() };
        let shown = view::shown(&reading, &Policies { numbering, ..Policies::default() });
        let mut out = Vec::new();
        for counters in [CountersPolicy::Zero, CountersPolicy::Host] {
            render::softirqs(&text, &shown, counters, &mut out);
            render::interrupts(&text, &shown, counters, &mut out);
            render::schedstat(&text, render::jiffies_rate(&text, Nsec(7)), &shown, &CpuAccount::default(), Usec(7), &mut out);
        }
        prop_assert!(String::from_utf8(out).is_ok());
    }
}
