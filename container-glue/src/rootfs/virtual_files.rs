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
        let what = |path: &Path| format!("cannot read the daemon's {}", tree.join(path).display());
        let opened = mounts::open_host(tree).step(|| what(Path::new("")))?;
        // by the descriptor: with its name in the path the kernel would ask the daemon each time whether it is still there
        let top = PathBuf::from(mounts::proc_path(&opened));
        let mounts = served(&top)
            .map_err(|(path, error)| (what(path.strip_prefix(&top).unwrap_or(&path)), error))
            .and_then(|paths| {
                let copy = |path: PathBuf| {
                    let copied =
                        mounts::open_host(&top.join(&path)).and_then(|file| mounts::copy(&file, false));
                    let copied = copied.map_err(|error| (what(&path), error))?;
                    Ok((path, copied))
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
