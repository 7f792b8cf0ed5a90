//! What the daemon tells the kernel about its mount: one place, shared with the benchmark's null server.

use std::time::Duration;

use crate::render::ProcFile;

/// How long the kernel may trust a lookup or an attribute. Nothing in the tree ever changes its kind, and
/// neither lookups nor attributes depend on who asks, so a day costs nothing; it spares a round trip per path
/// component.
pub const TTL: Duration = Duration::from_secs(24 * 3600);

/// TTL of the entries below `containers/`: they come and go. The kernel is not told when one goes: it would take the
/// lock of the directory for that, which any reader of it can hold for as long as its buffer cannot be written to.
pub const CONTAINER_TTL: Duration = Duration::ZERO;

/// `st_size` of the small mirrored files of sysfs, as sysfs itself gives it (its files never exceed a page).
pub const SYSFS_FILE_SIZE: u64 = 4096;

/// `st_size` for content of at most `bound` bytes: the next multiple of 4096.
///
/// With 0, sendfile(2) and splice(2) read nothing, so that `busybox cat` prints nothing. With another size they
/// go through the page cache of the inode, which all readers share: one container would be given another's
/// text. The cure is a size that is a multiple of 4096 and never below the content, an `st_blksize` above it,
/// and EINVAL for reads that come without a lock owner (those of sendfile and splice): programs then fall back
/// to read(2).
///
/// coreutils' `tail` looks for lines in the last two blocks of 8192 bytes before the size, and gives up where both
/// are beyond the end: see [`TAIL_REACHES`].
#[must_use]
pub fn stat_size(bound: u64) -> u64 {
    bound.max(1).div_ceil(4096).saturating_mul(4096)
}

/// The largest size that needs no more care: the text is within `tail`'s reach, however short. Attributes of larger
/// files are not cached, so that the kernel asks for the size of the open file when a program seeks to its end, and
/// is told that of the snapshot. It costs such a file a round trip per fstat(2).
pub const TAIL_REACHES: u64 = 16384;

/// The longest text that a view of a file can have, given the length of the host's own and how many CPUs could
/// come online for each that is: numbers of a container have fewer digits than the host's, not many more.
#[must_use]
pub fn text_bound(host_len: u64, possible_cpus: u64, online_cpus: u64) -> u64 {
    let growth = possible_cpus.div_ceil(online_cpus.max(1)).max(1);
    let all_online = host_len.saturating_mul(growth);
    all_online.saturating_add(all_online / 4).saturating_add(1024)
}

/// The least bound for a file: disks are plugged in after the start, and a container's file keeps those that are gone.
#[must_use]
pub const fn least_bound(file: ProcFile) -> u64 {
    match file {
        ProcFile::Diskstats => TAIL_REACHES,
        _ => 0,
    }
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
pub use crate::model::MOUNT_TYPE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_close_and_enough() {
        assert_eq!(stat_size(text_bound(1503, 2, 2)), 4096); // meminfo
        assert_eq!(stat_size(text_bound(16, 2, 2)), 4096); // uptime
        assert!(stat_size(text_bound(100_000, 64, 32)) >= 200_000);
        assert!(text_bound(u64::MAX, 2, 0) == u64::MAX);
    }

    #[test]
    fn sizes_follow_the_rule() {
        for bound in [0, 1, 4096, 4097, 65536, 1_000_000] {
            let size = stat_size(bound);
            assert!(size.is_multiple_of(4096) && size >= bound && size > 0);
            assert!(u64::from(stat_blksize(size)) > size);
        }
        assert_eq!(stat_blksize(65536), 262_144);
    }
}
