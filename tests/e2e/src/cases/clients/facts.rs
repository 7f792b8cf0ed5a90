//! What is true of the container and of the host while the programs run.

use std::ops::RangeInclusive;

use super::table::{Container, Want};
use crate::case::{Doing, Outcome};
use crate::groups::Hierarchies;
use crate::parse::host_meminfo;

/// The memory limit: `-m 512M`.
pub const MEMORY_KB: u64 = 512 << 10;
/// The swap limit: `--memory-swap 768M` less the memory.
const SWAP_KB: u64 = 256 << 10;

/// Numbers that answers are compared with.
pub struct Facts {
    pub container: Container,
    /// All controllers in one v2 hierarchy.
    pub v2: bool,
    /// CPUs that the scheduler allows a process of the host.
    pub host_cpus: usize,
    pub host_memory_kb: u64,
    pub host_swap_kb: u64,
    /// Seconds of the wall clock, just before the launch.
    pub launched: f64,
    /// Seconds of the wall clock, when the container ran for certain.
    pub running: f64,
    /// Seconds of the wall clock, when the program that is judged began and ended.
    pub judged: (f64, f64),
    /// Lowest and highest load of the container while the programs ran, over one minute.
    pub load: (f64, f64),
    /// Lowest free memory of the host while the programs ran, in kB.
    pub host_free_kb: u64,
    /// Lowest and highest number of kB written to disks of the host, as sysstat counts them.
    pub host_written_kb: (f64, f64),
}

impl Facts {
    /// Of this machine; what is known only later is still 0.
    pub fn gather(container: Container) -> Outcome<Self> {
        let host = host_meminfo()?;
        Ok(Self {
            container,
            v2: Hierarchies::find()?.is_pure_v2(),
            host_cpus: host_cpus()?,
            host_memory_kb: host.get("MemTotal"),
            host_swap_kb: host.get("SwapTotal"),
            launched: now()?,
            running: 0.0,
            judged: (0.0, 0.0),
            load: (0.0, 0.0),
            host_free_kb: 0,
            host_written_kb: (host_written_kb()?, 0.0),
        })
    }

    /// What `launch` is given.
    pub fn arguments(&self) -> Vec<&'static str> {
        let mut all = vec!["-m", "512M", "--memory-swap", "768M", "--cpus", "1"];
        match self.container {
            Container::Quota => {}
            Container::Cpuset => all.extend(["--cpuset-cpus", "1"]),
            Container::Compact => all.extend(["--cpuset-cpus", "1", "--view", "numbering=compact"]),
        }
        all
    }

    /// The number of the one CPU.
    pub fn cpu(&self) -> &'static str {
        if self.container == Container::Cpuset { "1" } else { "0" }
    }

    /// Swap that the container can use.
    pub fn swap_kb(&self) -> u64 {
        SWAP_KB.min(self.host_swap_kb)
    }

    /// Age of the container in seconds while the program ran: the clocks of different programs round up or down.
    pub fn age(&self) -> RangeInclusive<f64> {
        let least = self.judged.0 - self.running - 1.5;
        least.max(0.0)..=self.judged.1 - self.launched + 1.5
    }
}

/// Seconds of the wall clock.
pub fn now() -> Outcome<f64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(since.doing("the clock")?.as_secs_f64())
}

/// CPUs that the scheduler allows.
fn host_cpus() -> Outcome<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count())
}

/// kB written to the disks in /sys/block.
pub fn host_written_kb() -> Outcome<f64> {
    let mut sectors = 0;
    for disk in std::fs::read_dir("/sys/block")? {
        let path = disk?.path().join("stat");
        let text = std::fs::read_to_string(&path).doing(path.display())?;
        sectors += text.split_whitespace().nth(6).doing(path.display())?.parse::<u64>()? / 2;
    }
    Ok(sectors as f64)
}

/// The least that may be shown as free: the host's free memory moves between two readings.
fn lowest_free_kb(facts: &Facts) -> f64 {
    (facts.host_free_kb as f64 * 0.7).min(400_000.0)
}

/// Exactly this number.
fn exactly(number: u64) -> RangeInclusive<f64> {
    number as f64..=number as f64
}

/// The number of the container's CPU.
pub const CPU: Want = Want::Text("the CPU's number", |facts| facts.cpu().to_owned());
/// What asks the scheduler finds under a quota.
pub const HOST_CPUS: Want = Want::Number("the host's CPUs", |facts| exactly(facts.host_cpus as u64));
/// Swap in kB.
pub const SWAP_IN_KB: Want =
    Want::Number("262144, or the host's swap if less", |facts| exactly(facts.swap_kb()));
/// Swap in bytes.
pub const SWAP: Want =
    Want::Number("268435456, or the host's swap if less", |facts| exactly(facts.swap_kb() * 1024));
/// Swap in MiB.
pub const SWAP_MB: Want =
    Want::Number("256, or the host's swap if less", |facts| exactly(facts.swap_kb() / 1024));
/// Available memory of a container in which next to nothing runs, in kB.
pub const MOST_IN_KB: Want = Want::Number("400000 to 524288", |_| 400_000.0..=MEMORY_KB as f64);
/// The same in MiB.
pub const MOST_IN_MB: Want = Want::Number("390 to 512", |_| 390.0..=512.0);
/// Free memory there, in kB: the host's own free memory, which its page cache leaves, is an upper limit.
pub const FREE_IN_KB: Want = Want::Number("400000 to 524288, or what is free on the host", |facts| {
    lowest_free_kb(facts)..=MEMORY_KB as f64
});
/// The same in MiB.
pub const FREE_IN_MB: Want =
    Want::Number("390 to 512, or what is free on the host", |facts| lowest_free_kb(facts) / 1024.0..=512.0);
/// Share of the CPU that nothing uses, in percent.
pub const IDLE: Want = Want::Number("60 to 100", |_| 60.0..=100.0);
/// The same, asked by a program that an interpreter runs and that uses much of the second it shows.
pub const IDLE_BUT_FOR_ITSELF: Want = Want::Number("20 to 100", |_| 20.0..=100.0);
/// Seconds since the container was launched.
pub const AGE: Want = Want::Number("the container's age", Facts::age);
/// When the container was launched.
pub const LAUNCHED: Want =
    Want::Number("when the container was launched", |facts| facts.launched - 2.0..=facts.running + 1.5);
/// The load of the container.
pub const LOAD: Want = Want::Number("the container's load", |facts| {
    // Programs round to two decimals, and the load may move between two readings.
    facts.load.0 - 0.05..=facts.load.1 + 0.05
});
