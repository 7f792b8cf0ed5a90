//! Paths inside the new root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

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
            rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
            rustix::process::chdir("/")
        };
        pivot().step(|| "cannot enter the container's root (pivot_root)".to_owned())
    }
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
