//! Sets the stage: a private mount namespace, the group, the servers, and one bind mount per source and file,
//! because that is how a container sees them (and the path is then equally long for every source).
//!
//! Everything lives in a tmpfs over /run of that private namespace: ownproc's sockets, LXCFS's run directory
//! and the mount points vanish with the last process, whatever happens to the bench.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Error, Result, doing, on};
use crate::group::{MEMORY, MEMORY_KB, TestGroup};
use crate::process::{Reader, Tied, container_init};

/// Where the stage stands, inside the private namespace.
const ROOT: &str = "/run/b";

/// One column of the table.
#[derive(Debug)]
pub struct Source {
    /// Column title.
    pub name: &'static str,
    /// Directory that holds `proc/...` and `sys/...`; the null server's is flat.
    pub root: PathBuf,
    /// Which of the stage's readers reads it.
    pub reader: usize,
    /// Which of the stage's servers pays for it; none for native files.
    pub server: Option<usize>,
}

/// A server with its name and version.
#[derive(Debug)]
pub struct Server {
    /// Name in the table.
    pub name: &'static str,
    /// What it says about its version.
    pub version: String,
    /// The process.
    pub process: Tied,
}

/// The stage. Fields are dropped in this order: readers before the groups they sit in, the container before its
/// daemon.
#[derive(Debug, Default)]
pub struct Stage {
    /// The reading processes; 0 is the one in our own group.
    pub readers: Vec<Reader>,
    container: Option<Tied>,
    /// The servers, in the order they were started.
    pub servers: Vec<Server>,
    /// The columns.
    pub sources: Vec<Source>,
    group: Option<TestGroup>,
}

/// Moves this process into a mount namespace of its own with a tmpfs over /run; before any thread is started.
///
/// # Errors
/// Not root, or the mounts fail.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(doing("make a mount namespace (root is needed)"))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(doing("make mounts private"))?;
    let run = Path::new("/run");
    mount(Some("bench"), run, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .map_err(on("mount a tmpfs on", run))?;
    fs::create_dir(ROOT).map_err(on("create", Path::new(ROOT)))
}

/// The first line of what `command` prints, to either output.
#[must_use]
pub fn first_line(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().trim_matches('"').to_owned())
}

/// A directory of the stage.
///
/// # Errors
/// It cannot be made.
pub fn made(name: &str) -> Result<PathBuf> {
    let path = Path::new(ROOT).join(name);
    fs::create_dir_all(&path).map_err(on("create", &path))?;
    Ok(path)
}

impl Stage {
    /// A stage with the group on `cpus`, a reader inside it and the native files as the first column.
    ///
    /// # Errors
    /// The group cannot be made.
    pub fn new(cpus: &[usize]) -> Result<Self> {
        let mut stage = Self::default();
        let group = TestGroup::create(cpus)?;
        stage.readers.push(Reader::start(&group.join_files(), None)?);
        stage.group = Some(group);
        stage.sources.push(Source { name: "native", root: PathBuf::from("/"), reader: 0, server: None });
        Ok(stage)
    }

    fn add(&mut self, name: &'static str, root: PathBuf, version: String, process: Tied) {
        let server = Some(self.servers.len());
        self.servers.push(Server { name, version, process });
        self.sources.push(Source { name, root, reader: 0, server });
    }

    /// Starts LXCFS by hand on a mount point of our own. Before ownproc, because it keeps a copy of the mount
    /// namespace, in which ownproc's mount would then be in use.
    ///
    /// # Errors
    /// It does not start or does not serve.
    pub fn start_lxcfs(&mut self, program: &str, arguments: &[String]) -> Result<()> {
        let point = made("lxcfs")?;
        let (point_text, pidfile) = (point.display().to_string(), format!("{ROOT}/lxcfs.pid"));
        let mut command = vec![program, "-f", "-p", &pidfile];
        command.extend(arguments.iter().map(String::as_str));
        command.push(&point_text);
        let mut process = Tied::start("lxcfs", &command, &[], &Path::new(ROOT).join("lxcfs.log"))?;
        process.until("its mount", || point.join("proc/meminfo").exists())?;
        let version = first_line(&[program, "--version"]).unwrap_or_default();
        let arguments = if arguments.is_empty() { "no options".to_owned() } else { arguments.join(" ") };
        self.add("lxcfs", point, format!("{version} ({arguments})"), process);
        Ok(())
    }

    /// Starts `ownproc serve` from `directory`.
    ///
    /// # Errors
    /// It does not start or does not serve.
    pub fn start_ownproc(&mut self, directory: &Path) -> Result<()> {
        let point = made("ownproc")?;
        let program = directory.join("ownproc").display().to_string();
        let point_text = point.display().to_string();
        let log = Path::new(ROOT).join("ownproc.log");
        let mut process = Tied::start("ownproc", &[&program, "serve", &point_text], &[], &log)?;
        process.until("its mount", || point.join("proc/meminfo").exists())?;
        let version = first_line(&[&program, "--version"]).unwrap_or_default();
        self.add("ownproc", point, version, process);
        Ok(())
    }

    /// Launches a container with the group's limits at the running ownproc, adds a reader inside it and the
    /// column that reads `containers/NAME`.
    ///
    /// # Errors
    /// ownproc does not run, the container does not start or cannot be joined.
    pub fn start_container(&mut self, directory: &Path, cpus: &[usize]) -> Result<()> {
        let by_reader = self.sources.iter().find(|source| source.name == "ownproc");
        let (point, server) = by_reader
            .map(|source| (source.root.clone(), source.server))
            .ok_or_else(|| Error::Usage("a container needs a running ownproc".to_owned()))?;
        let name = format!("bench-{}", std::process::id());
        let root = point.join("containers").join(&name);
        let program = directory.join("ownproc-run").display().to_string();
        let (count, list) =
            (cpus.len().to_string(), cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
        let command = [
            &program,
            "launch",
            "--name",
            &name,
            "-m",
            MEMORY,
            "--cpus",
            &count,
            "--cpuset-cpus",
            &list,
            "--",
            "sleep",
            "86400",
        ];
        let mount_text = point.display().to_string();
        let log = Path::new(ROOT).join("launch.log");
        let mut process = Tied::start("ownproc-run", &command, &[("OWNPROC_MOUNT", &mount_text)], &log)?;
        process.until("the container", || root.join("proc/meminfo").exists())?;
        let mut init = None;
        let launcher = process.pid();
        process.until("the container's init", || {
            init = container_init(launcher);
            init.is_some()
        })?;
        let init = init.map(|pid| pid.to_string()).unwrap_or_default();
        let reader = self.readers.len();
        let namespace = PathBuf::from(format!("/proc/{init}/ns/pid"));
        self.readers.push(Reader::start(&container_groups(&init)?, Some(&namespace))?);
        self.container = Some(process);
        self.sources.push(Source { name: "ownproc/NAME", root, reader, server });
        Ok(())
    }

    /// Makes sure that every source measured so far, the kernel's excepted, shows its reader the group's memory: a
    /// daemon that fell back to the host's file would be compared for work that it does not do.
    ///
    /// # Errors
    /// One shows something else.
    pub fn check_views(&mut self) -> Result<()> {
        for source in self.sources.iter().filter(|source| source.server.is_some()) {
            let path = source.root.join("proc/meminfo");
            let Some(reader) = self.readers.get_mut(source.reader) else { continue };
            let text = String::from_utf8_lossy(&reader.dump(&path)?).into_owned();
            let first = text.lines().next().unwrap_or_default();
            if first.split_whitespace().nth(1) != Some(MEMORY_KB) {
                let name = source.name;
                let text = format!("{name} shows its reader {first:?} instead of the group's {MEMORY_KB} kB");
                return Err(Error::Peer(text));
            }
        }
        Ok(())
    }

    /// Starts a null server named `name` that serves copies of `files`, as `model` (a column) shows them to the
    /// reader in the group, so that its replies are as long.
    ///
    /// # Errors
    /// A file cannot be copied, or the server does not start.
    pub fn start_null(
        &mut self,
        name: &'static str,
        model: usize,
        files: &[String],
        threads: usize,
    ) -> Result<()> {
        let (copies, point) = (made(&format!("{name}-files"))?, made(name)?);
        let root = self.sources.get(model).map(|source| source.root.clone()).unwrap_or_default();
        let reader = self.readers.first_mut().ok_or_else(|| Error::Peer("no reader".to_owned()))?;
        for file in files {
            let mut from = root.join(file);
            if !from.exists() {
                from = Path::new("/").join(file);
            }
            let copy = copies.join(label(file));
            fs::write(&copy, reader.dump(&from)?).map_err(on("write", &copy))?;
        }
        let exe = std::env::current_exe().map_err(doing("find the bench's own binary"))?;
        let (exe, from, to) =
            (exe.display().to_string(), copies.display().to_string(), point.display().to_string());
        let command = [&exe, "null", "--threads", &threads.to_string(), &from, &to].map(str::to_owned);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut process = Tied::start(name, &command, &[], &Path::new(ROOT).join(format!("{name}.log")))?;
        let first = point.join(files.first().map(|file| label(file)).unwrap_or_default());
        process.until("its mount", || first.exists())?;
        self.add(name, point, format!("fuser {}, {threads} threads", fuser_version()), process);
        Ok(())
    }

    /// The path at which `source` shows `file`, as a bind mount of its own; none if the source has no such file.
    ///
    /// # Errors
    /// The mount fails.
    pub fn bind(&self, source: &Source, file: &str) -> Result<Option<PathBuf>> {
        let flat = source.root.join(label(file));
        let from = if source.name.starts_with("null") { flat } else { source.root.join(file) };
        if !from.exists() {
            return Ok(None);
        }
        let column = self.sources.iter().position(|own| own.name == source.name).unwrap_or_default();
        let target = made(&format!("at/{column}"))?.join(label(file));
        fs::write(&target, "").map_err(on("create", &target))?;
        let none: Option<&str> = None;
        mount(Some(&from), &target, none, MsFlags::MS_BIND, none).map_err(on("bind-mount on", &target))?;
        Ok(Some(target))
    }
}

/// The last part of `file`: the row title, and the name in flat directories.
#[must_use]
pub fn label(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// The version of the library that the null server and ownproc are both built with.
#[must_use]
pub fn fuser_version() -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"fuser\""));
    let version = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")));
    version.unwrap_or("unknown").trim_matches('"')
}

/// The cgroup.procs files of the groups of process `pid`, on every mounted hierarchy.
fn container_groups(pid: &str) -> Result<Vec<PathBuf>> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(on("read", &path))?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(doing("read mountinfo"))?;
    let mut files = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let point = mountinfo.lines().find_map(|entry| {
            let (left, right) = entry.split_once(" - ")?;
            let fits = if controllers.is_empty() {
                right.starts_with("cgroup2 ")
            } else {
                let mut options = right.split(' ').nth(2)?.split(',');
                let first = controllers.split(',').next()?;
                right.starts_with("cgroup ") && options.any(|option| option == first)
            };
            fits.then(|| left.split(' ').nth(4)).flatten()
        });
        if let (Some(point), true) = (point, group != "/") {
            files.push(Path::new(point).join(group.trim_start_matches('/')).join("cgroup.procs"));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_versions() {
        assert_eq!(label("sys/devices/system/cpu/online"), "online");
        assert!(fuser_version().starts_with("0."), "{}", fuser_version());
    }
}
