//! `attach`: the virtual files over the container's own.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{Failure, Ground, is_file_or_directory, is_magic, unreadable, whose};
use crate::attach::kernel::{self, PLACE, STRICT, resolve};
use crate::attach::mounts::{self, Mount};
use crate::attach::place::{Covered, Place, find};
use crate::attach::probe::Life;
use crate::attach::report::{FileReport, Said, State};

/// proc_fs.h: the inode of a procfs's root.
const PROC_ROOT_INO: u64 = 1;

/// A file system of the kernel's below which files have their places.
struct Base {
    fd: OwnedFd,
    mount: Mount,
    /// Its path below the container's root.
    path: PathBuf,
}

impl Ground<'_> {
    /// Everything that the daemon's tree has for this container.
    pub(super) fn files(&self) -> Result<Vec<(PathBuf, OwnedFd)>, Failure> {
        let (path, tree) = self.open_tree()?;
        let files = crate::attach::served(&path).map_err(|(path, error)| unreadable(&path, &error))?;
        let with_source = |file: PathBuf| match self.source(tree.as_fd(), &file) {
            Ok(source) => Ok((file, source)),
            Err(error) => Err(unreadable(&path.join(file), &error)),
        };
        files.into_iter().map(with_source).collect()
    }

    /// Puts each file in its place.
    pub(super) fn attach(
        &mut self,
        sources: Vec<(PathBuf, OwnedFd)>,
        replace: bool,
        say: &mut dyn FnMut(Said),
    ) -> Result<(), Failure> {
        let mut bases: HashMap<&str, Option<Base>> = HashMap::new();
        let mut over_meminfo = false;
        for (path, source) in &sources {
            let kind = if path.starts_with("proc") { "proc" } else { "sys" };
            if !bases.contains_key(kind) {
                let found = self.base(kind);
                if let Err(state) = &found {
                    say(Said::File(FileReport { path: Path::new("/").join(kind), state: state.clone() }));
                }
                bases.insert(kind, found.ok());
            }
            let Some(Some(base)) = bases.get(kind) else { continue };
            let below = path.strip_prefix(&base.path).unwrap_or(path);
            let state = self.put(base, below, path, source, replace).unwrap_or_else(State::Left);
            over_meminfo |= path == Path::new("proc/meminfo")
                && matches!(state, State::Attached | State::Repaired | State::Replaced(_) | State::Already);
            say(Said::File(FileReport { path: Path::new("/").join(path), state }));
        }
        if over_meminfo {
            say(Said::Reading);
            say(Said::Read(self.read_back()?));
        }
        Ok(())
    }

    /// The container's `/proc` or `/sys`.
    fn base(&mut self, kind: &'static str) -> Result<Base, State> {
        let left = |why: &str| State::Left(why.to_owned());
        let directory = PLACE | OFlags::DIRECTORY;
        let open = |dir: BorrowedFd<'_>, name: &str| resolve(dir, Path::new(name), directory, STRICT);
        let fd = match open(self.root.as_fd(), kind) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if kind == "sys" => return Err(State::Absent),
            Err(Errno::NOENT) => return Err(left("there is none")),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(left("it is no directory of its own: a symbolic link, or a file"));
            }
            Err(errno) => return Err(State::Left(format!("it cannot be opened: {errno}"))),
        };
        // Read anew: ids of mounts that are gone are given to others.
        self.look().map_err(State::Left)?;
        let mount = self.mount_of(fd.as_fd()).map_err(State::Left)?;
        if kind == "proc" {
            if mount.kind != "proc" {
                return Err(State::Left(format!("no procfs lies there but {}", mount.kind)));
            }
            if !is_magic(fd.as_fd(), libc::PROC_SUPER_MAGIC)
                || !kernel::stat(fd.as_fd()).is_ok_and(|stat| stat.stx_ino == PROC_ROOT_INO)
            {
                return Err(left("it is not the root of a procfs"));
            }
            return Ok(Base { fd, mount, path: kind.into() });
        }
        let on_root = self.own.mount_id(self.root.as_fd()) == Some(mount.id);
        match mount.kind.as_str() {
            "sysfs" if mount.root == Path::new("/") && is_magic(fd.as_fd(), libc::SYSFS_MAGIC) => {
                Ok(Base { fd, mount, path: kind.into() })
            }
            // systemd-nspawn has the directories of a sysfs bound one by one into a tmpfs.
            "tmpfs" if !on_root => match open(fd.as_fd(), "devices") {
                Ok(devices) => {
                    let mount = self.mount_of(devices.as_fd()).map_err(State::Left)?;
                    let sysfs = mount.kind == "sysfs" && is_magic(devices.as_fd(), libc::SYSFS_MAGIC);
                    match sysfs && mount.root == Path::new("/devices") {
                        true => Ok(Base { fd: devices, mount, path: "sys/devices".into() }),
                        false => Err(State::Masked),
                    }
                }
                Err(_) => Err(State::Masked),
            },
            _ if on_root => Err(State::Absent),
            other => Err(State::Left(format!("no sysfs lies there but {other}"))),
        }
    }

    /// Puts one file in its place. `below` is its path below `base`, `path` that below the tree.
    fn put(
        &mut self,
        base: &Base,
        below: &Path,
        path: &Path,
        source: &OwnedFd,
        replace: bool,
    ) -> Result<State, Failure> {
        // The kernel's own file system may lie over parts of itself, as where a runtime has bound /proc/sys read-only.
        let (mut inner, mut on, mut rest) = (None::<OwnedFd>, base.mount.clone(), below.to_owned());
        let (covered, mount) = loop {
            let here = inner.as_ref().map_or(base.fd.as_fd(), OwnedFd::as_fd);
            let covered = match find(here, &rest) {
                Place::Missing => return Ok(State::Absent),
                Place::Refused(errno) => return Err(format!("it cannot be looked at: {errno}")),
                Place::Free(place) => return self.put_onto(place.as_fd(), &on, source),
                Place::Covered(covered) => covered,
            };
            let mount = self.mount_of(covered.top.as_fd())?;
            let itself = (&mount.kind, &mount.device) == (&on.kind, &on.device);
            if !itself || mount.root != on.root.join(&covered.at) {
                break (covered, mount);
            }
            if covered.last {
                return self.put_onto(covered.top.as_fd(), &mount, source);
            }
            rest = rest.strip_prefix(&covered.at).map(Path::to_owned).unwrap_or_default();
            (inner, on) = (Some(covered.top), mount);
        };
        if mount.is_ownproc() {
            return self.over_ownproc(&covered, &mount, path, source, replace);
        }
        let stat = kernel::stat(covered.top.as_fd()).ok();
        let is =
            |kind| stat.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == kind);
        let null = stat.as_ref().is_some_and(|stat| (stat.stx_rdev_major, stat.stx_rdev_minor) == (1, 3));
        if is(FileType::CharacterDevice) && null || is(FileType::Directory) && mount.kind == "tmpfs" {
            return Ok(State::Masked);
        }
        let what = match covered.last {
            true => format!("{} lies over it", mount.kind),
            false => format!("{} lies over its directory {}", mount.kind, covered.name.display()),
        };
        if !covered.last {
            return Err(what);
        }
        if !replace {
            return Err(format!("{what}; --replace puts ours there instead"));
        }
        self.replace(&mount, &covered, source)?;
        Ok(State::Replaced(mount.kind))
    }

    /// Onto a file of the kernel's, which is on the mount `on`.
    fn put_onto(&mut self, place: BorrowedFd<'_>, on: &Mount, source: &OwnedFd) -> Result<State, Failure> {
        if !is_file_or_directory(place) {
            return Err("it is neither a file nor a directory".to_owned());
        }
        self.stays_inside(on)?;
        kernel::mount_onto(source, place).map_err(|errno| format!("cannot mount on it: {errno}"))?;
        Ok(State::Attached)
    }

    /// A mount of our type lies where `path` is to be.
    fn over_ownproc(
        &mut self,
        covered: &Covered,
        mount: &Mount,
        path: &Path,
        source: &OwnedFd,
        replace: bool,
    ) -> Result<State, Failure> {
        let served = mounts::served_path(&mount.root);
        if self.is_own(mount) {
            let (name, file) = match &served {
                Some((name, file)) => (*name, file.as_path()),
                None => (None, Path::new("")),
            };
            let wanted = file == path || !covered.last && path.starts_with(file);
            let mine = name.is_none() || name == self.order.name.as_ref().map(|name| name.as_str());
            // Those of the container around this one are its own too, as long as that is there.
            if wanted && (mine || self.own.open_again(covered.top.as_fd()).is_ok()) {
                return Ok(State::Already);
            }
            if !covered.last {
                return Err(format!("another of our directories lies over {}", covered.at.display()));
            }
            self.replace(mount, covered, source)?;
            return Ok(State::Replaced(format!("our {}", mount.root.display())));
        }
        match (self.life(mount, covered.top.as_fd()), covered.last) {
            (Life::Dead, true) => self.replace(mount, covered, source).map(|()| State::Repaired),
            (Life::Dead, false) => {
                Err("a dead mount of ours lies over its directory; `attach --repair` replaces it".to_owned())
            }
            (_, true) if replace => self
                .replace(mount, covered, source)
                .map(|()| State::Replaced("another ownproc daemon's".to_owned())),
            (life, _) => Err(format!("{}; --replace puts ours there instead", whose(life))),
        }
    }

    /// Reads `/proc/meminfo` as a program in the container opens it; MemTotal in KiB.
    fn read_back(&mut self) -> Result<u64, Failure> {
        let failed = |what: &dyn std::fmt::Display| format!("/proc/meminfo cannot be read back: {what}");
        let fd = resolve(self.root.as_fd(), Path::new("proc/meminfo"), PLACE, STRICT)
            .map_err(|errno| failed(&errno))?;
        if !self.mount_of(fd.as_fd()).is_ok_and(|mount| self.is_own(&mount)) {
            return Err(failed(&"something else lies over it by now"));
        }
        let fd = self.own.open_again(fd.as_fd()).map_err(|errno| failed(&errno))?;
        let text = std::io::read_to_string(std::fs::File::from(fd)).map_err(|error| failed(&error))?;
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let number = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
        number.ok_or_else(|| failed(&"it holds no MemTotal"))
    }
}
