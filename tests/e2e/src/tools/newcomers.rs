//! A container that lies in wait for processes that come into its pid namespace from outside.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Doing, Outcome, fail};

/// Highest process number that is looked at.
const MOST: i32 = 600;

/// `newcomers reach FILE SECONDS`, `newcomers look SECONDS` and `newcomers stop SECONDS`.
///
/// `reach` fails when it sees a process that has a capability which it does not have itself, or
/// whose root has FILE. `look` fails when it may look into a process that has not begun its
/// program. `stop` sends SIGSTOP to every process that it may. Both create `/tmp/waiting` when they
/// begin, and end after SECONDS or when there is `/tmp/enough`.
pub fn main(words: &[&str]) -> Outcome {
    match words {
        ["reach", file, seconds] => until(seconds, |own| reach(own, file)),
        ["look", seconds] => until(seconds, look),
        ["stop", seconds] => until(seconds, stop),
        _ => fail!("newcomers reach FILE SECONDS, newcomers look SECONDS, newcomers stop SECONDS"),
    }
}

fn until(seconds: &str, mut look: impl FnMut(i32) -> Outcome) -> Outcome {
    let end = Instant::now() + Duration::from_secs(seconds.parse().doing("seconds")?);
    fs::File::create("/tmp/waiting")?.write_all(b"x")?;
    let own = nix::unistd::getpid().as_raw();
    while Instant::now() < end && !Path::new("/tmp/enough").exists() {
        look(own)?;
    }
    Ok(())
}

fn reach(own: i32, file: &str) -> Outcome {
    let mine = rights(own).doing("own capabilities")?;
    for pid in (1..MOST).filter(|pid| *pid != own) {
        if Path::new(&format!("/proc/{pid}/root/{file}")).exists() {
            fail!("reached the host by process {pid}");
        }
        if let Some(its) = rights(pid).filter(|its| its & !mine != 0) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            fail!("process {pid} ({}) has the capabilities {its:x}, we {mine:x}", name.trim());
        }
    }
    Ok(())
}

/// CapPrm and CapEff; none of a process in a user namespace below, where they give no rights over
/// anything here.
fn rights(pid: i32) -> Option<u64> {
    let users = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    if let (Some(own), Some(its)) = (users("self"), users(&pid.to_string()))
        && own != its
    {
        return Some(0);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(of("CapPrm:")? | of("CapEff:")?)
}

fn look(own: i32) -> Outcome {
    for pid in (2..MOST).filter(|pid| *pid != own) {
        let process = Pid::from_raw(pid);
        if kill(process, Signal::SIGSTOP).is_err() {
            continue; // another user's still
        }
        // the kernel follows this link for whoever could trace the process (proc_pid_exe(5))
        let program = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string());
        if let Ok(program) = program
            && !program.ends_with("/busybox")
        {
            fail!("process {pid} lets us look into it: {program}");
        }
        let _ = kill(process, Signal::SIGCONT);
    }
    Ok(())
}

fn stop(own: i32) -> Outcome {
    for pid in (2..MOST).filter(|pid| *pid != own) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
    }
    Ok(())
}
