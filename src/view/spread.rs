//! Ways to hand out an amount of time over CPUs without losing a microsecond.

use crate::model::Usec;

/// Pours `amount` over `loads`, the least loaded first, so that the lowest ones rise to one level. `scratch`
/// is working space that is kept between calls.
pub(super) fn pour(loads: &mut [Usec], amount: Usec, scratch: &mut Vec<u64>) {
    if loads.is_empty() || amount == Usec::ZERO {
        return;
    }
    scratch.clear();
    scratch.extend(loads.iter().map(|load| load.0));
    scratch.sort_unstable();
    let amount = u128::from(amount.0);
    // The `count` lowest loads rise to the same level; `sum` is what they hold before.
    let mut sum = 0u128;
    let mut count = 0u128;
    for (index, &load) in scratch.iter().enumerate() {
        if index > 0 && u128::from(load) * count >= sum + amount {
            break;
        }
        sum += u128::from(load);
        count += 1;
    }
    let level = (sum + amount) / count;
    let mut rest = (sum + amount) % count;
    // A load at exactly the level may have been left out above; the rest is 0 then, and it stays as it is.
    for load in loads.iter_mut().filter(|load| u128::from(load.0) <= level) {
        let extra = u128::from(rest > 0);
        rest -= extra;
        *load = Usec(u64::try_from(level + extra).unwrap_or(u64::MAX));
    }
}

/// Splits a total in proportion to shares that arrive one by one; the parts sum up to the total exactly.
pub(super) struct Split {
    total: u64,
    whole: u64,
    seen: u64,
    given: u64,
}

impl Split {
    /// `total` (at most `whole`) is to be handed out over shares that sum up to `whole`.
    pub(super) fn new(total: Usec, whole: Usec) -> Self {
        Self { total: total.0.min(whole.0), whole: whole.0, seen: 0, given: 0 }
    }

    /// The part of the next share; never more than the share.
    pub(super) fn next(&mut self, share: Usec) -> Usec {
        self.seen = self.seen.saturating_add(share.0).min(self.whole);
        let upto = Usec(self.total).scaled(self.seen, self.whole).0;
        let part = upto.saturating_sub(self.given).min(share.0);
        self.given = self.given.saturating_add(part);
        Usec(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poured(loads: &[u64], amount: u64) -> Vec<u64> {
        let mut loads: Vec<Usec> = loads.iter().copied().map(Usec).collect();
        pour(&mut loads, Usec(amount), &mut Vec::new());
        loads.into_iter().map(|load| load.0).collect()
    }

    #[test]
    fn the_lowest_rise_to_one_level() {
        assert_eq!(poured(&[0, 0], 10), [5, 5]);
        assert_eq!(poured(&[0, 10, 4], 8), [6, 10, 6]);
        assert_eq!(poured(&[10, 0, 5], 5), [10, 5, 5]);
        assert_eq!(poured(&[0, 0, 0], 11), [4, 4, 3]);
        assert_eq!(poured(&[3, 1], 0), [3, 1]);
        assert!(poured(&[], 5).is_empty());
        assert_eq!(poured(&[u64::MAX, u64::MAX], 5), [u64::MAX, u64::MAX], "no wrap");
    }

    #[test]
    fn parts_sum_up_to_the_total() {
        let shares = [7, 0, 1, 1, 90, 3];
        let mut split = Split::new(Usec(50), Usec(102));
        let parts: Vec<u64> = shares.iter().map(|&share| split.next(Usec(share)).0).collect();
        assert_eq!(parts.iter().sum::<u64>(), 50);
        assert!(parts.iter().zip(shares).all(|(&part, share)| part <= share), "{parts:?}");
    }
}
