//! Values into the groups' files, through the controllers of cgroups-rs.

use std::path::Path;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use ownproc::cgroup::Controller;

use super::{GroupError, Groups, Hierarchies, Hierarchy};
use crate::spec::Limits;
use crate::spec::limits::{Max, PERIOD_US};

/// The controllers that the limits need are there: found out before anything is made.
pub fn check(limits: &Limits, hierarchies: &Hierarchies) -> Result<(), GroupError> {
    let needs = [
        ("-m", Controller::Memory, limits.memory.is_some()),
        ("--cpus", Controller::Cpu, limits.cpus.is_some()),
        ("--cpu-weight", Controller::Cpu, limits.cpu_weight.is_some()),
        ("--cpuset-cpus", Controller::Cpuset, limits.cpuset_cpus.is_some()),
        ("--cpuset-mems", Controller::Cpuset, limits.cpuset_mems.is_some()),
        ("--pids-limit", Controller::Pids, limits.pids.is_some()),
    ];
    for (flag, controller, needed) in needs {
        if needed && hierarchies.of(controller).is_none() {
            let hint = if controller == Controller::Memory { "; boot with cgroup_enable=memory" } else { "" };
            return Err(GroupError::NoController { flag, controller, hint });
        }
    }
    Ok(())
}

/// Sets all limits; to be called before a process is in the groups.
pub fn apply(groups: &Groups, limits: &Limits) -> Result<(), GroupError> {
    if let Some((leaf, hierarchy)) = groups.of(Controller::Memory) {
        memory(leaf, hierarchy, limits)?;
    }
    if let Some((leaf, hierarchy)) = groups.of(Controller::Cpu) {
        cpu(leaf, hierarchy, limits)?;
    }
    if let Some((leaf, hierarchy)) = groups.of(Controller::Cpuset) {
        let controller = CpuSetController::new(leaf.to_owned(), hierarchy.mount.clone(), hierarchy.v2);
        if let Some(cpus) = limits.cpuset_cpus.as_ref().map(ToString::to_string) {
            checked(controller.set_cpus(&cpus), &leaf.join("cpuset.cpus"), &cpus)?;
        }
        if let Some(mems) = limits.cpuset_mems.as_ref().map(ToString::to_string) {
            checked(controller.set_mems(&mems), &leaf.join("cpuset.mems"), &mems)?;
        }
    }
    if let (Some((leaf, hierarchy)), Some(max)) = (groups.of(Controller::Pids), limits.pids) {
        let value = match max {
            Max::Unlimited => MaxValue::Max,
            Max::At(n) => MaxValue::Value(signed(n)),
        };
        let controller = PidController::new(leaf.to_owned(), hierarchy.mount.clone(), hierarchy.v2);
        let text = value.to_string();
        checked(controller.set_pid_max(value), &leaf.join("pids.max"), &text)?;
    }
    Ok(())
}

/// Memory first, then memory plus swap: v1 refuses a sum below its part.
fn memory(leaf: &Path, hierarchy: &Hierarchy, limits: &Limits) -> Result<(), GroupError> {
    let controller = MemController::new(leaf.to_owned(), hierarchy.mount.clone(), hierarchy.v2);
    if let Some(bytes) = limits.memory {
        let file = if hierarchy.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        checked(controller.set_limit(signed(bytes)), &leaf.join(file), &bytes.to_string())?;
    }
    let (file, swap) = if hierarchy.v2 {
        ("memory.swap.max", limits.swap())
    } else {
        ("memory.memsw.limit_in_bytes", limits.memory_swap)
    };
    let Some(swap) = swap else { return Ok(()) };
    let path = leaf.join(file);
    if !limits.memory_swap_asked && !path.exists() {
        // a kernel without swap accounting, and nobody asked for a limit on swap
        return Ok(());
    }
    let value = match swap {
        Max::Unlimited => -1,
        Max::At(bytes) => signed(bytes),
    };
    checked(controller.set_memswap_limit(value), &path, &value.to_string())
}

fn cpu(leaf: &Path, hierarchy: &Hierarchy, limits: &Limits) -> Result<(), GroupError> {
    let controller = CpuController::new(leaf.to_owned(), hierarchy.mount.clone(), hierarchy.v2);
    if let Some(quota) = limits.cpus {
        // v1 refuses (EINVAL) a group more than its ancestors have; v2 takes it, to the same effect
        let above = super::ancestors::quota(leaf, hierarchy).filter(|_| !hierarchy.v2);
        let quota = above.map_or(quota, |(least, _)| quota.min(least));
        let file = if hierarchy.v2 { "cpu.max" } else { "cpu.cfs_quota_us" };
        let done = controller.set_cfs_quota_and_period(Some(signed(quota)), Some(PERIOD_US));
        checked(done, &leaf.join(file), &quota.to_string())?;
    }
    let (file, weight) =
        if hierarchy.v2 { ("cpu.weight", limits.cpu_weight) } else { ("cpu.shares", limits.cpu_shares()) };
    if let Some(weight) = weight {
        checked(controller.set_shares(weight), &leaf.join(file), &weight.to_string())?;
    }
    Ok(())
}

/// cgroups-rs takes signed numbers; `spec` has checked that they fit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The error of cgroups-rs as one of ours: with the whole path, the value and the kernel's reason.
pub(super) fn checked(
    done: Result<(), cgroups_rs::fs::error::Error>,
    path: &Path,
    value: &str,
) -> Result<(), GroupError> {
    done.map_err(|error| {
        let cause =
            std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        let source = match cause.and_then(std::io::Error::raw_os_error) {
            Some(number) => std::io::Error::from_raw_os_error(number),
            None => std::io::Error::other(error.to_string()),
        };
        GroupError::io(format!("write {value} to"), path, source)
    })
}
