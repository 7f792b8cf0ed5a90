//! The launcher runs from a mount of its own binary that cannot be written to.
//!
//! A hostile root directory can get the binary opened inside the container (an interpreter line `#!/proc/self/exe`,
//! CVE-2019-5736): through the host's mount it could then change the binary's mode or, later, its content.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, SealFlags};
use rustix::mount::OpenTreeFlags;

use crate::rootfs::mounts;

/// Starts this program anew from a read-only, detached mount of its binary (before Linux 5.12: from a sealed copy in
/// memory). Returns where it runs from one already, or where this process may not do that: not root, which
/// `preflight` says.
pub fn from_read_only() -> io::Result<()> {
    let own = "/proc/self/exe";
    if !rustix::process::geteuid().is_root() || is_read_only(own)? {
        return Ok(());
    }
    let binary = match read_only_mount(own) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(()), // preflight says which right
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => sealed_copy(own)?,
        other => other?,
    };
    let arguments: Vec<CString> =
        std::env::args_os().map(|argument| CString::new(argument.as_bytes())).collect::<Result<_, _>>()?;
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<_, _>>()?;
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    match nix::unistd::execveat(&binary, c"", &arguments, &environment, flags)? {}
}

/// Whether a file lies on a mount that cannot be written to, or is a sealed copy.
fn is_read_only(path: &str) -> io::Result<bool> {
    let file = File::open(path)?;
    let read_only = rustix::fs::fstatvfs(&file)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    Ok(read_only || sealed)
}

fn read_only_mount(path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, path, flags)?;
    mounts::set_with_mount_setattr(&mount, mounts::RDONLY, false)?;
    Ok(mount)
}

fn sealed_copy(path: &str) -> io::Result<OwnedFd> {
    use rustix::fs::MemfdFlags;
    let copy = rustix::fs::memfd_create("ownproc-run", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    io::copy(&mut File::open(path)?, &mut File::from(copy.try_clone()?))?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    // what is open for writing cannot be executed (ETXTBSY)
    Ok(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}
