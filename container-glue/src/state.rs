//! What a launcher leaves on disk while it runs, so that a later one can clear up after a launcher that was
//! killed: `/run/ownproc-run/NAME.json`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use ownproc::model::{ContainerName, CpuSet};
use serde::{Deserialize, Serialize};

/// Where the state is; root's alone. Its directory is also the scratch mount point of the container's set-up (in
/// the container's own mount namespace).
pub const DIR: &str = "/run/ownproc-run";

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// The container's name, which is the file's name as well.
    pub name: ContainerName,
    /// The launcher.
    pub pid: i32,
    /// Field 22 of its /proc/PID/stat: tells it from a later process of the same number.
    pub start_time: u64,
    /// Groups that it made or was about to make.
    pub groups: Vec<PathBuf>,
    /// Levels above them that were not there before, upper ones first.
    #[serde(default)]
    pub parents: Vec<PathBuf>,
    /// CPUs that --pin chose.
    pub pinned: Option<String>,
}

/// What went wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory of [`DIR`].
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", ...
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// [`DIR`] could have been prepared by someone else.
    #[error("{DIR} belongs to uid {0} or others may write to it: remove it")]
    Unsafe(u32),
    /// The name is in use.
    #[error("a container named {0} is running (launcher pid {1}): choose another --name")]
    Taken(ContainerName, i32),
    /// Groups of a dead launcher that still hold processes.
    #[error("{}, left by a launcher that was killed, cannot be removed: {}", .0.display(), .1)]
    Left(PathBuf, io::Error),
}

/// The state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// The lock under which names are claimed, CPUs chosen and groups made and removed.
#[derive(Debug)]
pub struct Locked<'a> {
    dir: &'a StateDir,
    _lock: Flock<File>,
}

impl StateDir {
    /// Opens or makes the directory.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |action, source| StateError::Io { action, path: path.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail("create", e)),
            _ => {}
        }
        let meta = std::fs::symlink_metadata(path).map_err(|e| fail("look at", e))?;
        if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(StateError::Unsafe(meta.uid()));
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Waits for the lock; it is held for some milliseconds only.
    pub fn lock(&self) -> Result<Locked<'_>, StateError> {
        let path = self.path.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| StateError::Io { action: "open", path: path.clone(), source })?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| StateError::Io {
            action: "lock",
            path,
            source: e.into(),
        })?;
        Ok(Locked { dir: self, _lock: lock })
    }
}

impl Locked<'_> {
    /// All containers' states. A file that cannot be understood is skipped with a warning: it may be a newer
    /// version's.
    pub fn all(&self) -> Result<Vec<State>, StateError> {
        let fail = |source| StateError::Io { action: "read", path: self.dir.path.clone(), source };
        let mut states = Vec::new();
        for entry in std::fs::read_dir(&self.dir.path).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match std::fs::read(&path).map(|bytes| serde_json::from_slice::<State>(&bytes)) {
                Ok(Ok(state)) if self.path(&state.name) == path => states.push(state),
                Ok(Ok(_)) => log::warn!("{} holds another container's name; skipped", path.display()),
                Ok(Err(error)) => log::warn!("{} is not understood: {error}", path.display()),
                Err(error) => log::warn!("cannot read {}: {error}", path.display()),
            }
        }
        Ok(states)
    }

    /// Clears up after launchers that are dead, and returns the states of those that live. Groups of a dead
    /// launcher that still hold a process are left for the next time, unless they are in the way (`wanted`).
    pub fn sweep(&self, wanted: &ContainerName) -> Result<Vec<State>, StateError> {
        let (living, dead): (Vec<_>, Vec<_>) = self.all()?.into_iter().partition(State::is_alive);
        if let Some(state) = living.iter().find(|state| state.name == *wanted) {
            return Err(StateError::Taken(wanted.clone(), state.pid));
        }
        for state in dead {
            match self.clear(state) {
                Err(error @ StateError::Left(..)) => log::warn!("{error}"),
                other => other?,
            }
        }
        match self.read(wanted)? {
            None => Ok(living),
            // its groups are in the way, and may be empty by now
            Some(left) => self.clear(left).map(|()| living),
        }
    }

    /// Takes back what a container's state lists. Parents that hold groups of other containers become the business of
    /// one of those.
    pub fn clear(&self, state: State) -> Result<(), StateError> {
        for group in &state.groups {
            crate::groups::remove_tree(group).map_err(|error| StateError::Left(group.clone(), error))?;
        }
        let mut others: Vec<State> =
            self.all()?.into_iter().filter(|other| other.name != state.name).collect();
        for parent in state.parents.into_iter().rev() {
            let Err(error) = std::fs::remove_dir(&parent) else { continue };
            let heir =
                others.iter_mut().find(|other| other.groups.iter().any(|group| group.starts_with(&parent)));
            if let Some(heir) = heir.filter(|_| error.kind() != io::ErrorKind::NotFound) {
                heir.parents.insert(0, parent);
                self.write(heir)?;
            }
        }
        self.remove(&state.name);
        Ok(())
    }

    /// One container's state.
    pub fn read(&self, name: &ContainerName) -> Result<Option<State>, StateError> {
        Ok(self.all()?.into_iter().find(|state| state.name == *name))
    }

    /// Writes the state: a reader sees the old file or the whole new one.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        let path = self.path(&state.name);
        let fail = |source| StateError::Io { action: "write", path: path.clone(), source };
        let bytes = serde_json::to_vec(state).map_err(|e| fail(e.into()))?;
        let new = self.dir.path.join(format!(".{}.new", state.name));
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path)).map_err(fail)
    }

    /// Forgets the container.
    pub fn remove(&self, name: &ContainerName) {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {e}", path.display())
            }
            _ => {}
        }
    }

    fn path(&self, name: &ContainerName) -> PathBuf {
        // not set_extension: a name may hold dots
        self.dir.path.join(format!("{name}.json"))
    }
}

impl State {
    /// The state of this process's container.
    pub fn new(
        name: ContainerName,
        groups: Vec<PathBuf>,
        parents: Vec<PathBuf>,
        pinned: Option<&CpuSet>,
    ) -> Self {
        let pid = nix::unistd::getpid().as_raw();
        let start_time = start_time(pid).unwrap_or(0);
        Self { version: 1, name, pid, start_time, groups, parents, pinned: pinned.map(ToString::to_string) }
    }

    /// Whether the launcher that wrote it still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// The CPUs that --pin chose; empty without.
    pub fn pins(&self) -> CpuSet {
        self.pinned.as_deref().and_then(|text| CpuSet::parse(text).ok()).unwrap_or_default()
    }
}

/// Start time of a process in clock ticks since boot; `None` when there is no such process.
fn start_time(pid: i32) -> Option<u64> {
    Some(procfs::process::Process::new(pid).ok()?.stat().ok()?.starttime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        ContainerName::new(text).unwrap()
    }

    #[test]
    fn dead_launchers_are_swept_and_living_ones_kept() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&root.path().join("state")).unwrap();
        let locked = dir.lock().unwrap();
        let group = root.path().join("group");
        std::fs::create_dir(&group).unwrap();
        let living = State::new(name("living"), vec![], vec![], Some(&CpuSet::first(2)));
        let dead = State { start_time: 1, ..State::new(name("dead.x"), vec![group.clone()], vec![], None) };
        locked.write(&living).unwrap();
        locked.write(&dead).unwrap();
        std::fs::write(root.path().join("state/bad.json"), "{").unwrap();
        assert_eq!(locked.all().unwrap().len(), 2);
        let left = locked.sweep(&name("new")).unwrap();
        assert_eq!(left.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["living"]);
        assert_eq!(left[0].pins(), CpuSet::first(2));
        assert!(!group.exists());
        assert!(matches!(locked.sweep(&name("living")), Err(StateError::Taken(..))));
        locked.remove(&name("living"));
        assert_eq!(locked.all().unwrap().len(), 0);
    }

    #[test]
    fn parents_go_with_the_last_container_in_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&root.path().join("state")).unwrap();
        let locked = dir.lock().unwrap();
        let (parent, a, b) = (root.path().join("p"), root.path().join("p/a"), root.path().join("p/b"));
        for dir in [&parent, &a, &b] {
            std::fs::create_dir(dir).unwrap();
        }
        locked.write(&State::new(name("a"), vec![a.clone()], vec![parent.clone()], None)).unwrap();
        locked.write(&State::new(name("b"), vec![b], vec![], None)).unwrap();
        locked.clear(locked.read(&name("a")).unwrap().unwrap()).unwrap();
        assert!(!a.exists() && parent.exists());
        locked.clear(locked.read(&name("b")).unwrap().unwrap()).unwrap();
        assert!(!parent.exists());
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::open(root.path()), Err(StateError::Unsafe(_))));
    }
}
