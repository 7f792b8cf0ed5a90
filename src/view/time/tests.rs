//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{Nsec, TimensOffset};

const SECOND: u64 = 1_000_000_000;

/// A host up for 5000 s, booted 1.75 s after the second 1_700_000_000; a container that is 3.5 s old.
fn now() -> TimeReading {
    TimeReading {
        boottime: Nsec(5000 * SECOND),
        monotonic: Nsec(4000 * SECOND),
        realtime: Nsec(1_700_005_001 * SECOND + 750_000_000),
        start: Nsec(4996 * SECOND + 500_000_000),
        timens: None,
    }
}

fn inside(nanos: i128) -> TimeReading {
    TimeReading { timens: Some(TimensOffset { nanos }), ..now() }
}

fn field(time: &TimeReading, policies: Policies) -> u64 {
    uptime(time, Usec(7), &policies).uptime.0
}

#[test]
fn t1_in_a_time_namespace_uptime_is_the_kernels() {
    let host = Policies { uptime: UptimePolicy::Host, ..Default::default() };
    assert_eq!(field(&inside(-4990 * i128::from(SECOND)), Policies::default()), 10_000_000);
    assert_eq!(field(&inside(-4990 * i128::from(SECOND)), host), 10_000_000);
    assert_eq!(field(&inside(i128::MIN), Policies::default()), 0, "no wrap");
    assert_eq!(field(&inside(i128::MAX), Policies::default()), u64::MAX);
}

#[test]
fn t2_elsewhere_it_is_the_containers_age() {
    assert_eq!(field(&now(), Policies::default()), 3_500_000);
    let future = TimeReading { start: Nsec(u64::MAX), ..now() };
    assert_eq!(field(&future, Policies::default()), 0, "no wrap");
}

#[test]
fn t3_or_the_hosts_by_policy() {
    assert_eq!(field(&now(), Policies { uptime: UptimePolicy::Host, ..Default::default() }), 5_000_000_000);
}

#[test]
fn t4_boot_time() {
    let host = HostStat { btime: 1_700_000_000, ..Default::default() };
    assert_eq!(btime(&now(), &host), 1_700_000_000, "ps needs the host's");
    // 1_700_000_001.75 + 4990 in the kernel's rounding, and with half a second more.
    assert_eq!(btime(&inside(-4990 * i128::from(SECOND)), &host), 1_700_004_991);
    assert_eq!(btime(&inside(-4990 * i128::from(SECOND) - 500_000_000), &host), 1_700_004_992);
    assert_eq!(btime(&inside(i128::MAX), &host), 0);
    assert_eq!(btime(&inside(i128::MIN), &host), u64::MAX);
}

#[test]
fn t5_idle_is_passed_on() {
    for idle in [7, 14_000_000] {
        // four idle CPUs of a container that is 3.5 s old
        assert_eq!(uptime(&now(), Usec(idle), &Policies::default()).idle, Usec(idle));
    }
}

/// The kernel's own boot time is realtime - boottime.
#[test]
fn t8_steps_of_the_clock_move_the_boot_time_only() {
    let host = HostStat { btime: 1_700_000_000, ..Default::default() };
    for step in [3600_i64, -3600, -86_400] {
        let stepped = |time: TimeReading| TimeReading {
            realtime: Nsec(time.realtime.0.checked_add_signed(step * SECOND as i64).unwrap()),
            ..time
        };
        let inside = inside(-4990 * i128::from(SECOND));
        assert_eq!(btime(&stepped(inside), &host), btime(&inside, &host).checked_add_signed(step).unwrap());
        assert_eq!(field(&stepped(inside), Policies::default()), field(&inside, Policies::default()));
        assert_eq!(field(&stepped(now()), Policies::default()), field(&now(), Policies::default()));
    }
    let slept = TimeReading {
        boottime: Nsec(8600 * SECOND),
        realtime: Nsec(now().realtime.0 + 3600 * SECOND),
        ..now()
    };
    let inside = TimeReading { timens: inside(0).timens, ..slept };
    assert_eq!(field(&slept, Policies::default()), 3_603_500_000, "suspend counts");
    assert_eq!(btime(&inside, &host), btime(&TimeReading { timens: inside.timens, ..now() }, &host));
}
