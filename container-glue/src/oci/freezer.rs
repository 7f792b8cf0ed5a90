//! Stopping all of a container's processes for a while, and finding them.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ownproc::cgroup::deep::{self, Visit};
use ownproc::cgroup::kept::{open_beneath, read_fd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::OciError;
use super::store::Group;
use crate::groups::tree::write;

/// How long a cgroup may take to stand still for `pause`: a process in a system call that cannot be
/// interrupted is waited for.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The cgroup whose freezer counts, with whether that is v2's. v2 has it in every cgroup but the
/// root.
fn freezer(groups: &[Group]) -> Option<(&Path, bool)> {
    let v1 = groups.iter().find(|group| !group.v2 && group.controllers.iter().any(|name| name == "freezer"));
    let group = v1.or_else(|| groups.iter().find(|group| group.v2))?;
    Some((&group.path, group.v2))
}

/// Whether the container is paused.
pub fn is_frozen(groups: &[Group]) -> bool {
    freezer(groups).is_some_and(|(path, v2)| frozen(path, v2) == Some(true))
}

fn frozen(path: &Path, v2: bool) -> Option<bool> {
    if v2 {
        let events = std::fs::read_to_string(path.join("cgroup.events")).ok()?;
        return Some(events.lines().any(|line| line == "frozen 1"));
    }
    Some(std::fs::read_to_string(path.join("freezer.state")).ok()?.trim() == "FROZEN")
}

/// The file of the freezer, and what is written to it.
fn word(v2: bool, freeze: bool) -> (&'static str, &'static str) {
    match (v2, freeze) {
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    }
}

/// Stops them all, or lets them go on. What does not stand still within `patience` is let go again.
pub fn set(groups: &[Group], freeze: bool, patience: Duration) -> Result<(), OciError> {
    let Some((path, v2)) = freezer(groups) else {
        return Err(OciError::io(
            "pause by the freezer of",
            "/sys/fs/cgroup",
            std::io::ErrorKind::Unsupported.into(),
        ));
    };
    let (file, word) = word(v2, freeze);
    let file = path.join(file);
    let until = Instant::now() + patience;
    loop {
        // v1 gives up after a while on a cgroup in which processes are born all the time, and wants
        // to be asked again
        write(&file, word)?;
        if frozen(path, v2) == Some(freeze) {
            return Ok(());
        }
        if Instant::now() > until {
            if freeze {
                let _ = thaw(groups);
            }
            return Err(OciError::io("wait for", file, std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets all processes go on that a freezer of v1 holds, also those in cgroups below that the
/// container has frozen itself: they do not end before, whatever signal they get. A freezer of v2
/// holds nobody back who was killed.
pub fn thaw(groups: &[Group]) -> Result<(), OciError> {
    let Some((path, v2)) = freezer(groups) else { return Ok(()) };
    let (file, word) = word(v2, false);
    let mut thaw = Thaw { file, word, failed: None };
    over(path, &mut thaw)?;
    match thaw.failed {
        Some(errno) => Err(OciError::io("write to", path.join(file), errno.into())),
        None => Ok(()),
    }
}

struct Thaw {
    file: &'static str,
    word: &'static str,
    failed: Option<Errno>,
}

impl Visit for Thaw {
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> ControlFlow<()> {
        let write =
            || rustix::io::write(open_beneath(cgroup, self.file, OFlags::WRONLY)?, self.word.as_bytes());
        match write() {
            Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => self.failed = Some(errno),
        }
        ControlFlow::Continue(())
    }
}

/// Every process in the container's cgroups and those below, each once.
pub fn processes(groups: &[Group]) -> Result<Vec<i32>, OciError> {
    // one hierarchy holds them all; that of v2 is there wherever it is not hybrid without controllers
    let Some(group) = groups.first() else { return Ok(Vec::new()) };
    let mut list = List { found: Vec::new(), failed: None };
    over(&group.path, &mut list)?;
    if let Some(errno) = list.failed {
        return Err(OciError::io("read", group.path.join("cgroup.procs"), errno.into()));
    }
    list.found.sort_unstable();
    list.found.dedup();
    Ok(list.found)
}

struct List {
    found: Vec<i32>,
    failed: Option<Errno>,
}

impl Visit for List {
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> ControlFlow<()> {
        let file = open_beneath(cgroup, "cgroup.procs", OFlags::RDONLY);
        let numbers = |text: &[u8]| -> Vec<i32> {
            String::from_utf8_lossy(text).lines().filter_map(|line| line.parse().ok()).collect()
        };
        match file.and_then(|file| read_fd(std::os::fd::AsFd::as_fd(&file), numbers)) {
            // 0 stands for one whose pid namespace is not visible here
            Ok(found) => self.found.extend(found.into_iter().filter(|pid| *pid > 0)),
            // a threaded cgroup has its processes above
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
            Err(errno) => {
                self.failed = Some(errno);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

fn over(path: &Path, visit: &mut impl Visit) -> Result<(), OciError> {
    let done = match deep::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        top => top.and_then(|top| deep::walk(&top, visit)),
    };
    done.map_err(|source| OciError::io("look through the cgroups below", path, source))
}
