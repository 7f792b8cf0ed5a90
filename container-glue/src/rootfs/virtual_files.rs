//! The daemon's files over the kernel's.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::mounts;
use super::{KernelTrees, SetupError, Step};

/// The files of one container, taken from the daemon's tree: whatever it serves, there is no list of them here.
pub struct VirtualFiles {
    /// Path inside the container, with a detached mount of the file or directory.
    mounts: Vec<(PathBuf, OwnedFd)>,
}

impl VirtualFiles {
    /// `tree` is MOUNT/containers/NAME. Files below `proc` are bound one by one; of `sys/devices/system` each
    /// directory as a whole, since programs count the entries of `cpu`.
    pub fn open(tree: &Path) -> Result<Self, SetupError> {
        let mut paths = Vec::new();
        let what = |path: &Path| format!("cannot read the daemon's {}", path.display());
        files_below(&tree.join("proc"), &mut paths).step(|| what(&tree.join("proc")))?;
        let system = tree.join("sys/devices/system");
        match std::fs::read_dir(&system) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry.step(|| what(&system))?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).step(|| what(&system)),
        }
        let mounts = paths
            .into_iter()
            .map(|path| {
                let file = mounts::open_host(&path).and_then(|file| mounts::copy(&file, false));
                let file = file.step(|| what(&path))?;
                Ok((path.strip_prefix(tree).unwrap_or(&path).to_owned(), file))
            })
            .collect::<Result<_, SetupError>>()?;
        Ok(Self { mounts })
    }

    /// Binds each over the file of the same path, where the running kernel has that.
    pub fn attach(&self, kernel: &KernelTrees) -> Result<(), SetupError> {
        for (path, mount) in &self.mounts {
            if let Some(place) = kernel.find(path)? {
                mounts::attach(mount, &place)?;
            }
        }
        Ok(())
    }
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}
