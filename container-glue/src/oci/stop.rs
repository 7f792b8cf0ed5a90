//! `kill`, `delete`, `pause` and `resume`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::args::{DeleteArgs, Global, KillArgs};
use super::store::{Entry, Levels, Record, Status, Store};
use super::{Doing, OciError, freezer, hooks, inspect};

/// How long processes that were killed are waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long processes may take to stand still before they are killed.
const STANDSTILL: Duration = Duration::from_millis(500);

/// `kill`.
pub fn kill(global: &Global, args: &KillArgs) -> Result<(), OciError> {
    let signal = signal(&args.signal)?;
    // without the lock: nothing is changed, and whoever has it may be what is to be ended
    let record = Store::open(&global.root)?.look(&args.id)?.read()?;
    if args.all {
        return kill_all(&record, signal);
    }
    let init = record.alive().ok_or(OciError::NotRunning)?;
    send(init.as_fd(), signal)?;
    if signal == libc::SIGKILL && freezer::is_frozen(&record.groups) {
        freezer::thaw(&record.groups)?; // it cannot end before
    }
    Ok(())
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

/// Every process of the container. For SIGKILL the kernel kills whole v2 cgroups where it can; else
/// they are stopped first, so that none is born meanwhile. Whatever fails, nothing stays frozen and
/// the first process gets the signal.
fn kill_all(record: &Record, signal: i32) -> Result<(), OciError> {
    let killing = signal == libc::SIGKILL;
    let v2 = record.groups.iter().find(|group| group.v2);
    let by_kernel = killing
        && v2.is_some_and(|group| crate::groups::tree::write(&group.path.join("cgroup.kill"), "1").is_ok());
    let signalled = if by_kernel { Ok(()) } else { signal_each(record, signal) };
    let init = match record.alive() {
        Some(init) if !by_kernel => send(init.as_fd(), signal),
        _ => Ok(()),
    };
    let thawed = if killing { freezer::thaw(&record.groups) } else { Ok(()) };
    for result in [init, signalled, thawed] {
        match result {
            Err(OciError::NotRunning) => {}
            other => other?,
        }
    }
    Ok(())
}

fn signal_each(record: &Record, signal: i32) -> Result<(), OciError> {
    let init = record.pid;
    if signal == libc::SIGKILL {
        // one that does not stand still is found by the next look
        let _ = freezer::set(&record.groups, true, STANDSTILL);
    }
    let mut result = Ok(());
    for number in freezer::processes(&record.groups)?.into_iter().filter(|number| *number != init) {
        let Some(pid) = Pid::from_raw(number) else { continue };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        match send(process.as_fd(), signal) {
            Err(OciError::NotRunning) => {}
            other => result = result.and(other),
        }
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
    freezer::set(&record.groups, freeze, freezer::PATIENCE)
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
        end(&entry, record)?;
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

/// Takes back what launchers have left that were killed: containers in the foreground, and those
/// that were not made yet. A detached one that has ended waits for `delete`. `levels`: those above
/// all groups, where the caller holds them.
pub fn sweep_left(store: &Store, levels: Option<&Levels>) -> Result<(), OciError> {
    for (id, launched) in store.launched()?.into_iter().filter(|(_, launched)| !launched.is_alive()) {
        // somebody works on it
        let Ok(entry) = store.try_entry(&id) else { continue };
        if launched.detached && entry.read().is_ok_and(|record| record.pid != 0) {
            continue;
        }
        let own = levels.is_none().then(|| store.levels()).transpose()?;
        if let Some(levels) = levels.or(own.as_ref())
            && let Err(error) = sweep(store, levels, entry)
        {
            log::warn!("left by a launcher that was killed: {error}");
        }
    }
    Ok(())
}

/// Takes back what a launcher that was killed has left, however far it came. The levels above all groups are held.
pub fn sweep(store: &Store, levels: &Levels, entry: Entry) -> Result<(), OciError> {
    match entry.read() {
        Ok(record) => {
            end(&entry, &record)?;
            clear(store, Some(levels), &record)?;
        }
        Err(OciError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    entry.remove()
}

/// Kills it and waits until it has ended, its other processes, too.
fn end(entry: &Entry, record: &Record) -> Result<(), OciError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        // again and again: it may freeze its cgroups, and others may let processes in
        let killed = kill_all(record, libc::SIGKILL);
        let ended = record.pid == 0 || entry.status(record) == Status::Stopped;
        let left = freezer::processes(&record.groups);
        if ended && left.as_ref().is_ok_and(Vec::is_empty) {
            return Ok(());
        }
        if Instant::now() > until {
            killed?;
            let left = left?;
            let process = left.first().copied().filter(|_| ended).unwrap_or(record.pid);
            return Err(OciError::Endless { id: record.id.clone(), process: describe(process) });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A process for people: its number, name and state.
fn describe(pid: i32) -> String {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    match stat {
        Ok(stat) => {
            let name = stat.comm.replace(|c: char| c.is_control(), "?");
            format!("process {pid} ({name}, state {})", stat.state)
        }
        Err(_) => format!("process {pid}"),
    }
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
