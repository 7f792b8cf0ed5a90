//! The group that the readers sit in: 256 MiB, the bench's CPUs, a quota of as many whole CPUs (so that every
//! daemon has a quota to look at, yet never one that slows the readers). Removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result, on};

/// Memory limit of the group and of the launched container.
pub const MEMORY: &str = "256M";
/// [`MEMORY`] as meminfo shows it.
pub const MEMORY_KB: &str = "262144";
const PREFIX: &str = "ownproc-bench-";
const PERIOD_US: usize = 100_000;

/// A group of our own on every hierarchy that holds cpu, cpuacct, cpuset or memory.
#[derive(Debug, Default)]
pub struct TestGroup {
    directories: Vec<PathBuf>,
    /// v2: the root's subtree_control and the controllers that were not yet enabled there.
    enabled: Option<(PathBuf, Vec<String>)>,
}

/// A mounted hierarchy.
#[derive(Debug)]
pub struct Point {
    /// Where.
    pub mount: PathBuf,
    /// cgroup v2.
    pub v2: bool,
    /// The kernel's names of its controllers.
    pub controllers: Vec<String>,
}

/// Cgroup mounts in `mountinfo`; the controllers of v2 are not in it.
fn hierarchies(mountinfo: &str) -> Vec<Point> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount), mut right) = (left.split(' ').nth(4).map(PathBuf::from), right.split(' ')) else {
            continue;
        };
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        match kind {
            Some("cgroup") => {
                let controllers = options.split(',').map(str::to_owned).collect();
                found.push(Point { mount, v2: false, controllers });
            }
            Some("cgroup2") => found.push(Point { mount, v2: true, controllers: Vec::new() }),
            _ => {}
        }
    }
    found
}

/// The hierarchies that are mounted, with their controllers.
///
/// # Errors
/// The mount table cannot be read.
pub fn points() -> Result<Vec<Point>> {
    let path = Path::new("/proc/self/mountinfo");
    let mut points = hierarchies(&fs::read_to_string(path).map_err(on("read", path))?);
    for point in points.iter_mut().filter(|point| point.v2) {
        let list = fs::read_to_string(point.mount.join("cgroup.controllers")).unwrap_or_default();
        point.controllers = list.split_whitespace().map(str::to_owned).collect();
    }
    Ok(points)
}

/// Removes what a bench that was killed has left: groups named after a process that is no more.
fn sweep(point: &Path) {
    for entry in fs::read_dir(point).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            _ = fs::remove_dir(entry.path());
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(on("write", path))
}

impl TestGroup {
    /// Makes `/ownproc-bench-PID` on the hierarchies of this machine, limited to [`MEMORY`] and `cpus`.
    ///
    /// # Errors
    /// No hierarchy has a memory controller, or a limit cannot be written.
    pub fn create(cpus: &[usize]) -> Result<Self> {
        let mut group = Self::default();
        let mut limited = false;
        for Point { mount: point, v2, mut controllers } in points()? {
            controllers.retain(|c| matches!(c.as_str(), "cpu" | "cpuacct" | "cpuset" | "memory"));
            if controllers.is_empty() {
                continue;
            }
            if v2 {
                group.enable(&point, &controllers)?;
            }
            sweep(&point);
            let directory = point.join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir(&directory).map_err(on("create group", &directory))?;
            group.directories.push(directory.clone());
            limited |= controllers.iter().any(|c| c == "memory");
            limit(&directory, &point, v2, &controllers, cpus)?;
        }
        if !limited {
            return Err(Error::Peer("no cgroup hierarchy with a memory controller is mounted".to_owned()));
        }
        Ok(group)
    }

    fn enable(&mut self, point: &Path, controllers: &[String]) -> Result<()> {
        let path = point.join("cgroup.subtree_control");
        let before = fs::read_to_string(&path).map_err(on("read", &path))?;
        let missing: Vec<String> =
            controllers.iter().filter(|c| !before.split_whitespace().any(|b| b == *c)).cloned().collect();
        self.enabled = Some((path.clone(), missing.clone()));
        missing.iter().try_for_each(|controller| write(&path, &format!("+{controller}")))
    }

    /// The files that a process writes "0" to, to join the group.
    #[must_use]
    pub fn join_files(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }
}

fn limit(directory: &Path, point: &Path, v2: bool, controllers: &[String], cpus: &[usize]) -> Result<()> {
    let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let quota = PERIOD_US.saturating_mul(cpus.len().max(1));
    for controller in controllers {
        match (controller.as_str(), v2) {
            ("memory", false) => write(&directory.join("memory.limit_in_bytes"), MEMORY)?,
            ("memory", true) => write(&directory.join("memory.max"), MEMORY)?,
            ("cpu", false) => {
                write(&directory.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                write(&directory.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
            ("cpu", true) => write(&directory.join("cpu.max"), &format!("{quota} {PERIOD_US}"))?,
            ("cpuset", _) => {
                write(&directory.join("cpuset.cpus"), &list)?;
                if !v2 {
                    // v1: no process may join before mems is set
                    let mems = point.join("cpuset.mems");
                    write(
                        &directory.join("cpuset.mems"),
                        &fs::read_to_string(&mems).map_err(on("read", &mems))?,
                    )?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // A reader that was just reaped may still be leaving its group: up to 2 s.
            let gone = (0..100).any(|_| {
                fs::remove_dir(directory).is_ok() || !directory.exists() || {
                    std::thread::sleep(Duration::from_millis(20));
                    false
                }
            });
            if !gone {
                eprintln!("ownproc-bench: group {} could not be removed", directory.display());
            }
        }
        if let Some((path, controllers)) = &self.enabled {
            for controller in controllers {
                if let Err(error) = write(path, &format!("-{controller}")) {
                    eprintln!("ownproc-bench: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_v1_and_v2_hierarchies() {
        let text = "31 24 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                    32 24 0:28 / /sys/fs/cgroup/cpu rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
                    33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    34 24 0:30 / /tmp rw - tmpfs none rw,memory\n";
        let found = hierarchies(text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found[1].controllers, ["rw", "cpu", "cpuacct"]);
        assert!(found[2].v2);
    }
}
