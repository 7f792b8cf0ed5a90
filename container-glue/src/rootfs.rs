//! Mounts of a container's file tree.
//!
//! They are made detached (fsopen, open_tree) and attached to descriptors that were resolved inside the new root,
//! so that no symbolic link of the tree can lead one of them elsewhere.

pub mod cgroupfs;
pub mod layer;
pub mod mounts;
pub mod resolve;
mod virtual_files;

use std::io;
use std::os::fd::AsRawFd;

pub use virtual_files::VirtualFiles;

/// A step of the set-up that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SetupError {
    what: String,
    source: io::Error,
}

/// Says what a failed call was for.
pub trait Step<T> {
    /// Wraps the error; `what` is "cannot ...".
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError { what: what(), source: error.into() })
    }
}

/// Raises the loopback interface of a new network namespace.
pub fn loopback_up() -> Result<(), SetupError> {
    raise_loopback().step(|| "cannot raise the loopback interface".to_owned())
}

/// netdevice(7): sets IFF_UP of `lo`.
fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: a struct of integers and a union of them, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
