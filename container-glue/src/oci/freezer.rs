//! Stopping all of a container's processes for a while, and finding them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::OciError;
use super::store::Group;
use crate::groups::tree::write;

/// How long a group may take to stand still: a process in a system call that cannot be interrupted is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The group whose freezer counts, with whether that is v2's. v2 has it in every group but the root.
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

/// Stops them all, or lets them go on.
pub fn set(groups: &[Group], freeze: bool) -> Result<(), OciError> {
    let Some((path, v2)) = freezer(groups) else {
        return Err(OciError::io(
            "pause by the freezer of",
            "/sys/fs/cgroup",
            std::io::ErrorKind::Unsupported.into(),
        ));
    };
    let (file, word) = match (v2, freeze) {
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    };
    let file = path.join(file);
    let until = Instant::now() + PATIENCE;
    loop {
        // v1 gives up after a while on a group in which processes are born all the time, and wants to be asked again
        write(&file, word)?;
        if frozen(path, v2) == Some(freeze) {
            return Ok(());
        }
        if Instant::now() > until {
            if freeze {
                let _ = set(groups, false);
            }
            return Err(OciError::io("wait for", file, std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every process in the container's groups and those below, each once.
pub fn processes(groups: &[Group]) -> Result<Vec<i32>, OciError> {
    let mut found = Vec::new();
    // one hierarchy holds them all; that of v2 is there wherever it is not hybrid without controllers
    let Some(group) = groups.first() else { return Ok(found) };
    collect(&group.path, &mut found)?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn collect(group: &Path, found: &mut Vec<i32>) -> Result<(), OciError> {
    let gone = |error: &std::io::Error| {
        error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
    };
    match std::fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(error) if gone(&error) => return Ok(()),
        // a threaded group has its processes above
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(OciError::io("read", group.join("cgroup.procs"), error)),
    }
    let entries = match std::fs::read_dir(group) {
        Err(error) if gone(&error) => return Ok(()),
        other => other.map_err(|error| OciError::io("read", group, error))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}
