//! Running a command to its end, with a deadline.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::case::{Doing, Failure, Outcome, fail};

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Fails unless the command succeeded.
    pub fn ok(self) -> Outcome<String> {
        if self.code != 0 {
            fail!("exit code {}; stderr: {}; stdout: {}", self.code, self.stderr.trim(), self.stdout.trim());
        }
        Ok(self.stdout)
    }
}

/// Runs a command to its end; what it writes must end too (a daemon that keeps the pipe open hangs here, as in a shell's `$(...)`).
pub fn run(command: &mut Command) -> Outcome<Output> {
    run_within(command, Duration::from_secs(120))
}

/// [`run`] with a deadline of its own.
pub fn run_within(command: &mut Command, limit: Duration) -> Outcome<Output> {
    use std::os::unix::process::ExitStatusExt;
    if command.get_program().is_empty() {
        fail!("no program to run");
    }
    let what = format!("{command:?}");
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().doing(&what)?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    let (send, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = result.recv_timeout(limit) else {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        return Err(Failure(format!("{what}: no end within {} s", limit.as_secs())));
    };
    let output = output.doing(&what)?;
    Ok(Output {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
