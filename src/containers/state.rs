//! What of the registry is on disk, so that a daemon that starts again knows its containers:
//! `DIR/NAME.json` (mode 0600) per container, and `DIR/.next_slot`. Nothing is written outside of DIR, which belongs to the
//! worker's user.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::name::MAX_SLOT;
use crate::model::{ContainerName, HostPid, Nsec, PolicyChoices};

/// A record while it is being written.
const NEW: &str = ".new";
/// The version of the files; one of another version is dropped.
const VERSION: u32 = 1;

/// One container on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Its name, which is the file's too.
    pub name: ContainerName,
    /// Its number.
    pub slot: u32,
    /// Its init.
    pub pid: HostPid,
    /// CLOCK_BOOTTIME at that process's start: shows that the pid was not given to another.
    pub start: Nsec,
    /// The boot that `pid` and `start` belong to.
    pub boot_id: String,
    /// Its own choices.
    #[serde(default)]
    pub policies: PolicyChoices,
    /// The directories of its groups.
    pub groups: Vec<PathBuf>,
}

impl Record {
    /// A record of this boot.
    pub(super) fn new(
        name: ContainerName,
        slot: u32,
        (pid, start): (HostPid, Nsec),
        policies: PolicyChoices,
        groups: Vec<PathBuf>,
    ) -> io::Result<Self> {
        Ok(Self { version: VERSION, name, slot, pid, start, boot_id: boot_id()?, policies, groups })
    }
}

/// `/proc/sys/kernel/random/boot_id`: a new one with every boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The directory of the records; or none, where nothing shall outlive the process.
#[derive(Debug)]
pub struct State {
    dir: Option<PathBuf>,
}

impl State {
    /// Makes the directory where it is missing (mode 0700).
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: Some(dir.to_owned()) })
    }

    /// Keeps nothing.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { dir: None }
    }

    /// The directory; empty where there is none.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_deref().unwrap_or(Path::new(""))
    }

    /// Writes or replaces a record, whole or not at all.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        write(dir, &file(dir, &record.name), &serde_json::to_vec_pretty(record)?)
    }

    /// Removes a record; one that is not there is no error.
    pub fn remove(&self, name: &ContainerName) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        absent_is_fine(fs::remove_file(file(dir, name)))
    }

    /// The records that are understood; all others are removed, with a word in the log.
    pub fn load(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let Some(dir) = &self.dir else { return Ok(records) };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if !is_record(&path) {
                continue;
            }
            match read(&path) {
                Ok(record) if file(dir, &record.name) == path => records.push(record),
                Ok(record) => drop_file(&path, &format!("it speaks of {}", record.name)),
                Err(error) => drop_file(&path, &error.to_string()),
            }
        }
        records.sort_by_key(|record| record.slot);
        Ok(records)
    }

    /// The next slot that has never been given, as far as is known here; 1 in the beginning.
    pub fn next_slot(&self) -> io::Result<u32> {
        let Some(dir) = &self.dir else { return Ok(1) };
        match fs::read(slot_file(dir)) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).trim().parse().unwrap_or(1).clamp(1, MAX_SLOT)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Remembers it.
    pub fn save_next_slot(&self, slot: u32) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        write(dir, &slot_file(dir), format!("{slot}\n").as_bytes())
    }
}

fn file(dir: &Path, name: &ContainerName) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// Names of containers do not begin with a dot: what does is something else, but for what a crash left of a record.
fn is_record(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".") || name == NEW)
}

fn slot_file(dir: &Path) -> PathBuf {
    dir.join(".next_slot")
}

fn drop_file(path: &Path, why: &str) {
    log::warn!("{}: dropped: {why}", path.display());
    if let Err(error) = fs::remove_file(path) {
        log::warn!("{}: {error}", path.display());
    }
}

fn write(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(NEW);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

fn read(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    let fault = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if record.version != VERSION {
        return fault(format!("version {}", record.version));
    }
    // Others are no part of an inode number: 0 is the tree's own.
    if !(1..MAX_SLOT).contains(&record.slot) {
        return fault(format!("slot {}", record.slot));
    }
    Ok(record)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record(name: &str, slot: u32) -> Record {
        Record::new(
            ContainerName::new(name).unwrap(),
            slot,
            (HostPid::new(7).unwrap(), Nsec(9)),
            PolicyChoices::default(),
            vec!["/sys/fs/cgroup/x".into()],
        )
        .unwrap()
    }

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("containers")).unwrap();
        assert_eq!(state.load().unwrap(), []);
        state.save(&record("b", 2)).unwrap();
        state.save(&record("a", 3)).unwrap();
        assert_eq!(state.load().unwrap(), [record("b", 2), record("a", 3)]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.dir().join("a.json")), 0o600);
        assert_eq!(mode(state.dir()), 0o700);
        state.remove(&record("b", 2).name).unwrap();
        state.remove(&record("b", 2).name).unwrap();
        assert_eq!(state.load().unwrap(), [record("a", 3)]);
    }

    #[test]
    fn what_is_not_understood_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let good = serde_json::to_string(&record("a", 1)).unwrap();
        fs::write(dir.path().join("a.json"), &good).unwrap();
        for (file, text) in [
            ("other-name.json", good.clone()),
            ("half.json", good[..good.len() / 2].to_owned()),
            (".new", String::new()),
            ("later.json", good.replace("\"version\":1", "\"version\":2").replace("\"a\"", "\"later\"")),
            ("slot0.json", good.replace("\"slot\":1", "\"slot\":0").replace("\"a\"", "\"slot0\"")),
            ("high.json", good.replace("\"slot\":1", "\"slot\":67108864").replace("\"a\"", "\"high\"")),
            ("zero.json", good.replace("\"pid\":7", "\"pid\":\"x\"")),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        assert_eq!(state.load().unwrap(), [record("a", 1)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn slots_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("containers")).unwrap();
        assert_eq!(state.next_slot().unwrap(), 1);
        state.save_next_slot(41).unwrap();
        assert_eq!(state.next_slot().unwrap(), 41);
        fs::write(slot_file(state.dir()), b"junk\xff").unwrap();
        assert_eq!(state.next_slot().unwrap(), 1);
        fs::write(slot_file(state.dir()), "4294967295").unwrap();
        assert_eq!(state.next_slot().unwrap(), MAX_SLOT, "all have been given");
        assert_eq!(state.load().unwrap(), []);
    }
}
