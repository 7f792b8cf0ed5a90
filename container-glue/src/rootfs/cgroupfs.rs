//! /sys/fs/cgroup: the container's own groups, read-only, as a machine of its own would show its root groups.

use std::path::Path;

use rustix::fs::Mode;

use super::mounts::{self, Opt};
use super::resolve::Root;
use super::{SetupError, Step};
use crate::groups::Hierarchy;

/// Mounts what the container's cgroup namespace shows.
pub fn mount(root: &Root, hierarchies: &[&Hierarchy]) -> Result<(), SetupError> {
    let Some(place) = root.find("sys/fs/cgroup")? else { return Ok(()) };
    if let [Hierarchy { v2: true, .. }] = hierarchies {
        return mounts::attach(&instance(hierarchies[0])?, &place);
    }
    let size = Opt::Value("size", "64k".to_owned());
    let tmpfs = mounts::filesystem(
        "tmpfs",
        &[Opt::Value("mode", "0755".to_owned()), size],
        mounts::NOSUID_NODEV_NOEXEC,
    )?;
    mounts::attach(&tmpfs, &place)?;
    for hierarchy in hierarchies {
        let Some(name) = hierarchy.mount.file_name() else { continue };
        let what = || format!("cannot make /sys/fs/cgroup/{}", name.display());
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755)).step(what)?;
        mounts::attach(&instance(hierarchy)?, &root.directory(Path::new("sys/fs/cgroup").join(name))?)?;
        // programs look for cpu/ where the host has cpu,cpuacct/
        for controller in hierarchy.controllers.iter().filter(|_| !hierarchy.v2) {
            if controller.as_str() != name {
                match rustix::fs::symlinkat(name, &tmpfs, controller.as_str()) {
                    Err(rustix::io::Errno::EXIST) => {}
                    other => other.step(what)?,
                }
            }
        }
    }
    mounts::set_attributes(&tmpfs, mounts::RDONLY)
}

/// A new mount of a hierarchy: its root is that of this process's cgroup namespace.
fn instance(hierarchy: &Hierarchy) -> Result<std::os::fd::OwnedFd, SetupError> {
    let attributes = mounts::NOSUID_NODEV_NOEXEC | mounts::RDONLY;
    if hierarchy.v2 {
        return mounts::filesystem("cgroup2", &[], attributes);
    }
    // v1 finds the hierarchy by the controllers that are mounted together
    let options: Vec<Opt<'_>> = hierarchy.controllers.iter().map(|name| Opt::Flag(name)).collect();
    mounts::filesystem("cgroup", &options, attributes)
}
