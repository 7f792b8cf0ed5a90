//! The small ones: `pids`, `hugepageLimits`, `network` and `rdma`.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma};
use ownproc::cgroup::Version;

use super::ResourceError;
use super::planner::{Planner, max, refuse, text, word, write};
use crate::spec::limits::Max;

/// Longest name of a network interface, bytes.
const INTERFACE_NAME: usize = 15;

/// Tasks. 0 is no limit, like -1: oci-spec cannot tell it from an absent number, and a container without a single
/// task is none.
pub fn pids(pids: LinuxPids, planner: &mut Planner) -> Result<(), ResourceError> {
    let field = "pids.limit";
    let limit = match max(field, pids.limit())? {
        Max::At(0) => Max::Unlimited,
        limit => limit,
    };
    if planner.side(field, "pids", limit == Max::Unlimited)?.is_some() {
        planner.write(write(field, "pids", "pids.max", text(limit, Version::V2)));
    }
    Ok(())
}

/// Bytes in huge pages of one size. 0 is a limit here: no such page.
pub fn hugepages(limits: &[LinuxHugepageLimit], planner: &mut Planner) -> Result<(), ResourceError> {
    for (index, one) in limits.iter().enumerate() {
        let field = format!("hugepageLimits[{index}]");
        let size = one.page_size();
        if !is_page_size(size) {
            let reason = "is not a size of pages such as 2MB or 1GB";
            return Err(refuse(&format!("{field}.pageSize"), size, reason));
        }
        let field = format!("{field}.limit");
        let limit = max(&field, one.limit())?;
        let Some(side) = planner.side(&field, "hugetlb", limit == Max::Unlimited)? else { continue };
        let end = if side == Version::V1 { "limit_in_bytes" } else { "max" };
        for (reserved, may_be_missing) in [("", false), ("rsvd.", true)] {
            let file = format!("hugetlb.{size}.{reserved}{end}");
            // the second counts reservations, and came with Linux 5.7
            planner.write(write(&field, "hugetlb", file, text(limit, side)).or_ignore(may_be_missing));
        }
    }
    Ok(())
}

/// As the kernel names sizes in its files: a whole number with KB, MB or GB.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Marks on packets, and priorities. On a host of v2 alone neither exists, and asking for them is no error: other
/// runtimes pass over them too.
pub fn network(network: &LinuxNetwork, planner: &mut Planner) -> Result<(), ResourceError> {
    if let Some(class) = network.class_id() {
        let field = "network.classID";
        if network_side(field, "net_cls", class == 0, planner)? == Some(Version::V1) {
            planner.write(write(field, "net_cls", "net_cls.classid", class));
        }
    }
    for (index, one) in network.priorities().iter().flatten().enumerate() {
        let field = format!("network.priorities[{index}].name");
        let name = word(&field, one.name())?;
        if name.len() > INTERFACE_NAME || name.contains('/') {
            return Err(refuse(&field, name, "is not a name of a network interface"));
        }
        if network_side(&field, "net_prio", false, planner)? == Some(Version::V1) {
            let value = format!("{name} {}", one.priority());
            planner.write(write(&field, "net_prio", "net_prio.ifpriomap", value));
        }
    }
    Ok(())
}

fn network_side(
    field: &str,
    controller: &str,
    default: bool,
    planner: &mut Planner,
) -> Result<Option<Version>, ResourceError> {
    let moot = planner.pure_v2();
    let side = planner.side(field, controller, default || moot)?;
    if moot && side.is_none() {
        planner.note(field, "cgroup v2 does not mark packets");
    }
    Ok(side)
}

/// Handles and objects by device; what is absent stays. The files are the same on both sides.
pub fn rdma(devices: &HashMap<String, LinuxRdma>, planner: &mut Planner) -> Result<(), ResourceError> {
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    for (name, limits) in sorted {
        let field = format!("rdma[{name:?}]");
        let name = word(&field, name)?;
        let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}"));
        let objects = limits.hca_objects().map(|count| format!(" hca_object={count}"));
        let asked = handles.is_some() || objects.is_some();
        if planner.side(&field, "rdma", !asked)?.is_some() && asked {
            let value = format!("{name}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default());
            planner.write(write(&field, "rdma", "rdma.max", value));
        }
    }
    Ok(())
}
