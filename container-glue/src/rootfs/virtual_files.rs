//! The daemon's files over the kernel's.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ownproc::attach::served;

use super::mounts;
use super::{SetupError, Step};

/// The files of one container, taken from the daemon's tree: whatever it serves, there is no list of them here.
pub struct VirtualFiles {
    /// Path inside the container, with a detached mount of the file or directory.
    mounts: Vec<(PathBuf, OwnedFd)>,
}

impl VirtualFiles {
    /// `tree` is MOUNT/containers/NAME. What is bound as a file and what as a directory: [`served`].
    pub fn open(tree: &Path) -> Result<Self, SetupError> {
        let what = |path: &Path| format!("cannot read the daemon's {}", path.display());
        let mounts = served(tree)
            .map_err(|(path, error)| (what(&path), error))
            .and_then(|paths| {
                let copy = |path: PathBuf| {
                    let full = tree.join(&path);
                    let copied = mounts::open_host(&full).and_then(|file| mounts::copy(&file, false));
                    copied.map(|file| (path, file)).map_err(|error| (what(&full), error))
                };
                paths.into_iter().map(copy).collect()
            })
            .or_else(|(what, error): (String, io::Error)| Err(error).step(|| what))?;
        Ok(Self { mounts })
    }

    /// Whether one of them is the file of this path.
    pub fn serve(&self, path: &Path) -> bool {
        self.mounts.iter().any(|(served, _)| served == path)
    }

    /// Binds each over the file of the same path, where `find` has that.
    pub fn attach(
        &self,
        find: impl Fn(&Path) -> Result<Option<OwnedFd>, SetupError>,
    ) -> Result<(), SetupError> {
        for (path, mount) in &self.mounts {
            if let Some(place) = find(path)? {
                mounts::attach(mount, &place)?;
            }
        }
        Ok(())
    }
}
