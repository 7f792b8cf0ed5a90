//! Pure parsers: the bytes of one cgroup file -> model types. No I/O, exact keys, no panic on any input.

pub mod cpu;
pub mod io;
pub mod memory;
pub mod mountinfo;
pub mod proc_cgroup;
pub mod scalar;

/// A line that does not say what the kernel documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {line:?}")]
pub struct ParseError {
    /// What was expected.
    pub what: &'static str,
    /// The offending line, cut to 200 characters.
    pub line: String,
}

impl ParseError {
    /// Keeps at most 200 characters of the line.
    #[must_use]
    pub fn new(what: &'static str, line: &[u8]) -> Self {
        Self { what, line: String::from_utf8_lossy(line).chars().take(200).collect() }
    }
}

/// The lines of a kernel file, without their newlines; empty ones left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

/// `key value` lines, the value a number; other lines are skipped.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let space = line.iter().position(|&b| b == b' ')?;
        let (key, value) = line.split_at(space);
        Some((key, scalar::number(value)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Version;
    use proptest::prelude::*;

    /// Bytes as they come, and bytes that look like kernel text.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let likely =
            "([a-z_:/]{0,9}[ :,-]?[0-9\\\\]{0,21}( |\n|\t|:|max|-1)?){0,8}".prop_map(String::into_bytes);
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), likely]
    }

    proptest! {
        #[test]
        fn no_input_panics(text in input()) {
            let _ = mountinfo::cgroup_mounts(&text);
            let mut mount = b"1 2 0:3 / /m rw - cgroup x ".to_vec();
            mount.extend_from_slice(&text);
            let _ = mountinfo::cgroup_mounts(&mount);
            proc_cgroup::parse(&text).for_each(drop);
            let _ = memory::stat(&text, Version::V1);
            let _ = memory::reclaimable(&memory::stat(&text, Version::V2));
            let _ = (memory::counters(&text, Version::V1), memory::counters(&text, Version::V2));
            let _ = memory::oom_kills(&text);
            let _ = (cpu::stat(&text), cpu::stat_local(&text), cpu::max(&text));
            let _ = (scalar::limit(&text), scalar::cfs_quota(&text), scalar::counter(&text));
            let _ = scalar::list_into(&text, &mut Vec::new());
            io::stat(&text).for_each(drop);
            io::throttle(&text).for_each(drop);
        }

        #[test]
        fn numbers_are_read_as_printed(n: u64) {
            prop_assert_eq!(scalar::number(format!("{n}\n").as_bytes()), Some(n));
        }
    }
}
