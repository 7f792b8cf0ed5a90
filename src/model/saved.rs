//! Numbers to bytes and back, for what is kept where a later process finds it. Whoever reads must take any bytes.

/// Appends a number.
pub fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes bytes apart that [`put`] put together. `None` where they end too early.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a>(pub &'a [u8]);

impl<'a> Saved<'a> {
    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    /// The next bytes, of those that have their length before them.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// How many entries follow, of which each takes `entry` bytes at least: never more than there are bytes for.
    pub fn count(&mut self, entry: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len() / entry.max(1)).then_some(count)
    }

    /// A yes or no.
    pub fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// `value`, if nothing is left over.
    pub fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_taken() {
        let mut out = Vec::new();
        put(&mut out, u64::MAX);
        put_bytes(&mut out, b"abc");
        put(&mut out, 1);
        let mut saved = Saved(&out);
        assert_eq!(saved.number(), Some(u64::MAX));
        assert_eq!(saved.bytes(), Some(b"abc".as_slice()));
        assert_eq!(saved.end(()), None, "not the end");
        assert_eq!(saved.flag(), Some(true));
        assert_eq!(saved.end(7), Some(7));
        assert_eq!(saved.number(), None);
    }

    #[test]
    fn no_more_than_there_is() {
        for number in [u64::MAX, 9] {
            let mut out = Vec::new();
            put(&mut out, number);
            out.extend_from_slice(&[0; 8]);
            assert_eq!(Saved(&out).bytes(), None);
            assert_eq!(Saved(&out).count(1), None);
            assert_eq!(Saved(&out).flag(), None);
        }
    }
}
