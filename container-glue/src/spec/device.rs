//! `--device PATH[:DST][:rwm]` and `--io-max DEV:KEY=N,...`.

use std::path::{Component, Path, PathBuf};

use crate::spec::SpecError;

/// A device of the host that the container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFlag {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path inside, in /dev.
    pub target: PathBuf,
    /// Some of `rwm`, each once.
    pub access: String,
}

impl DeviceFlag {
    /// Parses the flag's value.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let fail = |reason: &str| SpecError::flag("--device", text, reason);
        let is_access = |word: &str| {
            !word.is_empty()
                && word.chars().enumerate().all(|(at, c)| "rwm".contains(c) && !word[..at].contains(c))
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, access) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, target] => (source, target, "rwm"),
            [source, target, access] if is_access(access) => (source, target, access),
            [_, _, _] => return Err(fail("the last part is some of r, w and m")),
            _ => return Err(fail("write it as PATH, PATH:DST or PATH:DST:rwm")),
        };
        if !source.starts_with('/') {
            return Err(fail("PATH must be an absolute path of the host"));
        }
        let path = Path::new(target);
        let below = path.strip_prefix("/dev").ok().filter(|below| below.components().count() > 0);
        if !below.is_some_and(|below| below.components().all(|part| matches!(part, Component::Normal(_)))) {
            return Err(fail("the container's devices lie in /dev: give PATH:/dev/NAME"));
        }
        Ok(Self { source: source.into(), target: path.to_owned(), access: access.to_owned() })
    }
}

/// Limits of I/O to one block device, per second; 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoMax {
    /// A node of the host's, or `MAJOR:MINOR`.
    pub device: String,
    /// rbps, wbps, riops, wiops with their values, each at most once.
    pub limits: Vec<(&'static str, u64)>,
}

/// Keys of `io.max` (admin-guide/cgroup-v2.rst).
pub const KEYS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

impl IoMax {
    /// Parses the flag's value.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let fail = |reason: String| SpecError::flag("--io-max", text, reason);
        let (device, words) = text
            .rsplit_once(':')
            .filter(|(device, words)| !device.is_empty() && words.contains('='))
            .ok_or_else(|| fail("write it as /dev/NAME:rbps=1048576,wiops=100".to_owned()))?;
        let mut limits: Vec<(&'static str, u64)> = Vec::new();
        for word in words.split(',') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let key = *KEYS
                .iter()
                .find(|known| **known == key)
                .ok_or_else(|| fail(format!("{key:?} is not one of {}", KEYS.join(", "))))?;
            if limits.iter().any(|(other, _)| *other == key) {
                return Err(fail(format!("{key} is there twice")));
            }
            let value = super::size::parse(value).map_err(|reason| fail(format!("{key}: {reason}")))?;
            if value == 0 {
                return Err(fail(format!("{key}: 0 would stop all of it; leave {key} out for no limit")));
            }
            limits.push((key, value));
        }
        Ok(Self { device: device.to_owned(), limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let parse = |text: &str| DeviceFlag::parse(text).map(|it| (it.target, it.access));
        assert_eq!(parse("/dev/fuse"), Ok(("/dev/fuse".into(), "rwm".to_owned())));
        assert_eq!(parse("/dev/sda:r"), Ok(("/dev/sda".into(), "r".to_owned())));
        assert_eq!(parse("/dev/sda:/dev/x/y"), Ok(("/dev/x/y".into(), "rwm".to_owned())));
        assert_eq!(parse("/dev/sda:/dev/xvda:rw"), Ok(("/dev/xvda".into(), "rw".to_owned())));
        for bad in [
            "",
            "fuse",
            "/dev/a:/tmp/b",
            "/dev/a:/dev",
            "/dev/a:/dev/../etc/x",
            "/dev/a:/dev/b:rr",
            "/dev/a:/dev/b:x",
            "/a:b:c:d",
            "/x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn block_io() {
        let it = IoMax::parse("/dev/sda:rbps=1m,wiops=100").unwrap();
        assert_eq!((it.device.as_str(), it.limits), ("/dev/sda", vec![("rbps", 1 << 20), ("wiops", 100)]));
        assert_eq!(IoMax::parse("8:0:wbps=1").unwrap().device, "8:0");
        for bad in [
            "",
            "/dev/sda",
            "/dev/sda:",
            "/dev/sda:rbps",
            "/dev/sda:x=1",
            "/dev/sda:rbps=1,rbps=2",
            "/dev/sda:rbps=0",
            ":rbps=1",
        ] {
            assert!(IoMax::parse(bad).is_err(), "{bad}");
        }
    }
}
