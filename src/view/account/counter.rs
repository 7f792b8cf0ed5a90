//! One raw counter of the kernel and what it said last.

use crate::model::saved::{Saved, put};

/// Follows a counter that should only grow.
///
/// Two threads may read it in one order and report it in the other, so a lower value is believed only when
/// the next one is lower too: then the group was made anew. Else the difference would be counted twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::view) struct Counter {
    last: u64,
    lower: Option<u64>,
}

impl Counter {
    /// A counter whose past is not of interest.
    pub(in crate::view) const fn from(now: u64) -> Self {
        Self { last: now, lower: None }
    }

    /// Appends it as two numbers.
    pub(in crate::view) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.last);
        put(out, self.lower.unwrap_or(u64::MAX)); // no value is lower than this one
    }

    /// From those; `None` where they are no counter's.
    pub(in crate::view) fn decode(saved: &mut Saved<'_>) -> Option<Self> {
        let last = saved.number()?;
        match saved.number()? {
            u64::MAX => Some(Self::from(last)),
            lower => (lower < last).then_some(Self { last, lower: Some(lower) }),
        }
    }

    /// How far it came since the last call; 0 where it went down.
    pub(in crate::view) fn delta(&mut self, now: u64) -> u64 {
        if now >= self.last {
            let delta = now - self.last;
            *self = Self::from(now);
            return delta;
        }
        match self.lower {
            Some(lower) => {
                *self = Self::from(now);
                now.saturating_sub(lower)
            }
            None => {
                self.lower = Some(now);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(values: &[u64]) -> Vec<u64> {
        let mut counter = Counter::default();
        values.iter().map(|&value| counter.delta(value)).collect()
    }

    #[test]
    fn s10_an_overtaken_value_is_not_counted_twice() {
        assert_eq!(deltas(&[105, 103, 110, 109, 111]), [105, 0, 5, 0, 1]);
    }

    #[test]
    fn s10_a_counter_that_starts_anew_is_followed() {
        assert_eq!(deltas(&[500, 10, 25, 30]), [500, 0, 15, 5]);
        assert_eq!(deltas(&[500, 25, 10, 30]), [500, 0, 0, 20]);
    }
}
