//! Files with one value: limits, counters, quotas.

use super::ParseError;
use crate::model::{Bytes, Nsec, Usec};

/// v1 has no word for "unlimited": it prints `PAGE_COUNTER_MAX` pages in bytes, 9223372036854771712 with 4 KiB
/// pages (other page sizes round differently). No machine has 2^62 bytes, so all from there on mean it.
pub const V1_UNLIMITED: u64 = 1 << 62;

/// A decimal number, white space around it ignored. `None` if anything else is there or it exceeds 64 bits.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A counter or usage file: one number.
pub fn counter(text: &[u8]) -> Result<u64, ParseError> {
    number(text).ok_or_else(|| ParseError::new("expected one number", text))
}

/// A limit in bytes: a number, `max` (v2), -1 or a number of 2^62 or more (v1): `None` = unlimited.
pub fn limit(text: &[u8]) -> Result<Option<Bytes>, ParseError> {
    match text.trim_ascii() {
        b"max" | b"-1" => Ok(None),
        digits => match number(digits) {
            Some(n) if n < V1_UNLIMITED => Ok(Some(Bytes(n))),
            Some(_) => Ok(None),
            None => Err(ParseError::new("expected a number of bytes or max", text)),
        },
    }
}

/// `cpu.cfs_quota_us`: `None` for -1 (unlimited) and for 0, which the kernel never prints.
pub fn cfs_quota(text: &[u8]) -> Result<Option<Usec>, ParseError> {
    match text.trim_ascii() {
        b"-1" => Ok(None),
        digits => match number(digits) {
            Some(0) => Ok(None),
            Some(n) => Ok(Some(Usec(n))),
            None => Err(ParseError::new("expected microseconds or -1", text)),
        },
    }
}

/// Numbers between white space, such as `cpuacct.usage_percpu`, appended to `out`.
pub fn list_into(text: &[u8], out: &mut Vec<Nsec>) -> Result<(), ParseError> {
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        out.push(Nsec(number(word).ok_or_else(|| ParseError::new("expected numbers", text))?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_both_versions() {
        assert_eq!(limit(b"max\n"), Ok(None));
        assert_eq!(limit(b"9223372036854771712\n"), Ok(None));
        assert_eq!(limit(b"9223372036854710272\n"), Ok(None), "64 KiB pages");
        assert_eq!(limit(b"0\n"), Ok(Some(Bytes(0))));
        assert_eq!(limit(b"268435456\n"), Ok(Some(Bytes(268_435_456))));
        for bad in [&b""[..], b"maximum", b"1 2", b"0x10", b"99999999999999999999", b"-2"] {
            assert!(limit(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quotas() {
        assert_eq!(cfs_quota(b"-1\n"), Ok(None));
        assert_eq!(cfs_quota(b"150000\n"), Ok(Some(Usec(150_000))));
        assert!(cfs_quota(b"max").is_err());
    }

    #[test]
    fn lists() {
        let mut out = Vec::new();
        list_into(b"12 0 7 \n", &mut out).unwrap();
        assert_eq!(out, [Nsec(12), Nsec(0), Nsec(7)]);
    }
}
