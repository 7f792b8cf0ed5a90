use proptest::prelude::*;

use super::*;
use crate::model::{CpuLevel, CpuReading, CpuSet, CpuUsage, Nsec, Numbering, Quota, TimeReading};
use crate::view::ShownCpus;

fn reading() -> impl Strategy<Value = CpuReading> {
    let number = || prop_oneof![0..50_000_000u64, any::<u64>()];
    let level =
        (number(), number(), number(), any::<bool>()).prop_map(|(nr, throttled, usage, limited)| CpuLevel {
            quota: limited.then(|| Quota::new(Usec(150_000), Usec(100_000))).flatten(),
            nr_throttled: nr,
            throttled: Usec(throttled),
            usage: Usec(usage),
            is_ancestor: false,
        });
    let total = (number(), number(), number()).prop_map(|(user, system, nice)| CpuUsage::Total {
        user: Usec(user),
        system: Usec(system),
        nice: Usec(nice),
    });
    let percpu = (proptest::collection::vec(number().prop_map(Nsec), 0..9), number(), number()).prop_map(
        |(percpu, user, system)| CpuUsage::PerCpu { percpu, user: Nsec(user), system: Nsec(system) },
    );
    let usage = prop_oneof![3 => total, 3 => percpu, 1 => Just(CpuUsage::Unknown)];
    (proptest::collection::vec(level, 0..4), proptest::option::of(number()), usage, 1..9usize).prop_map(
        |(levels, local, usage, cpus)| CpuReading {
            levels,
            throttled_local: local.map(Usec),
            usage,
            cpuset: None,
            online: CpuSet::first(cpus),
        },
    )
}

fn bytes(account: &CpuAccount) -> Vec<u8> {
    let mut out = Vec::new();
    account.encode(&mut out);
    out
}

proptest! {
    /// At any point of its life, an account that was kept and taken up goes on as if nothing had happened.
    #[test]
    fn r5_an_account_goes_on(
        readings in proptest::collection::vec((reading(), 0..5_000_000_000u64), 1..8),
        stop in 0..8usize,
    ) {
        let (mut steady, mut account) = (CpuAccount::default(), CpuAccount::default());
        let mut now = 10_000_000_000;
        for (turn, (reading, passed)) in readings.iter().enumerate() {
            now += passed;
            if turn == stop {
                account = CpuAccount::decode(&bytes(&account)).unwrap();
            }
            let mask = reading.online.clone();
            let shown = ShownCpus { physical: mask.clone(), mask, numbering: Numbering::Physical };
            let time = TimeReading { boottime: Nsec(now), monotonic: Nsec(now), ..TimeReading::default() };
            steady.advance(reading, &shown, &time);
            account.advance(reading, &shown, &time);
            prop_assert_eq!(bytes(&steady), bytes(&account));
        }
        let whole = bytes(&account);
        prop_assert!((0..whole.len()).all(|len| CpuAccount::decode(&whole[..len]).is_none()));
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..400)) {
        let _ = CpuAccount::decode(&bytes);
    }
}

/// What is kept has this form. Whoever changes it raises `store::VERSION`: a process of the new form must not take up the old.
#[test]
fn the_form_has_a_version() {
    let mut account = CpuAccount::default();
    let mask = CpuSet::first(2);
    let shown = ShownCpus { physical: mask.clone(), mask: mask.clone(), numbering: Numbering::Physical };
    let usage = CpuUsage::Total { user: Usec(300), system: Usec(50), nice: Usec(7) };
    let reading = CpuReading { usage, online: mask, ..CpuReading::default() };
    let time =
        TimeReading { boottime: Nsec(9_000_000), monotonic: Nsec(8_000_000), ..TimeReading::default() };
    account.advance(&reading, &shown, &time);
    let numbers: Vec<u64> =
        bytes(&account).chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    let max = u64::MAX;
    assert_eq!(
        numbers,
        [
            [1, 8000, 0, 2].as_slice(),
            &[146, 3, 26, 0, 8825, 0],
            &[147, 4, 24, 0, 8825, 0],
            &[1, 0, 300, max, 50, max, 7, max, 0, 0, 7],
            &[1, 0, 0, max, 0],
        ]
        .concat()
    );
}
