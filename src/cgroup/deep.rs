//! A walk over a cgroup and all below it, by descriptors.
//!
//! A container that may make cgroups can nest them deeper than a path can be long (PATH_MAX, 4096
//! bytes) and than a process may have descriptors open. So no path is made here, and two
//! descriptors are open at a time, whatever the depth.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

/// What is done with each cgroup. A break ends the walk.
pub trait Visit {
    /// Before those below it.
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> ControlFlow<()>;
    /// After those below it; not called for the top one.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> ControlFlow<()> {
        let _ = (parent, name);
        ControlFlow::Continue(())
    }
}

/// A cgroup on the way from the top to the current one.
struct Level {
    /// Device and inode number.
    id: (u64, u64),
    /// Its name in the one above; empty at the top.
    name: CString,
    /// Those below it that were not entered yet.
    left: Vec<CString>,
}

/// Opens a cgroup for [`walk`].
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, flags(), Mode::empty())?)
}

/// Walks over `top` and all below it. Cgroups that go meanwhile are left out.
pub fn walk(top: &OwnedFd, visit: &mut impl Visit) -> io::Result<()> {
    let mut way: Vec<Level> = Vec::new();
    let mut current = top.try_clone()?;
    if enter(&current, CString::default(), &mut way, visit)?.is_break() {
        return Ok(());
    }
    while let Some(level) = way.last_mut() {
        if let Some(name) = level.left.pop() {
            match openat(&current, &name, flags(), Mode::empty()) {
                Ok(below) => {
                    if enter(&below, name, &mut way, visit)?.is_break() {
                        return Ok(());
                    }
                    current = below;
                }
                Err(error) if is_gone(error) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let Some(done) = way.pop() else { break };
        let Some(above) = way.last() else { break };
        current = match up(&current, above.id)? {
            Some(parent) => parent,
            // moved by a rename, or gone: from the top, by names
            None => match descend(top, &way)? {
                Some(parent) => parent,
                None => return Ok(()),
            },
        };
        if visit.leave(current.as_fd(), &done.name).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NODEV)
}

fn id(of: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(of)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn enter(
    cgroup: &OwnedFd,
    name: CString,
    way: &mut Vec<Level>,
    visit: &mut impl Visit,
) -> io::Result<ControlFlow<()>> {
    if visit.enter(cgroup.as_fd()).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let left = match below(cgroup) {
        Ok(left) => left,
        Err(error) if is_gone(error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    way.push(Level { id: id(cgroup)?, name, left });
    Ok(ControlFlow::Continue(()))
}

/// The names of those below one.
fn below(cgroup: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(cgroup)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The one above, if it is the one that was there on the way down.
fn up(from: &OwnedFd, wanted: (u64, u64)) -> io::Result<Option<OwnedFd>> {
    match openat(from, c"..", flags() - OFlags::NOFOLLOW, Mode::empty()) {
        Ok(parent) if id(&parent)? == wanted => Ok(Some(parent)),
        Ok(_) => Ok(None),
        Err(error) if is_gone(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn descend(top: &OwnedFd, way: &[Level]) -> io::Result<Option<OwnedFd>> {
    let mut current = top.try_clone()?;
    for level in way.iter().skip(1) {
        current = match openat(&current, &level.name, flags(), Mode::empty()) {
            Ok(next) => next,
            Err(error) if is_gone(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Record {
        entered: usize,
        left: Vec<String>,
        most: usize,
    }

    impl Visit for Record {
        fn enter(&mut self, _: BorrowedFd<'_>) -> ControlFlow<()> {
            self.entered += 1;
            if self.entered < self.most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
        fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> ControlFlow<()> {
            rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::REMOVEDIR).expect("remove");
            self.left.push(name.to_string_lossy().into_owned());
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn deeper_than_a_path_and_than_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let top = open(dir.path()).unwrap();
        let long = CString::new("d".repeat(250)).unwrap();
        let mut current = top.try_clone().unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&current, &long, Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&current, c"side", Mode::RWXU).unwrap();
            current = openat(&current, &long, flags(), Mode::empty()).unwrap();
        }
        let mut record = Record { entered: 0, left: Vec::new(), most: usize::MAX };
        walk(&top, &mut record).unwrap();
        assert_eq!((record.entered, record.left.len()), (3001, 3000));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_break_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let mut record = Record { entered: 0, left: Vec::new(), most: 2 };
        walk(&open(dir.path()).unwrap(), &mut record).unwrap();
        assert_eq!((record.entered, record.left.len()), (2, 0));
    }
}
