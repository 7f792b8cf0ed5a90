//! A container's terminal: made in its own devpts, its master side handed out over a socket (as conmon and containerd's shim
//! expect it) or copied to and from the caller's terminal.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::fs::{Mode, OFlags};

use super::{Doing, OciError};
use crate::rootfs::mounts;

/// Magic number of devpts (linux/magic.h).
const DEVPTS: u64 = 0x1cd1;

/// Both sides of a new terminal.
#[derive(Debug)]
pub struct Console {
    /// Whoever reads what the process writes.
    pub master: OwnedFd,
    /// The process's side.
    pub slave: OwnedFd,
    /// N of /dev/pts/N.
    pub number: u32,
}

/// Connects to a socket of a terminal's receiver.
pub fn connect(path: &Path) -> Result<OwnedFd, OciError> {
    UnixStream::connect(path)
        .map(OwnedFd::from)
        .map_err(|source| OciError::io("connect to the console socket", path, source))
}

impl Console {
    /// Makes one from the `ptmx` of a devpts. That is looked at: what a container's tree names so may be anything
    /// (CVE-2025-52565). The process's side comes from the master's descriptor, not by a name.
    pub fn new(devpts: BorrowedFd<'_>) -> io::Result<Self> {
        if u64::try_from(rustix::fs::fstatfs(devpts)?.f_type).ok() != Some(DEVPTS) {
            return Err(io::Error::other("/dev/pts is no devpts"));
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty())?;
        let (unlock, mut number) = (0i32, 0u32);
        // SAFETY: TIOCSPTLCK reads an int, TIOCGPTN writes an unsigned int; both outlive the calls.
        let done = unsafe {
            libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) == 0
                && libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) == 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor or -1.
        let slave = unsafe {
            libc::ioctl(
                master.as_raw_fd(),
                libc::TIOCGPTPEER,
                libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
            )
        };
        if slave < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nothing else owns it.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        Ok(Self { master, slave, number })
    }

    /// Rows and columns.
    pub fn resize(&self, (rows, columns): (u16, u16)) -> io::Result<()> {
        set_size(self.master.as_fd(), rows, columns)
    }

    /// Hands the master side to the receiver.
    pub fn send(&self, receiver: BorrowedFd<'_>) -> io::Result<()> {
        let name = format!("/dev/pts/{}", self.number);
        let fds = [self.master.as_raw_fd()];
        sendmsg::<()>(
            receiver.as_raw_fd(),
            &[IoSlice::new(name.as_bytes())],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Its node over `place` (/dev/console), from the very devpts that it was made in.
    pub fn bind(&self, devpts: BorrowedFd<'_>, place: &OwnedFd) -> Result<(), crate::rootfs::SetupError> {
        use crate::rootfs::Step;
        let what = || "cannot bind the terminal over /dev/console".to_owned();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(devpts, self.number.to_string(), flags, Mode::empty()).step(what)?;
        mounts::attach(&mounts::copy(&node, false).step(what)?, place)
    }

    /// Gives the process's side to the user, and makes it the first three descriptors of this
    /// process.
    pub fn become_stdio(&self, uid: u32) -> io::Result<()> {
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        match rustix::fs::fchown(&self.slave, owner, None) {
            // a user without a number in this user namespace
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            other => other?,
        }
        for number in 0..3 {
            // SAFETY: both are descriptors of this process; 0 to 2 belong to nobody else in it.
            if unsafe { libc::dup2(self.slave.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Makes the terminal at descriptor 0 the controlling terminal of this process, which leads a
/// session.
pub fn take_control() -> io::Result<()> {
    // SAFETY: an integer argument.
    match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Rows and columns of a terminal.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Checks that a terminal and a receiver come together, as runc wants them.
pub fn check(terminal: bool, socket: Option<&Path>) -> Result<(), OciError> {
    match (terminal, socket) {
        (true, None) => Err(OciError::config(
            "process.terminal",
            "is true: give --console-socket PATH, where somebody receives the terminal",
        )),
        (false, Some(_)) => {
            Err(OciError::config("process.terminal", "is false: --console-socket has nothing to send"))
        }
        _ => Ok(()),
    }
}

/// The devpts of the mount namespace that this process is in.
pub fn devpts() -> Result<OwnedFd, OciError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/pts", flags, Mode::empty()).doing("open /dev/pts of the container")
}
