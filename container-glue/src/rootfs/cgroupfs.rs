//! /sys/fs/cgroup: the container's own groups, read-only, as a machine of its own would show its root groups.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;

use super::mounts::{self, Opt};
use super::resolve::Root;
use super::{SetupError, Step};
use crate::groups::Hierarchy;

/// Binds each group where a hierarchy of its own would be mounted. In the container's cgroup namespace these are the
/// roots, as /proc/self/cgroup and mountinfo show. (A new mount of a v1 hierarchy would do the same, but needs the
/// exact list of its controllers, also of those that nobody here knows.) `read_only` may be left out where the container
/// manages its groups itself.
pub fn mount_at(
    root: &Root,
    at: &Path,
    place: &OwnedFd,
    groups: &[(&Hierarchy, &Path)],
    read_only: bool,
) -> Result<(), SetupError> {
    if let [(Hierarchy { v2: true, .. }, group)] = groups {
        return bind(group, place, read_only);
    }
    let size = Opt::Value("size", "64k".to_owned());
    let tmpfs = mounts::filesystem(
        "tmpfs",
        &[Opt::Value("mode", "0755".to_owned()), size],
        mounts::NOSUID_NODEV_NOEXEC,
    )?;
    mounts::attach(&tmpfs, place)?;
    for (hierarchy, group) in groups {
        let Some(name) = hierarchy.mount.file_name() else { continue };
        let what = || format!("cannot make /{}/{}", at.display(), name.display());
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755)).step(what)?;
        bind(group, &root.directory(at.join(name))?, read_only)?;
        // programs look for cpu/ where the host has cpu,cpuacct/
        for controller in hierarchy.names.iter().filter(|_| !hierarchy.v2) {
            match rustix::fs::symlinkat(name, &tmpfs, controller.as_str()) {
                Err(rustix::io::Errno::EXIST) => {}
                other => other.step(what)?,
            }
        }
    }
    mounts::set_attributes(&tmpfs, mounts::RDONLY)
}

fn bind(group: &Path, place: &OwnedFd, read_only: bool) -> Result<(), SetupError> {
    let what = || format!("cannot bind {}", group.display());
    let copy = mounts::open_host(group).and_then(|group| mounts::copy(&group, false)).step(what)?;
    mounts::attach(&copy, place)?;
    let mut attributes = mounts::NOSUID_NODEV_NOEXEC;
    attributes.set(mounts::RDONLY, read_only);
    mounts::set_attributes(&copy, attributes)
}
