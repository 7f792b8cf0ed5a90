//! Mounting and unmounting, without fusermount.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::settings;

/// Why a mount point cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `/dev/fuse` cannot be opened.
    #[error(
        "cannot open /dev/fuse: {0}; ownproc needs FUSE: load the kernel module (modprobe fuse) or give this system the device"
    )]
    Device(#[source] std::io::Error),
    /// It exists and is no directory.
    #[error("the mount point {0} is not a directory; name a directory, or none for the default")]
    NotADirectory(PathBuf),
    /// Something is in it, which the mount would hide.
    #[error(
        "the mount point {0} is not empty, and a mount would hide what is in it; name an empty directory"
    )]
    NotEmpty(PathBuf),
    /// It cannot be created or looked at.
    #[error("cannot use the mount point {path}: {source}")]
    Unusable {
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// mount(2) failed.
    #[error("cannot mount on {path}: {errno}; mounting needs root with CAP_SYS_ADMIN")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// umount2(2) failed.
    #[error("cannot unmount {path}: {errno}")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
}

/// What is at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory on which nothing of ours is mounted.
    Free,
    /// A FUSE mount whose daemon is gone: every access fails with ENOTCONN.
    Dead,
    /// A living ownproc mount.
    Live,
}

/// Opens `/dev/fuse`.
pub fn open_device() -> Result<OwnedFd, MountError> {
    let file = fs::File::options().read(true).write(true).open("/dev/fuse").map_err(MountError::Device)?;
    Ok(file.into()) // std opens with O_CLOEXEC
}

/// Looks at a mount point, creating the directory if nothing is there.
pub fn inspect(path: &Path) -> Result<Found, MountError> {
    let unusable = |source| MountError::Unusable { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => Err(MountError::NotADirectory(path.to_owned())),
        Ok(_) if is_ours(path) => Ok(Found::Live),
        Ok(_) => match fs::read_dir(path).map_err(unusable)?.next() {
            None => Ok(Found::Free),
            Some(_) => Err(MountError::NotEmpty(path.to_owned())),
        },
        Err(error) if has_ended(&error) => Ok(Found::Dead),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(unusable)?;
            Ok(Found::Free)
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Whether the connection behind a mount has ended. The kernel answers much from its memory for a day, but opening
/// a directory always goes to the daemon: to be asked only where no daemon of ours could be there and hang.
#[must_use]
pub fn is_dead(path: &Path) -> bool {
    fs::read_dir(path).is_err_and(|error| has_ended(&error))
}

/// ENOTCONN after the end of a FUSE connection, ECONNABORTED for what was asked when it ended.
fn has_ended(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

/// [`is_dead`] where a daemon may be there and not answer, such as one that is being restarted; `None` if it has not answered
/// within `limit`. A thread of this process stays behind then, until the mount is answered or the process ends.
#[must_use]
pub fn is_dead_within(path: &Path, limit: std::time::Duration) -> Option<bool> {
    let (send, answer) = std::sync::mpsc::channel();
    let path = path.to_owned();
    let asking = std::thread::Builder::new().name("is-dead".to_owned()).spawn(move || {
        let _ = send.send(is_dead(&path)); // nobody may wait any more
    });
    let dead = answer.recv_timeout(limit).ok()?;
    // It has nothing left to do but to end; whoever forks next wants to be alone.
    let _ = asking.ok()?.join();
    Some(dead)
}

/// Whether what `path` leads to lies on a mount of our type, and is its root.
fn is_ours(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    // By the mount's id: the order of the lines says nothing about what lies on top.
    let Ok(stat) = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID) else { return false };
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    stat.stx_ino == crate::fs::inode::Place::ROOT.ino()
        && mount_type(&text, stat.stx_mnt_id) == Some(settings::MOUNT_TYPE)
}

/// The file system type of a mount, by its id.
fn mount_type(mountinfo: &str, id: u64) -> Option<&str> {
    let line =
        mountinfo.lines().find(|line| line.split(' ').next().and_then(|n| n.parse().ok()) == Some(id))?;
    line.split_once(" - ")?.1.split(' ').next()
}

/// Mounts the connection behind `device` on `path`, read-only unless `writable`. Without atime either way: it would be
/// asked for after each read.
pub fn mount(path: &Path, device: &OwnedFd, writable: bool) -> Result<(), MountError> {
    let data = format!("fd={},{}", device.as_raw_fd(), settings::MOUNT_DATA);
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    flags.set(MsFlags::MS_RDONLY, !writable);
    nix::mount::mount(Some("ownproc"), path, Some(settings::MOUNT_TYPE), flags, Some(data.as_str()))
        .map_err(|errno| MountError::Mount { path: path.to_owned(), errno })
}

/// Takes the mount away from `path`; lazily, so that an open file there cannot keep it.
pub fn unmount(path: &Path) -> Result<(), MountError> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH)
        .map_err(|errno| MountError::Unmount { path: path.to_owned(), errno })
}

/// The device number of the mount: what mountinfo shows as major:minor for every mount of it, anywhere.
pub fn device_number(path: &Path) -> std::io::Result<u64> {
    Ok(fs::metadata(path)?.dev())
}

/// The device number of what is mounted at a path, without asking its file system, which may have nobody to answer; `None` if
/// the path leads nowhere. Allocates nothing.
#[must_use]
pub fn device_at(path: &std::ffi::CStr) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = statx(CWD, path, flags, StatxFlags::empty()).ok()?;
    Some(rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor))
}

/// Takes the mount away from `path`, lazily, and allocates nothing.
pub fn unmount_at(path: &std::ffi::CStr) -> nix::Result<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH)
}

/// A mount of the device with this number over the host's own files, by the text of `/proc/self/mountinfo`: whoever serves
/// it would wait for itself when it reads the host's file there.
#[must_use]
pub fn over_the_hosts_files(mountinfo: &str, device: u64) -> Option<PathBuf> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (of, point) = (fields.next()?, Path::new(fields.nth(1)?));
        (of == number && (point.starts_with("/proc") || point.starts_with("/sys"))).then(|| point.to_owned())
    })
}

/// How many mount namespaces other than ours hold a mount of the device with this number: containers whose
/// files would break if the connection ended. The whole tree at `mountpoint` itself does not count: that is the copy
/// that every new mount namespace starts with. `proc_root` is `/proc` or a fixture.
#[must_use]
pub fn foreign_namespaces(proc_root: &Path, device: u64, mountpoint: &Path) -> usize {
    let own = fs::read_link(proc_root.join("self/ns/mnt")).ok();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut seen = std::collections::HashMap::new();
    let Ok(entries) = fs::read_dir(proc_root) else { return 0 };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(namespace) = fs::read_link(entry.path().join("ns/mnt")) else { continue };
        if Some(&namespace) == own.as_ref() {
            continue;
        }
        seen.entry(namespace).or_insert_with(|| {
            fs::read_to_string(entry.path().join("mountinfo"))
                .is_ok_and(|text| text.lines().any(|line| holds_files(line, &number, mountpoint)))
        });
    }
    seen.values().filter(|holds| **holds).count()
}

/// Whether a line of mountinfo is a mount of the device `number`, other than the whole of it at `mountpoint`.
fn holds_files(line: &str, number: &str, mountpoint: &Path) -> bool {
    let mut fields = line.split(' ').skip(2);
    let (device, root, point) = (fields.next(), fields.next(), fields.next());
    let inherited = root == Some("/") && point.map(Path::new) == Some(mountpoint);
    device == Some(number) && !inherited
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_no_mount_point() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("write");
        assert!(matches!(inspect(&file), Err(MountError::NotADirectory(_))));
        assert!(matches!(inspect(dir.path()), Err(MountError::NotEmpty(_))));
        assert!(matches!(inspect(Path::new("/proc")), Err(MountError::NotEmpty(_))));
        assert_eq!(inspect(&dir.path().join("new/dir")).expect("created"), Found::Free);
        assert!(dir.path().join("new/dir").is_dir());
    }

    #[test]
    fn types_are_found_by_id() {
        let text =
            "30 1 0:50 / /a\\040b rw - fuse.ownproc ownproc rw\n31 30 0:51 / /a rw shared:2 - ext4 x rw\n";
        assert_eq!(mount_type(text, 30), Some("fuse.ownproc"));
        assert_eq!(mount_type(text, 31), Some("ext4"));
        assert_eq!(mount_type(text, 3), None);
    }

    #[test]
    fn mounts_of_ours_over_the_hosts_files() {
        let line = |device: &str, point: &str| {
            format!("30 1 {device} / {point} rw shared:2 - fuse.ownproc ownproc ro\n")
        };
        let over = |text: &str| over_the_hosts_files(text, rustix::fs::makedev(0, 50));
        assert_eq!(over(&(line("0:50", "/var/lib/ownproc") + &line("0:51", "/proc/meminfo"))), None);
        assert_eq!(over(&line("0:50", "/procs")), None);
        assert_eq!(over(&line("0:50", "/proc/meminfo")), Some("/proc/meminfo".into()));
        assert_eq!(over(&line("0:50", "/sys/devices/system/cpu")), Some("/sys/devices/system/cpu".into()));
        assert_eq!(over("junk\n\n1 2\n"), None);
    }

    #[test]
    fn namespaces_that_hold_our_mount() {
        let dir = tempfile::tempdir().expect("temp dir");
        for (pid, ns, line) in [
            ("self", "mnt:[1]", "1 1 0:50 / /x rw - fuse.ownproc ownproc rw\n"),
            ("10", "mnt:[1]", "1 1 0:50 / /x rw - fuse.ownproc ownproc rw\n"),
            ("20", "mnt:[2]", "1 1 0:50 / /proc/meminfo rw - fuse.ownproc ownproc rw\n"),
            ("21", "mnt:[2]", "1 1 0:50 / /proc/meminfo rw - fuse.ownproc ownproc rw\n"),
            ("25", "mnt:[4]", "1 1 0:50 / /x rw - fuse.ownproc ownproc rw\n"),
            ("26", "mnt:[5]", "1 1 0:50 / /y rw - fuse.ownproc ownproc rw\n"),
            ("30", "mnt:[3]", "1 1 0:5 / /proc/meminfo rw - fuse.lxcfs lxcfs rw\n"),
        ] {
            let process = dir.path().join(pid);
            fs::create_dir_all(process.join("ns")).expect("mkdir");
            symlink(ns, process.join("ns/mnt")).expect("symlink");
            fs::write(process.join("mountinfo"), line).expect("write");
        }
        assert_eq!(foreign_namespaces(dir.path(), rustix::fs::makedev(0, 50), Path::new("/x")), 2);
    }
}
