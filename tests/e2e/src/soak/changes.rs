//! Random changes of a container's limits.

use crate::case::{Doing, Outcome};
use crate::groups::Group;

/// Numbers that a seed repeats (xorshift64).
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`; 0 for 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(limit).unwrap_or(0)
    }

    /// One of several.
    fn choose<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(words.len() as u64)).unwrap_or(0);
        words.get(index).copied().unwrap_or_default()
    }
}

/// One change. A limit that the kernel refuses just now (memory below what is in use) is no fault.
pub fn change(random: &mut Random, group: &Group, name: &str, cpus: usize) -> Outcome {
    match random.below(4) {
        0 => {
            let _ = group.set_memory(100 + random.below(500));
            Ok(())
        }
        1 => group.set_quota(10 + random.below(250)),
        2 if cpus > 2 => group.set_cpuset(random.choose(&["0", "1", "0-1", "1-2", "0,3", "2-3", "0-3"])),
        2 => group.set_cpuset(random.choose(&["0", "1", "0-1"])),
        _ => {
            let choice = random.choose(&[
                "cpus=cpuset",
                "cpus=quota",
                "numbering=compact",
                "numbering=physical",
                "swap=hide",
                "swap=show",
            ]);
            crate::daemon::ownproc(&["view", name, choice])?
                .ok()
                .doing(format!("ownproc view {name} {choice}"))?;
            Ok(())
        }
    }
}
