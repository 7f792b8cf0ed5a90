//! The files and directories that a daemon's tree has for a container: whatever it serves, there is no list of them.

use std::io;
use std::path::{Path, PathBuf};

/// What is to be bound, as paths below `tree` (the mount point, or `MOUNT/containers/NAME`): files below `proc` one by one,
/// of `sys/devices/system` each directory as a whole, since programs count the entries of `cpu`. An error carries the
/// directory that could not be read.
pub fn served(tree: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut paths = Vec::new();
    let proc = tree.join("proc");
    files_below(&proc, &mut paths)?;
    let system = tree.join("sys/devices/system");
    match std::fs::read_dir(&system) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry.map_err(|error| (system.clone(), error))?.path());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err((system, error)),
    }
    let below = |path: PathBuf| path.strip_prefix(tree).map(Path::to_owned).unwrap_or(path);
    Ok(paths.into_iter().map(below).collect())
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (directory.to_owned(), error);
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_and_directories_of_sys() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["proc/meminfo", "proc/pressure/cpu", "sys/devices/system/cpu/online"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut found = served(dir.path()).unwrap();
        found.sort();
        assert_eq!(found, ["proc/meminfo", "proc/pressure/cpu", "sys/devices/system/cpu"].map(PathBuf::from));
        std::fs::remove_dir_all(dir.path().join("sys")).unwrap();
        assert_eq!(served(dir.path()).unwrap().len(), 2);
        assert_eq!(served(&dir.path().join("nothing")).unwrap_err().0, dir.path().join("nothing/proc"));
    }
}
