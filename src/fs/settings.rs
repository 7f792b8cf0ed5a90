//! What the daemon tells the kernel about its mount: one place, shared with the benchmark's null server.

use std::time::Duration;

/// How long the kernel may trust a lookup or an attribute. Nothing in the tree ever changes its kind, and
/// neither lookups nor attributes depend on who asks, so a day costs nothing; it spares a round trip per path
/// component.
pub const TTL: Duration = Duration::from_secs(24 * 3600);

/// TTL of the entries below `containers/`: they come and go. The kernel is also told when one goes.
pub const CONTAINER_TTL: Duration = Duration::from_secs(1);

/// The smallest `st_size` of a rendered file. See [`stat_size`].
pub const MIN_FILE_SIZE: u64 = 65536;

/// `st_size` of the small mirrored files of sysfs, as sysfs itself gives it (its files never exceed a page).
pub const SYSFS_FILE_SIZE: u64 = 4096;

/// `st_size` for content of at most `bound` bytes.
///
/// With 0, sendfile(2) and splice(2) read nothing, so that `busybox cat` prints nothing. With another size they
/// go through the page cache of the inode, which all readers share: one container would be given another's
/// text. The cure is a size that is a multiple of 4096 and never below the content, an `st_blksize` above it,
/// and EINVAL for reads that come without a lock owner (those of sendfile and splice): programs then fall back to read(2).
#[must_use]
pub fn stat_size(bound: u64) -> u64 {
    bound.max(1).div_ceil(4096).saturating_mul(4096)
}

/// `st_blksize` that goes with a size from [`stat_size`]: a power of two, at least four times the size, so that
/// programs read in one piece and never take the size for the length.
#[must_use]
pub fn stat_blksize(size: u64) -> u32 {
    let wanted = size.saturating_mul(4).next_power_of_two();
    u32::try_from(wanted).unwrap_or(1 << 31).clamp(262_144, 1 << 31)
}

/// Threads that serve requests: two at least, so that one slow render never blocks every reader, and no more
/// than four, since each request costs microseconds.
#[must_use]
pub fn threads(online_cpus: usize) -> usize {
    online_cpus.clamp(2, 4)
}

/// The data argument of mount(2), without the descriptor.
pub const MOUNT_DATA: &str = "rootmode=40000,user_id=0,group_id=0,allow_other";

/// The type that `/proc/self/mountinfo` shows.
pub const MOUNT_TYPE: &str = "fuse.ownproc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_rule() {
        for bound in [0, 1, 4096, 4097, 65536, 1_000_000] {
            let size = stat_size(bound);
            assert!(size.is_multiple_of(4096) && size >= bound && size > 0);
            assert!(u64::from(stat_blksize(size)) > size);
        }
        assert_eq!(stat_blksize(MIN_FILE_SIZE), 262_144);
    }
}
