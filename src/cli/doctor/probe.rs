//! Whether the daemon behind a mount answers, asked by a process of its own: whoever waits for a FUSE daemon that has taken a
//! request cannot even be killed, and the mount may be a container's own, with a daemon that never answers.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx};
use rustix::io::Errno;

/// How long a daemon may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It answers.
    Living,
    /// The connection has ended.
    Dead,
    /// It has not answered in time.
    Silent,
    /// The file could not be reached.
    Unknown,
}

const CODES: [(u8, Life); 3] = [(10, Life::Living), (11, Life::Dead), (12, Life::Unknown)];

/// Opens `point` as the process `pid` sees it, if it lies on `device` (`MAJ:MIN`).
pub(super) fn life(pid: i32, device: &str, point: &Path) -> Life {
    let child = Command::new("/proc/self/exe")
        .args(["doctor", "--probe", &pid.to_string(), "--probe", device, "--probe"])
        .arg(point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return Life::Unknown };
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return CODES
                    .iter()
                    .find(|(known, _)| Some(*known) == code)
                    .map_or(Life::Unknown, |(_, life)| *life);
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return Life::Unknown,
        }
    }
    // It may have to wait all the same: it is not waited for.
    let _ = child.kill();
    Life::Silent
}

/// The child.
pub(super) fn main(arguments: &[String]) -> ExitCode {
    let life = match arguments {
        [pid, device, point] => open(pid, device, Path::new(point)),
        _ => Life::Unknown,
    };
    let code = CODES.iter().find(|(_, known)| *known == life).map_or(12, |(code, _)| *code);
    ExitCode::from(code)
}

fn open(pid: &str, device: &str, point: &Path) -> Life {
    let reached = |errno: Errno| if errno == Errno::NOTCONN { Life::Dead } else { Life::Unknown };
    if pid.parse::<u32>().is_err() {
        return Life::Unknown;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = match openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => return reached(errno),
    };
    // The tree is a container's: no link of its making may lead out of it, and nothing is opened but what was meant.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&root, point, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(errno) => return reached(errno),
    };
    // By what the kernel remembers; asks nobody.
    let stat = statx(file.as_fd(), c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    match stat {
        // A link that was put at the end, or a device, is not opened.
        Ok(stat)
            if !matches!(
                FileType::from_raw_mode(stat.stx_mode.into()),
                FileType::RegularFile | FileType::Directory
            ) =>
        {
            return Life::Unknown;
        }
        Ok(stat) if format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor) == device => {}
        Ok(_) => return Life::Unknown,
        Err(errno) => return reached(errno),
    }
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    match openat(
        CWD,
        again,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    ) {
        Err(Errno::NOTCONN) => Life::Dead,
        _ => Life::Living,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meant_is_opened() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let own = std::process::id().to_string();
        let device = std::fs::metadata(&file).unwrap().dev();
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        assert_eq!(open(&own, &device, &file), Life::Living);
        assert_eq!(open(&own, "0:0", &file), Life::Unknown, "another device");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(open(&own, &device, &link), Life::Unknown, "a link");
        assert_eq!(open("../1", &device, &file), Life::Unknown, "no pid");
    }
}
