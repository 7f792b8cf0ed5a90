//! The text of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): which mount lies where. No I/O.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::model::MOUNT_TYPE;

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique among the mounts that exist now.
    pub id: u64,
    /// The id of the mount it lies on.
    pub parent: u64,
    /// `MAJ:MIN` of the file system.
    pub device: String,
    /// What of the file system it shows: a path in it.
    pub root: PathBuf,
    /// Where, as the process sees it whose table this is.
    pub point: PathBuf,
    /// The peer group in which it shares mounts made below it, both ways.
    pub shared: Option<u64>,
    /// The peer groups from which it takes such mounts.
    pub masters: Vec<u64>,
    /// The file system's type.
    pub kind: String,
}

impl Mount {
    /// A file system of the type that `ownproc serve` mounts. Anyone may give a file system of his own that type in
    /// a user namespace: it says what a mount claims to be.
    #[must_use]
    pub fn is_ownproc(&self) -> bool {
        self.kind == MOUNT_TYPE
    }

    /// Whether it takes part in a peer group, as a member or as one that follows it.
    #[must_use]
    pub fn in_group(&self, group: u64) -> bool {
        self.shared == Some(group) || self.masters.contains(&group)
    }
}

/// The mounts of a text. Their order says nothing: what was bound into a tree before that was mounted stands before it
/// (Linux 6.8+ sorts by id). Lines that are none are left out.
#[must_use]
pub fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
    let device = String::from_utf8_lossy(words.next()?).into_owned();
    let (root, point) = (unescape(words.next()?), unescape(words.next()?));
    let _options = words.next()?;
    let (mut shared, mut masters) = (None, Vec::new());
    loop {
        let word = words.next()?;
        if word == b"-" {
            break;
        }
        let Some(at) = word.iter().position(|&byte| byte == b':') else { continue };
        let value = number(word.get(at + 1..)?);
        match (word.get(..at)?, value) {
            (b"shared", group) => shared = group,
            (b"master" | b"propagate_from", Some(group)) => masters.push(group),
            _ => {}
        }
    }
    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    Some(Mount { id, parent, device, root, point, shared, masters, kind })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits after a backslash.
fn unescape(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let value = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        if value.is_some() {
            rest = tail.get(3..).unwrap_or_default();
        }
        path.push(value.unwrap_or(byte));
    }
    PathBuf::from(OsString::from_vec(path))
}

/// The mount that a path leads to, when it is walked from the root: at each directory on the way the topmost
/// mount of those that are stacked there.
#[must_use]
pub fn visible<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    // The root's own parent is not in the table, or is itself; under chroot(2) the root may be missing too.
    let outside =
        |mount: &Mount| mount.parent == mount.id || !mounts.iter().any(|other| other.id == mount.parent);
    let mut here: Option<&Mount> = None;
    let mut points: Vec<&Path> = path.ancestors().collect();
    points.reverse();
    for point in points {
        // A mount is its own parent's child once at most, so this ends; the bound is for texts that lie.
        for _ in 0..mounts.len() {
            let on_top = |mount: &&Mount| match here {
                Some(here) => mount.parent == here.id && mount.id != here.id,
                None => outside(mount),
            };
            match mounts.iter().filter(|mount| mount.point == point).find(on_top) {
                Some(mount) => here = Some(mount),
                None => break,
            }
        }
    }
    here
}

/// The path below `MOUNT` or `MOUNT/containers/NAME` that a mount's root names, and the NAME; `None` where it is no path
/// that a tree of ours has, such as that of a file that is gone.
#[must_use]
pub fn served_path(root: &Path) -> Option<(Option<&str>, PathBuf)> {
    let mut parts = Vec::new();
    for part in root.components() {
        match part {
            std::path::Component::RootDir => {}
            std::path::Component::Normal(name) => parts.push(std::str::from_utf8(name.as_bytes()).ok()?),
            _ => return None,
        }
    }
    match parts.as_slice() {
        ["containers", name, rest @ ..] => Some((Some(name), rest.iter().collect())),
        rest => Some((None, rest.iter().collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_tags() {
        let text =
            b"31 30 0:77 /containers/web/proc/meminfo /proc/mem\\040info ro,noatime shared:9 master:4 \
            propagate_from:2 unbindable - fuse.ownproc ownproc ro,user_id=0\n\n1 2 0:1 / / rw - a";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        let mount = &found[0];
        assert_eq!((mount.id, mount.parent, mount.device.as_str()), (31, 30, "0:77"));
        assert_eq!(mount.point, Path::new("/proc/mem info"));
        assert_eq!((mount.shared, mount.masters.as_slice()), (Some(9), [4, 2].as_slice()));
        assert!(mount.is_ownproc() && mount.in_group(9) && mount.in_group(2) && !mount.in_group(30));
        assert_eq!(served_path(&mount.root), Some((Some("web"), PathBuf::from("proc/meminfo"))));
        assert!(!found[1].is_ownproc() && found[1].shared.is_none());
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        assert_eq!(
            parse(b"\nx\n1 2 3\n - a\nx y 0:1 / / rw - a a rw\n1 2 0:1 / / rw\n1 2 0:1 / / rw x").len(),
            0
        );
        assert_eq!(unescape(b"/a\\040b\\134040\\9\\"), PathBuf::from("/a b\\040\\9\\"));
        assert_eq!(unescape(b"/\\012\\011\\777"), PathBuf::from("/\n\t\\777"));
    }

    #[test]
    fn paths_that_a_tree_has() {
        let path =
            |text: &str| served_path(Path::new(text)).map(|(name, path)| (name.map(str::to_owned), path));
        assert_eq!(path("/proc/meminfo"), Some((None, "proc/meminfo".into())));
        assert_eq!(path("/"), Some((None, "".into())));
        assert_eq!(path("/containers"), Some((None, "containers".into())));
        assert_eq!(path("/containers/web"), Some((Some("web".into()), "".into())));
        assert_eq!(path("/proc/../../etc"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_harmless(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for mount in parse(&text) {
                let _ = served_path(&mount.root);
            }
        }
    }
}
