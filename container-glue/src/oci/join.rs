//! Namespaces that a container joins instead of getting its own, and the process that is born into them.
//!
//! Order: what is joined with the host's rights, then the user namespace, in which those end; what is new is made
//! after that, so that it belongs to the user namespace. All of it in a process in between, whose child is made a child
//! of the caller: the caller itself stays where it is, with its clocks and rights.

mod procfs;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use ownproc::containers::pidfd;

use super::config::namespaces::{KINDS, Namespaces};
use super::config::{Config, namespace_of};
use super::{Doing, OciError};
use crate::namespaces::{Child, spawn};
use crate::rootfs::{SetupError, Step};
use crate::sync;

/// One that is joined.
#[derive(Debug)]
struct Space {
    kind: i32,
    path: PathBuf,
    file: File,
}

impl Space {
    fn enter(&self) -> Result<(), SetupError> {
        setns(&self.file, CloneFlags::from_bits_retain(self.kind))
            .step(|| format!("cannot join the namespace {} of linux.namespaces", self.path.display()))
    }
}

/// All that are joined, open.
#[derive(Debug, Default)]
pub struct Joined {
    /// Before the container's process is made; the user namespace last.
    early: Vec<Space>,
    /// By the process itself, once its groups hold it: the kernel takes nobody into a group outside of his cgroup
    /// namespace.
    late: Vec<Space>,
    /// By the process itself, when nothing of the host is needed any more.
    mount: Option<Space>,
    /// That of pids, in which processes of others live. See [`Self::enter`].
    pids: Option<Pids>,
}

/// A pid namespace that is joined.
#[derive(Debug)]
struct Pids {
    space: Space,
    /// It belongs to another user namespace than the container's: it has to be entered with the
    /// host's rights.
    early: bool,
    /// Closed when the maker knows the first process.
    hold: (OwnedFd, OwnedFd),
    /// Contexts of procfs that were not used yet.
    procfs: RefCell<Vec<OwnedFd>>,
}

impl Joined {
    /// Opens them, and looks whether they are what they are said to be.
    pub fn open(config: &Config) -> Result<Self, OciError> {
        let mut found = Self::default();
        let Namespaces { join, .. } = &config.namespaces;
        let in_user = config.namespaces.has_own(libc::CLONE_NEWUSER);
        for &(kind, ref path) in join {
            let fail = |source| OciError::io("join the namespace", path, source);
            let space = Space { kind, path: path.clone(), file: File::open(path).map_err(fail)? };
            let name = KINDS.iter().find(|(_, flag)| *flag == kind).map_or("", |(name, _)| name);
            if nstype(&space.file) != Some(kind) {
                return Err(OciError::config(
                    "linux.namespaces",
                    format!(
                        "{}: no {name} namespace; give a file such as /proc/PID/ns/{name}",
                        path.display()
                    ),
                ));
            }
            if is_own(&space.file, name).map_err(fail)? {
                not_the_hosts(config, kind, name)?;
            }
            match kind {
                libc::CLONE_NEWNS => found.mount = Some(space),
                // who lives in the host's sees the process that sets the container up in any case
                libc::CLONE_NEWPID if is_own(&space.file, name).map_err(fail)? => {}
                libc::CLONE_NEWPID => {
                    let hold = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing("make a pipe")?;
                    found.pids = Some(Pids { space, early: false, hold, procfs: RefCell::default() });
                }
                libc::CLONE_NEWCGROUP if !in_user => found.late.push(space),
                // the kernel lets nobody enter the user namespace that he is in
                libc::CLONE_NEWUSER if is_own(&space.file, name).map_err(fail)? => {}
                _ => found.early.push(space),
            }
        }
        // sorted by what comes last; the others in the order given
        found.early.sort_by_key(|space| space.kind == libc::CLONE_NEWUSER);
        if let Some(pids) = &mut found.pids
            && config.namespaces.has_own(libc::CLONE_NEWUSER)
        {
            let user = found.early.iter().find(|space| space.kind == libc::CLONE_NEWUSER);
            pids.early = !user.is_some_and(|user| is_owner(&user.file, &pids.space.file));
        }
        Ok(found)
    }

    /// Whether processes of others see the container's first process as soon as it is there. The
    /// container is then set up by another process, which they do not see.
    pub fn is_watched(&self) -> bool {
        self.pids.is_some()
    }

    /// Whether hooks would be run where those others see them: the children of a process that has
    /// entered the pid namespace are in it.
    pub fn shows_hooks(&self) -> bool {
        self.pids.as_ref().is_some_and(|pids| pids.early)
    }

    /// By the process that sets up a container that [is watched](Self::is_watched): enters what is
    /// joined and makes what is new (`CLONE_NEW*`) for itself. Its children alone will be in the
    /// pid namespace.
    pub fn enter(&self, new: i32) -> Result<(), SetupError> {
        if let Some(pids) = self.pids.as_ref().filter(|pids| pids.early) {
            pids.space.enter()?;
        }
        self.early.iter().try_for_each(Space::enter)?;
        unshare(CloneFlags::from_bits_retain(new))
            .step(|| "cannot make the container's namespaces".to_owned())
    }

    /// Before the first process is made: its pid namespace, where [`Self::enter`] has left that
    /// out.
    pub fn pids(&self) -> Result<(), SetupError> {
        match self.pids.as_ref().filter(|pids| !pids.early) {
            Some(pids) => pids.space.enter(),
            None => Ok(()),
        }
    }

    /// Prepares this many contexts for [`Self::procfs`]. To be called before anything is mounted
    /// over this process's root: the kernel gives nobody a user namespace who seems to be in a
    /// changed root.
    pub fn prepare_procfs(&self, count: usize) -> Result<(), SetupError> {
        let Some(pids) = &self.pids else { return Ok(()) };
        let made = (0..count).map(|_| procfs::of(&pids.space.file)).collect::<io::Result<_>>();
        *pids.procfs.borrow_mut() = made.step(|| "cannot mount a new proc".to_owned())?;
        Ok(())
    }

    /// A context of a new procfs that shows the processes of the container.
    pub fn procfs(&self) -> io::Result<OwnedFd> {
        match &self.pids {
            Some(pids) => pids.procfs.borrow_mut().pop().ok_or_else(|| io::ErrorKind::NotFound.into()),
            None => Ok(rustix::mount::fsopen("proc", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)?),
        }
    }

    /// By the process that will make the first process. Neither keeps this end open: others may
    /// stop the first one.
    pub fn let_go(&self) {
        if let Some(pids) = &self.pids {
            super::process::let_go(&pids.hold.1);
        }
    }

    /// By the process that made the first process: waits until its maker knows that, or is gone.
    pub fn wait_for_maker(&self) {
        if let Some(pids) = &self.pids {
            while rustix::io::read(&pids.hold.0, &mut [0]) == Err(rustix::io::Errno::INTR) {}
        }
    }

    /// What [`Self::pids`] and [`Self::wait_for_maker`] need open.
    pub fn descriptors(&self) -> impl Iterator<Item = std::os::fd::RawFd> {
        self.pids.iter().flat_map(|pids| [pids.space.file.as_raw_fd(), pids.hold.0.as_raw_fd()])
    }

    /// What is left for the process itself.
    pub fn late(&self) -> Result<(), SetupError> {
        self.late.iter().try_for_each(Space::enter)
    }

    /// Leaves the host's tree for that of the mount namespace; false where none is joined.
    pub fn mount(&self) -> Result<bool, SetupError> {
        let Some(space) = &self.mount else { return Ok(false) };
        space.enter()?;
        Ok(true)
    }

    /// Starts `child` in them and in new namespaces (`CLONE_NEW*`), and on v2 in its group.
    pub fn spawn(
        &self,
        new: i32,
        v2_group: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> i32,
    ) -> Result<Child, OciError> {
        let what = "start the container's process in its namespaces";
        if self.is_watched() {
            return spawn(0, v2_group, child).doing(what); // it enters them itself
        }
        if self.early.is_empty() {
            return spawn(new, v2_group, child).doing(what);
        }
        between(|| self.early.iter().try_for_each(Space::enter), new, v2_group, child)
    }
}

/// Starts `child`, a child of this process, with what another process has got by `enter` and new namespaces.
pub fn between(
    enter: impl FnOnce() -> Result<(), SetupError>,
    new: i32,
    v2_group: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> Result<Child, OciError> {
    let what = "start a process in the container's namespaces";
    let (ours, theirs) = sync::channel().doing("make a socket pair")?;
    let between = spawn(0, None, || {
        let made = enter().and_then(|()| {
            spawn(new | libc::CLONE_PARENT, v2_group, child).step(|| format!("cannot {what}"))
        });
        let told = match made {
            Ok(made) => hand_over(theirs.fd(), made.pidfd.as_fd(), b"pid"),
            Err(error) => theirs.send(error.to_string().as_bytes()),
        };
        i32::from(told.is_err())
    })
    .doing(what)?;
    drop(theirs);
    let taken = take_over(ours.fd());
    crate::supervise::exit_code(between.pidfd.as_fd()).doing("wait for a process")?;
    let pidfd = match taken.doing(what)? {
        Taken::Descriptor(pidfd) => pidfd,
        Taken::Error(why) => return Err(OciError::Setup(why)),
    };
    let pid = pidfd::pid(pidfd.as_fd());
    let pid =
        pid.ok_or_else(|| io::Error::other("it ended at once, or is in no pid namespace below this one"));
    match pid.doing(what) {
        Ok(pid) => Ok(Child { pid: pid.get(), pidfd }),
        Err(error) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            let _ = crate::supervise::exit_code(pidfd.as_fd());
            Err(error)
        }
    }
}

/// A descriptor of a process that a message named: a child of this process and not `other`, or it
/// is refused.
pub fn child(pid: i32, other: i32) -> Result<OwnedFd, OciError> {
    use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
    let what = "find the process that was started";
    let not_it = || io::Error::other("the number is another process's");
    let number = Pid::from_raw(pid).filter(|_| pid != other).ok_or_else(not_it).doing(what)?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).doing(what)?;
    // ECHILD where it is none
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), options).doing(what)?;
    Ok(pidfd)
}

/// What is set in a namespace that is joined must not be set in the caller's.
fn not_the_hosts(config: &Config, kind: i32, name: &str) -> Result<(), OciError> {
    let uts = kind == libc::CLONE_NEWUTS;
    let sysctl = config.sysctl.iter().any(|(file, _)| namespace_of(file) == Some(kind));
    for (field, there) in [
        ("linux.sysctl", sysctl),
        ("hostname", uts && config.hostname.is_some()),
        ("domainname", uts && config.domainname.is_some()),
    ] {
        if there {
            let reason = format!("the {name} namespace that is joined is the host's: leave it out");
            return Err(OciError::config(field, reason));
        }
    }
    Ok(())
}

/// Whether a user namespace is the one that another namespace belongs to (ioctl_ns(2)).
fn is_owner(user: &File, of: &File) -> bool {
    const NS_GET_USERNS: libc::Ioctl = 0xb701; // linux/nsfs.h
    // SAFETY: takes no argument, and returns a new descriptor or -1; the file is of nsfs, which was
    // looked at.
    let owner = unsafe { libc::ioctl(of.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return false; // it belongs to one that this process may not see
    }
    // SAFETY: the kernel has just made it, and nothing else owns it.
    let owner = File::from(unsafe { OwnedFd::from_raw_fd(owner) });
    let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    id(&owner).is_some() && id(&owner) == id(user)
}

/// Whether it is the one that this process is in.
fn is_own(file: &File, name: &str) -> io::Result<bool> {
    let (own, other) = (std::fs::metadata(format!("/proc/self/ns/{name}"))?, file.metadata()?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// `CLONE_NEW*` of an open namespace; `None` for any other file.
fn nstype(file: &File) -> Option<i32> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703; // linux/nsfs.h
    // another file's driver could take the number for something else
    let magic = rustix::fs::fstatfs(file).ok()?.f_type;
    if magic != libc::NSFS_MAGIC {
        return None;
    }
    // SAFETY: takes no argument, and returns the kind or -1.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    (kind > 0).then_some(kind)
}

fn hand_over(to: &OwnedFd, fd: BorrowedFd<'_>, what: &[u8]) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(what)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

enum Taken {
    Descriptor(OwnedFd),
    Error(String),
}

fn take_over(from: &OwnedFd) -> io::Result<Taken> {
    let (mut text, mut space) = ([0; 4096], nix::cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    let length = message.bytes;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the kernel has just made it for this process, and nothing else owns it.
            return Ok(Taken::Descriptor(unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if length == 0 {
        return Err(io::Error::other("the process that joins the namespaces was killed"));
    }
    Ok(Taken::Error(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files() {
        for (name, kind) in KINDS {
            let Ok(file) = File::open(format!("/proc/self/ns/{name}")) else { continue };
            assert_eq!(nstype(&file), Some(kind), "{name}");
            assert!(is_own(&file, name).unwrap());
        }
        assert_eq!(nstype(&File::open("/dev/null").unwrap()), None);
        assert_eq!(nstype(&File::open("/").unwrap()), None);
    }
}
