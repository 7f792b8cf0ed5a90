//! Scopes of systemd: where it manages the groups, a container's is made by it, and it is told of the limits, so that it
//! does not undo them when it is reloaded.
//!
//! The client of cgroups-rs speaks D-Bus and has threads of its own: it must not be used before the container's process
//! is born.

use std::path::Path;
use std::time::{Duration, Instant};

use cgroups_rs::systemd::props::PropertiesBuilder;
use cgroups_rs::systemd::{self, Property, SystemdClient};
use ownproc::model::CpuSet;

use super::OciError;
use super::config::cgroup::Scope;
use super::resources::Plan;

/// systemd runs where this is (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// How long systemd may take to do what it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// systemd's number for no limit.
const INFINITY: u64 = u64::MAX;
/// Kernel's default of cpu.cfs_period_us and of the second number in cpu.max.
const PERIOD_US: u64 = 100_000;

/// Whether there is a systemd to ask.
pub fn check() -> Result<(), OciError> {
    if Path::new(BOOTED).is_dir() { Ok(()) } else { Err(OciError::NoSystemd) }
}

fn failed(what: &'static str, scope: &Scope, why: impl ToString) -> OciError {
    OciError::Scope { what, unit: scope.unit.clone(), why: why.to_string() }
}

impl Scope {
    /// Has systemd make it around a process, and waits until that is in it. `group` is its path from the hierarchies'
    /// roots.
    pub fn start(
        &self,
        id: &str,
        pid: i32,
        group: &Path,
        limits: Vec<Property<'static>>,
    ) -> Result<(), OciError> {
        let number = u32::try_from(pid).map_err(|_| failed("start", self, "no process"))?;
        let mut properties = PropertiesBuilder::default()
            .cpu_accounting(true)
            .memory_accounting(true)
            .task_accounting(true)
            .io_accounting(true)
            .default_dependencies(false)
            .description(format!("container {id}"))
            .slice(self.slice.clone())
            .delegate(true)
            .pids(vec![number])
            .build();
        properties.extend(limits);
        let client =
            SystemdClient::new(&self.unit, properties).map_err(|error| failed("start", self, error))?;
        client.start().map_err(|error| failed("start", self, error))?;
        let wanted = format!(":/{}", group.display());
        let inside = || {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.lines().any(|line| line.ends_with(&wanted))
        };
        if wait_until(inside) {
            return Ok(());
        }
        Err(failed("start", self, "systemd did not put the process into it: see journalctl -u of it"))
    }

    /// Tells systemd of limits that changed.
    pub fn change(&self, limits: &[Property<'static>]) -> Result<(), OciError> {
        let mut client =
            SystemdClient::new(&self.unit, Vec::new()).map_err(|error| failed("change", self, error))?;
        client.set_properties(limits).map_err(|error| failed("change", self, error))
    }

    /// Ends it, with all that is left in it.
    pub fn stop(&self) -> Result<(), OciError> {
        let client =
            SystemdClient::new(&self.unit, Vec::new()).map_err(|error| failed("stop", self, error))?;
        if !client.exists() {
            return Ok(());
        }
        client.stop().map_err(|error| failed("stop", self, error))?;
        if wait_until(|| !client.exists()) {
            return Ok(());
        }
        // one whose process was killed for lack of memory stays, as failed, until that is taken note of
        client.stop().map_err(|error| failed("stop", self, error))?;
        Err(failed("stop", self, "systemd does not end it: see systemctl status of it"))
    }
}

fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(500);
    while !done() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    true
}

/// The limits of a plan that systemd writes itself, as its properties (systemd.resource-control(5)). Files that it never
/// touches are not among them. Pure.
pub fn properties(plan: &Plan) -> Vec<Property<'static>> {
    let mut found: Vec<Property<'static>> = Vec::new();
    let (mut quota, mut period) = (None, None);
    for write in &plan.writes {
        let number = || match write.value.as_str() {
            "max" | "-1" => Some(INFINITY),
            text => text.parse::<u64>().ok(),
        };
        let name = match write.file.as_str() {
            "memory.max" => systemd::MEMORY_MAX,
            "memory.limit_in_bytes" => systemd::MEMORY_LIMIT,
            "memory.swap.max" => systemd::MEMORY_SWAP_MAX,
            "memory.low" => systemd::MEMORY_LOW,
            "memory.high" => "MemoryHigh",
            "memory.min" => "MemoryMin",
            "cpu.weight" => systemd::CPU_WEIGHT,
            "cpu.shares" => systemd::CPU_SHARES,
            "pids.max" => systemd::TASKS_MAX,
            "io.weight" => "IOWeight",
            "blkio.weight" => "BlockIOWeight",
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if write.file == "cpuset.cpus" {
                    systemd::ALLOWED_CPUS
                } else {
                    systemd::ALLOWED_MEMORY_NODES
                };
                found.extend(CpuSet::parse(&write.value).map(|set| (name, mask(&set).into())));
                continue;
            }
            "cpu.max" => {
                let mut words = write.value.split_whitespace();
                quota = words
                    .next()
                    .and_then(|word| if word == "max" { Some(INFINITY) } else { word.parse().ok() });
                period = words.next().and_then(|word| word.parse().ok()).or(period);
                continue;
            }
            "cpu.cfs_quota_us" => {
                quota = number();
                continue;
            }
            "cpu.cfs_period_us" => {
                period = number();
                continue;
            }
            _ => continue,
        };
        found.extend(number().map(|number| (name, number.into())));
    }
    if let Some(quota) = quota {
        found.push((systemd::CPU_QUOTA_PER_SEC_US, per_second(quota, period.unwrap_or(PERIOD_US)).into()));
    }
    if let Some(period) = period {
        found.push((systemd::CPU_QUOTA_PERIOD_US, period.into()));
    }
    found
}

/// Microseconds of each second. In whole hundredths of a CPU, rounded up: systemd keeps no more, and what it reads again
/// when it is reloaded must not be less than what was asked for.
fn per_second(quota: u64, period: u64) -> u64 {
    const HUNDREDTH: u64 = 10_000;
    if quota == INFINITY {
        return INFINITY;
    }
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    let exact = u64::try_from(exact).unwrap_or(INFINITY - HUNDREDTH);
    exact.div_ceil(HUNDREDTH).saturating_mul(HUNDREDTH)
}

/// A bit for each CPU, the lowest in the first byte.
fn mask(set: &CpuSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in set.iter() {
        if bytes.len() <= cpu / 8 {
            bytes.resize(cpu / 8 + 1, 0);
        }
        if let Some(byte) = bytes.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::resources::planner::write;

    fn of(writes: &[(&str, &str)]) -> Vec<Property<'static>> {
        let writes = writes.iter().map(|(file, value)| write("x", "x", *file, value)).collect();
        properties(&Plan { writes, notes: Vec::new() })
    }

    #[test]
    fn limits_of_both_sides() {
        assert_eq!(
            of(&[
                ("memory.max", "67108864"),
                ("memory.swap.max", "0"),
                ("pids.max", "max"),
                ("cpu.max", "50000 100000")
            ]),
            [
                ("MemoryMax", 67_108_864_u64.into()),
                ("MemorySwapMax", 0_u64.into()),
                ("TasksMax", u64::MAX.into()),
                ("CPUQuotaPerSecUSec", 500_000_u64.into()),
                ("CPUQuotaPeriodUSec", 100_000_u64.into()),
            ]
        );
        assert_eq!(
            of(&[("cpu.cfs_quota_us", "-1"), ("memory.limit_in_bytes", "5"), ("devices.deny", "a")]),
            [("MemoryLimit", 5_u64.into()), ("CPUQuotaPerSecUSec", u64::MAX.into())]
        );
    }

    #[test]
    fn quotas_are_never_less_than_asked_for() {
        assert_eq!(per_second(33_333, 100_000), 340_000);
        assert_eq!(per_second(1_000, 1_000_000), 10_000);
        assert!(per_second(u64::MAX - 1, 1) > u64::MAX - 20_000);
        assert_eq!(per_second(5, 0), 5_000_000);
    }

    #[test]
    fn sets_are_bits() {
        assert_eq!(of(&[("cpuset.cpus", "0-1,9")]), [("AllowedCPUs", vec![0b11_u8, 0b10].into())]);
        assert_eq!(of(&[("cpuset.mems", "0-99999999999"), ("cpuset.cpus", "x")]), []);
    }
}
