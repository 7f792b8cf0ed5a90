//! What was done in a container, file by file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to do in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put the virtual files over its own; dead mounts of ours are replaced.
    Attach {
        /// Also where somebody else's file lies, such as that of LXCFS.
        replace: bool,
    },
    /// Replace dead mounts of ours, wherever they lie; nothing else.
    Repair,
    /// Take our mounts away.
    Detach,
}

/// What became of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "why")]
pub enum State {
    /// Ours lies there now.
    Attached,
    /// Ours lies there now instead of a dead mount.
    Repaired,
    /// Ours lies there now instead of what this says.
    Replaced(String),
    /// Ours lay there before.
    Already,
    /// Ours was taken away.
    Detached,
    /// The container has no such file: there is nothing of the host's to see.
    Absent,
    /// The container's runtime has hidden it: likewise.
    Masked,
    /// Not done, and why.
    Left(String),
}

impl State {
    /// Whether this is as asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !matches!(self, Self::Left(_))
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its path in the container.
    pub path: PathBuf,
    /// What became of it.
    #[serde(flatten)]
    pub state: State,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every file that was looked at, in order.
    pub files: Vec<FileReport>,
    /// Why nothing, or nothing more, could be done.
    pub failure: Option<String>,
    /// MemTotal in KiB that was read through the new mount, where there is one over /proc/meminfo.
    pub read_back_kib: Option<u64>,
    /// From the first look to the last, in microseconds.
    pub micros: u64,
}

impl Report {
    /// Whether all was done that was asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.failure.is_none() && self.files.iter().all(|file| file.state.is_done())
    }

    /// How many files are in a state of this kind.
    #[must_use]
    pub fn count(&self, is: impl Fn(&State) -> bool) -> usize {
        self.files.iter().filter(|file| is(&file.state)).count()
    }
}

/// What the child that does the work says, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// It has what it needs of the daemon, and is about to enter the container: that may keep it waiting from now on.
    Ready,
    /// It is done with the container's files, and reads one of the daemon's.
    Reading,
    /// A file has been dealt with.
    File(FileReport),
    /// MemTotal in KiB, read through the mount.
    Read(u64),
    /// It cannot go on.
    Failed(String),
    /// All is done.
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_json() {
        let file = |state| FileReport { path: "/proc/stat".into(), state };
        let json = |state| serde_json::to_string(&file(state)).unwrap();
        assert_eq!(json(State::Attached), r#"{"path":"/proc/stat","state":"attached"}"#);
        let left = file(State::Left("x".to_owned()));
        assert_eq!(
            serde_json::to_string(&left).unwrap(),
            r#"{"path":"/proc/stat","state":"left","why":"x"}"#
        );
        let said = serde_json::to_vec(&Said::File(left.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Said>(&said).unwrap(), Said::File(left.clone()));
        let report = Report { files: vec![left, file(State::Masked)], ..Report::default() };
        assert_eq!((report.is_done(), report.count(State::is_done)), (false, 1));
        assert!(Report { files: vec![file(State::Absent)], ..Report::default() }.is_done());
    }
}
