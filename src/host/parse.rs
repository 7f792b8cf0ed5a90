//! Pure parsers of the host's files. No I/O, exact keys, no panic on any input.

pub mod cpuinfo;
pub mod meminfo;
pub mod process;
pub mod stat;
