//! `cpu.stat`, `cpu.stat.local` and `cpu.max`.

use super::{ParseError, pairs, scalar::number};
use crate::model::{Nsec, Quota, Usec};

/// `cpu.stat` of either version; the keys differ, so one parser serves both. What is missing is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// v2 `usage_usec`.
    pub usage: Usec,
    /// v2 `user_usec`, nice time included.
    pub user: Usec,
    /// v2 `system_usec`.
    pub system: Usec,
    /// v2 `nice_usec` (Linux 6.12+).
    pub nice: Usec,
    /// Periods in which the quota ran out.
    pub nr_throttled: u64,
    /// v2 `throttled_usec`, v1 `throttled_time` (nanoseconds): summed over CPUs.
    pub throttled: Usec,
}

/// Parses `cpu.stat`.
#[must_use]
pub fn stat(text: &[u8]) -> CpuStat {
    let mut stat = CpuStat::default();
    for (key, value) in pairs(text) {
        match key {
            b"usage_usec" => stat.usage = Usec(value),
            b"user_usec" => stat.user = Usec(value),
            b"system_usec" => stat.system = Usec(value),
            b"nice_usec" => stat.nice = Usec(value),
            b"nr_throttled" => stat.nr_throttled = value,
            b"throttled_usec" => stat.throttled = Usec(value),
            b"throttled_time" => stat.throttled = Nsec(value).usec(),
            _ => {}
        }
    }
    stat
}

/// `cpu.stat.local` (Linux 6.6+): v2 `throttled_usec`, v1 `throttled_time` in nanoseconds. `None` where the
/// file is empty, as in a v2 group without the controller.
#[must_use]
pub fn stat_local(text: &[u8]) -> Option<Usec> {
    pairs(text).find_map(|(key, value)| match key {
        b"throttled_usec" => Some(Usec(value)),
        b"throttled_time" => Some(Nsec(value).usec()),
        _ => None,
    })
}

/// v2 `cpu.max`: `max 100000` or `150000 100000`, both in microseconds. `None` = unlimited.
pub fn max(text: &[u8]) -> Result<Option<Quota>, ParseError> {
    let fault = || ParseError::new("expected QUOTA PERIOD in microseconds", text);
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (quota, period) = (words.next().ok_or_else(fault)?, words.next().ok_or_else(fault)?);
    let period = number(period).ok_or_else(fault)?;
    if quota == b"max" {
        return Ok(None);
    }
    Ok(Quota::new(Usec(number(quota).ok_or_else(fault)?), Usec(period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let v2 = stat(
            b"usage_usec 10\nuser_usec 6\nsystem_usec 4\nnice_usec 7\nnr_throttled 2\nthrottled_usec 3\n",
        );
        assert_eq!((v2.usage, v2.user, v2.system, v2.nice), (Usec(10), Usec(6), Usec(4), Usec(7)));
        assert_eq!((v2.nr_throttled, v2.throttled), (2, Usec(3)));
        let v1 = stat(b"nr_periods 5\nnr_throttled 4\nthrottled_time 3000999\nwait_sum 9\n");
        assert_eq!((v1.nr_throttled, v1.throttled), (4, Usec(3000)));
    }

    #[test]
    fn local() {
        assert_eq!(stat_local(b""), None);
        assert_eq!(stat_local(b"throttled_usec 0\n"), Some(Usec(0)));
        assert_eq!(stat_local(b"throttled_time 5000\n"), Some(Usec(5)));
    }

    #[test]
    fn bandwidth() {
        assert_eq!(max(b"max 100000\n"), Ok(None));
        assert_eq!(max(b"150000 100000\n"), Ok(Quota::new(Usec(150_000), Usec(100_000))));
        for bad in [&b""[..], b"max", b"x 1", b"1 x", b"-1 100000"] {
            assert!(max(bad).is_err(), "{bad:?}");
        }
    }
}
