//! `/proc/PID/cgroup` (cgroups(7)): which group of each hierarchy a process is in.

use super::{ParseError, lines};

/// One line. The path may hold any byte but a newline, colons included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupLine<'a> {
    /// Which hierarchy.
    pub hierarchy: LineHierarchy<'a>,
    /// The group, from the reader's cgroup namespace root: starts with `/`, or `/..` when outside of it. A
    /// removed group's ends in ` (deleted)`; so may a living one's name, so the suffix is left on.
    pub path: &'a [u8],
}

/// The hierarchy a line speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineHierarchy<'a> {
    /// `0::`, cgroup v2.
    V2,
    /// `N:name=NAME:`, a v1 hierarchy without controllers.
    Named(&'a [u8]),
    /// `N:cpu,cpuacct:`, the comma-separated list.
    Controllers(&'a [u8]),
}

/// The lines of `/proc/PID/cgroup`.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Result<CgroupLine<'_>, ParseError>> {
    lines(text).map(line)
}

fn line(line: &[u8]) -> Result<CgroupLine<'_>, ParseError> {
    let fault = || ParseError::new("expected NUMBER:CONTROLLERS:/PATH", line);
    let mut parts = line.splitn(3, |&b| b == b':');
    let number = parts.next().ok_or_else(fault)?;
    let list = parts.next().ok_or_else(fault)?;
    let path = parts.next().ok_or_else(fault)?;
    if super::scalar::number(number).is_none() || !path.starts_with(b"/") {
        return Err(fault());
    }
    let hierarchy = if list.is_empty() {
        LineHierarchy::V2
    } else if let Some(name) = list.strip_prefix(b"name=") {
        LineHierarchy::Named(name)
    } else {
        LineHierarchy::Controllers(list)
    };
    Ok(CgroupLine { hierarchy, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_lines() {
        let text = b"9:name=systemd:/\n2:cpu,cpuacct:/a:b c\n0::/x (deleted)\n1:memory:/\xff\n";
        let found: Vec<_> = parse(text).map(Result::unwrap).collect();
        assert_eq!(found[0].hierarchy, LineHierarchy::Named(b"systemd"));
        assert_eq!(
            (found[1].hierarchy, found[1].path),
            (LineHierarchy::Controllers(b"cpu,cpuacct"), &b"/a:b c"[..])
        );
        assert_eq!((found[2].hierarchy, found[2].path), (LineHierarchy::V2, &b"/x (deleted)"[..]));
        assert_eq!(found[3].path, b"/\xff");
    }

    #[test]
    fn bad_lines_are_named() {
        for bad in ["x", "1:cpu", "a:cpu:/", "1:cpu:x", "1:cpu:"] {
            let error = parse(bad.as_bytes()).next().unwrap().unwrap_err();
            assert_eq!(error.line, bad);
        }
    }
}
