//! A directory of sysfs as it is: listings, kinds, small files, links. By relative path, never out of it.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::HostError;
use crate::cgroup::kept::{open_beneath, read_fd};
use crate::render::is_listed;

/// Longer files are cut: sysfs itself prints at most a page (binary attributes apart).
pub const LONGEST: usize = 64 * 1024;

/// What an entry is. Other kinds do not occur in sysfs and are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SysKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link; it is shown, never followed.
    Link,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysEntry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: SysKind,
}

/// A directory tree, held open at its top.
#[derive(Debug)]
pub struct SysTree {
    path: PathBuf,
    dir: OwnedFd,
    shown: &'static [(&'static str, &'static str)],
}

impl SysTree {
    /// Opens the top. Of what is there only the paths in `shown` exist, and the directories above them (see
    /// [`crate::render::is_listed`]).
    pub fn open(path: &Path, shown: &'static [(&'static str, &'static str)]) -> Result<Self, HostError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| HostError::io(path, e))?;
        Ok(Self { path: path.to_owned(), dir, shown })
    }

    /// The top.
    pub(super) const fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The entries of a directory, sorted by name; the empty path is the top.
    pub fn list(&self, relative: &Path) -> Result<Vec<SysEntry>, HostError> {
        let fd = self.at(relative, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let listing = Dir::new(fd).map_err(|e| HostError::io(self.path.join(relative), e))?;
        let mut entries: Vec<_> = listing
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name() != c"." && entry.file_name() != c"..")
            .filter_map(|entry| {
                let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
                let shown = is_listed(self.shown, relative.join(&name).to_str()?);
                shown.then_some(SysEntry { kind: kind(entry.file_type())?, name })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// What is at a path, links not followed.
    pub fn kind(&self, relative: &Path) -> Result<SysKind, HostError> {
        let fault = |e: Errno| HostError::io(self.path.join(relative), e);
        let fd = self.at(relative, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(fault)?;
        kind(FileType::from_raw_mode(stat.st_mode)).ok_or_else(|| fault(Errno::NOENT))
    }

    /// Reads a file and hands at most [`LONGEST`] bytes to `f`.
    pub fn read<R>(&self, relative: &Path, f: impl FnOnce(&[u8]) -> R) -> Result<R, HostError> {
        let fd = self.at(relative, OFlags::RDONLY | OFlags::NONBLOCK)?;
        read_fd(fd.as_fd(), |text| f(text.get(..LONGEST).unwrap_or(text)))
            .map_err(|e| HostError::io(self.path.join(relative), e))
    }

    /// Where a link points.
    pub fn link(&self, relative: &Path) -> Result<PathBuf, HostError> {
        let fault = |e: Errno| HostError::io(self.path.join(relative), e);
        let fd = self.at(relative, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(fault)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn at(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, HostError> {
        let outside = || HostError::Outside { path: relative.to_owned() };
        let name = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let text = name.to_str().ok_or_else(outside)?;
        debug_assert_eq!(text.as_bytes(), name.as_os_str().as_bytes());
        if text != "." && !is_listed(self.shown, text) {
            return Err(HostError::io(self.path.join(relative), Errno::NOENT));
        }
        open_beneath(self.dir.as_fd(), text, flags).map_err(|error| match error {
            Errno::XDEV => outside(),
            // with NOFOLLOW | PATH the last component may be a link; anything else on the way may not
            error => HostError::io(self.path.join(relative), error),
        })
    }
}

fn kind(file_type: FileType) -> Option<SysKind> {
    match file_type {
        FileType::Directory => Some(SysKind::Directory),
        FileType::RegularFile => Some(SysKind::File),
        FileType::Symlink => Some(SysKind::Link),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_stays_inside() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("cpu0")).unwrap();
        std::fs::write(top.path().join("cpu0/online"), "1\n").unwrap();
        std::os::unix::fs::symlink("/etc", top.path().join("out")).unwrap();
        std::fs::write(top.path().join("cpu0/state"), "5\n").unwrap();
        let tree = SysTree::open(top.path(), &[("cpuN/online", ""), ("cpuN/x", ""), ("out", "")]).unwrap();
        let list = tree.list(Path::new("")).unwrap();
        assert_eq!(list.iter().map(|e| e.kind).collect::<Vec<_>>(), [SysKind::Directory, SysKind::Link]);
        assert_eq!(tree.read(Path::new("cpu0/online"), <[u8]>::to_vec).unwrap(), b"1\n");
        assert_eq!(tree.kind(Path::new("cpu0/online")).unwrap(), SysKind::File);
        assert_eq!(tree.kind(Path::new("out")).unwrap(), SysKind::Link);
        assert_eq!(tree.link(Path::new("out")).unwrap(), Path::new("/etc"));
        assert_eq!(tree.list(Path::new("cpu0")).unwrap().len(), 1, "what is not in the list is not there");
        for bad in ["cpu0/state", "cpu0/x", "out/passwd", "../x", "/etc/passwd", "nothing", "cpu0/../../x"] {
            assert!(tree.read(Path::new(bad), |_| ()).is_err(), "{bad}");
            assert!(tree.list(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
