//! Cgroup mounts in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{ParseError, lines, scalar::number};
use crate::cgroup::{Controller, Version};

/// One mount of a cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Which interface.
    pub version: Version,
    /// v1: controllers in the mount options; v2: empty (`cgroup.controllers` in the mount says which).
    pub controllers: Vec<Controller>,
    /// v1: further controllers in the mount options, of which no virtual file tells anything ([`OTHERS_V1`]).
    pub others: Vec<&'static str>,
    /// v1 `name=`: a hierarchy without controllers, such as systemd's.
    pub name: Option<String>,
    /// Field 3: major and minor of the file system.
    pub device: (u32, u32),
    /// Field 4: the group shown at the mount point.
    pub root: PathBuf,
    /// Field 5.
    pub mountpoint: PathBuf,
}

/// The kernel's v1 controllers besides [`Controller`] (include/linux/cgroup_subsys.h).
pub const OTHERS_V1: &[&str] = &["net_cls", "net_prio", "perf_event", "rdma", "misc", "debug"];

/// The cgroup and cgroup2 mounts among the lines; others are skipped without being looked at further.
pub fn cgroup_mounts(text: &[u8]) -> Result<Vec<CgroupMount>, ParseError> {
    lines(text).filter_map(|line| mount(line).transpose()).collect()
}

/// One line: `ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS`.
fn mount(line: &[u8]) -> Result<Option<CgroupMount>, ParseError> {
    let fault = |what| ParseError::new(what, line);
    let mut words = line.split(|&b| b == b' ');
    let mut before = words.by_ref().take_while(|&word| word != b"-");
    let (_id, _parent) = (before.next(), before.next());
    let device = before.next().ok_or_else(|| fault("mountinfo line without a device"))?;
    let root = before.next().ok_or_else(|| fault("mountinfo line without a root"))?;
    let mountpoint = before.next().ok_or_else(|| fault("mountinfo line without a mount point"))?;
    before.for_each(drop);
    let kind = words.next().ok_or_else(|| fault("mountinfo line without a file system type"))?;
    let version = match kind {
        b"cgroup" => Version::V1,
        b"cgroup2" => Version::V2,
        _ => return Ok(None),
    };
    let options = words.nth(1).unwrap_or_default();
    let (mut controllers, mut others, mut name) = (Vec::new(), Vec::new(), None);
    if version == Version::V1 {
        for option in options.split(|&b| b == b',') {
            if let Some(value) = option.strip_prefix(b"name=") {
                name = Some(String::from_utf8_lossy(&unescape(value)).into_owned());
            }
            controllers.extend(Controller::from_kernel(option));
            others.extend(OTHERS_V1.iter().copied().find(|other| other.as_bytes() == option));
        }
    }
    let device = device
        .split(|&b| b == b':')
        .map(|part| number(part).and_then(|n| u32::try_from(n).ok()))
        .collect::<Option<Vec<u32>>>()
        .and_then(|parts| Some((*parts.first()?, *parts.get(1)?)))
        .ok_or_else(|| fault("mountinfo line with a bad device"))?;
    Ok(Some(CgroupMount {
        version,
        controllers,
        others,
        name,
        device,
        root: path(&unescape(root)),
        mountpoint: path(&unescape(mountpoint)),
    }))
}

/// The kernel writes space, tab, newline and backslash as `\ooo` (`seq_path`).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            digits
                .iter()
                .try_fold(0u32, |sum, &d| (b'0'..=b'7').contains(&d).then(|| sum * 8 + u32::from(d - b'0')))
        });
        match octal.and_then(|n| u8::try_from(n).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[3..];
            }
            None => out.push(byte),
        }
    }
    out
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_host() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 /a\\040b /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounts = cgroup_mounts(text).unwrap();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(mounts[0].device, (0, 29));
        assert_eq!(mounts[1].name.as_deref(), Some("systemd"));
        assert_eq!(mounts[1].root, PathBuf::from("/a b"));
        assert_eq!((mounts[2].version, mounts[2].controllers.len()), (Version::V2, 0));
    }

    #[test]
    fn the_offending_line_is_named() {
        assert!(
            cgroup_mounts(b"1 2 x / /m rw - cgroup cgroup rw,cpu\n").unwrap_err().line.starts_with("1 2 x")
        );
        assert!(cgroup_mounts(b"1 2 0:1 / /m rw\n").is_err());
        assert_eq!(unescape(b"\\134\\1\\9"), b"\\\\1\\9");
    }
}
