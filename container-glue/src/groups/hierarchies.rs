//! Which cgroup hierarchies this host has.

use std::io;
use std::path::{Path, PathBuf};

/// Controllers whose v1 hierarchies get a group for the container.
const USED_V1: &[&str] = &["memory", "cpu", "cpuacct", "cpuset", "pids", "freezer"];

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// cgroup2.
    pub v2: bool,
    /// v1: the co-mounted controllers; v2: what its root offers.
    pub controllers: Vec<String>,
}

/// All hierarchies in which the container gets a group; at most one of them is v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies(pub Vec<Hierarchy>);

impl Hierarchies {
    /// Reads `PROC/self/mountinfo` and the v2 root's `cgroup.controllers`.
    pub fn discover(proc: &Path) -> io::Result<Self> {
        let mut found = Self::from_mountinfo(&std::fs::read_to_string(proc.join("self/mountinfo"))?);
        for hierarchy in found.0.iter_mut().filter(|hierarchy| hierarchy.v2) {
            let offered = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers"))?;
            hierarchy.controllers = offered.split_whitespace().map(str::to_owned).collect();
        }
        Ok(found)
    }

    /// The first mount of each hierarchy that is of use. Named v1 hierarchies (systemd's) and those of other
    /// controllers are left alone.
    fn from_mountinfo(text: &str) -> Self {
        let of_use = |(kind, mount, options): (&str, PathBuf, &str)| {
            let v2 = kind == "cgroup2";
            let controllers: Vec<String> = match v2 {
                true => Vec::new(),
                false => options.split(',').filter(|o| USED_V1.contains(o)).map(str::to_owned).collect(),
            };
            (v2 || !controllers.is_empty()).then_some(Hierarchy { mount, v2, controllers })
        };
        Self(all(text).into_iter().filter_map(of_use).collect())
    }

    /// The hierarchy that a controller is on.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }
}

/// Where each of the host's hierarchies is mounted, of whatever controllers. `proc` is /proc.
pub fn mount_points(proc: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string(proc.join("self/mountinfo"))?;
    Ok(all(&text).into_iter().map(|(_, mount, _)| mount).collect())
}

/// Type, mount point and super options of the first mount of each hierarchy.
fn all(text: &str) -> Vec<(&str, PathBuf, &str)> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        // ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS (proc(5))
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (&[_, _, device, _, mount, ..], &[kind, .., options]) = (&left[..], &right[..]) else { continue };
        if matches!(kind, "cgroup" | "cgroup2") && !seen.contains(&device) {
            seen.push(device);
            found.push((kind, unescape(mount), options));
        }
    }
    found
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\ooo`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
";
        let found = Hierarchies::from_mountinfo(text);
        let short: Vec<_> =
            found.0.iter().map(|h| (h.mount.to_str().unwrap(), h.v2, h.controllers.join("+"))).collect();
        assert_eq!(
            short,
            [
                ("/sys/fs/cgroup/cpu,cpuacct", false, "cpu+cpuacct".to_owned()),
                ("/sys/fs/cgroup/cpuset", false, "cpuset".to_owned()),
                ("/sys/fs/cgroup/uni fied", true, String::new()),
            ]
        );
        assert_eq!(found.of("cpuacct"), Some(&found.0[0]));
        assert_eq!(found.of("memory"), None);
        let all: Vec<PathBuf> = all(text).into_iter().map(|(_, mount, _)| mount).collect();
        assert_eq!(all.len(), 5);
        assert!(all.contains(&PathBuf::from("/sys/fs/cgroup/systemd")));
    }

    #[test]
    fn broken_lines_are_skipped() {
        assert_eq!(
            Hierarchies::from_mountinfo("\n - \n1 2 3 - cgroup\n - cgroup2 x y\n"),
            Hierarchies::default()
        );
        assert_eq!(unescape("a\\1"), PathBuf::from("a\\1"));
        assert_eq!(unescape("\\134\\999"), PathBuf::from("\\\\999"));
    }
}
