//! Clocks of one container.

use super::units::{Nsec, Usec};

/// An offset of a time namespace, added to the host's clock (`/proc/PID/timens_offsets`, time_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct TimensOffset {
    /// Nanoseconds, signed.
    pub nanos: i128,
}

/// A time namespace other than the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeNamespace {
    /// Its inode, as in the link `/proc/PID/ns/time`.
    pub inode: u64,
    /// Its boottime offset.
    pub boottime: TimensOffset,
}

/// All that is read of the time side of one container in one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimeReading {
    /// CLOCK_BOOTTIME of the host now: time since boot, suspend included.
    pub boottime: Nsec,
    /// CLOCK_MONOTONIC of the host now: used for elapsed time, so that suspend and clock steps add nothing.
    pub monotonic: Nsec,
    /// CLOCK_REALTIME of the host now, since 1970.
    pub realtime: Nsec,
    /// CLOCK_BOOTTIME at the container's start: start of its init, or the time of registration. 0 for the host.
    pub start: Nsec,
    /// The boottime offset of the reader's time namespace; `None` where it lives in the host's.
    pub timens: Option<TimensOffset>,
}

impl TimeReading {
    /// How long the container has been there.
    #[must_use]
    pub fn age(&self) -> Usec {
        self.boottime.minus(self.start).usec()
    }
}
