//! The kernel's calls on mounts, by descriptors; and what can be known of a descriptor without asking its file system.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::host::parse::process;

/// linux/mount.h, since Linux 6.5: under the topmost mount instead of onto it.
const MOVE_MOUNT_BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);
/// openat2(2) gives EAGAIN where a rename elsewhere raced with the walk: somebody may keep renaming on purpose.
const MOST_TRIES: usize = 64;

/// Never through a link of any kind, never out of the directory.
pub const STRICT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A place: nothing is opened but the name resolved.
pub const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// openat2(2).
pub fn resolve(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..MOST_TRIES {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// A detached copy of the mount of one file or directory, which shares nothing with the one it is a copy of.
pub fn copy(of: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = rustix::mount::open_tree(of, "", flags)?;
    let private = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: `private` is a valid mount_attr of the size given, and the empty path is NUL-terminated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const private,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(copy) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a detached mount on top of the very file or directory that `place` holds.
pub fn mount_onto(mount: &OwnedFd, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", place, "", flags)
}

/// Attaches a detached mount under the mount whose root `top` holds: once that is taken away this one is seen, without a
/// moment in between. EINVAL before Linux 6.5 and where that mount is locked.
pub fn mount_beneath(mount: &OwnedFd, top: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
        | MOVE_MOUNT_BENEATH;
    rustix::mount::move_mount(mount, "", top, "", flags)
}

/// This process as its own `/proc` has it, which is kept from before another mount namespace was entered.
pub struct Own {
    proc: OwnedFd,
}

impl Own {
    /// Opens the `/proc` that this process has now.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { proc: rustix::fs::open("/proc", flags, Mode::empty())? })
    }

    /// The number under which its `/proc` is open.
    pub fn as_raw_fd(&self) -> RawFd {
        self.proc.as_raw_fd()
    }

    /// The directory of this process.
    pub fn dir(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.proc, "self", flags, Mode::empty())
    }

    fn of_child(&self, child: i32, file: &str) -> String {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.proc, format!("{child}/{file}"), flags, Mode::empty());
        fd.map_err(io::Error::from)
            .and_then(|fd| io::read_to_string(std::fs::File::from(fd)))
            .unwrap_or_default()
    }

    /// Whether a child of ours, which we have not waited for, waits for nobody but a CPU or its own children.
    pub fn is_busy(&self, child: i32) -> bool {
        process::stat(self.of_child(child, "stat").as_bytes()).is_some_and(|stat| stat.state == b'R')
            || self.of_child(child, "wchan").contains("nanosleep")
    }

    /// Whether a child of ours has asked a FUSE daemon and waits for its answer.
    pub fn asks_fuse(&self, child: i32) -> bool {
        self.of_child(child, "wchan") == "request_wait_answer"
    }

    /// Takes away the very mount whose root `top` holds, now even if files on it are open. umount2(2) takes no descriptor:
    /// this leads there through `/proc/self/fd`, which crosses no other mount. Changes the working directory.
    pub fn unmount(&self, top: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::process::fchdir(&self.proc)?;
        rustix::mount::unmount(format!("self/fd/{}", top.as_raw_fd()), UnmountFlags::DETACH)
    }

    /// Opens for reading what a descriptor holds. **This asks the file system.**
    pub fn open_again(&self, fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.proc, format!("self/fd/{}", fd.as_raw_fd()), flags, Mode::empty())
    }

    /// The id of the mount that a descriptor is on, as in mountinfo. While the descriptor is open no other mount has it.
    /// Unlike statx(2) this works where a FUSE file system is closed to other users.
    pub fn mount_id(&self, fd: BorrowedFd<'_>) -> Option<u64> {
        let info = format!("self/fdinfo/{}", fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let info = rustix::fs::openat(&self.proc, info, flags, Mode::empty()).ok()?;
        let text = io::read_to_string(std::fs::File::from(info)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
    }
}

/// statx(2) from the kernel's own memory.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS)
}
