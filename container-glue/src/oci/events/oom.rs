//! When the kernel finds no more memory for a container: an eventfd on v1, `memory.events` on v2.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::super::OciError;
use super::super::store::Group;
use super::stats::oom_kills;

/// Tells of it.
pub enum Watch {
    /// This host limits no memory.
    Nothing,
    /// v1 counts up this eventfd.
    V1 {
        /// Nonblocking.
        counter: OwnedFd,
        /// Whose events they are; when its group goes, the kernel counts once more.
        control: File,
    },
    /// v2 changes a file.
    V2 {
        /// inotify, nonblocking.
        changes: OwnedFd,
        /// `memory.events`, open: it says so itself when its group is gone.
        events: File,
        /// Processes killed so far.
        kills: u64,
    },
}

impl Watch {
    /// Watches the group that limits memory.
    pub fn new(group: Option<&Group>) -> Result<Self, OciError> {
        let Some(group) = group else { return Ok(Self::Nothing) };
        let file = group.path.join(if group.v2 { "memory.events" } else { "memory.oom_control" });
        let fail = |source: io::Error| OciError::io("watch", &file, source);
        let open = match File::open(&file) {
            // a group that the controller is not handed down to
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            other => other.map_err(fail)?,
        };
        if group.v2 {
            let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                .map_err(|errno| fail(errno.into()))?;
            inotify::add_watch(&changes, &file, inotify::WatchFlags::MODIFY)
                .map_err(|errno| fail(errno.into()))?;
            let kills = read(&open).map(|text| oom_kills(&text)).map_err(fail)?;
            return Ok(Self::V2 { changes, events: open, kills });
        }
        let counter =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| fail(errno.into()))?;
        let words = format!("{} {}", counter.as_raw_fd(), open.as_raw_fd());
        let control = group.path.join("cgroup.event_control");
        std::fs::write(&control, words).map_err(|source| OciError::io("write to", control, source))?;
        Ok(Self::V1 { counter, control: open })
    }

    /// Readable when there may be news.
    pub fn fd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Nothing => None,
            Self::V1 { counter, .. } => Some(counter),
            Self::V2 { changes, .. } => Some(changes),
        }
    }

    /// How many times memory ran out since it was asked last. Never waits.
    pub fn news(&mut self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::V1 { counter, control } => {
                let mut count = [0; 8];
                let counted = match rustix::io::read(&*counter, &mut count) {
                    Ok(8) => u64::from_ne_bytes(count),
                    _ => 0,
                };
                // a group that goes wakes all who wait: that is no news of memory
                if counted > 0 && read(control).is_err() { counted - 1 } else { counted }
            }
            Self::V2 { changes, events, kills } => {
                let mut buffer = [0; 4096];
                // emptied, so that it is not ready for ever
                while matches!(rustix::io::read(&*changes, &mut buffer), Ok(1..) | Err(Errno::INTR)) {}
                let Ok(text) = read(events) else { return 0 };
                let now = oom_kills(&text);
                now.saturating_sub(std::mem::replace(kills, now))
            }
        }
    }
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut text = vec![0; 4096];
    let length = file.read_at(&mut text, 0)?;
    text.truncate(length);
    Ok(text)
}
