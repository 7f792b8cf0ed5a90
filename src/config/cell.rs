//! The policies in force, where every read finds them.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::{CountersPolicy, CpusPolicy, Numbering, Policies, Policy, SwapPolicy, UptimePolicy};

/// Policies that may change while they are read: one word, no lock. A reader sees all of a change or nothing of it.
#[derive(Debug, Default)]
pub struct PolicyCell(AtomicU8);

impl PolicyCell {
    /// A cell that holds these.
    #[must_use]
    pub const fn new(policies: &Policies) -> Self {
        Self(AtomicU8::new(pack(policies)))
    }

    /// The policies now.
    #[must_use]
    pub fn get(&self) -> Policies {
        unpack(self.0.load(Ordering::Acquire))
    }

    /// Changes them for every reading that begins from now on.
    pub fn set(&self, policies: &Policies) {
        self.0.store(pack(policies), Ordering::Release);
    }
}

/// One bit for each policy: its place among [`Policy::VALUES`].
const fn pack(policies: &Policies) -> u8 {
    (policies.cpus as u8)
        | ((policies.numbering as u8) << 1)
        | ((policies.swap as u8) << 2)
        | ((policies.uptime as u8) << 3)
        | ((policies.counters as u8) << 4)
}

fn unpack(bits: u8) -> Policies {
    fn value<P: Policy>(bit: u8) -> P {
        P::VALUES.get(usize::from(bit & 1)).copied().unwrap_or_default()
    }
    Policies {
        cpus: value::<CpusPolicy>(bits),
        numbering: value::<Numbering>(bits >> 1),
        swap: value::<SwapPolicy>(bits >> 2),
        uptime: value::<UptimePolicy>(bits >> 3),
        counters: value::<CountersPolicy>(bits >> 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PolicyChoices, PolicyKey};

    #[test]
    fn o5_every_combination_goes_in_and_comes_out() {
        let cell = PolicyCell::default();
        assert_eq!(cell.get(), Policies::default());
        for bits in 0..32_usize {
            let mut choices = PolicyChoices::default();
            for (place, key) in PolicyKey::CONTAINER.into_iter().enumerate() {
                let values = key.values();
                assert_eq!(values.len(), 2, "one bit holds the value");
                choices.set(key, Some(values[bits >> place & 1])).unwrap();
            }
            let policies = choices.complete();
            cell.set(&policies);
            assert_eq!(cell.get(), policies);
            assert_eq!(PolicyCell::new(&policies).get(), policies);
        }
    }
}
