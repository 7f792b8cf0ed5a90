//! What the launcher is told.

use std::collections::BTreeMap;

use clap::Parser;
use ownproc::model::CpuSet;

use crate::args::{Cli, Verb};
use crate::input::{self, text, with};
use crate::pins;
use crate::spec::{Spec, Volume, limits, size};

/// The whole command line: one word per line of the input.
pub fn launcher_command_line(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let words = ["ownproc-run", "launch"].into_iter().chain(text.lines());
    let Ok(Cli { verb: Verb::Launch(args), .. }) = Cli::try_parse_from(words) else { return };
    let caller: BTreeMap<String, String> =
        [("TERM", "vt100"), ("A", "1")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let spec = match Spec::new(&args, &caller) {
        Ok(spec) => spec,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!((1..=64).contains(&spec.hostname.len()) && !spec.command.is_empty());
    assert!(spec.workdir.starts_with('/') && spec.mount.is_absolute() && spec.cgroup_parent.is_relative());
    assert!(spec.env.keys().all(|key| !key.is_empty() && !key.contains('=')));
    let limits = &spec.limits;
    let signed = i64::MAX as u64;
    assert!(limits.memory.is_none_or(|bytes| (limits::MEMORY_MIN..=signed).contains(&bytes)));
    assert!(limits.cpus.is_none_or(|quota| quota >= 1000));
    assert!(limits.whole_cpus().is_none_or(|cpus| cpus >= 1));
    assert!(limits.cpu_shares().is_none_or(|shares| (2..=262_144).contains(&shares)));
    for max in [limits.memory_swap, limits.swap()] {
        assert!(!matches!(max, Some(limits::Max::At(bytes)) if bytes > signed), "{max:?}");
    }
    for set in [&limits.cpuset_cpus, &limits.cpuset_mems].into_iter().flatten() {
        assert!(!set.is_empty());
    }
    spec.volumes.iter().for_each(check_volume);
    for device in &spec.devices {
        assert!(
            device.source.is_absolute() && device.target.starts_with("/dev") && !device.access.is_empty()
        );
    }
    assert!(spec.tmpfs.iter().all(|path| path.starts_with('/') && !path.starts_with("/proc/")));
}

/// A size is printed so that it is read as the same.
pub fn launcher_size(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(bytes) = size::parse(text) {
        assert!(bytes <= i64::MAX as u64);
        assert_eq!(size::parse(&size::show(bytes)), Ok(bytes));
    }
}

fn check_volume(volume: &Volume) {
    assert!(volume.source.is_absolute() && volume.target.is_absolute());
    assert!(volume.target.components().count() > 1 && !volume.target.starts_with("/proc"));
    assert!(volume.target.components().all(|part| !matches!(part, std::path::Component::ParentDir)));
}

/// `SRC:DST[:ro]`.
pub fn launcher_volume(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(volume) = Volume::parse(text) else { return };
    check_volume(&volume);
    let mode = if volume.read_only { "ro" } else { "rw" };
    let printed = format!("{}:{}:{mode}", volume.source.display(), volume.target.display());
    assert_eq!(Volume::parse(&printed), Ok(volume));
}

/// The CPUs that `--pin` takes: as many as wanted, all of them allowed.
pub fn launcher_pins(data: &[u8]) {
    with(data, |u| {
        let allowed = input::cpu_set(u)?;
        let nodes = input::list(u, 3, input::cpu_set)?;
        let taken = input::list(u, 4, input::cpu_set)?;
        let count = usize::from(u.int_in_range(0..=12u8)?);
        match pins::choose(&allowed, &nodes, &taken, count) {
            Some(chosen) => assert!(chosen.len() == count && chosen.without(&allowed).is_empty()),
            None => assert!(count == 0 || allowed.len() < count),
        }
        assert_eq!(pins::choose(&CpuSet::EMPTY, &nodes, &taken, count), None);
        Ok(())
    });
}
