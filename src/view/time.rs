//! Uptime and boot time.

use crate::model::{HostStat, Policies, TimeReading, UptimePolicy, Usec};

/// What `/proc/uptime` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UptimeView {
    /// Field 1: how long the container has been up.
    pub uptime: Usec,
    /// Field 2: idle time, summed over CPUs.
    pub idle: Usec,
}

/// Rules T1 to T3 of `SEMANTICS.md`. `idle` is [`super::CpuAccount::idle`].
#[must_use]
pub fn uptime(time: &TimeReading, idle: Usec, policies: &Policies) -> UptimeView {
    let uptime = match (time.timens, policies.uptime) {
        // The kernel adds the offset itself for readers inside; the file must say the same as sysinfo(2).
        (Some(offset), _) => {
            let nanos = i128::from(time.boottime.0).saturating_add(offset.nanos).max(0);
            Usec(u64::try_from(nanos / 1000).unwrap_or(u64::MAX))
        }
        (None, UptimePolicy::Container) => time.age(),
        (None, UptimePolicy::Host) => time.boottime.usec(),
    };
    UptimeView { uptime, idle }
}

/// Seconds since 1970 at which the container booted, as `btime` of `/proc/stat` (rule T4).
///
/// In a time namespace the kernel prints `floor((realtime - boottime) - offset)` (`fs/proc/stat.c`,
/// `timens_sub_boottime`). Elsewhere the host's: `ps` computes start times from it and the kernel's own clock.
#[must_use]
pub fn btime(time: &TimeReading, host: &HostStat) -> u64 {
    let Some(offset) = time.timens else { return host.btime };
    let boot = i128::from(time.realtime.0) - i128::from(time.boottime.0);
    let seconds = boot.saturating_sub(offset.nanos).div_euclid(1_000_000_000);
    u64::try_from(seconds.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
