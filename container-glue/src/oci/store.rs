//! What is on disk of a container: `ROOT/ID/state.json`, its configuration, and the socket that `start` connects to.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::{OciError, id};

/// The socket of a container that waits for `start`.
pub const START: &str = "start.sock";

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
    /// Levels above them that were not there before, upper ones first.
    pub parents: Vec<PathBuf>,
    /// systemd's, in which they are.
    #[serde(default)]
    pub scope: Option<super::scope::Scope>,
    /// Name under which the daemon knows it.
    pub registered: Option<ownproc::model::ContainerName>,
    /// The configuration.
    pub spec: Spec,
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
        Ok(Self { root: root.to_owned() })
    }

    /// A new container's directory; an error where the name is taken.
    pub fn claim(&self, id: &str) -> Result<Entry, OciError> {
        let path = self.root.join(id::check(id)?);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Entry::lock(path, FlockArg::LockExclusive),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OciError::Taken(id.to_owned())),
            Err(error) => Err(OciError::io("create", path, error)),
        }
    }

    /// A container's directory, once nobody else works on it.
    pub fn entry(&self, id: &str) -> Result<Entry, OciError> {
        let path = self.root.join(id::check(id)?);
        match Entry::lock(path, FlockArg::LockExclusive) {
            Err(OciError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(OciError::NoContainer(id.to_owned()))
            }
            other => other,
        }
    }

    /// The same, unless somebody works on it now.
    pub fn try_entry(&self, id: &str) -> Result<Entry, OciError> {
        Entry::lock(self.root.join(id::check(id)?), FlockArg::LockExclusiveNonblock)
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

impl Entry {
    fn lock(path: PathBuf, how: FlockArg) -> Result<Self, OciError> {
        let file = path.join("lock");
        let open = File::options().create(true).truncate(false).write(true).open(&file);
        let open = open.map_err(|source| OciError::io("open", &file, source))?;
        let lock = Flock::lock(open, how).map_err(|(_, errno)| OciError::io("lock", &file, errno.into()))?;
        // deleted while this process waited for the lock
        if !path.join("lock").exists() {
            return Err(OciError::io("open", file, io::ErrorKind::NotFound.into()));
        }
        Ok(Self { path, _lock: Some(lock) })
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record, OciError> {
        super::bundle::read(&self.path.join("state.json"))
    }

    /// Writes it: a reader sees the old one or the whole new one.
    pub fn write(&self, record: &Record) -> Result<(), OciError> {
        let (new, path) = (self.path.join(".state.new"), self.path.join("state.json"));
        let bytes =
            serde_json::to_vec(record).map_err(|source| OciError::Json { path: path.clone(), source })?;
        std::fs::write(&new, bytes)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|source| OciError::io("write", path, source))
    }

    /// Forgets the container.
    pub fn remove(self) -> Result<(), OciError> {
        // the record last: what is left of a removal that is cut off can be removed again
        for name in [START, ".state.new", "state.json", "lock"] {
            match std::fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OciError::io("remove", self.path.join(name), error));
                }
                _ => {}
            }
        }
        std::fs::remove_dir(&self.path).map_err(|source| OciError::io("remove", &self.path, source))
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
    /// A descriptor of the container's first process, while that runs.
    pub fn alive(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // looked at while the descriptor is held: the number cannot be another process's now
        (identity(self.pid)? == self.start_time).then_some(pidfd)
    }
}

/// Start time of a process in clock ticks since boot; `None` when it is not there or has ended.
pub fn identity(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z' && stat.state != 'X').then_some(stat.starttime)
}
