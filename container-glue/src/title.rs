//! What others see of this process: its command line and environment in /proc/PID.
//!
//! A command line is readable by every user of the host and, for process 1, by everybody in the
//! container. `launch -e` and `exec -e` have variables there, whose values may be secret.

use procfs::process::{Process, Stat};

/// Replaces the command line. What is longer than the old one is cut.
pub fn set(title: &str) {
    overwrite(|stat| stat.arg_start.zip(stat.arg_end), title.as_bytes());
}

/// Empties the environment that the process was started with. Nothing may ask for a variable later.
pub fn hide_environment() {
    overwrite(|stat| stat.env_start.zip(stat.env_end), &[]);
}

fn overwrite(range: impl Fn(&Stat) -> Option<(u64, u64)>, text: &[u8]) {
    let stat = Process::myself().and_then(|process| process.stat());
    let Some((start, end)) = stat.ok().as_ref().and_then(range) else { return };
    let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else { return };
    if start == 0 || end <= start {
        return;
    }
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that the strings given to execve(2) lie there, on this process's
    // stack, which it may write to. This program keeps no reference to them: what it needs of its
    // arguments and variables it has copied.
    let place = unsafe { std::slice::from_raw_parts_mut(place, end - start) };
    place.fill(0);
    // the last byte stays 0: otherwise the kernel goes on into the environment
    // (proc_pid_cmdline(5))
    for (to, from) in place.iter_mut().take(end - start - 1).zip(text) {
        *to = *from;
    }
}
