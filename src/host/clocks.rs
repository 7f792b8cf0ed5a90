//! The host's clocks; a fixture brings its own.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use crate::model::units::USER_HZ;
use crate::model::{Nsec, Ticks};

/// Three clocks read in one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// CLOCK_BOOTTIME: since boot, suspend included.
    pub boottime: Nsec,
    /// CLOCK_MONOTONIC: since boot, suspend left out, never stepped.
    pub monotonic: Nsec,
    /// CLOCK_REALTIME: since 1970.
    pub realtime: Nsec,
}

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum ClockSource {
    /// The kernel.
    #[default]
    Kernel,
    /// Whatever was last put there: for tests.
    Fixed(Arc<Mutex<Clocks>>),
}

impl ClockSource {
    /// A fixed source that starts at `clocks`.
    #[must_use]
    pub fn fixed(clocks: Clocks) -> Self {
        Self::Fixed(Arc::new(Mutex::new(clocks)))
    }

    /// The time now. The daemon must live in the host's time namespace, else its offsets are in here.
    #[must_use]
    pub fn now(&self) -> Clocks {
        match self {
            Self::Kernel => together(),
            Self::Fixed(clocks) => *clocks.lock(),
        }
    }
}

/// Reads the clocks so that they belong together: the boot time is the difference of two of them, and its second must not
/// change because this thread was put off in between.
fn together() -> Clocks {
    let mut before = read(ClockId::Boottime);
    for _ in 0..8 {
        let (realtime, monotonic) = (read(ClockId::Realtime), read(ClockId::Monotonic));
        let after = read(ClockId::Boottime);
        if after.minus(before) <= TOGETHER {
            return Clocks { boottime: before, monotonic, realtime };
        }
        before = after;
    }
    Clocks { boottime: before, monotonic: read(ClockId::Monotonic), realtime: read(ClockId::Realtime) }
}

/// Four readings of a clock take well below a microsecond.
const TOGETHER: Nsec = Nsec(5_000);

fn read(clock: ClockId) -> Nsec {
    let now = clock_gettime(clock);
    Nsec(u64::try_from(now.tv_sec).unwrap_or_default())
        .times(1_000_000_000)
        .plus(Nsec(u64::try_from(now.tv_nsec).unwrap_or_default()))
}

/// A start time of `/proc/PID/stat` (field 22, USER_HZ ticks of CLOCK_BOOTTIME) in nanoseconds.
#[must_use]
pub fn ticks_to_nsec(ticks: Ticks) -> Nsec {
    Nsec(ticks.0).times(1_000_000_000 / USER_HZ)
}
