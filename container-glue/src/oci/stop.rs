//! `kill`, `delete`, `pause` and `resume`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::args::{DeleteArgs, Global, KillArgs};
use super::store::{Entry, Levels, Record, Status, Store};
use super::{Doing, OciError, freezer, hooks, inspect};

/// How long `delete --force` waits for what it has killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// `kill`.
pub fn kill(global: &Global, args: &KillArgs) -> Result<(), OciError> {
    let signal = signal(&args.signal)?;
    let entry = Store::open(&global.root)?.entry(&args.id)?;
    let record = entry.read()?;
    if args.all {
        return kill_all(&record, signal);
    }
    let init = record.alive().ok_or(OciError::NotRunning)?;
    send(init.as_fd(), signal)
}

/// `TERM`, `SIGTERM` or `15`; real-time signals by number.
fn signal(text: &str) -> Result<i32, OciError> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper.clone() } else { format!("SIG{upper}") };
    let number = text.parse::<i32>().ok().filter(|number| (0..=64).contains(number));
    number.or_else(|| name.parse::<Signal>().ok().map(|signal| signal as i32)).ok_or_else(|| {
        OciError::Setup(format!("{text:?} is no signal: give a name such as TERM, or a number from 1 to 64"))
    })
}

fn send(process: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<(), OciError> {
    use std::os::fd::AsRawFd;
    // SAFETY: integers and a null pointer, with which the kernel fills in what kill(2) would.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Err(OciError::NotRunning),
        error => Err(error).doing(format!("send signal {signal}")),
    }
}

/// Every process of the container. For SIGKILL they are stopped first, so that none is born meanwhile; where v2 can
/// kill a group it does.
fn kill_all(record: &Record, signal: i32) -> Result<(), OciError> {
    if signal == libc::SIGKILL
        && let Some(group) = record.groups.first().filter(|group| group.v2)
        && std::fs::write(group.path.join("cgroup.kill"), "1").is_ok()
    {
        return Ok(());
    }
    let stopped = signal == libc::SIGKILL && freezer::set(&record.groups, true).is_ok();
    let mut result = Ok(());
    for number in freezer::processes(&record.groups)? {
        let Some(pid) = Pid::from_raw(number) else { continue };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        match send(process.as_fd(), signal) {
            Err(OciError::NotRunning) => {}
            other => result = result.and(other),
        }
    }
    if stopped {
        freezer::set(&record.groups, false)?;
    }
    result
}

/// `pause` and `resume`.
pub fn pause(global: &Global, id: &str, freeze: bool) -> Result<(), OciError> {
    let entry = Store::open(&global.root)?.entry(id)?;
    let record = entry.read()?;
    let status = entry.status(&record);
    let (wanted, hint) = if freeze {
        (matches!(status, Status::Running | Status::Created), "only one that runs can be paused")
    } else {
        (status == Status::Paused, "only one that is paused can be resumed")
    };
    if !wanted {
        return Err(OciError::Status { id: id.to_owned(), is: status.name(), hint });
    }
    freezer::set(&record.groups, freeze)
}

/// `delete`.
pub fn delete(global: &Global, args: &DeleteArgs) -> Result<(), OciError> {
    args.ids.iter().try_for_each(|id| match delete_one(global, id, args.force) {
        Err(OciError::NoContainer(_)) if args.force => Ok(()),
        other => other,
    })
}

/// Deletes one container.
pub fn delete_one(global: &Global, id: &str, force: bool) -> Result<(), OciError> {
    let store = Store::open(&global.root)?;
    let entry = store.entry(id)?;
    let record = match entry.read() {
        Ok(record) => record,
        // its maker was killed before it had written anything but the directory
        Err(OciError::Io { source, .. }) if force && source.kind() == std::io::ErrorKind::NotFound => {
            return entry.remove();
        }
        Err(error) => return Err(error),
    };
    let status = entry.status(&record);
    if status != Status::Stopped {
        if !force {
            let hint = "kill it first, or give --force";
            return Err(OciError::Status { id: id.to_owned(), is: status.name(), hint });
        }
        end(&entry, &record)?;
    }
    take_away(&store, entry, &record)
}

/// The same by who will have it ended in any case.
pub fn end_and_take_away(store: &Store, entry: Entry) -> Result<(), OciError> {
    let record = entry.read()?;
    if entry.status(&record) != Status::Stopped {
        end(&entry, &record)?;
    }
    take_away(store, entry, &record)
}

/// The end of a container whose first process has ended: what is left of it, its groups and what is known of it.
fn take_away(store: &Store, entry: Entry, record: &Record) -> Result<(), OciError> {
    // a container without a pid namespace of its own may have left processes
    if !freezer::processes(&record.groups)?.is_empty() {
        kill_all(record, libc::SIGKILL)?;
    }
    clear(store, None, record)?;
    if let Some(hooks) = record.spec.hooks() {
        let state = inspect::state(record, Status::Stopped).to_string();
        if let Err(error) = hooks::run(hooks.poststop(), &state) {
            log::warn!("poststop: {error}"); // what was made is gone (runtime.md, step 13)
        }
    }
    entry.remove()
}

/// Takes back what a launcher that was killed has left, however far it came. The levels above all groups are held.
pub fn sweep(store: &Store, levels: &Levels, entry: Entry) -> Result<(), OciError> {
    match entry.read() {
        Ok(record) => {
            end(&entry, &record)?;
            kill_all(&record, libc::SIGKILL)?;
            clear(store, Some(levels), &record)?;
        }
        Err(OciError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    entry.remove()
}

/// Kills it and waits until it has ended.
fn end(entry: &Entry, record: &Record) -> Result<(), OciError> {
    kill_all(record, libc::SIGKILL)?;
    let _ = freezer::set(&record.groups, false);
    if let Some(init) = record.alive() {
        let _ = pidfd_send_signal(&init, rustix::process::Signal::KILL);
    }
    let until = Instant::now() + PATIENCE;
    while record.pid != 0 && entry.status(record) != Status::Stopped {
        if Instant::now() > until {
            let hint = "it was killed and does not end: it waits for a device or a filesystem";
            return Err(OciError::Status { id: record.id.clone(), is: "running", hint });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Takes back what a record lists.
///
/// The daemon is not told: it sees the end of the container's first process by itself, and looks again when another one wants
/// the name.
pub fn clear(store: &Store, levels: Option<&Levels>, record: &Record) -> Result<(), OciError> {
    if let Some(scope) = &record.scope {
        scope.stop()?;
    }
    for group in &record.groups {
        crate::groups::remove_tree(&group.path)
            .map_err(|source| OciError::io("remove", &group.path, source))?;
    }
    match levels {
        Some(levels) => levels.remove_above(&record.groups),
        None => store.levels()?.remove_above(&record.groups),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, number) in [("TERM", 15), ("SIGKILL", 9), ("sigusr1", 10), ("9", 9), ("0", 0), ("37", 37)]
        {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "x", "65", "-1", "SIG", "SIGSIGTERM"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
