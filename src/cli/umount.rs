//! `ownproc umount`: unmount and end the daemon.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::args::UmountArgs;
use super::failure::Failure;
use crate::control::{Client, ControlError, Paths};

/// How long the daemon may take to end after it has said that it does.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &UmountArgs) -> Result<(), Failure> {
    let given = args.mountpoint.as_deref().or(args.mount.as_deref());
    let mount = Paths::mount_from(given);
    let client = Client::connect(&mount).map_err(|error| super::failure::not_running(&error))?;
    let pid = client.hello().pid;
    // Before the order is given, so that the number is still the daemon's.
    let pidfd = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    client.umount(args.force).map_err(|error| match error {
        // The daemon's own words say what is in the way and what to do.
        ControlError::Refused(refusal) => Failure::Error(refusal.message),
        other => Failure::error(other),
    })?;
    let Some(Ok(pidfd)) = pidfd else { return Ok(()) };
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                return Err(Failure::Error(format!(
                    "the daemon of {} (pid {pid}) has agreed to end but has not within {} s; look at its log",
                    mount.display(),
                    PATIENCE.as_secs()
                )));
            }
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}
