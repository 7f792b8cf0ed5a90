//! Idmapped mounts: a mount whose files have other owners than on disk (mount_setattr(2)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::config::Config;
use super::config::mounts::Mount;
use super::config::namespaces::Maps;
use crate::namespaces::{Child, spawn};
use crate::rootfs::{SetupError, Step, mounts};

/// Gives a detached copy of a mount the owners that are asked for.
pub fn apply(config: &Config, mount: &Mount, copy: &OwnedFd) -> Result<(), SetupError> {
    let Some(idmap) = &mount.idmap else { return Ok(()) };
    let what = || {
        let filesystem = rustix::fs::fstatfs(copy).map_or(0, |found| found.f_type);
        format!(
            "cannot map the owners of the files at /{} of the container (Linux 5.12 and a filesystem that can do so \
             are needed; this one's number is {filesystem:#x})",
            mount.destination.display()
        )
    };
    let user = match (&idmap.maps, &config.namespaces.maps) {
        (Some(maps), _) | (None, Some(maps)) => with_maps(maps).step(what)?,
        (None, None) => joined(config).step(what)?,
    };
    set(copy, &user, idmap.recursive).step(what)
}

/// The user namespace that the container joins.
fn joined(config: &Config) -> io::Result<OwnedFd> {
    let user = config.namespaces.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER);
    let path: &PathBuf = user.map(|(_, path)| path).ok_or(io::ErrorKind::NotFound)?;
    Ok(File::open(path)?.into())
}

/// A user namespace with these maps; nobody is in it.
fn with_maps(maps: &Maps) -> io::Result<OwnedFd> {
    let (wait, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Child { pid, pidfd } = spawn(libc::CLONE_NEWUSER, None, || {
        // it only has to be there; when its maker dies the pipe ends, and it with that
        let _ = nix::unistd::close(go.as_raw_fd());
        let _ = rustix::io::read(&wait, &mut [0; 1]);
        0
    })?;
    let made = std::fs::write(format!("/proc/{pid}/uid_map"), &maps.uids)
        .and_then(|()| std::fs::write(format!("/proc/{pid}/gid_map"), &maps.gids))
        .and_then(|()| File::open(Path::new("/proc").join(pid.to_string()).join("ns/user")));
    drop(go);
    let ended = crate::supervise::exit_code(pidfd.as_fd());
    let user = made?;
    ended?;
    Ok(user.into())
}

fn set(mount: &OwnedFd, user: &OwnedFd, recursive: bool) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000; // linux/mount.h
    let userns_fd = u64::from(user.as_raw_fd().cast_unsigned());
    mounts::set_attr(
        mount,
        &libc::mount_attr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd },
        recursive,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root's maps may be any, and nobody else's may name other users.
    #[test]
    fn a_namespace_with_maps_and_without_processes() {
        let maps = Maps { uids: "0 1000 1\n5 2000 7\n".to_owned(), gids: "0 1000 1\n".to_owned() };
        let made = with_maps(&maps);
        if !nix::unistd::geteuid().is_root() {
            assert!(made.is_err());
            return;
        }
        let user = made.unwrap();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let made = std::fs::read_link(mounts::proc_path(&user)).unwrap();
        assert!(made.to_string_lossy().starts_with("user:[") && made != own, "{made:?}");
        let bad = Maps { uids: "0 1 0\n".to_owned(), gids: String::new() };
        assert!(with_maps(&bad).is_err());
    }
}
