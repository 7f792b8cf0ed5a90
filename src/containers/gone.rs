//! Notices that cgroups are removed.
//!
//! The kernel does not free a cgroup whose directory somebody holds open, and tells nobody of its own
//! removal. It tells who watches the directory above (inotify(7)): removing a cgroup is an rmdir(2).
//! Nothing runs while nothing changes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// What comes within this time is looked at together.
const TOGETHER: Duration = Duration::from_secs(1);

/// Directories above the cgroups that are remembered.
#[derive(Debug)]
pub struct Gone {
    inotify: OwnedFd,
    /// Written to when a cgroup came: it may have gone before it was watched.
    came: OwnedFd,
    watched: Mutex<HashMap<PathBuf, i32>>,
}

impl Gone {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// Where the kernel gives no descriptor (`fs.inotify.max_user_instances`).
    pub fn new() -> std::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let came = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inotify, came, watched: Mutex::default() })
    }

    /// Watches what lies in a directory of cgroups. One that cannot be watched is found to be gone when
    /// others come.
    pub fn watch(&self, above: PathBuf) {
        let mut watched = self.watched.lock();
        if let Entry::Vacant(place) = watched.entry(above) {
            let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.inotify, place.key(), flags) {
                Ok(watch) => drop(place.insert(watch)),
                Err(errno) => log::debug!("{}: not watched: {errno}", place.key().display()),
            }
        }
        drop(watched);
        // a full counter says the same
        let _ = rustix::io::write(&self.came, &1_u64.to_ne_bytes());
    }

    /// Watches these directories alone from now on.
    pub fn only(&self, above: &HashSet<PathBuf>) {
        self.watched.lock().retain(|path, watch| {
            let stays = above.contains(path);
            if !stays {
                // EINVAL: it was removed itself, and its watch with it
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
            stays
        });
    }

    /// Waits until a cgroup may have gone.
    ///
    /// # Errors
    ///
    /// Where the kernel does not let this thread wait.
    pub fn wait(&self) -> std::io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.came, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        std::thread::sleep(TOGETHER);
        let mut events = [0; 4096];
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|length| length > 0) {}
        let _ = rustix::io::read(&self.came, &mut [0; 8][..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_noticed_and_what_is_let_go_is_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let gone = Gone::new().unwrap();
        std::fs::create_dir(one.path().join("a")).unwrap();
        std::fs::create_dir(two.path().join("b")).unwrap();
        gone.watch(one.path().to_owned());
        gone.watch(two.path().to_owned());
        gone.wait().unwrap();
        let waiting = || {
            let mut fds = [PollFd::new(&gone.inotify, PollFlags::IN), PollFd::new(&gone.came, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&now)).unwrap() > 0
        };
        assert!(!waiting());
        gone.only(&HashSet::from([two.path().to_owned()]));
        gone.wait().unwrap(); // the kernel tells that a watch has ended
        std::fs::remove_dir(one.path().join("a")).unwrap();
        assert!(!waiting());
        std::fs::remove_dir(two.path().join("b")).unwrap();
        assert!(waiting());
    }
}
