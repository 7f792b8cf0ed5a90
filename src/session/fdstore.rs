//! systemd as the keeper of last resort: it holds the connection and the shared memory while the holder itself is
//! restarted (FDSTORE=1 of sd_notify(3)).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sd_notify::NotifyState;

use super::holder::Holdings;
use super::negotiate;
use super::notice::say;
use super::page::{LAYOUT, Page};
use super::serve::{Connection, SessionError};
use crate::control::Paths;
use crate::fs::mount;
use crate::store;

/// The name under which the connection is kept.
pub(super) const DEVICE: &str = "ownproc-device";
/// What the names begin with under which memories are kept; their layout follows. Each layout has a name of its own, so that a
/// holder of another build can give its new memory away before it takes the old one back: at no moment is none kept.
const MEMORY: &str = "ownproc-memory-";
/// The link to a keeper, which passes on what it has as systemd does.
pub(super) const KEEPER: &str = "ownproc-keeper";
/// What the names begin with under which a keeper passes seccomp listeners; their numbers follow.
const LISTENER: &str = "ownproc-listener-";
/// systemd drops a descriptor that polls as failed, and that of a connection does so once it has ended: whether it has is ours
/// to find out (version 246; older ones do not know it and drop only what is of no use any more).
const NO_POLL: NotifyState<'_> = NotifyState::Custom("FDPOLL=0");
/// How long systemd may take to look at what it was told.
const BARRIER: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long the processes of the daemon before may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Device number of /dev/fuse (Documentation/admin-guide/devices.txt).
const FUSE: (u32, u32) = (10, 229);

/// What systemd, or a keeper, had kept.
#[derive(Debug, Default)]
pub(super) struct Stored {
    device: Option<OwnedFd>,
    /// With their names.
    memories: Vec<(String, OwnedFd)>,
    /// The link to the keeper that kept it.
    pub(super) keeper: Option<OwnedFd>,
    /// Seccomp listeners by their numbers.
    pub(super) listeners: Vec<(u16, OwnedFd)>,
}

/// The name of a listener.
pub(super) fn listener_name(number: u16) -> String {
    format!("{LISTENER}{number}")
}

/// The numbers and names of what was passed to process `own`, from the variables of sd_listen_fds(3); what has no name
/// there has an empty one.
fn passed(own: u32, pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Vec<(RawFd, String)> {
    const FIRST: RawFd = 3;
    /// More than anybody passes: a nonsensical number must not take long.
    const MOST: RawFd = 8192;
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Vec::new();
    }
    let count = count.and_then(|count| count.parse::<RawFd>().ok()).unwrap_or(0).clamp(0, MOST);
    let mut names = names.unwrap_or_default().split(':');
    (FIRST..FIRST + count).map(|number| (number, names.next().unwrap_or_default().to_owned())).collect()
}

/// What systemd gives back at the start. Anything else that was passed is closed. To be called once, before any descriptor
/// is opened.
pub(super) fn take() -> Stored {
    let get = |name| std::env::var(name).ok();
    let (pid, count, names) = (get("LISTEN_PID"), get("LISTEN_FDS"), get("LISTEN_FDNAMES"));
    let mut stored = Stored::default();
    for (number, name) in passed(std::process::id(), pid.as_deref(), count.as_deref(), names.as_deref()) {
        // SAFETY: a number that is not open is an error of fcntl(2), nothing worse.
        let there = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
        if there.is_err() {
            continue;
        }
        // SAFETY: it is open, it was passed to this process, and nothing else here knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let closed_on_exec = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).is_ok();
        if !closed_on_exec {
            continue;
        }
        if name == DEVICE && is_fuse(&fd) {
            // Of several, the one that lives.
            if is_connected(fd.as_fd()) || stored.device.is_none() {
                stored.device = Some(fd);
            }
        } else if name.starts_with(MEMORY) {
            stored.memories.push((name, fd));
        } else if name == KEEPER {
            stored.keeper = Some(fd);
        } else if let Some(number) = name.strip_prefix(LISTENER).and_then(|number| number.parse().ok()) {
            stored.listeners.push((number, fd));
        } else {
            say(format_args!("closing a descriptor that is none of ours (number {number}, named '{name}')"));
        }
    }
    stored
}

fn is_fuse(fd: &OwnedFd) -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == FUSE
    })
}

/// Whether the connection behind a device lives: the kernel lets it poll as failed once it does not (`fuse_dev_poll`).
pub(super) fn is_connected(device: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
}

impl Stored {
    /// The connection that was kept, taken up again; `None` if there is none that could be served, which is said where
    /// there was something. The caller has seen to it that no other process serves it ([`wait_until_alone`]).
    pub(super) fn connection(self, mountpoint: &Path) -> Option<Connection> {
        if self.device.is_none() && self.memories.is_empty() {
            return None;
        }
        match self.adopt(mountpoint) {
            Ok(connection) => Some(connection),
            Err(why) => {
                log::warn!("{}: {why}: mounting anew", mountpoint.display());
                None
            }
        }
    }

    fn adopt(self, mountpoint: &Path) -> Result<Connection, String> {
        let device = self.device.ok_or("the shared memory was kept without a connection")?;
        if !is_connected(device.as_fd()) {
            return Err("the connection that was kept has ended".to_owned());
        }
        // The one of our own layout first.
        let mut memories = self.memories;
        memories.sort_by_key(|(name, _)| *name != own_memory());
        let found = memories.into_iter().find_map(|(name, memory)| match Page::succeed(memory.as_fd()) {
            Ok((None, page)) => Some((memory, page)),
            Ok((Some(new), page)) => match store::create(new.as_fd()) {
                Ok(()) => Some((new, page)),
                Err(error) => {
                    log::warn!("{error}");
                    None
                }
            },
            Err(error) => {
                log::warn!("{name}: {error}");
                None
            }
        });
        let (memory, page) = found.ok_or("the connection was kept without its memory")?;
        negotiate::check(page)
            .map_err(|error| format!("this build cannot serve the connection that was kept: {error}"))?;
        let mounted = page.head.mounted.load(Relaxed);
        if super::worker::device_at(mountpoint) != Some(mounted) {
            match mount::foreign_namespaces(Path::new("/proc"), mounted, mountpoint) {
                0 => return Err("the mount of the connection that was kept is gone".to_owned()),
                n => log::warn!(
                    "{}: the mount was taken away; serving on, since {n} other mount namespace(s) hold its files",
                    mountpoint.display()
                ),
            }
        }
        Ok(Connection { device, memory, page, adopted: true })
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.device.is_none() && self.memories.is_empty()
    }
}

/// Waits until no process of the daemon before is left that could still take a request: all of them hold the control socket
/// open, and with their last thread the kernel closes that and the connection.
pub(super) fn wait_until_alone(paths: &Paths) -> Result<(), SessionError> {
    let until = Instant::now() + GONE;
    while std::os::unix::net::UnixStream::connect(&paths.socket).is_ok() {
        if Instant::now() > until {
            return Err(SessionError::StillThere(paths.mount.clone()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The name of a memory that is laid out as ours is.
pub(super) fn own_memory() -> String {
    format!("{MEMORY}{LAYOUT:016x}")
}

/// Where systemd says how many descriptors it keeps (version 254), and where our unit says so for older ones.
const KEEPS: [&str; 2] = ["FDSTORE", "OWNPROC_FDSTORE"];

/// Whether there is a systemd that keeps a connection and a memory for us, and one more while they change.
pub(super) fn keeps() -> bool {
    let room = |name| std::env::var(name).is_ok_and(|most| most.parse().is_ok_and(|most: u32| most >= 3));
    std::env::var_os("NOTIFY_SOCKET").is_some() && KEEPS.into_iter().any(room)
}

/// Gives both to systemd, and takes back what it has kept for a build with another layout; whether it keeps them.
pub(super) fn store(has: &Holdings, before: &[String]) -> bool {
    if !keeps() {
        return false;
    }
    let one = |name: &str, fd| {
        sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name), NO_POLL], &[fd])
    };
    let own = own_memory();
    let stored = one(DEVICE, has.device.as_fd()).and_then(|()| one(&own, has.memory.as_fd()));
    match &stored {
        Ok(()) => before.iter().filter(|name| **name != own).for_each(|name| remove(name)),
        Err(error) => log::warn!("systemd does not keep the connection: {error}"),
    }
    stored.is_ok()
}

fn remove(name: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]) {
        log::warn!("systemd still keeps {name}: {error}");
    }
}

impl Stored {
    /// The names of the memories.
    pub(super) fn memories(&self) -> Vec<String> {
        self.memories.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Takes everything back for good: the connection is not to be kept (any more). Returns when systemd has closed it.
pub(super) fn forget(before: &[String]) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    remove(DEVICE);
    let own = own_memory();
    before.iter().chain(std::iter::once(&own)).for_each(|name| remove(name));
    if let Err(errno) = barrier() {
        log::debug!("systemd does not say when it has closed what it kept: {errno}");
    }
}

/// Waits until systemd has seen all that it was told: it closes the descriptor of the message then (version 246).
fn barrier() -> rustix::io::Result<()> {
    let (ours, its) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[its.as_fd()]).map_err(|_| Errno::IO)?;
    drop(its);
    let mut fds = [PollFd::new(&ours, PollFlags::HUP)];
    match poll(&mut fds, Some(&BARRIER)) {
        Ok(0) => Err(Errno::TIMEDOUT),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_to_another_process_is_not_ours() {
        assert!(passed(7, Some("8"), Some("2"), None).is_empty());
        assert!(passed(7, None, Some("2"), None).is_empty());
        assert!(passed(7, Some("seven"), Some("2"), None).is_empty());
    }

    #[test]
    fn names_go_with_numbers() {
        let named = |count, names| passed(7, Some("7"), Some(count), names);
        let pair = |number, name: &str| (number, name.to_owned());
        assert_eq!(named("2", Some("a:b")), [pair(3, "a"), pair(4, "b")]);
        assert_eq!(named("2", Some("a")), [pair(3, "a"), pair(4, "")]);
        assert_eq!(named("1", Some("a:b:c")), [pair(3, "a")]);
        assert_eq!(named("1", None), [pair(3, "")]);
        assert!(named("-1", None).is_empty() && named("many", None).is_empty());
        assert_eq!(named("2000000000", None).len(), 8192);
    }

    #[test]
    fn a_device_without_a_mount_is_not_connected() {
        let device = mount::open_device().expect("this test needs /dev/fuse");
        assert!(is_fuse(&device));
        assert!(!is_connected(device.as_fd()));
        let file = std::fs::File::open("/dev/null").expect("open");
        assert!(!is_fuse(&file.into()));
    }

    #[test]
    fn half_a_connection_is_none() {
        let (memory, _) = Page::create().expect("memory");
        let stored = Stored { device: None, memories: vec![(own_memory(), memory)], ..Stored::default() };
        assert_eq!(stored.memories(), [own_memory()]);
        assert!(!stored.is_empty());
        assert!(stored.connection(Path::new("/nowhere")).is_none());
        assert!(Stored::default().connection(Path::new("/nowhere")).is_none());
    }
}
