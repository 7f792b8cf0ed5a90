//! Which cgroup hierarchies this host has: the mount table as the library reads it, reduced to what a container gets
//! a group in.

use std::io;
use std::path::{Path, PathBuf};

use ownproc::cgroup::parse::mountinfo::{CgroupMount, cgroup_mounts};
use ownproc::cgroup::{Controller, Version};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// cgroup2.
    pub v2: bool,
    /// v1: the co-mounted controllers; v2: what its root offers. Those that the library knows.
    pub controllers: Vec<Controller>,
    /// The same by the kernel's names, with those that the library does not know.
    pub names: Vec<String>,
}

/// All hierarchies in which the container gets a group; at most one of them is v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies(pub Vec<Hierarchy>);

impl Hierarchies {
    /// Reads `PROC/self/mountinfo` and the v2 root's `cgroup.controllers`. Named v1 hierarchies, such as systemd's, are
    /// left alone.
    pub fn discover(proc: &Path) -> io::Result<Self> {
        let mut found = Self::among(mounts(&std::fs::read(proc.join("self/mountinfo"))?)?);
        for hierarchy in found.0.iter_mut().filter(|hierarchy| hierarchy.v2) {
            let offered = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers"))?;
            hierarchy.controllers = offered
                .split_whitespace()
                .filter_map(|name| Controller::from_kernel(name.as_bytes()))
                .collect();
            hierarchy.names = offered.split_whitespace().map(str::to_owned).collect();
        }
        Ok(found)
    }

    fn among(mounts: Vec<CgroupMount>) -> Self {
        let of_use = |mount: CgroupMount| {
            let v2 = mount.version == Version::V2;
            let known = mount.controllers.iter().map(|controller| name_v1(*controller));
            let names = known.chain(mount.others.iter().copied()).map(str::to_owned).collect();
            let used = v2 || !mount.controllers.is_empty() || !mount.others.is_empty();
            used.then_some(Hierarchy { mount: mount.mountpoint, v2, controllers: mount.controllers, names })
        };
        Self(mounts.into_iter().filter_map(of_use).collect())
    }

    /// The hierarchy that a controller is on.
    pub fn of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }
}

/// The kernel's name of a controller on v1.
fn name_v1(controller: Controller) -> &'static str {
    if controller == Controller::Io { "blkio" } else { controller.name() }
}

/// Where each of the host's hierarchies is mounted, of whatever controllers. `proc` is /proc.
pub fn mount_points(proc: &Path) -> io::Result<Vec<PathBuf>> {
    let mounts = mounts(&std::fs::read(proc.join("self/mountinfo"))?)?;
    Ok(mounts.into_iter().map(|mount| mount.mountpoint).collect())
}

/// The first mount of each hierarchy.
fn mounts(mountinfo: &[u8]) -> io::Result<Vec<CgroupMount>> {
    let all = cgroup_mounts(mountinfo).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut seen = Vec::new();
    let first = |mount: &CgroupMount| {
        let new = !seen.contains(&mount.device);
        seen.push(mount.device);
        new
    };
    Ok(all.into_iter().filter(first).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid() {
        let text = b"\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
";
        let all = mounts(text).unwrap();
        assert_eq!(all.len(), 5);
        let found = Hierarchies::among(all);
        let short: Vec<_> = found.0.iter().map(|h| (h.mount.to_str().unwrap(), h.v2)).collect();
        assert_eq!(
            short,
            [
                ("/sys/fs/cgroup/cpu,cpuacct", false),
                ("/sys/fs/cgroup/cpuset", false),
                ("/sys/fs/cgroup/devices", false),
                ("/sys/fs/cgroup/uni fied", true),
            ]
        );
        assert_eq!(found.of(Controller::Cpuacct), Some(&found.0[0]));
        assert_eq!(found.of(Controller::Memory), None);
        assert_eq!(found.0[0].names, ["cpu", "cpuacct"]);
    }
}
