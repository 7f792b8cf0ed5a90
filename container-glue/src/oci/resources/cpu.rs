//! `linux.resources.cpu`: CPU time, and the sets of CPUs and memory nodes. Times are microseconds.

use oci_spec::runtime::LinuxCpu;
use ownproc::cgroup::Version;

use super::ResourceError;
use super::planner::{Planner, line, max, refuse, text, write};
use crate::spec::limits::Max;

const CPU: &str = "cpu";
const CPUSET: &str = "cpuset";
/// Bounds of `cpu.shares`.
const SHARES: (u64, u64) = (2, 262_144);
/// `cpu.shares` of a new group.
const SHARES_DEFAULT: u64 = 1024;

/// Plans all fields.
pub fn plan(cpu: &LinuxCpu, planner: &mut Planner) -> Result<(), ResourceError> {
    idle_and_shares(cpu, planner)?;
    bandwidth(cpu, planner)?;
    realtime(cpu, planner)?;
    for (field, file, list) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        let list = line(field, list.as_deref().unwrap_or_default())?;
        if !list.is_empty() && planner.side(field, CPUSET, false)?.is_some() {
            planner.write(write(field, CPUSET, file, list));
        }
    }
    Ok(())
}

/// Shares from 2 to 262144 as a weight from 1 to 10000, on the line that other runtimes use. (`launch` has another
/// factor: there both numbers come from one flag.)
pub fn weight(shares: u64) -> u64 {
    let (least, most) = SHARES;
    let above = shares.clamp(least, most).saturating_sub(least);
    1 + above.saturating_mul(9999) / (most - least)
}

/// Idle first: leaving it resets the weight. An idle group has no weight of its own, and the kernel refuses one.
fn idle_and_shares(cpu: &LinuxCpu, planner: &mut Planner) -> Result<(), ResourceError> {
    let idle = cpu.idle();
    if let Some(idle) = idle {
        if !(0..=1).contains(&idle) {
            return Err(refuse("cpu.idle", idle, "is not 0 or 1"));
        }
        if planner.side("cpu.idle", CPU, idle == 0)?.is_some() {
            planner.write(write("cpu.idle", CPU, "cpu.idle", idle).or_ignore(idle == 0));
        }
    }
    let Some(shares) = cpu.shares().filter(|&shares| shares != 0 && idle != Some(1)) else { return Ok(()) };
    match planner.side("cpu.shares", CPU, shares == SHARES_DEFAULT)? {
        Some(Version::V1) => planner.write(write("cpu.shares", CPU, "cpu.shares", shares)),
        Some(Version::V2) => planner.write(write("cpu.shares", CPU, "cpu.weight", weight(shares))),
        None => {}
    }
    Ok(())
}

/// Quota, period and burst. v1 checks each of them against the other two as they are at that moment, and against the
/// groups above and below: of each two orders one works, so what is refused first comes again after the quota. A
/// quota of 0 is not asked for.
fn bandwidth(cpu: &LinuxCpu, planner: &mut Planner) -> Result<(), ResourceError> {
    let quota = cpu.quota().filter(|&quota| quota != 0).map(|quota| max("cpu.quota", quota)).transpose()?;
    let period = cpu.period().filter(|&period| period != 0);
    let burst = cpu.burst();
    let limited = quota.is_some_and(|quota| quota != Max::Unlimited);
    let fields = [
        ("cpu.quota", quota.is_some(), limited),
        ("cpu.period", period.is_some(), limited),
        ("cpu.burst", burst.is_some(), burst.is_some_and(|burst| burst != 0)),
    ];
    for (field, asked, needed) in fields {
        if asked {
            planner.side(field, CPU, !needed)?;
        }
    }
    let Some(side) = planner.side("cpu.quota", CPU, true)? else { return Ok(()) };
    let period_write = period.map(|period| write("cpu.period", CPU, "cpu.cfs_period_us", period));
    let burst_write = burst.map(|burst| {
        let file = if side == Version::V1 { "cpu.cfs_burst_us" } else { "cpu.max.burst" };
        write("cpu.burst", CPU, file, burst).or_ignore(burst == 0)
    });
    let last = match (side, quota, period) {
        (_, None, None) | (Version::V1, None, _) => None,
        (Version::V1, Some(quota), _) => Some(write("cpu.quota", CPU, "cpu.cfs_quota_us", text(quota, side))),
        // without a period the one that is there stays
        (Version::V2, quota, period) => {
            let mut value = text(quota.unwrap_or(Max::Unlimited), side);
            if let Some(period) = period {
                value.push_str(&format!(" {period}"));
            }
            let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
            Some(write(field, CPU, "cpu.max", value))
        }
    };
    let again = last.is_some();
    if side == Version::V1
        && let Some(period) = period_write
    {
        planner.write(period.or_again(again));
    }
    if let Some(burst) = burst_write {
        planner.write(burst.or_again(again));
    }
    if let Some(last) = last {
        planner.write(last);
    }
    Ok(())
}

/// Realtime time exists on v1 alone, and 0 of it is what a new group has.
fn realtime(cpu: &LinuxCpu, planner: &mut Planner) -> Result<(), ResourceError> {
    let (runtime_field, period_field) = ("cpu.realtimeRuntime", "cpu.realtimePeriod");
    let runtime = cpu.realtime_runtime().filter(|&runtime| runtime != 0);
    let runtime = runtime.map(|runtime| max(runtime_field, runtime)).transpose()?;
    let period = cpu.realtime_period().filter(|&period| period != 0);
    for (field, asked) in [(runtime_field, runtime.is_some()), (period_field, period.is_some())] {
        if asked && planner.side(field, CPU, false)? == Some(Version::V2) {
            return Err(ResourceError::Side {
                field: super::planner::path_of(field),
                controller: CPU.to_owned(),
                needs: "cgroup v1",
                has: "cgroup v2",
            });
        }
    }
    if let Some(period) = period {
        planner.write(write(period_field, CPU, "cpu.rt_period_us", period).or_again(runtime.is_some()));
    }
    if let Some(runtime) = runtime {
        planner.write(write(runtime_field, CPU, "cpu.rt_runtime_us", text(runtime, Version::V1)));
    }
    Ok(())
}
