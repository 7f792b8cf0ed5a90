//! What sysinfo(2) tells: numbers of `/proc/meminfo`, `/proc/uptime` and `/proc/loadavg`, in the kernel's units.

use super::{LoadView, MemoryView, UptimeView};
use crate::model::Bytes;

/// `struct sysinfo` (sysinfo(2)), before it is laid out for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SysinfoView {
    /// Seconds.
    pub uptime: u64,
    /// Load averages of 1, 5 and 15 minutes, in units of 1/65536.
    pub loads: [u64; 3],
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemFree`.
    pub free: Bytes,
    /// `Shmem`.
    pub shared: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
    /// Tasks.
    pub tasks: u16,
}

/// Rules A1 to A4 of `SEMANTICS.md`.
#[must_use]
pub fn sysinfo(memory: &MemoryView, uptime: &UptimeView, load: &LoadView) -> SysinfoView {
    SysinfoView {
        uptime: uptime.uptime.0.div_ceil(1_000_000),
        // A cast saturates, and makes 0 of what is no number.
        loads: load.averages.0.map(|average| (average * 65_536.0).round() as u64),
        total: memory.total.whole_pages(),
        free: memory.free.whole_pages(),
        shared: memory.stat.shmem.whole_pages(),
        swap_total: memory.swap_total.whole_pages(),
        swap_free: memory.swap_free.whole_pages(),
        tasks: u16::try_from(load.total).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemoryStat, Usec};
    use crate::view::Averages;

    fn memory() -> MemoryView {
        MemoryView {
            total: Bytes(10_000),
            free: Bytes(8191),
            available: Bytes(9000),
            swap_total: Bytes(40_960),
            swap_free: Bytes(20_480),
            stat: MemoryStat { shmem: Bytes(4096), ..MemoryStat::default() },
            ..MemoryView::default()
        }
    }

    #[test]
    fn a1_memory_is_that_of_meminfo() {
        let view = sysinfo(&memory(), &UptimeView::default(), &LoadView::default());
        assert_eq!((view.total, view.free, view.shared), (Bytes(8192), Bytes(4096), Bytes(4096)));
        assert_eq!((view.swap_total, view.swap_free), (Bytes(40_960), Bytes(20_480)));
    }

    #[test]
    fn a2_a_begun_second_of_uptime_counts() {
        let up = |micros| {
            let uptime = UptimeView { uptime: Usec(micros), idle: Usec(77_000_000) };
            sysinfo(&memory(), &uptime, &LoadView::default()).uptime
        };
        assert_eq!([up(0), up(1), up(3_000_000), up(3_000_001), up(3_999_999)], [0, 1, 3, 4, 4]);
    }

    #[test]
    fn a3_loads_in_parts_of_65536() {
        let load = LoadView { averages: Averages([1.0, 0.5, 12.25]), ..LoadView::default() };
        assert_eq!(sysinfo(&memory(), &UptimeView::default(), &load).loads, [65_536, 32_768, 802_816]);
        let load = LoadView { averages: Averages([f64::NAN, -1.0, 0.000_001]), ..LoadView::default() };
        assert_eq!(sysinfo(&memory(), &UptimeView::default(), &load).loads, [0, 0, 0]);
    }

    #[test]
    fn a4_all_tasks_as_far_as_they_fit() {
        let tasks = |total| {
            let load = LoadView { running: 3, total, last_pid: 99, ..LoadView::default() };
            sysinfo(&memory(), &UptimeView::default(), &load).tasks
        };
        assert_eq!([tasks(12), tasks(65_535), tasks(70_000)], [12, 65_535, 65_535]);
    }
}
