//! How the null server serves: as ownproc does, by ownproc's own settings and mount function, so that the
//! difference between the two is the work of finding and rendering a view and nothing else.

use std::path::Path;

use fuser::{Config, Filesystem, FopenFlags, Session, SessionACL};
use ownproc::fs::{mount, settings};

use crate::error::{Error, Result, on};

/// Flags of every OPEN reply; `ownproc::fs::fuse` gives the same.
pub const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

/// `st_size` in bytes for content of `length` bytes.
#[must_use]
pub fn st_size(length: usize) -> u64 {
    settings::stat_size(settings::text_bound(u64::try_from(length).unwrap_or(u64::MAX / 8), 1, 1))
}

/// Threads of ownproc's session on this machine.
#[must_use]
pub fn default_threads() -> usize {
    settings::threads(std::thread::available_parallelism().map_or(1, usize::from))
}

/// Mounts `filesystem` on `path` and serves it until it is unmounted.
///
/// # Errors
/// The mount or the session fails.
pub fn serve<F: Filesystem>(filesystem: F, path: &Path, threads: usize) -> Result<()> {
    let refused = |error: mount::MountError| Error::Peer(error.to_string());
    let device = mount::open_device().map_err(refused)?;
    mount::mount(path, &device, false).map_err(refused)?;
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads);
    let session = Session::from_fd(filesystem, device, SessionACL::All, config);
    session.and_then(Session::run).map_err(on("serve on", path))
}

/// One line for the table's head.
#[must_use]
pub fn describe(threads: &str) -> String {
    format!(
        "ro,nosuid,nodev,noexec,noatime,{}; TTL {} s; DIRECT_IO|NOFLUSH; {threads} threads, no clone_fd",
        settings::MOUNT_DATA,
        settings::TTL.as_secs()
    )
}
