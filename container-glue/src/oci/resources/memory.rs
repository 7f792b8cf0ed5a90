//! `linux.resources.memory`. All numbers are bytes, but `swappiness`.
//!
//! `swap` is memory plus swap, as v1 counts; v2 counts swap alone and gets the difference.

use oci_spec::runtime::LinuxMemory;
use ownproc::cgroup::Version;

use super::ResourceError;
use super::planner::{Planner, limit, refuse, text, write};
use crate::spec::limits::Max;

const MEMORY: &str = "memory";
const KERNEL_DROPPED: &str = "the kernel has no limit of its own memory since Linux 5.4";

/// Plans all fields. `useHierarchy` is on wherever the kernel has dropped the choice.
pub fn plan(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    if memory.use_hierarchy() == Some(true)
        && planner.side("memory.useHierarchy", MEMORY, true)? == Some(Version::V1)
    {
        // before the limits: the kernel refuses it in a group that has children
        let hierarchy = write("memory.useHierarchy", MEMORY, "memory.use_hierarchy", 1);
        planner.write(hierarchy.or_ignore(true));
    }
    limit_and_swap(memory, planner)?;
    soft(memory, planner)?;
    kernel(memory, planner)?;
    oom(memory, planner)?;
    swappiness(memory, planner)
}

/// The limit and the sum with swap. v1 refuses a sum below its part at every moment, so the limit comes first and
/// again after the sum: lowering works in this order, and raising in the other.
fn limit_and_swap(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    let ram = limit("memory.limit", memory.limit())?;
    let sum = checked_sum(ram, memory)?;
    if let Some(ram) = ram
        && let Some(side) = planner.side("memory.limit", MEMORY, ram == Max::Unlimited)?
    {
        let (file, used) = match side {
            Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            Version::V2 => ("memory.max", "memory.current"),
        };
        let mut ram_write = write("memory.limit", MEMORY, file, text(ram, side));
        ram_write.again = side == Version::V1 && sum.is_some();
        ram_write.not_below =
            (memory.check_before_update() == Some(true) && ram != Max::Unlimited).then_some(used);
        planner.write(ram_write);
    }
    let Some(sum) = sum else { return Ok(()) };
    let Some(side) = planner.side("memory.swap", MEMORY, sum == Max::Unlimited)? else { return Ok(()) };
    match side {
        Version::V1 => {
            let swap = write("memory.swap", MEMORY, "memory.memsw.limit_in_bytes", text(sum, side));
            planner.write(swap.or_ignore(sum == Max::Unlimited));
        }
        Version::V2 => {
            let swap = match (sum, ram) {
                (Max::At(sum), Some(Max::At(ram))) => Max::At(sum.saturating_sub(ram)),
                _ => Max::Unlimited,
            };
            // a kernel that counts no swap: a container without it has all, or none, as was asked
            let moot = matches!(swap, Max::Unlimited | Max::At(0));
            planner.write(write("memory.swap", MEMORY, "memory.swap.max", text(swap, side)).or_ignore(moot));
        }
    }
    Ok(())
}

/// The sum of memory and swap that is asked for. Memory without limit takes the limit of the sum away too: v1 would
/// refuse it otherwise.
fn checked_sum(ram: Option<Max>, memory: &LinuxMemory) -> Result<Option<Max>, ResourceError> {
    let field = "memory.swap";
    match (limit(field, memory.swap())?, ram) {
        (None, Some(Max::Unlimited)) => Ok(Some(Max::Unlimited)),
        (Some(Max::At(sum)), Some(Max::At(ram))) if sum < ram => {
            Err(refuse(field, sum, "is below memory.limit, which it includes"))
        }
        (Some(Max::At(sum)), None | Some(Max::Unlimited)) => {
            Err(refuse(field, sum, "needs a memory.limit: it is the sum of both"))
        }
        (sum, _) => Ok(sum),
    }
}

/// v2 has protection where v1 has a soft limit; runtimes take the one for the other.
fn soft(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    let field = "memory.reservation";
    let Some(soft) = limit(field, memory.reservation())? else { return Ok(()) };
    let Some(side) = planner.side(field, MEMORY, soft == Max::Unlimited)? else { return Ok(()) };
    let file = match side {
        Version::V1 => "memory.soft_limit_in_bytes",
        Version::V2 => "memory.low",
    };
    planner.write(write(field, MEMORY, file, text(soft, side)));
    Ok(())
}

/// Buffers of TCP, and the rest of the kernel.
fn kernel(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    let all = limit("memory.kernel", memory.kernel())?;
    if all.is_some() {
        planner.note("memory.kernel", KERNEL_DROPPED);
    }
    let field = "memory.kernelTCP";
    let Some(tcp) = limit(field, memory.kernel_tcp())? else { return Ok(()) };
    match planner.side(field, MEMORY, tcp == Max::Unlimited)? {
        None => {}
        Some(Version::V2) => planner.note(field, "on cgroup v2 the limit of memory includes it"),
        Some(side @ Version::V1) => planner.write(
            write(field, MEMORY, "memory.kmem.tcp.limit_in_bytes", text(tcp, side))
                .or_ignore(tcp == Max::Unlimited),
        ),
    }
    Ok(())
}

fn oom(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    let field = "memory.disableOOMKiller";
    let Some(disable) = memory.disable_oom_killer() else { return Ok(()) };
    match planner.side(field, MEMORY, !disable)? {
        Some(Version::V1) => {
            planner.write(write(field, MEMORY, "memory.oom_control", u8::from(disable)).or_ignore(!disable))
        }
        Some(Version::V2) if disable => planner.note(field, "cgroup v2 has no such switch"),
        _ => {}
    }
    Ok(())
}

/// Percent. All bits set is what a -1 becomes on its way through unsigned fields: not asked for.
fn swappiness(memory: &LinuxMemory, planner: &mut Planner) -> Result<(), ResourceError> {
    let field = "memory.swappiness";
    let Some(percent) = memory.swappiness().filter(|&percent| percent != u64::MAX) else { return Ok(()) };
    if percent > 100 {
        return Err(refuse(field, percent, "is not from 0 to 100"));
    }
    match planner.side(field, MEMORY, false)? {
        Some(Version::V1) => planner.write(write(field, MEMORY, "memory.swappiness", percent)),
        Some(Version::V2) => planner.note(field, "cgroup v2 has no swappiness of a group"),
        None => {}
    }
    Ok(())
}
