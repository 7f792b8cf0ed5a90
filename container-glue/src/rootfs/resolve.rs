//! Paths inside the new root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use ownproc::attach::mounts::{Mount, parse};

use super::{SetupError, Step};

/// The new root. Paths are taken relative to it; symbolic links and `..` cannot leave it (openat2(2),
/// RESOLVE_IN_ROOT).
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// `fd` is the top of an attached mount.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Its descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Opens what is there, of any type, without reading it.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        Ok(open_in(&self.fd, path.as_ref(), OFlags::PATH)?)
    }

    /// Like [`Root::open`]; `None` when it does not exist.
    pub fn find(&self, path: impl AsRef<Path>) -> Result<Option<OwnedFd>, SetupError> {
        let path = path.as_ref();
        match open_in(&self.fd, path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).step(|| format!("cannot open {} in the container", shown(path))),
        }
    }

    /// A directory that must exist or can be made, with those above it.
    pub fn directory(&self, path: impl AsRef<Path>) -> Result<OwnedFd, SetupError> {
        let path = relative(path.as_ref());
        let what = || format!("cannot make the directory {} in the container", shown(&path));
        let mut made = PathBuf::new();
        let mut at = open_in(&self.fd, Path::new("."), OFlags::PATH | OFlags::DIRECTORY).step(what)?;
        for part in &path {
            made.push(part);
            // from the root each time: a link's `..` is then taken relative to the link's own place
            at = match open_in(&self.fd, &made, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)).step(what)?;
                    open_in(&self.fd, &made, OFlags::PATH | OFlags::DIRECTORY)
                }
                other => other,
            }
            .step(what)?;
        }
        Ok(at)
    }

    /// A file that must exist or can be made, with the directories above it.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<OwnedFd, SetupError> {
        let path = relative(path.as_ref());
        if let Some(found) = self.find(&path)? {
            return Ok(found);
        }
        let what = || format!("cannot make the file {} in the container", shown(&path));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from).step(what)?;
        let above = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(0o644)).step(what)?;
        self.open(&path).step(what)
    }

    /// Like [`Root::file`] with its name apart; a link there is refused, wherever it leads (CVE-2025-52565).
    pub fn file_itself(&self, above: &str, name: &str) -> Result<OwnedFd, SetupError> {
        let what = || format!("cannot open {above}/{name} in the container");
        let directory = self.directory(above)?;
        let make = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match rustix::fs::openat(&directory, name, make, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => {}
            other => drop(other.step(what)?),
        }
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&directory, name, look, Mode::empty()).step(what)?;
        let stat = rustix::fs::fstat(&found).step(what)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink {
            return Err(io::Error::other("a symbolic link lies there in the root")).step(what);
        }
        Ok(found)
    }

    /// Makes it `/` and lets go of the host's tree.
    pub fn pivot(self) -> Result<(), SetupError> {
        let pivot = || -> Result<(), Errno> {
            let old =
                rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::process::fchdir(&self.fd)?;
            // both on the same directory: the old root comes to lie on top of the new one, and is taken off
            // (pivot_root(2))
            rustix::process::pivot_root(".", ".")?;
            rustix::process::fchdir(&old)?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/")
        };
        pivot().step(|| "cannot enter the container's root (pivot_root)".to_owned())
    }

    /// The same where the host's root cannot be put elsewhere (an initramfs): the new one lies on top of it, so that every way up
    /// ends there, also that of a process which enters the mount namespace later. What else the host has mounted is taken off:
    /// the kernel lets a user namespace mount another /proc, with nothing hidden, where one is in the namespace.
    pub fn cover_host(self) -> Result<(), SetupError> {
        let what = || "cannot enter the container's root (chroot)".to_owned();
        for point in beside(&std::fs::read("/proc/self/mountinfo").step(what)?) {
            // looked up in the host's tree, which is this process's root still
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            if let Err(Errno::INVAL | Errno::PERM) = rustix::mount::unmount(&point, flags) {
                // a user namespace may not bring to light what its maker's mounts cover; it may cover more
                let _ = rustix::mount::mount("none", &point, "tmpfs", MountFlags::RDONLY, None);
            }
        }
        let enter = || -> Result<(), Errno> {
            rustix::process::fchdir(&self.fd)?;
            rustix::process::chroot(".")?;
            rustix::process::chdir("/")
        };
        enter().step(what)
    }
}

/// Where the mounts lie that are on the same one as the uppermost of `/`. Those on them go along.
fn beside(mountinfo: &[u8]) -> Vec<PathBuf> {
    let table = parse(mountinfo);
    let is_top = |mount: &&Mount| mount.point == Path::new("/");
    let Some(top) = table.iter().filter(is_top).find(|mount| {
        !table.iter().filter(is_top).any(|upper| upper.parent == mount.id && upper.id != mount.id)
    }) else {
        return Vec::new();
    };
    let others = table.iter().filter(|mount| mount.parent == top.parent && !is_top(mount));
    others.map(|mount| mount.point.clone()).collect()
}

/// openat2 with the rules of [`Root`].
pub fn open_in(root: &impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = relative(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
    loop {
        let opened = rustix::fs::openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        // the kernel asks to repeat when something is renamed meanwhile (openat2(2))
        if !matches!(opened, Err(Errno::AGAIN)) {
            return opened;
        }
    }
}

/// Whether an open file is a directory.
pub fn is_directory(fd: &impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

/// Without the leading slash.
fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// For messages: the path as the container names it.
fn shown(path: &Path) -> String {
    Path::new("/").join(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_a_new_root() {
        let text = b"\
21 1 254:0 / / rw - ext4 /dev/vda rw
22 21 0:5 / /proc rw - proc proc rw
23 21 0:6 / /sys rw - sysfs sysfs rw
24 23 0:7 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
31 21 254:0 /bundle / rw - ext4 /dev/vda rw
32 31 0:8 / /proc rw - proc proc rw
";
        assert_eq!(beside(text), ["/proc", "/sys"].map(PathBuf::from));
        assert_eq!(beside(b"1 1 0:1 / / rw - rootfs none rw\n"), Vec::<PathBuf>::new());
        assert_eq!(beside(b""), Vec::<PathBuf>::new());
    }
}
