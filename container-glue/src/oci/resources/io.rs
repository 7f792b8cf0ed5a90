//! `linux.resources.blockIO`: weights from 10 to 1000, and limits of devices in bytes or operations per second.
//!
//! A weight goes to whichever scheduler of the kernel has a file for one: v1's own, BFQ, or v2's cost model. The last
//! counts from 1 to 10000.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};
use ownproc::cgroup::Version;

use super::planner::{Planner, device, refuse, write};
use super::{ResourceError, Write};

const IO: &str = "io";
/// Bounds of a weight.
const WEIGHT: (u64, u64) = (10, 1000);
const NO_LEAVES: &str = "cgroup v2 has no processes beside groups";

/// Plans all fields.
pub fn plan(io: &LinuxBlockIo, planner: &mut Planner) -> Result<(), ResourceError> {
    if let Some(weight) = checked_weight("blockIO.weight", io.weight())?
        && let Some(side) = planner.side("blockIO.weight", IO, false)?
    {
        planner.write(weight_write("blockIO.weight", "", weight, side));
    }
    leaf_weight("blockIO.leafWeight", "blkio.leaf_weight", "", io.leaf_weight(), planner)?;
    for (index, one) in io.weight_device().iter().flatten().enumerate() {
        weight_device(&format!("blockIO.weightDevice[{index}]"), one, planner)?;
    }
    let limits = [
        ("throttleReadBpsDevice", "read_bps", "rbps", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "write_bps", "wbps", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "read_iops", "riops", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "write_iops", "wiops", io.throttle_write_iops_device()),
    ];
    for (name, v1, v2, devices) in limits {
        for (index, one) in devices.iter().flatten().enumerate() {
            throttle(&format!("blockIO.{name}[{index}]"), v1, v2, one, planner)?;
        }
    }
    Ok(())
}

/// From 10 to 1000 to 1 to 10000.
pub fn v2_weight(weight: u64) -> u64 {
    let (least, most) = WEIGHT;
    let above = weight.clamp(least, most).saturating_sub(least);
    1 + above.saturating_mul(9999) / (most - least)
}

/// 0 is not asked for.
fn checked_weight(field: &str, weight: Option<u16>) -> Result<Option<u64>, ResourceError> {
    let Some(weight) = weight.map(u64::from).filter(|&weight| weight != 0) else { return Ok(None) };
    if !(WEIGHT.0..=WEIGHT.1).contains(&weight) {
        return Err(refuse(field, weight, "is not from 10 to 1000"));
    }
    Ok(Some(weight))
}

/// The weight of the group, or (with "8:16 ") towards one device.
fn weight_write(field: &str, device: &str, weight: u64, side: Version) -> Write {
    let to = |file: &str, weight: u64| write(field, IO, file, format!("{device}{weight}"));
    match (side, device) {
        (Version::V1, "") => to("blkio.weight", weight).or_else(to("blkio.bfq.weight", weight)),
        (Version::V1, _) => to("blkio.weight_device", weight).or_else(to("blkio.bfq.weight_device", weight)),
        (Version::V2, _) => to("io.bfq.weight", weight).or_else(to("io.weight", v2_weight(weight))),
    }
}

/// v1 had a weight for the processes of a group against the groups below it, until Linux 5.0.
fn leaf_weight(
    field: &str,
    file: &str,
    device: &str,
    weight: Option<u16>,
    planner: &mut Planner,
) -> Result<(), ResourceError> {
    let Some(weight) = checked_weight(field, weight)? else { return Ok(()) };
    match planner.side(field, IO, false)? {
        Some(Version::V1) => planner.write(write(field, IO, file, format!("{device}{weight}"))),
        Some(Version::V2) => planner.note(field, NO_LEAVES),
        None => {}
    }
    Ok(())
}

fn weight_device(field: &str, one: &LinuxWeightDevice, planner: &mut Planner) -> Result<(), ResourceError> {
    let device = device(field, one.major(), one.minor())? + " ";
    let weight_field = format!("{field}.weight");
    if let Some(weight) = checked_weight(&weight_field, one.weight())?
        && let Some(side) = planner.side(&weight_field, IO, false)?
    {
        planner.write(weight_write(&weight_field, &device, weight, side));
    }
    let leaf = format!("{field}.leafWeight");
    leaf_weight(&leaf, "blkio.leaf_weight_device", &device, one.leaf_weight(), planner)
}

/// A rate of 0 takes the device's limit away.
fn throttle(
    field: &str,
    v1: &str,
    v2: &str,
    one: &LinuxThrottleDevice,
    planner: &mut Planner,
) -> Result<(), ResourceError> {
    let (device, rate) = (device(field, one.major(), one.minor())?, one.rate());
    let Some(side) = planner.side(field, IO, rate == 0)? else { return Ok(()) };
    let planned = match side {
        Version::V1 => write(field, IO, format!("blkio.throttle.{v1}_device"), format!("{device} {rate}")),
        Version::V2 if rate == 0 => write(field, IO, "io.max", format!("{device} {v2}=max")),
        Version::V2 => write(field, IO, "io.max", format!("{device} {v2}={rate}")),
    };
    planner.write(planned.or_ignore(rate == 0));
    Ok(())
}
