//! Groups (cgroup directories) of the tests' own, on v1, hybrid and v2 behind one face: parents and siblings of the
//! containers under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Doing, Outcome, check, fail};

/// All groups of the tests lie below this one, in every hierarchy.
const ROOT: &str = "ownproc-e2e";

/// What the tests limit.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// Where each controller is mounted.
#[derive(Clone)]
pub struct Hierarchies {
    v1: Vec<(String, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// As this process sees them.
    pub fn find() -> Outcome<Self> {
        let mut found = Self { v1: Vec::new(), v2: None };
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let point = PathBuf::from(mount.split(' ').nth(4).doing(line)?);
            let mut filesystem = filesystem.split(' ');
            match filesystem.next() {
                Some("cgroup2") if found.v2.is_none() => found.v2 = Some(point),
                Some("cgroup") => {
                    for option in filesystem.nth(1).unwrap_or_default().split(',') {
                        if CONTROLLERS.contains(&option) && !found.v1.iter().any(|(name, _)| name == option) {
                            found.v1.push((option.to_owned(), point.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether no controller that the tests use is on v1.
    pub fn is_pure_v2(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    /// The hierarchy that holds a controller.
    fn of(&self, controller: &str) -> Outcome<&Path> {
        let v1 = self.v1.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path());
        v1.or(self.v2.as_deref()).doing(format!("cgroup hierarchy of {controller}"))
    }

    /// Every hierarchy in use, each once (controllers may be co-mounted).
    fn all(&self) -> BTreeSet<PathBuf> {
        let mut all: BTreeSet<PathBuf> = self.v1.iter().map(|(_, path)| path.clone()).collect();
        all.extend(self.v2.clone());
        all
    }
}

/// A group: one directory in every hierarchy.
#[derive(Clone)]
pub struct Group {
    at: Hierarchies,
    path: PathBuf,
}

impl Group {
    /// A new group of the tests' own, `NAME` or `PARENT/NAME`, removed by [`remove_all_of`].
    pub fn create(name: &str) -> Outcome<Self> {
        Self::at(&Path::new(ROOT).join(format!("{}-{name}", std::process::id()))).make()
    }

    /// An existing group, by its path below the root of each hierarchy.
    pub fn existing(path: &str) -> Outcome<Self> {
        let group = Self::at(Path::new(path.trim_start_matches('/')));
        let memory = group.dir("memory")?;
        check!(memory.is_dir(), "{} is not there", memory.display());
        Ok(group)
    }

    /// The group in which `launch --name NAME` puts a container.
    pub fn of_container(name: &str) -> Outcome<Self> {
        Self::existing(&format!("ownproc/{name}"))
    }

    /// A group below this one.
    pub fn child(&self, name: &str) -> Outcome<Self> {
        Self { at: self.at.clone(), path: self.path.join(name) }.make()
    }

    fn at(path: &Path) -> Self {
        let at = Hierarchies::find().unwrap_or(Hierarchies { v1: Vec::new(), v2: None });
        Self { at, path: path.to_owned() }
    }

    /// The path below the root of each hierarchy.
    pub fn path(&self) -> String {
        format!("/{}", self.path.display())
    }

    fn make(self) -> Outcome<Self> {
        for root in self.at.all() {
            let v2 = Some(&root) == self.at.v2.as_ref();
            let mut dir = root.clone();
            for part in &self.path {
                if v2 {
                    delegate(&dir)?;
                }
                let parent = dir.clone();
                dir.push(part);
                if !dir.is_dir() {
                    fs::create_dir(&dir).doing(dir.display())?;
                }
                // A new v1 cpuset group has no CPUs and no memory nodes and takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if !v2 && dir.join(file).exists() && read(&dir.join(file))?.is_empty() {
                        write(&dir.join(file), &read(&parent.join(file))?)?;
                    }
                }
            }
        }
        Ok(self)
    }

    fn dir(&self, controller: &str) -> Outcome<PathBuf> {
        Ok(self.at.of(controller)?.join(&self.path))
    }

    fn is_v2(&self, controller: &str) -> Outcome<bool> {
        Ok(Some(self.at.of(controller)?) == self.at.v2.as_deref())
    }

    /// Memory limit in MiB.
    pub fn set_memory(&self, mib: u64) -> Outcome {
        let file = if self.is_v2("memory")? { "memory.max" } else { "memory.limit_in_bytes" };
        write(&self.dir("memory")?.join(file), &(mib << 20).to_string())
    }

    /// No swap for the group, where the host has any: v1 limits memory and swap together, after memory.
    pub fn set_no_swap(&self) -> Outcome {
        let dir = self.dir("memory")?;
        let (file, text) = match self.is_v2("memory")? {
            true => ("memory.swap.max", "0".to_owned()),
            false => ("memory.memsw.limit_in_bytes", read(&dir.join("memory.limit_in_bytes"))?),
        };
        if dir.join(file).exists() { write(&dir.join(file), &text) } else { Ok(()) }
    }

    /// CPU quota in hundredths of a CPU, over a period of 100 ms.
    pub fn set_quota(&self, percent: u64) -> Outcome {
        let (dir, quota) = (self.dir("cpu")?, percent * 1000);
        if self.is_v2("cpu")? {
            return write(&dir.join("cpu.max"), &format!("{quota} 100000"));
        }
        write(&dir.join("cpu.cfs_period_us"), "100000")?;
        write(&dir.join("cpu.cfs_quota_us"), &quota.to_string())
    }

    /// The highest weight that a group can have.
    pub fn set_most_cpu(&self) -> Outcome {
        let (file, most) =
            if self.is_v2("cpu")? { ("cpu.weight", "10000") } else { ("cpu.shares", "262144") };
        write(&self.dir("cpu")?.join(file), most)
    }

    /// The CPUs that are asked for.
    pub fn set_cpuset(&self, cpus: &str) -> Outcome {
        write(&self.dir("cpuset")?.join("cpuset.cpus"), cpus)
    }

    /// CPU time used so far, in microseconds, as the kernel counts it for the group.
    pub fn cpu_usec(&self) -> Outcome<u64> {
        if self.is_v2("cpuacct")? {
            let stat = read(&self.dir("cpu")?.join("cpu.stat"))?;
            let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
            return Ok(usage.doing("usage_usec")?.parse()?);
        }
        Ok(read(&self.dir("cpuacct")?.join("cpuacct.usage"))?.parse::<u64>()? / 1000)
    }

    /// The files into which a pid is written to enter the group.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.at.all().iter().map(|root| root.join(&self.path).join("cgroup.procs")).collect()
    }

    /// Moves a process here.
    pub fn enter(&self, pid: Pid) -> Outcome {
        self.procs_files().iter().try_for_each(|file| write(file, &pid.to_string()))
    }

    /// Moves a process here in the v2 hierarchy alone, and freezes it: it is killed all the same, which a process that the
    /// v1 freezer holds is not.
    pub fn freeze(&self, pid: Pid) -> Outcome {
        let dir = self.at.v2.as_deref().doing("a v2 hierarchy")?.join(&self.path);
        write(&dir.join("cgroup.freeze"), "1")?;
        write(&dir.join("cgroup.procs"), &pid.to_string())
    }

    /// Memory in use in bytes, as the kernel charges the group.
    pub fn memory_used(&self) -> Outcome<u64> {
        let file = if self.is_v2("memory")? { "memory.current" } else { "memory.usage_in_bytes" };
        Ok(read(&self.dir("memory")?.join(file))?.parse()?)
    }

    /// The processes in the group itself (not below), host pids.
    pub fn pids(&self) -> Outcome<Vec<Pid>> {
        let text = read(&self.dir("memory")?.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect())
    }

    /// Moves the group's own processes into a new child, so that on v2 it can have further limited children.
    pub fn move_own_processes_down(&self, name: &str) -> Outcome<Self> {
        let below = Self { at: self.at.clone(), path: self.path.join(name) };
        for root in self.at.all() {
            let dir = root.join(&below.path);
            fs::create_dir(&dir).doing(dir.display())?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if Some(&root) != self.at.v2.as_ref() && dir.join(file).exists() {
                    write(&dir.join(file), &read(&root.join(&self.path).join(file))?)?;
                }
            }
        }
        for pid in self.pids()? {
            below.enter(pid)?;
        }
        Ok(below)
    }

    /// Removes the group, and those below it; processes in them are ended.
    pub fn remove(&self) -> Outcome {
        for root in self.at.all() {
            remove_tree(&root.join(&self.path), &root)?;
        }
        Ok(())
    }
}

/// Enables on v2 what the tests use and the directory has, for its children.
fn delegate(dir: &Path) -> Outcome {
    let file = dir.join("cgroup.subtree_control");
    let (have, on) = (read(&dir.join("cgroup.controllers"))?, read(&file)?);
    for controller in have.split(' ').filter(|c| CONTROLLERS.contains(c)) {
        if !on.split(' ').any(|c| c == controller) {
            write(&file, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Outcome<String> {
    Ok(fs::read_to_string(file).doing(file.display())?.trim().to_owned())
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).doing(format!("{} <- {text}", file.display()))
}

/// Directories below `dir`, deepest first, `dir` itself last.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(tree(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}

fn remove_tree(dir: &Path, root: &Path) -> Outcome {
    check!(dir != root, "the root of a hierarchy is not the tests' to remove");
    for dir in tree(dir) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while dir.is_dir() {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                // Pid 0 is a process of another pid namespace, ended with its group there.
                if let Ok(pid @ 1..) = pid.parse() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            match fs::remove_dir(&dir) {
                Err(e) if Instant::now() > deadline => fail!("cannot remove {}: {e}", dir.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

/// Removes what the case that ran as process `pid` made (its alone: the names hold the pid).
pub fn remove_all_of(pid: u32) {
    let Ok(at) = Hierarchies::find() else { return };
    let own = format!("{pid}-");
    for root in at.all() {
        for place in [ROOT, "ownproc"] {
            for entry in fs::read_dir(root.join(place)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(&own) || name.starts_with(&format!("e2e-{own}")) {
                    let _ = remove_tree(&entry.path(), &root);
                }
            }
        }
        let _ = fs::remove_dir(root.join(ROOT));
    }
}

/// Fails where a container of this case is still there: its group, its registration, or its mounts.
pub fn nothing_left() -> Outcome {
    let own = format!("e2e-{}-", std::process::id());
    // The last steps of a removal may still run in a process that nobody waits for.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left: Vec<String> = Vec::new();
        for root in Hierarchies::find()?.all() {
            left.extend(names(&root.join("ownproc")));
        }
        left.extend(names(&crate::daemon::shared("containers")?));
        left.retain(|path| path.contains(&own));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned));
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            fail!("left behind: {}", left.join(", "));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
