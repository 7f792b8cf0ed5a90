//! The tree of inodes, snapshots of open files, and a thin fuser layer with no logic.
//!
//! [`inode`] turns a node of the tree into a number and back, by arithmetic alone: a daemon that was just started
//! understands numbers that the kernel got from its predecessor. [`snapshots`] keeps the bytes that each open
//! file serves. [`tree`] answers the requests, [`fuse`] carries them, and [`lanes`] sees to it that those of one container
//! do not hold up those of another.

pub mod flights;
pub mod fuse;
#[cfg(debug_assertions)]
mod injected;
pub mod inode;
pub mod lanes;
pub mod mount;
pub mod settings;
pub mod snapshots;
pub mod sysfs;
pub mod tree;
pub mod triggers;

/// An errno to answer a request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub nix::errno::Errno);

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(nix::errno::Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<nix::errno::Errno> for Refusal {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno)
    }
}
