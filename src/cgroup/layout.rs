//! The hierarchies of a host, found from its mount table: v1, hybrid or v2.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::chain::{GroupId, id_of};
use super::controller::{Controller, Version};
use super::error::CgroupError;
use super::kept::{open_beneath, read_fd};
use super::parse::mountinfo::{CgroupMount, cgroup_mounts};

/// One hierarchy: a tree of groups with some controllers.
#[derive(Debug)]
pub struct Hierarchy {
    version: Version,
    controllers: Vec<Controller>,
    name: Option<String>,
    mountpoint: PathBuf,
    root: PathBuf,
    dir: OwnedFd,
    id: GroupId,
    top_is_group: bool,
}

impl Hierarchy {
    /// Which interface its files have.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Its controllers; none for a named v1 hierarchy and for the v2 side of most hybrid hosts.
    #[must_use]
    pub fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// v1 `name=`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it is mounted, as the mount table says (without the root that was given to [`Layout::discover`]).
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The group that the mount point shows; `/` unless a part of the hierarchy is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the mount point (O_PATH).
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Device and inode of that directory.
    #[must_use]
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// Whether the directory at the mount point is an ordinary group with limits of its own, not the host's
    /// root group: so it is where this runs inside a container.
    #[must_use]
    pub const fn top_is_group(&self) -> bool {
        self.top_is_group
    }

    /// A path of `/proc/PID/cgroup` seen from the mount point; `None` where the mount does not show it.
    pub(super) fn below_mount<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).ok()
    }

    /// The path of a group's file for people to read: mount point, group, file name.
    #[must_use]
    pub fn file_path(&self, group: &Path, file: &str) -> PathBuf {
        Self::join(&self.mountpoint, group, file)
    }

    pub(super) fn join(mountpoint: &Path, group: &Path, file: &str) -> PathBuf {
        let mut path = mountpoint.to_owned();
        path.extend(group.components().filter(|c| matches!(c, std::path::Component::Normal(_))));
        if !file.is_empty() {
            path.push(file);
        }
        path
    }
}

/// All hierarchies of a host.
#[derive(Debug)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Reads `ROOT/proc/self/mountinfo` and opens each hierarchy's mount point below `root`; `/` is the host,
    /// a fixture tree stands in for it in tests.
    ///
    /// Of several mounts of one hierarchy the first that shows its root is taken, else the first. One that
    /// cannot be opened, or is hidden by a later mount, is passed over.
    pub fn discover(root: &Path) -> Result<Self, CgroupError> {
        let table = root.join("proc/self/mountinfo");
        let text = std::fs::read(&table).map_err(|e| CgroupError::io("read", &table, e))?;
        let mut mounts =
            cgroup_mounts(&text).map_err(|source| CgroupError::Parse { path: table.clone(), source })?;
        mounts.sort_by_key(|mount| mount.root != Path::new("/")); // stable: keeps the table's order otherwise
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts {
            let known = hierarchies.iter().any(|known| {
                known.version == mount.version
                    && (mount.version == Version::V2
                        || (known.controllers == mount.controllers && known.name == mount.name))
            });
            let useless =
                mount.version == Version::V1 && mount.controllers.is_empty() && mount.name.is_none();
            if !known && !useless {
                hierarchies.extend(open_mount(root, mount));
            }
        }
        if hierarchies.is_empty() {
            return Err(CgroupError::NoHierarchy { path: table });
        }
        Ok(Self { hierarchies })
    }

    /// The hierarchies; an index into this list names one elsewhere.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The hierarchy with that number.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Hierarchy> {
        self.hierarchies.get(index)
    }

    /// The number of the hierarchy that a controller is in: v1 where it is mounted there, else v2 where it is
    /// available.
    #[must_use]
    pub fn hierarchy_of(&self, controller: Controller) -> Option<usize> {
        self.hierarchies.iter().position(|h| h.controllers.contains(&controller))
    }

    /// The number of the v2 hierarchy.
    #[must_use]
    pub fn v2(&self) -> Option<usize> {
        self.hierarchies.iter().position(|h| h.version == Version::V2)
    }

    /// The number of the hierarchy that an open directory belongs to, by its device.
    #[must_use]
    pub fn hierarchy_of_dir(&self, dir: BorrowedFd<'_>) -> Option<usize> {
        let (device, _) = id_of(dir).ok()?;
        self.hierarchies.iter().position(|h| h.id.0 == device)
    }

    /// Where CPU time is accounted: v1 cpuacct where it is mounted, else v2, whose every group has `cpu.stat`.
    #[must_use]
    pub fn accounting(&self) -> Option<usize> {
        self.hierarchy_of(Controller::Cpuacct).or_else(|| self.v2())
    }
}

fn open_mount(root: &Path, mount: CgroupMount) -> Option<Hierarchy> {
    let path = root.join(mount.mountpoint.strip_prefix("/").unwrap_or(&mount.mountpoint));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
    let id = id_of(dir.as_fd()).ok()?;
    let on_top = (rustix::fs::major(id.0), rustix::fs::minor(id.0)) == mount.device;
    if root == Path::new("/") && !on_top {
        return None;
    }
    let has = |file: &str| rustix::fs::statat(&dir, file, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    // Files that the kernel gives to every group but the root (v2), or to the root alone (v1).
    let top_is_group = match mount.version {
        Version::V2 => has("cgroup.type"),
        Version::V1 => !has("release_agent") && !has("cgroup.sane_behavior"),
    };
    let controllers = match mount.version {
        Version::V1 => mount.controllers,
        Version::V2 => available(dir.as_fd()),
    };
    Some(Hierarchy {
        version: mount.version,
        controllers,
        name: mount.name,
        mountpoint: mount.mountpoint,
        root: mount.root,
        dir,
        id,
        top_is_group,
    })
}

/// v2 `cgroup.controllers`.
fn available(dir: BorrowedFd<'_>) -> Vec<Controller> {
    open_beneath(dir, "cgroup.controllers", OFlags::RDONLY)
        .and_then(|fd| {
            read_fd(fd.as_fd(), |text| {
                text.split(u8::is_ascii_whitespace).filter_map(Controller::from_kernel).collect()
            })
        })
        .unwrap_or_default()
}
