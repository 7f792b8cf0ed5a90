//! Where the programs under test and the test programs are.

use std::path::PathBuf;
use std::process::Command;

use crate::case::{Outcome, check};

/// Folder of `ownproc` and `ownproc-run`.
pub fn bin_dir() -> Outcome<PathBuf> {
    if let Some(dir) = std::env::var_os("OWNPROC_BIN_DIR") {
        return Ok(dir.into());
    }
    let mut dir = std::env::current_exe()?;
    dir.pop();
    Ok(dir)
}

/// The daemon and commands for sysadmins.
pub fn ownproc() -> Outcome<Command> {
    Ok(Command::new(bin_dir()?.join("ownproc")))
}

/// The launcher.
pub fn ownproc_run() -> Outcome<Command> {
    Ok(Command::new(bin_dir()?.join("ownproc-run")))
}

/// This program, outside of containers.
pub fn own() -> Outcome<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

/// This program inside a container that was launched with [`own_volume`].
pub const OWN_INSIDE: &str = "/e2e/ownproc-e2e";

/// Value of `-v` that makes [`OWN_INSIDE`] true.
pub fn own_volume() -> Outcome<String> {
    let own = std::env::current_exe()?;
    Ok(format!("{}:/e2e:ro", own.parent().map(|dir| dir.display().to_string()).unwrap_or_default()))
}

/// Fails where a program under test is missing.
pub fn require() -> Outcome {
    for name in ["ownproc", "ownproc-run"] {
        let path = bin_dir()?.join(name);
        check!(
            path.is_file(),
            "{} is missing: cargo build --workspace, or set OWNPROC_BIN_DIR",
            path.display()
        );
    }
    Ok(())
}
