//! What the machine has.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Check;
use crate::cgroup::{Controller, Layout};
use crate::control::{Client, Paths};

pub(super) fn checks() -> Vec<Check> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![
        fuse(Path::new("/dev/fuse")),
        kernel(&release),
        groups(),
        time_namespaces(Path::new("/proc/self/ns/time").exists()),
    ]
}

fn fuse(device: &Path) -> Check {
    const ADVICE: &str = "load the module (modprobe fuse), or give this system the device (c 10:229)";
    let place = device.display();
    match std::fs::metadata(device) {
        Ok(meta) if meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(10, 229) => {
            match std::fs::File::options().read(true).write(true).open(device) {
                Ok(_) => Check::ok("fuse", format!("{place} can be opened")),
                Err(error) => Check::fail("fuse", format!("{place} cannot be opened: {error}"), ADVICE),
            }
        }
        Ok(_) => Check::fail("fuse", format!("{place} is not the FUSE device"), ADVICE),
        Err(error) => Check::fail("fuse", format!("{place}: {error}"), ADVICE),
    }
}

/// Major and minor version of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The oldest kernel that is supported: that of Debian 12. `tests/run oldest` boots it.
const OLDEST: (u32, u32) = (6, 1);

fn kernel(release: &str) -> Check {
    match version(release) {
        Some(version) if version < (5, 10) => {
            Check::fail("kernel", format!("Linux {release}"), "ownproc supports Linux 6.1 and newer")
        }
        Some(version) if version < OLDEST => Check::warn(
            "kernel",
            format!("Linux {release} is older than 6.1, the oldest that ownproc is tested on"),
            "run a newer kernel: attach needs 5.12 at least",
        ),
        Some(version) if version < (6, 9) => Check::warn(
            "kernel",
            format!(
                "Linux {release} cannot send requests again that a dead worker left (FUSE_NOTIFY_RESEND)"
            ),
            "reads that are in flight then get EINTR, after which most programs try again; from 6.9 on nobody notices",
        ),
        _ => Check::ok("kernel", format!("Linux {release}")),
    }
}

fn groups() -> Check {
    match Layout::discover(Path::new("/")) {
        Err(error) => Check::fail("cgroup", error.to_string(), "mount the control groups"),
        Ok(layout) => {
            let has = |controller| layout.hierarchy_of(controller).is_some();
            let v1 = layout.hierarchies().len() > usize::from(layout.v2().is_some());
            controllers(mode(v1, layout.v2().is_some()), &has)
        }
    }
}

fn mode(v1: bool, v2: bool) -> &'static str {
    match (v1, v2) {
        (true, true) => "v1 and v2 (hybrid)",
        (false, true) => "v2",
        _ => "v1",
    }
}

fn controllers(mode: &str, has: &dyn Fn(Controller) -> bool) -> Check {
    let wanted = [
        (Controller::Memory, "memory"),
        (Controller::Cpu, "cpu"),
        (Controller::Cpuset, "cpuset"),
        (Controller::Pids, "pids"),
        (Controller::Io, "io"),
    ];
    let missing: Vec<&str> =
        wanted.iter().filter(|(controller, _)| !has(*controller)).map(|(_, name)| *name).collect();
    match missing.is_empty() {
        true => Check::ok("cgroup", format!("{mode}, with all controllers that are shown")),
        false => Check::warn(
            "cgroup",
            format!("{mode}, without {}", missing.join(", ")),
            "such limits cannot be set or shown: cgroup_enable= of the kernel's command line, or mount them",
        ),
    }
}

fn time_namespaces(there: bool) -> Check {
    match there {
        true => Check::ok("time-namespaces", "the kernel has them"),
        false => Check::warn(
            "time-namespaces",
            "the kernel has none (CONFIG_TIME_NS)",
            "uptime of containers is theirs, but btime and what `ps` computes from it are the host's",
        ),
    }
}

/// What daemons of other mount points have left.
pub(super) fn old_states(run: impl AsRef<Path>, own: &Paths) -> Check {
    let left = left_over(run.as_ref(), own);
    match left.is_empty() {
        true => Check::ok("state", "no directories of daemons that are gone"),
        false => {
            let names: Vec<String> = left.iter().map(|dir| dir.display().to_string()).collect();
            Check::warn(
                "state",
                format!("left by daemons that are gone: {}", super::names(&names)),
                "remove them, if those mount points are not to be served again",
            )
        }
    }
}

fn left_over(run: &Path, own: &Paths) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run.join("at")) else { return Vec::new() };
    let mut left: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|dir| dir.is_dir() && *dir != own.dir && !is_locked(&dir.join("serve.lock")))
        .collect();
    left.sort();
    left
}

/// Whether a daemon lives that holds this lock.
fn is_locked(lock: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let Ok(file) = std::fs::File::open(lock) else { return false };
    // Shared and for a moment: a daemon that starts right now tries again, or finds nobody.
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// How long all daemons of this host may take together.
const PATIENCE: Duration = Duration::from_secs(3);

/// The daemons that answer, whatever they serve.
pub(super) fn daemons(run: &Path) -> Vec<Client> {
    let mut sockets = vec![run.join("control.sock")];
    let others = std::fs::read_dir(run.join("at")).into_iter().flatten().flatten();
    sockets.extend(others.map(|entry| entry.path().join("control.sock")));
    // Beside each other: one that does not answer is not waited for.
    let (send, answers) = std::sync::mpsc::channel();
    for socket in sockets {
        let Some(dir) = socket.parent().map(Path::to_owned) else { continue };
        let (containers, log) = (dir.join("containers"), dir.join("serve.log"));
        let paths = Paths { mount: PathBuf::new(), dir, socket, seccomp: PathBuf::new(), containers, log };
        let send = send.clone();
        let _ = std::thread::Builder::new().spawn(move || {
            // nobody waits for a late one
            let _ = send.send(Client::at(paths).ok());
        });
    }
    drop(send);
    let end = Instant::now() + PATIENCE;
    let mut living = Vec::new();
    // Ends when all have answered, or at the end.
    while let Ok(answer) = answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
        living.extend(answer);
    }
    living
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn kernels() {
        for (release, level) in [
            ("4.19.0", Level::Fail),
            ("5.10.0-30-amd64", Level::Warn),
            ("6.0.19", Level::Warn),
            ("6.8.12", Level::Warn),
            ("6.9.0-rc1", Level::Ok),
            ("6.18.5+", Level::Ok),
            ("10.0", Level::Ok),
            ("unknown", Level::Ok),
        ] {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }

    #[test]
    fn a_device_that_is_none() {
        assert_eq!(fuse(Path::new("/dev/null")).level, Level::Fail);
        assert_eq!(fuse(Path::new("/nowhere")).level, Level::Fail);
    }

    #[test]
    fn controllers_that_are_missing_are_named() {
        assert_eq!(controllers("v2", &|_| true).level, Level::Ok);
        let check = controllers(mode(true, true), &|controller| controller != Controller::Memory);
        assert_eq!(
            (check.level, check.message.as_str()),
            (Level::Warn, "v1 and v2 (hybrid), without memory")
        );
        assert_eq!(time_namespaces(false).level, Level::Warn);
    }

    #[test]
    fn states_without_a_daemon_are_left_over() {
        let run = tempfile::tempdir().unwrap();
        let own = Paths::under(run.path(), Path::new("/no-such/own"));
        for name in ["dead", "living"] {
            std::fs::create_dir_all(run.path().join("at").join(name)).unwrap();
        }
        std::fs::create_dir_all(&own.dir).unwrap();
        let lock = std::fs::File::create(run.path().join("at/living/serve.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert_eq!(left_over(run.path(), &own), [run.path().join("at/dead")]);
        assert_eq!(old_states(run.path(), &own).level, Level::Warn);
        drop(lock);
        assert_eq!(left_over(run.path(), &own).len(), 2);
    }
}
