//! `-v`: files and directories of the host.

use std::os::fd::OwnedFd;

use super::mounts;
use super::resolve::{Root, is_directory};
use super::{SetupError, Step};
use crate::spec::Volume;

/// A volume's mount, not attached yet.
pub struct Open<'a> {
    volume: &'a Volume,
    mount: OwnedFd,
    directory: bool,
}

/// Takes hold of the sources.
pub fn open(volumes: &[Volume]) -> Result<Vec<Open<'_>>, SetupError> {
    volumes
        .iter()
        .map(|volume| {
            let what = || format!("cannot use {} as a volume", volume.source.display());
            let source = mounts::open_host(&volume.source).step(what)?;
            // where the kernel cannot make a whole tree read-only, mounts below the source are left out instead
            let recursive = mounts::can_set_below();
            let directory = is_directory(&source).step(what)?;
            Ok(Open { volume, mount: mounts::copy(&source, recursive).step(what)?, directory })
        })
        .collect()
}

/// Attaches them. No device of the host can be opened through them: there are no device rules yet.
pub fn attach(root: &Root, volumes: &[Open<'_>]) -> Result<(), SetupError> {
    for Open { volume, mount, directory } in volumes {
        let place = if *directory { root.directory(&volume.target)? } else { root.file(&volume.target)? };
        let what = || format!("cannot look at {} in the container", volume.target.display());
        // a link of the tree may have led here
        if rustix::fs::fstatfs(&place).step(what)?.f_type == libc::PROC_SUPER_MAGIC {
            let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(error).step(|| format!("{} lies in /proc of the container", volume.target.display()));
        }
        mounts::attach(mount, &place)?;
        let mut attributes = mounts::NODEV;
        attributes.set(mounts::RDONLY, volume.read_only);
        mounts::set_attributes_below(mount, attributes)?;
    }
    Ok(())
}
