//! Containers of an ordinary user, by a user namespace: no groups, and none of the daemon's files, which only root's
//! containers have. What cannot be had is an error, and not left out in silence.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_spec::runtime::Spec;

use super::args::{DEFAULT_ROOT, Global};
use super::config::Config;
use super::config::namespaces::Maps;
use super::{Doing, OciError};
use crate::preflight::PreflightError;

/// Whether the caller is an ordinary user.
pub fn is_user() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// The same; an error where `--rootless=false` rules that out.
pub fn asked(global: &Global) -> Result<bool, OciError> {
    if is_user() && global.rootless.as_deref() == Some("false") {
        return Err(PreflightError::NotRoot.into());
    }
    Ok(is_user())
}

/// The directory of the containers' states: a user's own where none is given.
pub fn with_root(global: &Global) -> Global {
    let mut global = global.clone();
    if is_user() && global.root == Path::new(DEFAULT_ROOT) {
        let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let uid = nix::unistd::geteuid();
        global.root = match run {
            Some(run) => run.join("ownproc-run"),
            None => PathBuf::from(format!("/tmp/ownproc-run-{uid}")),
        };
    }
    global
}

/// What a user's container must have, and cannot have.
pub fn check(config: &Config, spec: &Spec) -> Result<(), OciError> {
    if config.namespaces.new & libc::CLONE_NEWUSER == 0 {
        let reason =
            "an ordinary user's container needs a new user namespace, with uidMappings and gidMappings";
        return Err(OciError::config("linux.namespaces", reason));
    }
    // what a user has rights over belongs to another of his user namespaces, where the new one has none
    if let Some((_, path)) = config.namespaces.join.first() {
        let reason = format!("{}: only root's containers can join namespaces", path.display());
        return Err(OciError::config("linux.namespaces", reason));
    }
    let linux = spec.linux().as_ref();
    let limits = linux.and_then(|linux| linux.resources().as_ref());
    // rules for devices are no loss: in a user namespace no node can be made, and those that are bound were usable before
    let limited = limits.is_some_and(|limits| {
        let mut others = limits.clone();
        others.set_devices(None);
        others != oci_spec::runtime::LinuxResources::default()
    });
    if limited {
        let reason =
            "an ordinary user's container has no groups to limit: leave out all but devices, or be root";
        return Err(OciError::config("linux.resources", reason));
    }
    if config.mounts.iter().any(|mount| mount.idmap.is_some()) {
        return Err(OciError::config(
            "mounts",
            "the owners of files can be mapped by root alone: leave out idmap",
        ));
    }
    if config.process.oom_score_adj.is_some_and(|score| score < 0) {
        return Err(OciError::config("process.oomScoreAdj", "below 0 is root's alone"));
    }
    Ok(())
}

/// Maps the users of a process's new namespace: to the caller alone, or as /etc/subuid and /etc/subgid allow.
pub fn map(pid: i32, maps: &Maps) -> Result<(), OciError> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, text).map_err(|source| OciError::io("write", path, source))
    };
    if is_own(&maps.uids, uid) && is_own(&maps.gids, gid) {
        // the kernel wants to be sure that no group is dropped that denies something (user_namespaces(7))
        write("setgroups", "deny")?;
        write("gid_map", &maps.gids)?;
        return write("uid_map", &maps.uids);
    }
    helper("newgidmap", "/etc/subgid", pid, &maps.gids)?;
    helper("newuidmap", "/etc/subuid", pid, &maps.uids)
}

/// Whether a map is of one line for this id alone: every user may write that.
fn is_own(map: &str, id: u32) -> bool {
    let words: Vec<&str> = map.split_whitespace().collect();
    matches!(words.as_slice(), [_, outside, "1"] if *outside == id.to_string())
}

/// A program of the shadow suite that has the rights for it.
fn helper(program: &str, file: &str, pid: i32, map: &str) -> Result<(), OciError> {
    let output = Command::new(program).arg(pid.to_string()).args(map.split_whitespace()).output();
    let output = match output {
        // a folder of PATH that the user may not look into hides that it is nowhere
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Err(OciError::Setup(format!(
                "there is no {program} that can be run (package uidmap), which maps other users than the caller: install it, or \
                 map one id of the container to the caller's own with size 1"
            )));
        }
        other => other.doing(format!("run {program}"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it says nothing").to_owned();
    Err(OciError::Setup(format!("{said}; does {file} give the caller these ids?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_maps() {
        assert!(is_own("0 1000 1\n", 1000) && is_own("5 7 1\n", 7));
        for other in ["0 1000 2\n", "0 1001 1\n", "0 1000 1\n1 1000 1\n", "", "0 1000\n"] {
            assert!(!is_own(other, 1000), "{other:?}");
        }
    }
}
