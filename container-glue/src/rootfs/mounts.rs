//! The kernel's mount calls on descriptors.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags};

use super::{SetupError, Step};

pub const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub const NOSUID_NOEXEC: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
pub const NOSUID_NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(NODEV);
pub const NOSUID_NODEV_NOEXEC: MountAttrFlags = NOSUID_NOEXEC.union(NODEV);

/// An option of a new filesystem.
pub enum Opt<'a> {
    /// `key`
    Flag(&'a str),
    /// `key=value`
    Value(&'a str, String),
}

/// A new, detached mount of a filesystem type.
pub fn filesystem(
    kind: &str,
    options: &[Opt<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SetupError> {
    filesystem_from(kind, kind, options, attributes)
}

/// The same with a source, which is the first column of mount(8).
pub fn filesystem_from(
    kind: &str,
    source: &str,
    options: &[Opt<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SetupError> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC);
    filesystem_of(context.map_err(io::Error::from), kind, source, options, attributes)
}

/// The same by a context that is there already.
pub fn filesystem_of(
    context: io::Result<OwnedFd>,
    kind: &str,
    source: &str,
    options: &[Opt<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SetupError> {
    let make = || -> io::Result<OwnedFd> {
        let context = context?;
        rustix::mount::fsconfig_set_string(&context, "source", source)?;
        for option in options {
            match option {
                Opt::Flag(key) => rustix::mount::fsconfig_set_flag(&context, *key)?,
                Opt::Value(key, value) => {
                    rustix::mount::fsconfig_set_string(&context, *key, value.as_str())?;
                }
            }
        }
        rustix::mount::fsconfig_create(&context)?;
        Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    make().step(|| format!("cannot mount a new {kind}"))
}

/// A detached copy of the mount at an open file or directory, with the mounts below it where `recursive`.
pub fn copy(of: &impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(rustix::mount::open_tree(of, "", flags)?)
}

/// Attaches a detached mount on top of an open file or directory.
pub fn attach(mount: &OwnedFd, target: &OwnedFd) -> Result<(), SetupError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
        .step(|| format!("cannot mount on {}", name(target)))
}

/// The path of a descriptor, for messages.
pub fn name(fd: &impl AsRawFd) -> String {
    std::fs::read_link(proc_path(fd)).map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
}

/// Adds attributes to one attached mount.
pub fn set_attributes(mount: &OwnedFd, attributes: MountAttrFlags) -> Result<(), SetupError> {
    let what = || format!("cannot set the flags of the mount at {}", name(mount));
    match set_with_mount_setattr(mount, attributes, false) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount(mount, attributes).step(what),
        other => other.step(what),
    }
}

/// Adds attributes to an attached mount and all below it. Before Linux 5.12, which has no call for that, the first
/// mount alone gets them.
pub fn set_attributes_below(mount: &OwnedFd, attributes: MountAttrFlags) -> Result<(), SetupError> {
    match set_with_mount_setattr(mount, attributes, true) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => set_attributes(mount, attributes),
        other => other.step(|| format!("cannot set the flags of the mounts below {}", name(mount))),
    }
}

/// Whether the kernel can set attributes of a whole tree (mount_setattr, Linux 5.12).
pub fn can_set_below() -> bool {
    // SAFETY: a null pointer with size 0 is refused with EINVAL before it is read; ENOSYS where the call is missing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::null::<u8>(),
            0usize,
        )
    };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// mount_setattr(2), to one mount or all below it; ENOSYS before Linux 5.12.
pub fn set_with_mount_setattr(mount: &OwnedFd, attributes: MountAttrFlags, below: bool) -> io::Result<()> {
    change(mount, attributes, MountAttrFlags::empty(), below)
}

/// The same, with attributes that are taken away.
pub fn change(mount: &OwnedFd, set: MountAttrFlags, clear: MountAttrFlags, below: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: 0,
        userns_fd: 0,
    };
    set_attr(mount, &attr, below)
}

/// mount_setattr(2) with all that it can change.
pub fn set_attr(mount: &OwnedFd, attr: &libc::mount_attr, below: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: attr is a valid mount_attr of the size given, and the empty path is NUL-terminated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The older way: a bind remount through the descriptor, which keeps the flags that the mount has.
fn remount(mount: &OwnedFd, attributes: MountAttrFlags) -> io::Result<()> {
    let path = proc_path(mount);
    let old = rustix::fs::statvfs(&path)?.f_flag;
    let mut flags = MountFlags::BIND;
    for (attribute, present, flag) in [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, rustix::fs::StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, rustix::fs::StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ] {
        flags.set(flag, attributes.contains(attribute) || old.contains(present));
    }
    rustix::mount::mount_remount(path, flags, c"")?;
    Ok(())
}

/// A path that leads to the very object of a descriptor. The host's /proc shows this process under its number
/// there, which `self` resolves to also from a pid namespace below.
pub fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens a path of the host without reading it.
pub fn open_host(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    Ok(rustix::fs::openat(
        CWD,
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?)
}
