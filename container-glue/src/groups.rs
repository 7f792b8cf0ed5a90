//! The container's groups: made, limited, entered and removed on cgroup v1, hybrid and v2.
//!
//! The controllers' values are written through cgroups-rs. Not its group handling: its detection takes a
//! hybrid host for pure v1, makes the group in every hierarchy and only logs what fails; it has no handle for
//! CLONE_INTO_CGROUP either. So directories, delegation and attaching are here.

pub mod ancestors;
pub mod hierarchies;
pub mod limits;
pub mod tree;

use std::path::{Path, PathBuf};

use ownproc::cgroup::Controller;

pub use hierarchies::{Hierarchies, Hierarchy};
pub use tree::{Entrances, Groups, remove_tree};

/// What went wrong with a group, with the file and the kernel's reason.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A file or directory of cgroupfs.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source, path))]
    Io {
        /// "create", "write 5 to", ...
        action: String,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The group is there already and not ours.
    #[error("group {} exists already; remove it or choose another --name", .0.display())]
    Taken(PathBuf),
    /// No hierarchy offers a controller that a flag needs.
    #[error("{flag} needs the cgroup controller {controller}, which this host does not offer{hint}")]
    NoController {
        /// The flag.
        flag: &'static str,
        /// The controller.
        controller: Controller,
        /// What to do.
        hint: &'static str,
    },
}

impl GroupError {
    pub(crate) fn io(action: impl Into<String>, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action: action.into(), path: path.into(), source }
    }
}

/// The next step for the errors that people meet.
fn hint(error: &std::io::Error, path: &Path) -> &'static str {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match (error.raw_os_error(), file) {
        (Some(libc::EROFS), _) => {
            "; cgroupfs is mounted read-only here: start from the host, not from a container"
        }
        (Some(libc::EBUSY), "cgroup.subtree_control") => {
            "; on cgroup v2 a group that holds processes cannot have limited children: choose another --cgroup-parent"
        }
        (Some(libc::EACCES | libc::EINVAL), "cpuset.cpus" | "cpuset.mems") => {
            "; the group above does not have all of these: look at its file of the same name"
        }
        _ => "",
    }
}
