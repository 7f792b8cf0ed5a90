//! Limits of the container's groups.

use ownproc::model::CpuSet;

use crate::args::LaunchArgs;
use crate::spec::{SpecError, size};

/// Docker's minimum: below it the kernel kills a process before it has done anything.
pub const MEMORY_MIN: u64 = 6 << 20;

/// CFS period, the kernel's default, in microseconds.
pub const PERIOD_US: u64 = 100_000;

/// A limit that may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Max {
    /// No limit.
    Unlimited,
    /// At most this.
    At(u64),
}

/// What was asked for; `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, at least [`MEMORY_MIN`].
    pub memory: Option<u64>,
    /// Memory plus swap, bytes; never below `memory`.
    pub memory_swap: Option<Max>,
    /// `memory_swap` was given, not derived: then a kernel that cannot limit swap is an error.
    pub memory_swap_asked: bool,
    /// CPU quota: microseconds per [`PERIOD_US`], at least 1000 (the kernel's least).
    pub cpus: Option<u64>,
    /// CPUs it may run on; not empty.
    pub cpuset_cpus: Option<CpuSet>,
    /// NUMA nodes; not empty.
    pub cpuset_mems: Option<CpuSet>,
    /// cgroup v2's `cpu.weight`, 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// Most tasks.
    pub pids: Option<Max>,
}

impl Limits {
    /// Checks the flags.
    pub fn new(args: &LaunchArgs) -> Result<Self, SpecError> {
        let memory = args.memory.as_deref().map(memory).transpose()?;
        let asked = args.memory_swap.as_deref().map(memory_swap).transpose()?.flatten();
        let memory_swap = match (memory, asked) {
            (None, Some(_)) => {
                return Err(SpecError::Combination("--memory-swap needs -m SIZE: it is memory plus swap"));
            }
            (Some(memory), Some(Max::At(both))) if both < memory => {
                return Err(SpecError::Combination(
                    "--memory-swap is smaller than -m: it is memory plus swap, so give at least the size of -m",
                ));
            }
            (Some(memory), None) => Some(Max::At(memory.saturating_mul(2).min(i64::MAX as u64))),
            (_, asked) => asked,
        };
        Ok(Self {
            memory,
            memory_swap,
            memory_swap_asked: asked.is_some(),
            cpus: args.cpus.as_deref().map(cpus).transpose()?,
            cpuset_cpus: set("--cpuset-cpus", args.cpuset_cpus.as_deref())?,
            cpuset_mems: set("--cpuset-mems", args.cpuset_mems.as_deref())?,
            cpu_weight: args.cpu_weight.as_deref().map(cpu_weight).transpose()?,
            pids: args.pids_limit.as_deref().map(pids).transpose()?,
        })
    }

    /// How many whole CPUs the quota needs.
    pub fn whole_cpus(&self) -> Option<usize> {
        self.cpus.map(|quota| usize::try_from(quota.div_ceil(PERIOD_US)).unwrap_or(usize::MAX).max(1))
    }

    /// v1's `cpu.shares` for the weight: the kernel's own factor (weight 100 = 1024 shares,
    /// `sched_weight_from_cgroup`), so that the default of one is the default of the other; v1 takes 2 to 262144.
    pub fn cpu_shares(&self) -> Option<u64> {
        self.cpu_weight.map(|weight| (weight.saturating_mul(1024) / 100).clamp(2, 262_144))
    }

    /// v2's `memory.swap.max`: swap alone.
    pub fn swap(&self) -> Option<Max> {
        self.memory_swap.map(|both| match both {
            Max::Unlimited => Max::Unlimited,
            Max::At(both) => Max::At(both.saturating_sub(self.memory.unwrap_or(0))),
        })
    }
}

fn memory(text: &str) -> Result<u64, SpecError> {
    let bytes = size::parse(text).map_err(|reason| SpecError::flag("--memory", text, reason))?;
    if bytes < MEMORY_MIN {
        return Err(SpecError::flag(
            "--memory",
            text,
            "below the least of 6M; the unit may be missing, as in 512m",
        ));
    }
    Ok(bytes)
}

/// `None` for 0, which is Docker's spelling of "not given".
fn memory_swap(text: &str) -> Result<Option<Max>, SpecError> {
    if text == "-1" {
        return Ok(Some(Max::Unlimited));
    }
    let bytes = size::parse(text).map_err(|reason| SpecError::flag("--memory-swap", text, reason))?;
    Ok((bytes > 0).then_some(Max::At(bytes)))
}

/// A decimal number of CPUs -> microseconds per period.
fn cpus(text: &str) -> Result<u64, SpecError> {
    let fail = |reason: &str| SpecError::flag("--cpus", text, reason);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(fail("not a number of CPUs; write it as 1.5"));
    }
    let whole: u64 = whole.parse().map_err(|_| fail("more CPUs than Linux knows"))?;
    if whole > ownproc::model::cpuset::MAX_CPUS as u64 {
        return Err(fail("more CPUs than Linux knows"));
    }
    // PERIOD_US has five digits after the point
    let fraction: u64 = format!("{fraction:0<5}").get(..5).and_then(|s| s.parse().ok()).unwrap_or(0);
    let quota = whole * PERIOD_US + fraction;
    if quota < 1000 {
        return Err(fail("too little; the least that the kernel can give is 0.01"));
    }
    Ok(quota)
}

fn cpu_weight(text: &str) -> Result<u64, SpecError> {
    text.parse()
        .ok()
        .filter(|weight| (1..=10_000).contains(weight))
        .ok_or_else(|| SpecError::flag("--cpu-weight", text, "not a number from 1 to 10000"))
}

fn pids(text: &str) -> Result<Max, SpecError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Max::Unlimited),
        // beyond the kernel's own PID_MAX_LIMIT a write fails with EINVAL
        Ok(n @ 1..=4_194_304) => Ok(Max::At(n.unsigned_abs())),
        _ => Err(SpecError::flag("--pids-limit", text, "not a number from 1 to 4194304, or -1 for no limit")),
    }
}

fn set(flag: &'static str, text: Option<&str>) -> Result<Option<CpuSet>, SpecError> {
    let Some(text) = text else { return Ok(None) };
    let set = CpuSet::parse(text).map_err(|error| SpecError::flag(flag, text, error.to_string()))?;
    if set.is_empty() {
        return Err(SpecError::flag(flag, "\"\"", "the list is empty; write it as 0-3,8"));
    }
    Ok(Some(set))
}
