//! `-v SRC:DST[:ro]`.

use std::path::{Component, Path, PathBuf};

use crate::spec::SpecError;

/// A directory or file of the host that the container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path inside, not `/` and not in `/proc`.
    pub target: PathBuf,
    /// The container cannot write to it.
    pub read_only: bool,
}

impl Volume {
    /// Parses the flag's value.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let fail = |reason: &str| SpecError::flag("--volume", text, reason);
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] | [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [_, _, _] => return Err(fail("the last part can be ro or rw only")),
            _ => return Err(fail("write it as SRC:DST or SRC:DST:ro")),
        };
        if !source.starts_with('/') {
            return Err(fail("SRC must be an absolute path of the host (there are no named volumes)"));
        }
        if !target.starts_with('/') {
            return Err(fail("DST must be an absolute path in the container"));
        }
        if text.contains('\0') {
            return Err(fail("a path cannot hold NUL bytes"));
        }
        let target = PathBuf::from(target);
        if target.components().any(|part| part == Component::ParentDir) {
            return Err(fail("DST must not hold .."));
        }
        if target == Path::new("/") {
            return Err(fail("DST is the root; give the directory with --rootfs"));
        }
        if target.starts_with("/proc") {
            return Err(fail("DST is in /proc, which belongs to the container"));
        }
        Ok(Self { source: source.into(), target, read_only })
    }
}
