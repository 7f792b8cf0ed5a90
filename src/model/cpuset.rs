//! Sets of CPU (or NUMA node) numbers, as the kernel prints them in `cpuset.cpus.effective`, `online` and
//! their like: `0-3,8`.

use std::fmt;

/// Numbers that a [`CpuSet`] can hold are below this: the largest NR_CPUS that Linux can be built with.
pub const MAX_CPUS: usize = 8192;
const WORDS: usize = MAX_CPUS / 64;

/// A set of CPU numbers, each below [`MAX_CPUS`]. 1 KiB, no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl Default for CpuSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Why a list of CPU numbers was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// Not of the form `N`, `N-M` or a comma-separated list of those.
    #[error("{0:?} is not a CPU list such as 0-3,8")]
    Syntax(String),
    /// A number of [`MAX_CPUS`] or more.
    #[error("CPU {0} is beyond the {MAX_CPUS} that Linux knows")]
    TooLarge(u64),
    /// `M-N` with M greater than N.
    #[error("{0}-{1} is an empty range")]
    Backwards(u64, u64),
}

impl CpuSet {
    /// The empty set.
    pub const EMPTY: Self = Self { words: [0; WORDS] };

    /// The set of `0..count`; at most [`MAX_CPUS`].
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count.min(MAX_CPUS)).collect()
    }

    /// Parses the kernel's list format. White space around the text is ignored; the empty text is the empty
    /// set (v1 prints that for a group whose cpuset was never configured).
    pub fn parse(text: &str) -> Result<Self, CpuSetError> {
        let mut set = Self::EMPTY;
        let text = text.trim();
        if text.is_empty() {
            return Ok(set);
        }
        let syntax = || CpuSetError::Syntax(text.chars().take(80).collect());
        let number = |s: &str| -> Result<u64, CpuSetError> {
            if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
                return Err(syntax());
            }
            s.parse().map_err(|_| CpuSetError::TooLarge(u64::MAX))
        };
        for part in text.split(',') {
            let (low, high) = match part.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => {
                    let n = number(part)?;
                    (n, n)
                }
            };
            if high >= MAX_CPUS as u64 {
                return Err(CpuSetError::TooLarge(high));
            }
            if low > high {
                return Err(CpuSetError::Backwards(low, high));
            }
            for cpu in low..=high {
                set.insert(cpu as usize);
            }
        }
        Ok(set)
    }

    /// Adds a number; one of [`MAX_CPUS`] or more is ignored.
    pub fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.words.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The numbers in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut words = self.words;
        for (word, other) in words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        Self { words }
    }

    /// The numbers in either set.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut words = self.words;
        for (word, other) in words.iter_mut().zip(&other.words) {
            *word |= other;
        }
        Self { words }
    }

    /// The numbers in `self` that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut words = self.words;
        for (word, other) in words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
        Self { words }
    }

    /// The lowest `count` numbers of the set.
    #[must_use]
    pub fn lowest(&self, count: usize) -> Self {
        self.iter().take(count).collect()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| index * 64 + rest.trailing_zeros() as usize)
        })
    }

    /// The largest number, if any.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.words
            .iter()
            .enumerate()
            .rev()
            .find(|(_, word)| **word != 0)
            .map(|(index, word)| index * 64 + 63 - word.leading_zeros() as usize)
    }

    /// The position of `cpu` among the set's numbers, counted from 0.
    #[must_use]
    pub fn rank(&self, cpu: usize) -> Option<usize> {
        if !self.contains(cpu) {
            return None;
        }
        let full: usize = self.words.iter().take(cpu / 64).map(|word| word.count_ones() as usize).sum();
        let below = self.words[cpu / 64] & ((1u64 << (cpu % 64)) - 1);
        Some(full + below.count_ones() as usize)
    }

    /// The number at position `rank` (the inverse of [`Self::rank`]).
    #[must_use]
    pub fn nth(&self, rank: usize) -> Option<usize> {
        self.iter().nth(rank)
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        for cpu in iter {
            set.insert(cpu);
        }
        set
    }
}

impl fmt::Display for CpuSet {
    /// The kernel's list format (`%*pbl`): runs of two or more as `a-b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut comma = "";
        while let Some(low) = numbers.next() {
            let mut high = low;
            while numbers.peek() == Some(&(high + 1)) {
                high += 1;
                numbers.next();
            }
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists() {
        for text in ["", "0", "0-3", "0,2", "1-2,4,6-7", "8191", "0-1,3-63,127-129"] {
            assert_eq!(CpuSet::parse(text).map(|s| s.to_string()), Ok(text.to_string()));
        }
        assert_eq!(CpuSet::parse(" 0-1 \n").map(|s| s.len()), Ok(2));
    }

    #[test]
    fn refused() {
        assert!(matches!(CpuSet::parse("a"), Err(CpuSetError::Syntax(_))));
        assert!(matches!(CpuSet::parse("1-"), Err(CpuSetError::Syntax(_))));
        assert!(matches!(CpuSet::parse("0,,1"), Err(CpuSetError::Syntax(_))));
        assert!(matches!(CpuSet::parse("+1"), Err(CpuSetError::Syntax(_))));
        assert_eq!(CpuSet::parse("8192"), Err(CpuSetError::TooLarge(8192)));
        assert_eq!(CpuSet::parse("0-99999999999"), Err(CpuSetError::TooLarge(99_999_999_999)));
        assert_eq!(CpuSet::parse("3-1"), Err(CpuSetError::Backwards(3, 1)));
    }

    #[test]
    fn order_and_rank() {
        let set: CpuSet = [1, 64, 65, 200].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 64, 65, 200]);
        assert_eq!(set.rank(65), Some(2));
        assert_eq!(set.rank(2), None);
        assert_eq!(set.nth(3), Some(200));
        assert_eq!(set.last(), Some(200));
        assert_eq!(set.lowest(2).to_string(), "1,64");
    }
}
