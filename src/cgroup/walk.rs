//! The tasks of a container: its group and the groups below it, a bounded number of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::controller::Version;
use super::group::GroupSet;
use super::kept::{open_beneath, read_fd};
use super::parse::{
    lines,
    scalar::{counter, number},
};
use crate::model::HostPid;

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct WalkLimits {
    /// Directories opened at most.
    pub directories: usize,
    /// Threads collected at most.
    pub threads: usize,
}

impl GroupSet {
    /// How many tasks there are in the group and below it: `pids.current`. `None` without that controller.
    #[must_use]
    pub fn task_count(&self) -> Option<u64> {
        let (dir, file) = self.each(self.pids.as_ref()?).next()?;
        self.value(dir, file, counter)
    }

    /// The thread ids in the group and below it, in the daemon's pid namespace. False when a limit cut the
    /// walk short. Nothing for the root group: those are the host's tasks.
    pub fn threads(&self, limits: WalkLimits, out: &mut Vec<HostPid>) -> bool {
        out.clear();
        let Some((version, group)) = self.task_group() else { return true };
        let Some(first) = open_dir(group.fd(), ".") else { return true };
        let mut waiting = vec![first];
        let mut opened = 1;
        let mut complete = true;
        while let Some(dir) = waiting.pop() {
            list_threads(dir.as_fd(), version, out);
            if out.len() >= limits.threads {
                complete &= out.len() == limits.threads && waiting.is_empty();
                out.truncate(limits.threads);
                return complete;
            }
            let Ok(listing) = Dir::read_from(&dir) else { continue };
            for entry in listing.filter_map(Result::ok) {
                let name = entry.file_name();
                let child = entry.file_type() == FileType::Directory && name != c"." && name != c"..";
                if !child {
                    continue;
                }
                if opened >= limits.directories {
                    complete = false;
                    break;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if let Ok(fd) = rustix::fs::openat(&dir, name, flags, Mode::empty()) {
                    waiting.push(fd);
                    opened += 1;
                }
            }
        }
        complete
    }
}

fn open_dir(parent: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).ok()
}

fn list_threads(dir: BorrowedFd<'_>, version: Version, out: &mut Vec<HostPid>) {
    let file = match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.threads",
    };
    let Ok(fd) = open_beneath(dir, file, OFlags::RDONLY) else { return };
    // a group removed in between has no tasks
    let _ = read_fd(fd.as_fd(), |text| {
        out.extend(
            lines(text).filter_map(|line| i32::try_from(number(line)?).ok()).filter_map(HostPid::new), // 0 stands for tasks of pid namespaces that are not visible here
        );
    });
}
