//! One group of one hierarchy and its ancestors, as open directories.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::CgroupError;
use super::kept::open_beneath;
use super::layout::Hierarchy;

/// What identifies a directory for as long as it lives: device and inode.
pub type GroupId = (u64, u64);

/// The kernel's own limit is the path length (4096): a chain is never deeper than this.
const DEEPEST: usize = 2048;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// A group, held open.
#[derive(Debug)]
pub struct GroupDir {
    fd: OwnedFd,
    id: GroupId,
    /// From the mount point, starting with `/`.
    path: PathBuf,
    gone: AtomicBool,
}

impl GroupDir {
    fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, Errno> {
        let id = id_of(fd.as_fd())?;
        Ok(Self { fd, id, path, gone: AtomicBool::new(false) })
    }

    /// The directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Device and inode.
    #[must_use]
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// The group's path from its hierarchy's mount point, starting with `/`; as it was when opened. Where the
    /// whole hierarchy is mounted, as on a host, that is the path in `/proc/PID/cgroup`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the group has been removed, as far as seen.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Looks whether the group is still there: every living group has `cgroup.procs`. True when it is found
    /// gone for the first time.
    pub fn check_gone(&self) -> bool {
        if self.is_gone() {
            return false;
        }
        match rustix::fs::statat(&self.fd, "cgroup.procs", AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NODEV) => !self.gone.swap(true, Ordering::Relaxed),
            _ => false,
        }
    }
}

/// A group and its ancestors below the hierarchy's root, the group first. Empty for the root itself.
#[derive(Debug, Default)]
pub struct Chain {
    levels: Vec<GroupDir>,
    cut: bool,
}

impl Chain {
    /// Opens the group at `path` (as in `/proc/PID/cgroup`) and its ancestors. Where a component does not
    /// exist any more, the chain begins at the nearest ancestor that does.
    pub fn open(hierarchy: &Hierarchy, path: &Path) -> Result<Self, CgroupError> {
        let mut levels = Vec::new();
        let mut cut = false;
        let mut here = PathBuf::from("/");
        if hierarchy.top_is_group() {
            let top = reopen(hierarchy.dir()).and_then(|fd| GroupDir::new(fd, here.clone()));
            levels.push(top.map_err(|e| CgroupError::io("open", hierarchy.mountpoint(), e))?);
        }
        for name in hierarchy.below_mount(path).into_iter().flat_map(components) {
            let parent = match (levels.last(), here.parent()) {
                (Some(level), _) => level.fd(),
                (None, _) => hierarchy.dir(),
            };
            here.push(name);
            let level = match open_component(parent, name) {
                Ok(fd) => GroupDir::new(fd, here.clone()),
                // removed between two looks, or a name that cannot be one: the ancestors serve
                Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => {
                    cut = true;
                    break;
                }
                Err(error) => Err(error),
            };
            levels.push(level.map_err(|e| CgroupError::io("open", hierarchy.file_path(&here, ""), e))?);
        }
        levels.reverse();
        Ok(Self { levels, cut })
    }

    /// Takes an open group directory and opens its ancestors upwards. Fails where the walk does not arrive at
    /// the hierarchy's root: the directory is then no group of it, or was opened through a mount that shows
    /// only a part of the hierarchy.
    pub fn from_dir(hierarchy: &Hierarchy, dir: OwnedFd) -> Result<Self, CgroupError> {
        let outside = || CgroupError::OutsideHierarchy { mountpoint: hierarchy.mountpoint().to_owned() };
        let io = |e: Errno| CgroupError::io("look above a group of", hierarchy.mountpoint(), e);
        let mut fds = Vec::new();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut here = reopen(dir.as_fd()).map_err(io)?;
        let mut id = id_of(here.as_fd()).map_err(io)?;
        while id != hierarchy.id() {
            if id.0 != hierarchy.id().0 || fds.len() >= DEEPEST {
                return Err(outside());
            }
            let parent =
                rustix::fs::openat(&here, "..", DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(io)?;
            let parent_id = id_of(parent.as_fd()).map_err(io)?;
            if parent_id == id {
                return Err(outside());
            }
            names.push(name_of(parent.as_fd(), id));
            fds.push(here);
            (here, id) = (parent, parent_id);
        }
        if hierarchy.top_is_group() {
            fds.push(here);
            names.push(Vec::new());
        }
        let mut levels = Vec::with_capacity(fds.len());
        let mut path = PathBuf::from("/");
        for (fd, name) in fds.into_iter().zip(names).rev() {
            if !name.is_empty() {
                path.push(OsStr::from_bytes(&name));
            }
            levels.push(GroupDir::new(fd, path.clone()).map_err(io)?);
        }
        levels.reverse();
        Ok(Self { levels, cut: false })
    }

    /// The group first, then its ancestors.
    #[must_use]
    pub fn levels(&self) -> &[GroupDir] {
        &self.levels
    }

    /// Whether the group was gone when the chain was opened, so that it begins at an ancestor.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The group itself; `None` for the hierarchy's root.
    #[must_use]
    pub fn group(&self) -> Option<&GroupDir> {
        self.levels.first()
    }
}

fn components(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.as_os_str().as_bytes().split(|&b| b == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes)
}

fn open_component(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    if name == "." || name == ".." {
        return Err(Errno::NOENT);
    }
    match name.to_str() {
        Some(name) => open_beneath(parent, name, DIRECTORY),
        // one component, links refused: as good as openat2
        None => {
            let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
    }
}

fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(fd, ".", DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

pub(super) fn id_of(fd: BorrowedFd<'_>) -> Result<GroupId, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The name of a child by its inode; `?` where it is not listed any more.
fn name_of(parent: BorrowedFd<'_>, child: GroupId) -> Vec<u8> {
    let listing =
        rustix::fs::openat(parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::fs::Dir::new);
    let found = listing.ok().and_then(|listing| {
        listing.filter_map(Result::ok).find_map(|entry| {
            (entry.ino() == child.1 && entry.file_type() == rustix::fs::FileType::Directory)
                .then(|| entry.file_name().to_bytes().to_vec())
        })
    });
    found.unwrap_or_else(|| OsStr::new("?").to_owned().into_vec())
}
