//! Pure parsers: the bytes of one cgroup file -> model types. No I/O, exact keys, no panic on any input.

pub mod cpu;
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
