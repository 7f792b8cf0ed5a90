//! Groups of their own for tests on the running kernel: the same calls on v1, hybrid and v2. Needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Controller, GroupSet, Layout, Membership, Version};

/// The controllers that the tests set limits with.
const WANTED: [Controller; 4] =
    [Controller::Memory, Controller::Cpu, Controller::Cpuacct, Controller::Cpuset];

/// A group in every hierarchy that has one of the wanted controllers; removed with all below it on drop.
pub(crate) struct TestGroup {
    pub(crate) layout: Layout,
    path: PathBuf,
}

impl TestGroup {
    /// Makes `/ownproc-test-readers-PID-N`.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let layout = Layout::discover(Path::new("/")).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/ownproc-test-readers-{}-{number}", std::process::id());
        let group = Self { layout, path: PathBuf::from(name) };
        for dir in group.dirs("") {
            enable_below(dir.parent().unwrap());
            std::fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        group
    }

    /// Makes a group below: `make("a/b")` after `make("a")`. On v2 with the wanted controllers.
    pub(crate) fn make(&self, below: &str) {
        for dir in self.dirs(below) {
            enable_below(dir.parent().unwrap());
            std::fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
    }

    pub(crate) fn version(&self, controller: Controller) -> Version {
        let index = self.layout.hierarchy_of(controller).unwrap();
        self.layout.get(index).unwrap().version()
    }

    fn dir_in(&self, hierarchy: usize, below: &str) -> PathBuf {
        let path = if below.is_empty() { self.path.clone() } else { self.path.join(below) };
        self.layout.get(hierarchy).unwrap().file_path(&path, "")
    }

    /// The group's directory in each wanted hierarchy.
    pub(crate) fn dirs(&self, below: &str) -> Vec<PathBuf> {
        self.hierarchies().into_iter().map(|index| self.dir_in(index, below)).collect()
    }

    /// The same for tasks to move into: v1 takes none into a cpuset that was given no CPUs.
    pub(crate) fn task_dirs(&self, below: &str) -> Vec<PathBuf> {
        let configured = |dir: &PathBuf| {
            std::fs::read_to_string(dir.join("cpuset.cpus"))
                .map_or(true, |cpus| !cpus.trim().is_empty() || dir.join("cpuset.cpus.effective").exists())
        };
        self.dirs(below).into_iter().filter(configured).collect()
    }

    pub(crate) fn hierarchies(&self) -> Vec<usize> {
        let mut found: Vec<usize> = WANTED.iter().filter_map(|c| self.layout.hierarchy_of(*c)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Writes a file of one controller.
    pub(crate) fn set(&self, controller: Controller, below: &str, v1: &str, v2: &str, value: &str) {
        let file = if self.version(controller) == Version::V1 { v1 } else { v2 };
        let index = self.layout.hierarchy_of(controller).unwrap();
        let path = self.dir_in(index, below).join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{value} > {}: {e}", path.display()));
    }

    pub(crate) fn set_memory(&self, below: &str, bytes: u64) {
        self.set(Controller::Memory, below, "memory.limit_in_bytes", "memory.max", &bytes.to_string());
    }

    /// Microseconds per period of 100 ms.
    pub(crate) fn set_quota(&self, below: &str, quota: u64) {
        let v2 = format!("{quota} 100000");
        let value = if self.version(Controller::Cpu) == Version::V1 { quota.to_string() } else { v2 };
        self.set(Controller::Cpu, below, "cpu.cfs_quota_us", "cpu.max", &value);
    }

    pub(crate) fn set_cpuset(&self, below: &str, cpus: &str) {
        if self.version(Controller::Cpuset) == Version::V1 {
            self.set(Controller::Cpuset, below, "cpuset.mems", "cpuset.mems", "0");
        }
        self.set(Controller::Cpuset, below, "cpuset.cpus", "cpuset.cpus", cpus);
    }

    /// Opens the group as a container.
    pub(crate) fn open(&self, below: &str) -> GroupSet {
        GroupSet::open(&self.layout, &self.membership(below)).unwrap()
    }

    pub(crate) fn membership(&self, below: &str) -> Membership {
        let inside = self.hierarchies();
        let path = if below.is_empty() { self.path.clone() } else { self.path.join(below) };
        Membership::parse("", &self.layout)
            .map(|index, root| if inside.contains(&index) { path.clone() } else { root.to_owned() })
    }

    /// A shell in the group; `script` runs after it has moved there.
    pub(crate) fn shell(&self, below: &str, script: &str) -> Running {
        let moves: String = self
            .task_dirs(below)
            .iter()
            .map(|dir| format!("echo $$ > {}/cgroup.procs || exit 99; ", dir.display()))
            .collect();
        Running(Command::new("sh").arg("-c").arg(format!("{moves}{script}")).spawn().unwrap())
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        for dir in self.dirs("") {
            remove(&dir);
        }
    }
}

/// A child that is ended and reaped on drop.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For what takes as long as the machine is busy: looks every 20 ms, for a minute.
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "waited for a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// On v2 switches the wanted controllers on for the children of `dir`, where they are available.
fn enable_below(dir: &Path) {
    let Ok(available) = std::fs::read_to_string(dir.join("cgroup.controllers")) else { return };
    for name in available.split_whitespace().filter(|name| WANTED.iter().any(|c| c.name() == *name)) {
        std::fs::write(dir.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
    }
}

/// Removes a group and all below it; a task that is just ending keeps a group busy for a moment.
pub(crate) fn remove(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..200 {
        match std::fs::remove_dir(dir) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
}
