//! Where a file lies in a container: found component by component, so that no mount is crossed unnoticed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::kernel::{PLACE, STRICT, resolve};

/// What is at a path.
pub enum Place {
    /// The file of the file system itself.
    Free(OwnedFd),
    /// A mount.
    Covered(Covered),
    /// Nothing.
    Missing,
    /// It cannot be resolved: a link, no permission.
    Refused(Errno),
}

/// A mount over a path, or over a directory on the way to it.
pub struct Covered {
    /// The directory it lies in.
    pub dir: OwnedFd,
    /// Its name there.
    pub name: PathBuf,
    /// The root of the topmost mount.
    pub top: OwnedFd,
    /// Which leading part of the path it is.
    pub at: PathBuf,
    /// Whether that is all of the path.
    pub last: bool,
}

/// Walks `path` down from `base`, never through a link, never into a mount.
pub fn find(base: BorrowedFd<'_>, path: &Path) -> Place {
    let mut dir = match rustix::io::fcntl_dupfd_cloexec(base, 0) {
        Ok(dir) => dir,
        Err(errno) => return Place::Refused(errno),
    };
    let mut at = PathBuf::new();
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        let name = Path::new(name.as_os_str());
        at.push(name);
        let last = names.peek().is_none();
        let flags = if last { PLACE } else { PLACE | OFlags::DIRECTORY };
        match resolve(dir.as_fd(), name, flags, STRICT | ResolveFlags::NO_XDEV) {
            Ok(next) => dir = next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Place::Missing,
            // A mount lies there. Its root is known to the kernel: this asks no file system.
            Err(Errno::XDEV) => {
                return match resolve(dir.as_fd(), name, PLACE, STRICT) {
                    Ok(top) => Place::Covered(Covered { dir, name: name.to_owned(), top, at, last }),
                    Err(errno) => Place::Refused(errno),
                };
            }
            Err(errno) => return Place::Refused(errno),
        }
    }
    Place::Free(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_mounts_are_not_crossed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let base = std::fs::File::open(dir.path()).unwrap();
        let look = |path: &str| find(base.as_fd(), Path::new(path));
        assert!(matches!(look("a/file"), Place::Free(_)));
        assert!(matches!(look("a/none"), Place::Missing));
        assert!(matches!(look("a/file/x"), Place::Missing));
        assert!(!matches!(look("link/file"), Place::Free(_)));
        assert!(!matches!(look("../x"), Place::Free(_)));
        let root = std::fs::File::open("/").unwrap();
        match find(root.as_fd(), Path::new("proc/self")) {
            Place::Covered(covered) => {
                assert_eq!((covered.at.as_path(), covered.last), (Path::new("proc"), false));
            }
            _ => panic!("/proc is a mount"),
        }
    }
}
