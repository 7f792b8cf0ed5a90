//! What is on disk of a container: `ROOT/ID/state.json`, its configuration, and the socket that `start` connects to.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, RenameFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::{OciError, id};

/// How long a command waits for another one that works on the same container.
const PATIENCE: Duration = Duration::from_secs(4);

/// The socket of a container that waits for `start`.
pub const START: &str = "start.sock";

/// See [`Launched`].
const LAUNCH: &str = "launch.json";

/// What is being written, before it has its name. No container's name.
const NEW: &str = "new~";

/// What the name of a directory begins with that has no container's name yet; its maker's number
/// follows. No container's name.
const UNCLAIMED: &str = "claim~";

/// A group of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory.
    pub path: PathBuf,
    /// On cgroup v2.
    pub v2: bool,
    /// Controllers of its hierarchy, by the kernel's names.
    pub controllers: Vec<String>,
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Format of this file.
    pub version: u32,
    /// Its name.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// The container's first process; 0 while there is none yet.
    pub pid: i32,
    /// Field 22 of its /proc/PID/stat: tells it from a later process of the same number.
    pub start_time: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Groups that were made or about to be made.
    pub groups: Vec<Group>,
    /// Mount point of the daemon's tree.
    #[serde(default = "super::create::mount_point")]
    pub mount: PathBuf,
    /// systemd's, in which they are.
    #[serde(default)]
    pub scope: Option<super::config::cgroup::Scope>,
    /// Name under which the daemon knows it.
    pub registered: Option<ownproc::model::ContainerName>,
    /// Its process has linux.seccomp's filter since it was created; else it gets it at `start`.
    #[serde(default)]
    pub filtered: bool,
    /// The configuration.
    pub spec: Spec,
}

/// What `launch` notes of a container: `ROOT/ID/launch.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launched {
    /// The launcher.
    pub pid: i32,
    /// Field 22 of its /proc/PID/stat: tells it from a later process of the same number.
    pub start_time: u64,
    /// The container outlives it.
    pub detached: bool,
    /// CPUs that --pin chose.
    pub pinned: Option<String>,
}

impl Launched {
    /// Of this process.
    pub fn by_me(detached: bool) -> Self {
        let pid = nix::unistd::getpid().as_raw();
        Self { pid, start_time: identity(pid).unwrap_or(0), detached, pinned: None }
    }

    /// Whether the launcher that wrote it still runs.
    pub fn is_alive(&self) -> bool {
        identity(self.pid) == Some(self.start_time)
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the words of the OCI runtime specification, and runc's "paused"
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// As the state document spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of all containers.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// The levels above containers' groups that were made for them, in ROOT/levels~ (which is no container's name): each goes with the
/// last container below it. Under a lock, as long as groups are made or removed.
#[derive(Debug)]
pub struct Levels {
    file: PathBuf,
    _lock: Flock<File>,
}

/// The directory of one; under its lock, where it is to be changed.
#[derive(Debug)]
pub struct Entry {
    /// ROOT/ID.
    pub path: PathBuf,
    _lock: Option<Flock<File>>,
}

impl Store {
    /// Opens or makes it.
    pub fn open(root: &Path) -> Result<Self, OciError> {
        let fail = |what| move |source| OciError::io(what, root, source);
        match DirBuilder::new().mode(0o700).recursive(true).create(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(fail("create")(error));
            }
            _ => {}
        }
        let meta = std::fs::symlink_metadata(root).map_err(fail("look at"))?;
        if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(OciError::UnsafeRoot(root.to_owned()));
        }
        let store = Self { root: root.to_owned() };
        store.tidy();
        Ok(store)
    }

    /// Takes away directories that were left by commands that were killed before they had written
    /// down what they make. What cannot be removed now is left to the next command.
    fn tidy(&self) {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.join("state.json").exists() || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if let Some((_, maker)) = name.to_str().and_then(|name| name.split_once(UNCLAIMED)) {
                if !Path::new("/proc").join(maker).exists() {
                    let _ = std::fs::remove_dir_all(&path);
                }
                continue;
            }
            // who lives has the lock; without the file it was about to go, or to be anything but
            // ours
            match path.join("lock").exists() {
                true => {
                    let left = Entry::lock(path, Duration::ZERO);
                    let left = left.ok().filter(|entry| !entry.path.join("state.json").exists());
                    let _ = left.map(Entry::remove);
                }
                false => {
                    let _ = std::fs::remove_dir(&path);
                }
            }
        }
    }

    /// Waits for the lock; it is held for some milliseconds only. Whoever holds it waits for no container's own.
    pub fn levels(&self) -> Result<Levels, OciError> {
        let fail = |source| OciError::io("lock", &self.root, source);
        let directory = File::open(&self.root).map_err(fail)?;
        let lock =
            Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| fail(errno.into()))?;
        let _ = std::fs::remove_file(self.root.join(NEW)); // of one who was killed while he wrote
        Ok(Levels { file: self.root.join("levels~"), _lock: lock })
    }

    /// What launchers have noted, with the names of the containers.
    pub fn launched(&self) -> Result<Vec<(String, Launched)>, OciError> {
        let fail = |source| OciError::io("read", &self.root, source);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match std::fs::read(path.join(LAUNCH)).map(|text| serde_json::from_slice(&text)) {
                Ok(Ok(launched)) => found.push((id.to_owned(), launched)),
                Ok(Err(error)) => log::warn!("{} is not understood: {error}", path.join(LAUNCH).display()),
                Err(_) => {} // made from a bundle
            }
        }
        Ok(found)
    }

    /// A new container's directory; an error where the name is taken.
    pub fn claim(&self, id: &str) -> Result<Entry, OciError> {
        let path = self.root.join(id::check(id)?);
        if path.exists() {
            return Err(OciError::Taken(id.to_owned()));
        }
        // it gets its name when it is locked, so that nobody takes it for one that was left
        let new = self.root.join(format!("{UNCLAIMED}{}", std::process::id()));
        let fail = |source| OciError::io("create", &path, source);
        let _ = std::fs::remove_dir_all(&new); // of a process of that number that was killed
        DirBuilder::new().mode(0o700).create(&new).map_err(fail)?;
        let mut entry = Entry::lock(new.clone(), PATIENCE)?;
        match rustix::fs::renameat_with(CWD, &new, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                entry.path = path;
                Ok(entry)
            }
            Err(errno) => {
                let _ = std::fs::remove_dir_all(&new);
                match errno {
                    rustix::io::Errno::EXIST => Err(OciError::Taken(id.to_owned())),
                    errno => Err(fail(errno.into())),
                }
            }
        }
    }

    /// A container's directory, once nobody else works on it. An error where somebody does so for
    /// long: commands do not wait for what a container controls while they have the lock.
    pub fn entry(&self, id: &str) -> Result<Entry, OciError> {
        let path = self.root.join(id::check(id)?);
        match Entry::lock(path, PATIENCE) {
            Err(OciError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(OciError::NoContainer(id.to_owned()))
            }
            other => other,
        }
    }

    /// The same, unless somebody works on it now.
    pub fn try_entry(&self, id: &str) -> Result<Entry, OciError> {
        Entry::lock(self.root.join(id::check(id)?), Duration::ZERO)
    }

    /// A container's directory, to look at: also while it is made, by a hook for example.
    pub fn look(&self, id: &str) -> Result<Entry, OciError> {
        let path = self.root.join(id::check(id)?);
        if path.join("state.json").exists() {
            return Ok(Entry { path, _lock: None });
        }
        Err(OciError::NoContainer(id.to_owned()))
    }

    /// All names, sorted.
    pub fn ids(&self) -> Result<Vec<String>, OciError> {
        let fail = |source| OciError::io("read", &self.root, source);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if id::check(&name).is_ok() && entry.path().join("state.json").exists() {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Levels {
    fn read(&self) -> Result<Vec<PathBuf>, OciError> {
        match std::fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => super::bundle::read(&self.file),
        }
    }

    fn write(&self, levels: &[PathBuf]) -> Result<(), OciError> {
        if levels.is_empty() {
            return match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(OciError::io("remove", &self.file, error))
                }
                _ => Ok(()),
            };
        }
        replace(&self.file, levels)
    }

    /// These are about to be made.
    pub fn note(&self, missing: &[PathBuf]) -> Result<(), OciError> {
        let mut levels = self.read()?;
        let before = levels.len();
        levels.extend(missing.iter().filter(|level| !levels.contains(level)).cloned().collect::<Vec<_>>());
        if levels.len() == before { Ok(()) } else { self.write(&levels) }
    }

    /// Removes those above these groups, which are gone, unless others are below them. What another program's groups
    /// keep is forgotten with the last container.
    pub fn remove_above(&self, groups: &[Group]) -> Result<(), OciError> {
        let mut levels = self.read()?;
        if levels.is_empty() {
            return Ok(());
        }
        let before = levels.len();
        let directories = std::fs::read_dir(self.file.with_file_name("")).into_iter().flatten().flatten();
        let last = directories.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count() <= 1;
        // the deepest first
        levels.sort_by_key(|level| std::cmp::Reverse(level.components().count()));
        levels.retain(|level| {
            let above = groups.iter().any(|group| group.path.starts_with(level));
            // one that is left behind harms nobody
            !above || std::fs::remove_dir(level).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
        if last {
            levels.clear();
        }
        if levels.len() == before { Ok(()) } else { self.write(&levels) }
    }
}

/// Writes a document: a reader sees the old one or the whole new one.
fn replace<T: Serialize + ?Sized>(path: &Path, document: &T) -> Result<(), OciError> {
    let new = path.with_file_name(NEW);
    let bytes =
        serde_json::to_vec(document).map_err(|source| OciError::Json { path: path.to_owned(), source })?;
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|source| OciError::io("write", path, source))
}

impl Entry {
    fn lock(path: PathBuf, patience: Duration) -> Result<Self, OciError> {
        let file = path.join("lock");
        let fail = |what, source: io::Error| OciError::io(what, &file, source);
        let open = File::options().create(true).truncate(false).write(true).open(&file);
        let mut open = open.map_err(|source| fail("open", source))?;
        let until = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        let lock = loop {
            match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((again, Errno::EAGAIN)) if Instant::now() < until => open = again,
                Err((again, Errno::EAGAIN)) => {
                    let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Err(OciError::Busy { id, holder: holder(&again) });
                }
                Err((_, errno)) => return Err(fail("lock", errno.into())),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        // deleted while this process waited for the lock
        if !file.exists() {
            return Err(fail("open", io::ErrorKind::NotFound.into()));
        }
        Ok(Self { path, _lock: Some(lock) })
    }

    /// The descriptor that holds the lock.
    pub fn lock_fd(&self) -> Option<BorrowedFd<'_>> {
        self._lock.as_ref().map(|lock| lock.as_fd())
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record, OciError> {
        super::bundle::read(&self.path.join("state.json"))
    }

    /// Writes it.
    pub fn write(&self, record: &Record) -> Result<(), OciError> {
        replace(&self.path.join("state.json"), record)
    }

    /// What `launch` has noted, if it made the container.
    pub fn launched(&self) -> Option<Launched> {
        serde_json::from_slice(&std::fs::read(self.path.join(LAUNCH)).ok()?).ok()
    }

    /// Writes that.
    pub fn write_launched(&self, launched: &Launched) -> Result<(), OciError> {
        replace(&self.path.join(LAUNCH), launched)
    }

    /// Forgets the container.
    pub fn remove(self) -> Result<(), OciError> {
        // the record last: what is left of a removal that is cut off can be removed again
        for name in [START, NEW, LAUNCH, "state.json", "lock"] {
            match std::fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OciError::io("remove", self.path.join(name), error));
                }
                _ => {}
            }
        }
        match std::fs::remove_dir(&self.path) {
            // another command tidied up
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| OciError::io("remove", &self.path, source)),
        }
    }

    /// How far the container is.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return Status::Creating;
        }
        match record.alive() {
            None => Status::Stopped,
            Some(_) if self.path.join(START).exists() => Status::Created,
            Some(_) if super::freezer::is_frozen(&record.groups) => Status::Paused,
            Some(_) => Status::Running,
        }
    }
}

impl Record {
    /// Whether its process has a terminal of its own.
    pub fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
    }

    /// Descriptors of its groups.
    pub fn open_groups(&self) -> Result<Vec<OwnedFd>, OciError> {
        let open = |group: &Group| {
            File::open(&group.path)
                .map(OwnedFd::from)
                .map_err(|source| OciError::io("open", &group.path, source))
        };
        self.groups.iter().map(open).collect()
    }

    /// A descriptor of the container's first process, while that runs.
    pub fn alive(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // looked at while the descriptor is held: the number cannot be another process's now
        (identity(self.pid)? == self.start_time).then_some(pidfd)
    }
}

/// Who has the lock of a file, for people (proc_locks(5)).
fn holder(file: &File) -> String {
    let nobody = || "another command".to_owned();
    let (Ok(meta), Ok(locks)) = (file.metadata(), std::fs::read_to_string("/proc/locks")) else {
        return nobody();
    };
    let inode = format!(":{}", meta.ino());
    let pid = locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK");
        let pid = words.nth(3)?.parse::<i32>().ok()?;
        words.next()?.ends_with(&inode).then_some(pid)
    });
    let Some(process) = pid.and_then(|pid| procfs::process::Process::new(pid).ok()) else { return nobody() };
    let words = process.cmdline().unwrap_or_default();
    let said: Vec<_> = words.iter().take(2).map(String::as_str).collect();
    format!("process {} ({})", process.pid, said.join(" ").replace(|c: char| c.is_control(), "?"))
}

/// Start time of a process in clock ticks since boot; `None` when it is not there or has ended.
pub fn identity(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z' && stat.state != 'X').then_some(stat.starttime)
}
