//! What the daemon says of itself, and what /proc says of it.

use std::path::Path;

use super::Check;
use crate::control::{Client, ControlError, Paths, Status, WorkerInfo, build_id};
use crate::fs::mount;

/// Whether one answers.
pub(super) fn running(client: &Result<Client, ControlError>, paths: &Paths) -> Check {
    let place = paths.mount.display();
    match client {
        Ok(client) => {
            let hello = client.hello();
            Check::ok("daemon", format!("serves {place}: pid {}, build {}", hello.pid, hello.build))
        }
        Err(ControlError::NotRunning { .. }) => Check::fail(
            "daemon",
            format!("none serves {place}"),
            "start it: systemctl start ownproc, or `ownproc serve`",
        ),
        Err(ControlError::Version(_)) => Check::fail(
            "daemon",
            client.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            "systemctl restart ownproc",
        ),
        Err(error) => Check::fail("daemon", error.to_string(), "look at its log, or restart it"),
    }
}

/// More about one that answers.
pub(super) fn checks(client: &Client) -> Vec<Check> {
    let hello = client.hello();
    let mut checks = vec![build(&hello.build, build_id())];
    match client.status() {
        Ok(status) => {
            checks.extend(worker(&status));
            checks.push(kept(status.worker.stored, is_service(hello.pid)));
            checks.push(descriptors(&status.worker));
        }
        Err(error) => checks.push(Check::fail("worker", error.to_string(), "look at the daemon's log")),
    }
    checks.push(mounted(client));
    checks
}

fn build(daemon: &str, own: &str) -> Check {
    match daemon == own {
        true => Check::ok("build", "the daemon runs the build of this command"),
        false => Check::warn(
            "build",
            format!("the daemon's worker runs build {daemon}, this command is {own}"),
            "systemctl reload ownproc (SIGHUP) lets one take over that runs the program now on disk",
        ),
    }
}

/// How its workers have fared.
fn worker(status: &Status) -> Vec<Check> {
    let info = &status.worker;
    let end = info.last_end.as_deref().unwrap_or("ended");
    let mut checks = Vec::new();
    checks.push(if info.degraded {
        Check::fail(
            "worker",
            format!("degraded: workers keep dying ({} so far, the last one {end}), so that reads are answered from the host's files", info.deaths),
            "the daemon's log says more; a full worker is tried again by itself, and at once after systemctl reload ownproc",
        )
    } else if info.deaths > 0 {
        Check::warn(
            "worker",
            format!("pid {}; {} before it died, the last one {end}", info.pid, info.deaths),
            "nobody has lost a file by it; the daemon's log says why",
        )
    } else {
        Check::ok(
            "worker",
            format!("pid {}, none has died; {} open file(s), {} container(s)", info.pid, status.open_files, status.containers),
        )
    });
    if info.failed_upgrades > 0 {
        checks.push(Check::warn(
            "upgrade",
            format!("{} new worker(s) ended before they could take over", info.failed_upgrades),
            "the one before serves on; the daemon's log says why: mend the program on disk, then systemctl reload ownproc",
        ));
    }
    if info.plain_answers > 0 {
        checks.push(Check::warn(
            "plain-answers",
            format!(
                "{} request(s) have ended the worker twice and were answered plainly",
                info.plain_answers
            ),
            "a defect of ownproc: please report it with the daemon's log",
        ));
    }
    if info.interrupted > 0 {
        checks.push(Check::warn(
            "interrupted",
            format!("{} request(s) got EINTR when a worker died", info.interrupted),
            "the kernel cannot send them again before Linux 6.9",
        ));
    }
    checks
}

/// Whether the mounts outlive the main process.
fn kept(stored: bool, service: bool) -> Check {
    match (stored, service) {
        (true, _) => Check::ok(
            "fd-store",
            "systemd keeps the connection: restarts and crashes of the main process are survived",
        ),
        (false, true) => Check::warn(
            "fd-store",
            "systemd does not keep the connection: a restart breaks the files of running containers",
            "FileDescriptorStoreMax=4 in the unit, and Environment=OWNPROC_FDSTORE=4 before systemd 254, as packaging/systemd/ownproc.service has it",
        ),
        (false, false) => Check::ok(
            "fd-store",
            "not a systemd service: workers may die and be replaced, but with the main process the mounts would be lost",
        ),
    }
}

/// Whether systemd started it and listens to it.
fn is_service(pid: i32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"NOTIFY_SOCKET="))
}

/// Whether the worker comes near its limit of open files.
fn descriptors(info: &WorkerInfo) -> Check {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", info.pid)).unwrap_or_default();
    let used = std::fs::read_dir(format!("/proc/{}/fd", info.pid)).map_or(0, Iterator::count);
    of_descriptors(used as u64, limit(&limits))
}

/// The soft limit of open files in a text of /proc/PID/limits.
fn limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn of_descriptors(used: u64, limit: Option<u64>) -> Check {
    match limit {
        Some(limit) if used.saturating_mul(5) >= limit.saturating_mul(4) => Check::warn(
            "descriptors",
            format!("the worker has {used} files open of {limit}"),
            "raise LimitNOFILE= of its unit: each group that is read takes a few",
        ),
        Some(limit) => Check::ok("descriptors", format!("{used} of {limit} in use")),
        None => Check::ok("descriptors", "no limit that could be read"),
    }
}

/// Whether its mount is where it should be.
fn mounted(client: &Client) -> Check {
    let place = &client.hello().mount;
    let is_there = is_mount_of_ours(place);
    match is_there {
        true => Check::ok("mount", format!("{} is mounted", place.display())),
        false => Check::warn(
            "mount",
            format!("the daemon's mount is not to be seen at {} from here", place.display()),
            "it serves on as long as containers hold its files; restart it then (or look from its mount namespace)",
        ),
    }
}

/// By the mount table alone: nobody is asked.
fn is_mount_of_ours(place: &Path) -> bool {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let table = crate::attach::mounts::parse(&text);
    crate::attach::mounts::visible(&table, place)
        .is_some_and(|mount| mount.is_ownproc() && mount.point == place)
}

/// The device of the mount of a daemon that answers, as `MAJ:MIN`.
pub(super) fn device_of(client: &Client) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(client.hello().mount.as_os_str().as_bytes()).ok()?;
    let device = mount::device_at(&path)?;
    Some(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn of(info: WorkerInfo) -> Vec<(Level, &'static str)> {
        let status = Status { worker: info, ..Status::default() };
        worker(&status).iter().map(|check| (check.level, check.check)).collect()
    }

    #[test]
    fn what_workers_go_through() {
        assert_eq!(of(WorkerInfo::default()), [(Level::Ok, "worker")]);
        let died =
            WorkerInfo { deaths: 2, last_end: Some("hung and was killed".into()), ..WorkerInfo::default() };
        assert_eq!(of(died.clone()), [(Level::Warn, "worker")]);
        let status = Status { worker: died, ..Status::default() };
        assert!(worker(&status)[0].message.contains("hung and was killed"));
        let all = WorkerInfo {
            degraded: true,
            deaths: 9,
            failed_upgrades: 1,
            plain_answers: 1,
            interrupted: 1,
            ..WorkerInfo::default()
        };
        assert_eq!(
            of(all),
            [
                (Level::Fail, "worker"),
                (Level::Warn, "upgrade"),
                (Level::Warn, "plain-answers"),
                (Level::Warn, "interrupted")
            ]
        );
    }

    #[test]
    fn who_keeps_the_connection() {
        assert_eq!(kept(true, true).level, Level::Ok);
        assert_eq!(kept(false, true).level, Level::Warn);
        assert_eq!(kept(false, false).level, Level::Ok);
        assert_eq!(build("a", "a").level, Level::Ok);
        assert_eq!(build("a", "b").level, Level::Warn);
    }

    #[test]
    fn files_that_run_out() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(limit(text), Some(1024));
        assert_eq!(limit("Max open files            unlimited  unlimited files"), None);
        assert_eq!(of_descriptors(100, Some(1024)).level, Level::Ok);
        assert_eq!(of_descriptors(900, Some(1024)).level, Level::Warn);
        assert_eq!(of_descriptors(900, None).level, Level::Ok);
    }
}
