//! `events`: what a container uses, and when memory runs out in it, as lines of JSON until it ends.

mod interval;
mod oom;
mod stats;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use ownproc::cgroup::Version;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::args::{EventsArgs, Global};
use super::limits::group_of;
use super::store::{Group, Record, Status, Store};
use super::{Doing, OciError};
use oom::Watch;

/// The files of a container's groups.
struct Files<'a>(&'a [Group]);

impl Files<'_> {
    fn group(&self, controller: &str) -> Option<&Group> {
        group_of(self.0, controller)
    }
}

impl stats::Source for Files<'_> {
    fn version(&self, controller: &str) -> Option<Version> {
        self.group(controller).map(|group| if group.v2 { Version::V2 } else { Version::V1 })
    }

    fn read(&self, controller: &str, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.group(controller)?.path.join(file)).ok()
    }

    fn names(&self, controller: &str) -> Vec<String> {
        let entries = self.group(controller).and_then(|group| std::fs::read_dir(&group.path).ok());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// `events`.
pub fn show(global: &Global, args: &EventsArgs) -> Result<(), OciError> {
    let interval = interval::parse(&args.interval).map_err(OciError::Setup)?;
    // not under its lock: other commands work on it meanwhile
    let entry = Store::open(&global.root)?.look(&args.id)?;
    let record = entry.read()?;
    let status = entry.status(&record);
    let Some(container) = record.alive().filter(|_| status != Status::Creating) else {
        let hint = "only one that was created and not stopped has events";
        return Err(OciError::Status { id: args.id.clone(), is: status.name(), hint });
    };
    if args.stats {
        return said(&record, "stats", true).map(drop);
    }
    let mut watch = Watch::new(group_of(&record.groups, "memory"))?;
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            if !said(&record, "stats", true)? {
                return Ok(());
            }
            next = Instant::now() + interval;
        }
        let what = wait(&container, watch.fd(), next)?;
        // before the end is believed: what ended it may be just that
        for _ in 0..watch.news() {
            if !said(&record, "oom", false)? {
                return Ok(());
            }
        }
        if what.ended || what.unheard {
            return Ok(());
        }
    }
}

/// What was waited for.
struct Woken {
    /// The container has ended.
    ended: bool,
    /// Nobody reads any more.
    unheard: bool,
}

/// Waits for the end of the container, for news of its memory, or for the moment `until`.
fn wait(container: &OwnedFd, oom: Option<&OwnedFd>, until: Instant) -> Result<Woken, OciError> {
    let stdout = std::io::stdout();
    // a pipe without a reader is an error to be told of, also where nothing is waited for
    let mut fds = vec![
        PollFd::new(container, PollFlags::IN),
        PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
    ];
    fds.extend(oom.map(|fd| PollFd::new(fd, PollFlags::IN)));
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
    match poll(&mut fds, Some(&timeout)) {
        Err(rustix::io::Errno::INTR) | Ok(0) => return Ok(Woken { ended: false, unheard: false }),
        other => other.doing("wait for events of the container")?,
    };
    let woken = |at: usize, flags: PollFlags| fds.get(at).is_some_and(|fd| fd.revents().intersects(flags));
    Ok(Woken { ended: woken(0, PollFlags::IN), unheard: woken(1, PollFlags::ERR) })
}

/// Prints an event; false where nobody reads any more.
fn said(record: &Record, what: &str, with_data: bool) -> Result<bool, OciError> {
    let mut event = json!({ "type": what, "id": record.id });
    if with_data {
        event["data"] = stats::stats(&Files(&record.groups));
    }
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{event}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).doing("write to stdout"),
    }
}
