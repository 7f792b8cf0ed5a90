//! How the null server serves: the same settings as ownproc's own session, so that the difference between
//! the two is the work of finding and rendering a view and nothing else.
//!
//! Whoever changes one of these in `ownproc` changes it here; the bench prints them with every table.

use std::time::Duration;

use fuser::{Config, FopenFlags, MountOption, SessionACL};

/// How long the kernel may keep names and attributes without asking again.
pub const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Flags of every OPEN reply: no page cache (it is shared by all readers of an inode), no FLUSH at close.
pub const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

/// `st_size` in bytes for content of `length` bytes: a multiple of 4096, 65536 at least, never below the content.
#[must_use]
pub fn st_size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX / 8).max(65_536).div_ceil(4096).saturating_mul(4096)
}

/// `st_blksize` in bytes: a power of two, four times the size at least, so that programs read in one piece.
#[must_use]
pub fn st_blksize(size: u64) -> u32 {
    let wanted = size.min(1 << 29).saturating_mul(4).next_power_of_two();
    u32::try_from(wanted).unwrap_or(1 << 31)
}

/// Threads of the server's session where nobody says otherwise.
#[must_use]
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 4))
}

/// The session configuration; `subtype` only names the mount in /proc/mounts.
#[must_use]
pub fn config(subtype: &str, threads: usize) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(subtype.to_owned()),
        MountOption::Subtype(subtype.to_owned()),
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(threads);
    config.clone_fd = false;
    config
}

/// One line for the table's head.
#[must_use]
pub fn describe(threads: usize) -> String {
    format!(
        "ro,nosuid,nodev,noexec,noatime,allow_other; TTL {} s; DIRECT_IO|NOFLUSH; {threads} threads, no clone_fd",
        TTL.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_covers_the_content_and_block_covers_the_size() {
        for length in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
            let size = st_size(length);
            assert!(size >= length as u64 && size.is_multiple_of(4096) && size > 0, "{length}");
            assert!(u64::from(st_blksize(size)) > size, "{length}");
        }
    }
}
