//! Newtypes for the units that the kernel mixes freely. All arithmetic saturates: a wrapped number in a
//! virtual file is worse than a clamped one.

use std::iter::Sum;

use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);
            /// The largest value; used where a sum saturates.
            pub const MAX: Self = Self(u64::MAX);

            /// `self - other`, 0 where that would be negative.
            #[must_use]
            pub const fn minus(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// `self + other`, clamped to [`Self::MAX`].
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// `self * factor`, clamped to [`Self::MAX`].
            #[must_use]
            pub const fn times(self, factor: u64) -> Self {
                Self(self.0.saturating_mul(factor))
            }

            /// `self * numerator / denominator` in 128 bits, clamped; 0 where the denominator is 0.
            #[must_use]
            pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
                if denominator == 0 {
                    return Self::ZERO;
                }
                let wide = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
                Self(u64::try_from(wide).unwrap_or(u64::MAX))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Self::plus)
            }
        }
    };
}

unit! {
    /// A size in bytes.
    Bytes
}
unit! {
    /// A duration or CPU time in microseconds, the unit of cgroup v2's `cpu.stat` and `cpu.max`.
    Usec
}
unit! {
    /// A duration or CPU time in nanoseconds, the unit of cgroup v1's `cpuacct` files.
    Nsec
}
unit! {
    /// CPU time in units of USER_HZ (1/100 s on every architecture that Linux supports today), the unit of
    /// `/proc/stat` and `/proc/PID/stat`.
    Ticks
}

/// USER_HZ: ticks per second in `/proc/stat`; part of the kernel's ABI (`include/asm-generic/param.h`).
pub const USER_HZ: u64 = 100;

impl Bytes {
    /// The size in kB as `/proc/meminfo` prints it: units of 1024 bytes, rounded down.
    #[must_use]
    pub const fn kib(self) -> u64 {
        self.0 / 1024
    }

    /// Without what is left over of a page of 4 KiB. Pages of other sizes are multiples of it.
    #[must_use]
    pub const fn whole_pages(self) -> Self {
        Self(self.0 & !4095)
    }

    /// From a number of 1024-byte units.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1024))
    }
}

impl Usec {
    /// Whole ticks of USER_HZ, rounded down.
    #[must_use]
    pub const fn ticks(self) -> Ticks {
        Ticks(self.0 / (1_000_000 / USER_HZ))
    }
}

impl Nsec {
    /// Whole microseconds, rounded down.
    #[must_use]
    pub const fn usec(self) -> Usec {
        Usec(self.0 / 1000)
    }
}

impl Ticks {
    /// In microseconds.
    #[must_use]
    pub const fn usec(self) -> Usec {
        Usec(self.0.saturating_mul(1_000_000 / USER_HZ))
    }
}

/// A process or thread id in the daemon's own pid namespace (the host's). Always positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPid(i32);

impl HostPid {
    /// `None` for 0 and below: the kernel gives 0 for a reader outside the mounter's pid namespace.
    #[must_use]
    pub const fn new(pid: i32) -> Option<Self> {
        if pid > 0 { Some(Self(pid)) } else { None }
    }

    /// The plain number, at least 1.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for HostPid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wraps() {
        assert_eq!(Bytes(1).minus(Bytes(2)), Bytes::ZERO);
        assert_eq!(Usec::MAX.plus(Usec(1)), Usec::MAX);
        assert_eq!(Bytes::MAX.times(2), Bytes::MAX);
        assert_eq!(Usec(10).scaled(1, 0), Usec::ZERO);
        assert_eq!(Usec::MAX.scaled(u64::MAX, 1), Usec::MAX);
        assert_eq!(Usec(9).scaled(2, 3), Usec(6));
    }

    #[test]
    fn kernel_units() {
        assert_eq!(Bytes(268_435_456).kib(), 262_144);
        assert_eq!(Usec(1_999_999).ticks(), Ticks(199));
        assert_eq!(HostPid::new(0), None);
    }
}
