//! What the child does in the container's mount namespace.

mod attach;
mod repair;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::child::Order;
use super::kernel::{self, Own, PLACE, STRICT, resolve};
use super::mounts::{self, Mount};
use super::peers::Others;
use super::place::Covered;
use super::probe::{Life, probe};
use super::report::{Action, Said};
use super::subject::{Subject, namespace};

/// Daemons behind mounts of our type in one container that are asked whether they live; the others count as silent. Each takes a
/// process, which a daemon of the container's own can keep for as long as it likes.
const MOST_DAEMONS: usize = 8;

/// Why nothing more can be done: a sentence.
type Failure = String;

/// Does what was ordered. Each file is told as soon as it has been dealt with.
pub fn work(order: &Order, subject: &Subject, say: &mut dyn FnMut(Said)) -> Result<(), Failure> {
    let own = Own::open().map_err(|error| format!("cannot look at this process: {error}"))?;
    let others = own
        .dir()
        .map_err(std::io::Error::from)
        .and_then(|dir| Others::look(subject, dir.as_fd(), order.daemon))
        .map_err(|error| format!("cannot tell its mount namespace from the host's: {error}"))?;
    let root = rustix::fs::openat(
        subject.dir(),
        "root",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| format!("cannot open its root directory: {errno}"))?;
    let mut ground = Ground {
        order,
        subject,
        own,
        others,
        root,
        table: Vec::new(),
        lives: HashMap::new(),
        apart: HashMap::new(),
    };
    ground.look()?;
    if ground.others.is_host(&ground.table) {
        return Err(
            "its mount namespace is the host's: what was mounted there all of the host would see".to_owned()
        );
    }
    let work = ground.prepare()?;
    say(Said::Ready);
    setns(subject.pidfd(), CloneFlags::CLONE_NEWNS)
        .map_err(|errno| format!("cannot enter its mount namespace: {errno}"))?;
    let here = ground
        .own
        .dir()
        .and_then(|dir| namespace(dir.as_fd(), "mnt"))
        .map_err(|errno| format!("cannot look at this process: {errno}"))?;
    if here != ground.others.target() || subject.has_ended() {
        return Err("it has ended, or moved to another mount namespace, meanwhile".to_owned());
    }
    match work {
        Work::Attach(sources, replace) => ground.attach(sources, replace, say),
        Work::Repair(sources) => ground.repair(sources, say),
        Work::Detach => ground.detach(say),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    format!("cannot read the daemon's {}: {error}", path.display())
}

/// What is to be done, with what it takes.
enum Work {
    /// Paths below the tree, each with a detached mount of it.
    Attach(Vec<(PathBuf, OwnedFd)>, bool),
    /// For mounts of our type, by their id, a detached mount of the same file; `None` where the daemon has none.
    Repair(HashMap<u64, Option<OwnedFd>>),
    Detach,
}

/// One container, seen from inside.
struct Ground<'a> {
    order: &'a Order,
    subject: &'a Subject,
    own: Own,
    others: Others,
    /// The root directory of its process.
    root: OwnedFd,
    table: Vec<Mount>,
    /// What is known of the daemon behind a device.
    lives: HashMap<String, Life>,
    /// Why nothing may be mounted below members of a peer group.
    apart: HashMap<u64, Option<String>>,
}

impl Ground<'_> {
    /// Reads the mount table.
    fn look(&mut self) -> Result<(), Failure> {
        let text = self
            .subject
            .read("mountinfo")
            .map_err(|error| format!("cannot read its mount table: {error}"))?;
        self.table = mounts::parse(&text);
        Ok(())
    }

    /// The line of the mount that a descriptor is on.
    fn mount_of(&mut self, fd: BorrowedFd<'_>) -> Result<Mount, Failure> {
        let id = self.own.mount_id(fd).ok_or("cannot tell which mount lies there")?;
        if !self.table.iter().any(|mount| mount.id == id) {
            self.look()?;
        }
        let found = self.table.iter().find(|mount| mount.id == id);
        found.cloned().ok_or_else(|| "what lies there is not in its mount table".to_owned())
    }

    /// What can only be had before the container is entered.
    fn prepare(&self) -> Result<Work, Failure> {
        match self.order.action {
            Action::Attach { replace } => Ok(Work::Attach(self.files()?, replace)),
            Action::Repair => Ok(Work::Repair(self.replacements()?)),
            Action::Detach => Ok(Work::Detach),
        }
    }

    /// The path of this container's files.
    fn tree(&self) -> PathBuf {
        match &self.order.name {
            Some(name) => self.order.mount.join("containers").join(name.as_str()),
            None => self.order.mount.clone(),
        }
    }

    /// A detached mount of one file of the daemon's: its mount point is out of reach once we are inside.
    fn source(&self, tree: BorrowedFd<'_>, path: &Path) -> std::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        kernel::copy(resolve(tree, path, PLACE, STRICT)?.as_fd())
    }

    /// Where the daemon has this container's files.
    fn open_tree(&self) -> Result<(PathBuf, OwnedFd), Failure> {
        let tree = self.tree();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&tree, flags, Mode::empty()) {
            Ok(fd) => Ok((tree, fd)),
            Err(errno) => Err(unreadable(&tree, &errno)),
        }
    }

    /// Of our type, but not of the daemon that we know to live.
    fn is_foreign_ownproc(&self, mount: &Mount) -> bool {
        mount.is_ownproc() && Some(&mount.device) != self.order.device.as_ref()
    }

    /// Of the daemon that we know to live.
    fn is_own(&self, mount: &Mount) -> bool {
        mount.is_ownproc() && Some(&mount.device) == self.order.device.as_ref()
    }

    /// Whether the daemon behind a mount of our type lives.
    fn life(&mut self, mount: &Mount, top: BorrowedFd<'_>) -> Life {
        if self.is_own(mount) {
            return Life::Living;
        }
        self.learn(&[(mount, top)]);
        self.lives.get(&mount.device).copied().unwrap_or(Life::Silent)
    }

    /// Finds out for several mounts at once, so that hanging daemons are waited for together.
    fn learn(&mut self, mounts: &[(&Mount, BorrowedFd<'_>)]) {
        let (mut devices, mut tops) = (Vec::new(), Vec::new());
        for (mount, top) in mounts {
            if !self.is_own(mount)
                && !self.lives.contains_key(&mount.device)
                && !devices.contains(&&mount.device)
                && self.lives.len().saturating_add(devices.len()) < MOST_DAEMONS
            {
                devices.push(&mount.device);
                tops.push(*top);
            }
        }
        let lives = probe(&self.own, &tops);
        self.lives.extend(devices.into_iter().cloned().zip(lives));
    }

    /// Whether a change below a mount stays in the container.
    fn stays_inside(&mut self, mount: &Mount) -> Result<(), Failure> {
        let Some(group) = mount.shared else { return Ok(()) };
        let known = match self.apart.get(&group) {
            Some(known) => known.clone(),
            None => {
                let found = self.others.outside(group, &self.table).map_err(|error| {
                    format!("cannot tell with whom {} is shared: {error}", mount.point.display())
                })?;
                self.apart.insert(group, found.clone());
                found
            }
        };
        match known {
            None => Ok(()),
            Some(whom) => Err(format!(
                "the mount at {0} is shared with {whom}, which would be changed too; cut it off first: nsenter -t {1} -m mount --make-rprivate {0}",
                mount.point.display(),
                self.subject.pid()
            )),
        }
    }

    /// The mount that another one lies on.
    fn below(&mut self, mount: &Mount, covered: &Covered) -> Result<Mount, Failure> {
        match self.table.iter().find(|other| other.id == mount.parent) {
            Some(parent) => Ok(parent.clone()),
            None => self.mount_of(covered.dir.as_fd()),
        }
    }

    /// Ours instead of the mount that lies there; without a moment in between where the kernel can.
    fn replace(&mut self, mount: &Mount, covered: &Covered, source: &OwnedFd) -> Result<(), Failure> {
        let below = self.below(mount, covered)?;
        self.stays_inside(&below)?;
        let top = covered.top.as_fd();
        if kernel::mount_beneath(source, top).is_ok() {
            return self.own.unmount(top).map_err(|errno| {
                format!("ours lies below, but what lies over it cannot be taken away: {errno}")
            });
        }
        let onto = |place: BorrowedFd<'_>| {
            kernel::mount_onto(source, place).map_err(|errno| format!("cannot mount on it: {errno}"))
        };
        match self.own.unmount(top) {
            Ok(()) => {
                // Through the same checks again: it may be another place by now.
                let strict = STRICT | ResolveFlags::NO_XDEV;
                match resolve(covered.dir.as_fd(), &covered.name, PLACE, strict) {
                    Ok(place) => onto(place.as_fd()),
                    Err(errno) => Err(format!("taken away, but what is below cannot be opened: {errno}")),
                }
            }
            // Locked: it came with a copy of a mount namespace, and the container could not take it away either.
            Err(Errno::INVAL) => {
                self.stays_inside(mount)?;
                onto(top)
            }
            Err(errno) => Err(format!("cannot take away what lies there: {errno}")),
        }
    }
}

/// In words, of a mount of our type that is not ours to touch.
fn whose(life: Life) -> &'static str {
    match life {
        Life::Silent => "the file of another ownproc daemon, which does not answer, lies over it",
        Life::Living | Life::Dead => "another ownproc daemon's file lies over it",
    }
}

/// Whether a descriptor is on a file system with this number. Asks the file system: to be called where mountinfo has
/// said that it is one of the kernel's own.
fn is_magic(fd: BorrowedFd<'_>, magic: libc::c_long) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == magic)
}

/// A link that somebody put there is no place to mount on.
fn is_file_or_directory(fd: BorrowedFd<'_>) -> bool {
    kernel::stat(fd).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        kind == FileType::RegularFile || kind == FileType::Directory
    })
}
