//! `tmpcopyup`: a new tmpfs begins with what lies at its place in the root.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// Directories one in another: each holds three descriptors while what is in it is copied.
const DEEPEST: usize = 100;

/// Copies the content of one directory into another, with owners, modes and times. Symbolic links stay links; sockets
/// are left out. The root may be changed meanwhile by others who have it: nothing is followed, and what is no file by
/// now is not read.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // they may be O_PATH
    directory(&open(from, c".")?, &open(to, c".")?, 0)
}

fn open(at: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("more than {DEEPEST} directories one in another")));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // went meanwhile
            other => other?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                directory(&open(from, name)?, &open(to, name)?, depth + 1)?;
            }
            FileType::RegularFile => file(from, to, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            FileType::Socket | FileType::Unknown => continue,
            kind => rustix::fs::mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?,
        }
        look(to, name, &stat)?;
    }
    let stat = rustix::fs::fstat(from)?;
    look(to, c"", &stat)
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
    // without NONBLOCK a pipe that was put there meanwhile would be waited for
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
    if !source.metadata()?.is_file() {
        return Err(io::Error::other("a file became something else while it was copied"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut copy = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut copy).map(drop)
}

/// Owner, mode and times; of the directory itself where `name` is empty.
fn look(at: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let empty = name.to_bytes().is_empty();
    let flags = if empty { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), flags)?;
    // after the owner, whose change takes set-user-ID bits away
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if empty {
        rustix::fs::fchmod(at, mode)?;
    } else if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // nobody else knows of this filesystem yet: it is no link
        rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    if empty {
        rustix::fs::futimens(at, &times)?;
    } else {
        rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::rootfs::mounts::open_host;

    #[test]
    fn a_tree_with_all_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("a/file"), "text").unwrap();
        std::fs::set_permissions(from.join("a/file"), PermissionsExt::from_mode(0o4750)).unwrap();
        std::fs::set_permissions(from.join("a"), PermissionsExt::from_mode(0o1771)).unwrap();
        std::fs::set_permissions(&from, PermissionsExt::from_mode(0o700)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        symlink(".", from.join("a/loop")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            from.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        copy(&open_host(&from).unwrap(), &open_host(&to).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("a/file")).unwrap(), "text");
        for path in ["", "a", "a/b", "a/file", "pipe"] {
            let (one, other) = (from.join(path).metadata().unwrap(), to.join(path).metadata().unwrap());
            assert_eq!(one.mode(), other.mode(), "{path}");
            assert_eq!((one.mtime(), one.mtime_nsec()), (other.mtime(), other.mtime_nsec()), "{path}");
        }
        assert_eq!(std::fs::read_link(to.join("link")).unwrap().to_str(), Some("/etc/passwd"));
        assert_eq!(std::fs::read_link(to.join("a/loop")).unwrap().to_str(), Some("."));
        assert!(!to.join("socket").exists());
    }

    #[test]
    fn depth_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", DEEPEST + 2).collect();
        std::fs::create_dir_all(dir.path().join("from").join(deep)).unwrap();
        std::fs::create_dir(dir.path().join("to")).unwrap();
        let open = |name| open_host(&dir.path().join(name)).unwrap();
        let error = copy(&open("from"), &open("to")).unwrap_err();
        assert!(error.to_string().contains("one in another"), "{error}");
    }
}
