//! Names, CPUs and groups of a launch, under the lock that the levels above all groups have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ownproc::cgroup::Controller;
use ownproc::model::CpuSet;

use super::LaunchError;
use crate::daemon::Daemon;
use crate::groups::Hierarchies;
use crate::oci::store::{Entry, Launched, Levels, Store};
use crate::oci::{OciError, stop};
use crate::pins;
use crate::preflight::read_set;
use crate::spec::{Limits, Spec};

/// How long the child of a killed launcher may take to end. Until then it has a copy of the
/// launcher's lock.
const DYING: Duration = Duration::from_secs(2);

/// What a launch has before anything of its container is there.
#[derive(Debug)]
pub struct Claimed {
    /// The container's directory.
    pub entry: Entry,
    /// To be let go when the groups are there.
    pub levels: Levels,
    /// The daemon.
    pub daemon: Daemon,
    /// Those asked for, and the CPUs that were chosen.
    pub limits: Limits,
}

/// Clears up after dead launchers, claims the name, chooses CPUs.
pub fn claim(
    spec: &Spec,
    hierarchies: &Hierarchies,
    store: &Store,
    daemon: Daemon,
) -> Result<Claimed, LaunchError> {
    let name = spec.name.as_str();
    let entry = match store.claim(name) {
        Err(OciError::Taken(_)) => {
            let levels = store.levels()?;
            clear_name(store, &levels, spec)?;
            drop(levels);
            store.claim(name).map_err(|error| match error {
                OciError::Taken(_) => LaunchError::Taken(spec.name.clone()),
                other => other.into(),
            })?
        }
        other => other?,
    };
    let mut launched = Launched::by_me(spec.detached);
    let mut choose = || -> Result<(Levels, Limits), LaunchError> {
        // so that a later launch finds it, however soon this one is killed
        entry.write_launched(&launched)?;
        let levels = store.levels()?;
        stop::sweep_left(store, Some(&levels))?;
        let mut limits = spec.limits.clone();
        if spec.pin {
            let pinned = pin(spec, hierarchies, &pinned(store, name)?)?;
            launched.pinned = Some(pinned.to_string());
            entry.write_launched(&launched)?;
            limits.cpuset_cpus = Some(pinned);
        }
        let group = |mount: &Path| mount.join(&spec.cgroup_parent).join(name);
        if let Some(taken) = hierarchies.0.iter().map(|it| group(&it.mount)).find(|path| path.exists()) {
            return Err(LaunchError::TakenGroup(taken));
        }
        Ok((levels, limits))
    };
    match choose() {
        Ok((levels, limits)) => Ok(Claimed { entry, levels, daemon, limits }),
        Err(error) => {
            let _ = entry.remove();
            Err(error)
        }
    }
}

/// What a launcher or a maker of this name left that was killed.
fn clear_name(store: &Store, levels: &Levels, spec: &Spec) -> Result<(), LaunchError> {
    let taken = || LaunchError::Taken(spec.name.clone());
    let entry = entry_of_the_dead(store, spec.name.as_str())?.ok_or_else(taken)?;
    match (entry.launched(), entry.read()) {
        (Some(launched), _) if launched.is_alive() => Err(taken()),
        (Some(launched), Ok(record)) if launched.detached && record.pid != 0 => Err(taken()),
        (None, Ok(_)) => Err(taken()),
        _ => Ok(stop::sweep(store, levels, entry)?),
    }
}

/// A name's directory, unless somebody who lives works on it.
fn entry_of_the_dead(store: &Store, name: &str) -> Result<Option<Entry>, LaunchError> {
    let until = Instant::now() + DYING;
    loop {
        if let Ok(entry) = store.try_entry(name) {
            return Ok(Some(entry));
        }
        let launcher = store.launched()?.into_iter().find(|(id, _)| id == name);
        if launcher.is_none_or(|(_, launched)| launched.is_alive()) || Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The CPUs that the living containers have chosen.
fn pinned(store: &Store, own: &str) -> Result<Vec<CpuSet>, LaunchError> {
    let mut pinned = Vec::new();
    for (id, launched) in store.launched()?.into_iter().filter(|(id, _)| id != own) {
        let lives =
            || store.look(&id).and_then(|entry| entry.read()).is_ok_and(|record| record.alive().is_some());
        if launched.is_alive() || launched.detached && lives() {
            let pins = launched.pinned.as_deref().and_then(|text| CpuSet::parse(text).ok());
            pinned.extend(pins);
        }
    }
    Ok(pinned)
}

/// The CPUs for --pin.
fn pin(spec: &Spec, hierarchies: &Hierarchies, taken: &[CpuSet]) -> Result<CpuSet, LaunchError> {
    let allowed = allowed_cpus(spec, hierarchies)?;
    let nodes: Vec<CpuSet> = read_set(Path::new("/sys/devices/system/node/online"))
        .unwrap_or_default()
        .iter()
        .filter_map(|node| {
            read_set(&PathBuf::from(format!("/sys/devices/system/node/node{node}/cpulist"))).ok()
        })
        .collect();
    let wanted = spec.limits.whole_cpus().unwrap_or(1);
    pins::choose(&allowed, &nodes, taken, wanted)
        .ok_or_else(|| LaunchError::Pin { wanted, has: allowed.to_string() })
}

/// The CPUs that the container could have: those of the nearest group above that exists, within --cpuset-cpus.
fn allowed_cpus(spec: &Spec, hierarchies: &Hierarchies) -> Result<CpuSet, LaunchError> {
    let online = read_set(Path::new("/sys/devices/system/cpu/online"))?;
    let mut allowed = online.clone();
    if let Some(hierarchy) = hierarchies.of(Controller::Cpuset) {
        let file = if hierarchy.v2 { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        let parent = hierarchy.mount.join(&spec.cgroup_parent);
        let above = parent.ancestors().take_while(|level| level.starts_with(&hierarchy.mount));
        let effective =
            above.filter_map(|level| read_set(&level.join(file)).ok()).find(|set| !set.is_empty());
        allowed = allowed.and(&effective.unwrap_or(online));
    }
    Ok(match &spec.limits.cpuset_cpus {
        Some(asked) => allowed.and(asked),
        None => allowed,
    })
}
