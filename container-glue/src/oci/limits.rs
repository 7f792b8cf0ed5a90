//! `linux.resources` into the container's groups, when it is made and by `update`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use cgroups_rs::systemd::Property;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use ownproc::cgroup::Version;

use super::resources::{self, Plan, devices};
use super::store::Group;
use super::{Doing, OciError, scope};

/// The group of a controller, by its name on v2 (`io` is v1's blkio; `cgroup` is what every v2 group has).
pub fn group_of<'a>(groups: &'a [Group], controller: &str) -> Option<&'a Group> {
    let v1 = if controller == "io" { "blkio" } else { controller };
    let has = |group: &&Group, name: &str| group.controllers.iter().any(|other| other == name);
    groups.iter().find(|group| !group.v2 && has(group, v1)).or_else(|| {
        groups.iter().find(|group| group.v2 && (controller == "cgroup" || has(group, controller)))
    })
}

/// Writes what a new container is to have.
pub fn apply(wanted: Option<&LinuxResources>, groups: &[Group]) -> Result<(), OciError> {
    if let Some(wanted) = wanted {
        write(wanted, groups)?;
    }
    device_rules(wanted.and_then(|wanted| wanted.devices().as_deref()).unwrap_or_default(), groups)
}

/// What of the resources of a container that `launch` makes is not among the limits that its flags name.
pub fn without_flags(resources: &LinuxResources) -> LinuxResources {
    let mut rest = LinuxResources::default();
    rest.set_devices(resources.devices().clone());
    rest.set_block_io(resources.block_io().clone());
    rest
}

/// Writes what a running one is to have; its device rules only where they change, since v1 refuses all for a moment.
pub fn change(wanted: &LinuxResources, groups: &[Group], devices: bool) -> Result<(), OciError> {
    write(wanted, groups)?;
    if devices { device_rules(wanted.devices().as_deref().unwrap_or_default(), groups) } else { Ok(()) }
}

/// The same as systemd's properties.
pub fn of_systemd(
    wanted: Option<&LinuxResources>,
    groups: &[Group],
) -> Result<Vec<Property<'static>>, OciError> {
    let plan = wanted.map(|wanted| plan(wanted, groups)).transpose()?;
    Ok(plan.map(|plan| scope::properties(&plan)).unwrap_or_default())
}

fn plan(wanted: &LinuxResources, groups: &[Group]) -> Result<Plan, OciError> {
    let version = |controller: &str| {
        group_of(groups, controller).map(|group| if group.v2 { Version::V2 } else { Version::V1 })
    };
    Ok(resources::plan(wanted, &version)?)
}

fn write(wanted: &LinuxResources, groups: &[Group]) -> Result<(), OciError> {
    let plan = plan(wanted, groups)?;
    for note in &plan.notes {
        log::info!("{note}");
    }
    resources::apply(&plan.writes, &|controller| path_of(groups, controller))?;
    Ok(())
}

fn path_of(groups: &[Group], controller: &str) -> Option<PathBuf> {
    group_of(groups, controller).map(|group| group.path.clone())
}

/// Which devices may be opened and made. Without rules of its own a container has the default ones alone.
fn device_rules(rules: &[LinuxDeviceCgroup], groups: &[Group]) -> Result<(), OciError> {
    match group_of(groups, "devices") {
        Some(group) if !group.v2 => {
            Ok(resources::apply(&devices::v1(rules)?, &|controller| path_of(groups, controller))?)
        }
        _ => {
            let Some(group) = groups.iter().find(|group| group.v2) else { return Ok(()) };
            let directory = std::fs::File::open(&group.path)
                .map_err(|source| OciError::io("open", &group.path, source))?;
            devices::attach(&devices::program(rules)?, OwnedFd::from(directory).as_fd())
                .doing(format!("set the device rules of {}", group.path.display()))
        }
    }
}
