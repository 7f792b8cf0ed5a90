//! Numbers that tell containers apart where one must not hold up another: small, so that they index a table.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Numbers that there are.
pub const LANES: u16 = 2048;
/// The number of the host's own readers, and of those that cannot be told.
pub const HOST: u16 = 0;
/// Shared by those that came when all others were taken.
const SHARED: u16 = LANES - 1;

#[derive(Debug)]
struct Numbers {
    free: BTreeSet<u16>,
    /// The least that was never given.
    next: u16,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { free: BTreeSet::new(), next: HOST + 1 });

/// A container's own number, from 1; free again when dropped.
#[derive(Debug)]
pub struct LaneNumber(u16);

impl LaneNumber {
    /// Which it is, below [`LANES`].
    #[must_use]
    pub const fn get(&self) -> u16 {
        self.0
    }
}

impl Default for LaneNumber {
    fn default() -> Self {
        let mut numbers = NUMBERS.lock();
        if let Some(number) = numbers.free.pop_first() {
            return Self(number);
        }
        let number = numbers.next;
        if number < SHARED {
            numbers.next = number + 1;
        }
        Self(number)
    }
}

impl Drop for LaneNumber {
    fn drop(&mut self) {
        if self.0 != SHARED {
            NUMBERS.lock().free.insert(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_while_there_are_any_and_are_shared_then() {
        let all: Vec<LaneNumber> = (0..LANES + 100).map(|_| LaneNumber::default()).collect();
        let own: BTreeSet<u16> = all.iter().map(LaneNumber::get).filter(|number| *number != SHARED).collect();
        let shared = all.iter().filter(|number| number.get() == SHARED).count();
        assert_eq!(own.len() + shared, all.len(), "each number but the last is one container's");
        assert!(own.iter().all(|number| *number > HOST && *number < SHARED));
        assert!(shared >= 100);
    }
}
