//! Hooks: programs of the host that are run at points of a container's life, with its state as input.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

use super::OciError;

/// Longest error text that is passed on, in bytes.
const SAID: u64 = 4096;

/// Checks what must be absolute and positive.
pub fn check(field: &str, hooks: &Option<Vec<Hook>>) -> Result<(), OciError> {
    for hook in hooks.iter().flatten() {
        if !hook.path().is_absolute() {
            return Err(OciError::config(field, format!("{}: not absolute", hook.path().display())));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(OciError::config(field, "timeout is a number of seconds above 0"));
        }
    }
    Ok(())
}

/// Runs them one after the other; the first that fails is the error.
pub fn run(hooks: &Option<Vec<Hook>>, state: &str) -> Result<(), OciError> {
    hooks.iter().flatten().try_for_each(|hook| one(hook, state))
}

fn one(hook: &Hook, state: &str) -> Result<(), OciError> {
    let path = hook.path().display().to_string();
    let fail = |what: String| OciError::Hook { path: path.clone(), what };
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some(name) = args.first() {
        command.arg0(name);
    }
    command.args(args.iter().skip(1)).env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| fail(format!("cannot be started: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        // a hook that does not read gets a closed pipe; a state is far smaller than a pipe
        let _ = input.write_all(state.as_bytes());
    }
    let until = hook
        .timeout()
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.unsigned_abs())));
    // read beside the wait, so that neither waits for the other
    let errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(errors) = errors {
            let _ = errors.take(SAID).read_to_string(&mut text);
        }
        text
    });
    let mut pause = Duration::from_micros(200);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(fail(format!("cannot be waited for: {error}"))),
        }
        if until.is_some_and(|until| Instant::now() > until) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(fail("was killed: it took longer than its timeout".to_owned()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    };
    if status.success() {
        return Ok(());
    }
    let said = reader.join().unwrap_or_default();
    let said = said.trim();
    Err(fail(if said.is_empty() {
        format!("failed: {status}")
    } else {
        format!("failed ({status}): {said}")
    }))
}
