//! What a bundle's config.json asks of the launcher, from the bytes to what is done.

use std::path::{Component, Path};

use oci_spec::runtime::{LinuxResources, LinuxSeccomp, Spec};
use ownproc::cgroup::Version;

use crate::oci::config::mounts::{self, Kind};
use crate::oci::config::{Config, namespaces::KINDS};
use crate::oci::resources::{self, Missing, Write, devices};
use crate::oci::seccomp::{self, Filter};

/// Whether a configuration is taken as it is.
#[must_use]
pub fn is_taken(data: &[u8]) -> bool {
    let spec = serde_json::from_slice::<Spec>(data);
    let taken = |spec: Spec| {
        [false, true]
            .iter()
            .any(|systemd| Config::new(&spec, Path::new("/bundle"), "some-id", *systemd).is_ok())
    };
    spec.is_ok_and(taken)
}

/// A whole configuration. What is taken stays inside the container.
pub fn oci_config(data: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(data) else { return };
    for systemd in [false, true] {
        match Config::new(&spec, Path::new("/bundle"), "some-id", systemd) {
            Ok(config) => check(&config),
            Err(error) => assert!(error.to_string().starts_with("config.json: ") || is_seccomp(&error)),
        }
    }
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        check_resources(resources);
    }
}

fn is_seccomp(error: &crate::oci::OciError) -> bool {
    matches!(error, crate::oci::OciError::Seccomp(_))
}

/// A path from the container's root, by plain names alone.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn check(config: &Config) {
    assert!(config.root.is_absolute());
    assert!(is_inside(&config.cgroup) && config.cgroup.components().count() > 0);
    assert!(config.masked.iter().chain(&config.read_only_paths).all(|path| is_inside(path)));
    for (file, value) in &config.sysctl {
        assert!(
            is_inside(file) && file.components().count() > 1 && !value.contains('\0'),
            "{file:?} {value:?}"
        );
    }
    for mount in &config.mounts {
        assert!(is_inside(&mount.destination) && mount.destination.components().count() > 0);
        assert!(mount.attributes.set.intersection(mount.attributes.clear).difference(ATIME).is_empty());
        assert!(mount.data.iter().all(|option| !option.contains(['\0', '\n'])));
        if let Kind::Bind { source, .. } = &mount.kind {
            assert!(source.is_absolute() && mount.data.is_empty());
        }
        if let Some(idmap) = &mount.idmap {
            assert!(matches!(mount.kind, Kind::Bind { .. }));
            assert!(idmap.maps.is_some() || config.namespaces.has_own(libc::CLONE_NEWUSER));
            idmap.maps.iter().for_each(check_maps);
        }
        assert!(mount.propagation.iter().all(|flags| !flags.is_empty()));
    }
    let namespaces = &config.namespaces;
    assert!(namespaces.has_own(libc::CLONE_NEWNS) && namespaces.new & namespaces.joined() == 0);
    assert_eq!(namespaces.joined().count_ones() as usize, namespaces.join.len());
    let all = KINDS.iter().fold(0, |all, (_, kind)| all | kind);
    assert_eq!((namespaces.new | namespaces.joined()) & !all, 0);
    assert!(namespaces.join.iter().all(|(_, path)| path.is_absolute()));
    assert_eq!(namespaces.maps.is_some(), namespaces.new & libc::CLONE_NEWUSER != 0);
    namespaces.maps.iter().for_each(check_maps);
    if namespaces.joined() & libc::CLONE_NEWNS != 0 {
        assert!(config.mounts.is_empty() && config.masked.is_empty() && config.sysctl.is_empty());
    }
    let own_uts = namespaces.has_own(libc::CLONE_NEWUTS);
    assert!(own_uts || (config.hostname.is_none() && config.domainname.is_none()));
    let process = &config.process;
    assert!(!process.args.is_empty() && process.cwd.to_bytes().starts_with(b"/"));
    assert!(process.umask <= 0o777 && process.limits.iter().all(|limit| limit.soft <= limit.hard));
    assert!(process.oom_score_adj.is_none_or(|score| (-1000..=1000).contains(&score)));
    assert!(
        process
            .io_priority
            .is_none_or(|priority| (1..=3).contains(&(priority >> 13)) && priority & 0x1fff < 8)
    );
    for cpus in [&process.affinity.initial, &process.affinity.last].into_iter().flatten() {
        assert!(!cpus.is_empty());
    }
    config.seccomp.iter().for_each(check_filter);
    assert!(config.propagation.iter().all(|word| mounts::propagation(word).is_some()));
}

const ATIME: rustix::mount::MountAttrFlags = rustix::mount::MountAttrFlags::MOUNT_ATTR__ATIME;

/// At most 340 lines of three numbers, none over another on either side.
fn check_maps(maps: &crate::oci::config::namespaces::Maps) {
    for map in [&maps.uids, &maps.gids] {
        let lines: Vec<Vec<u64>> =
            map.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
        assert!((1..=340).contains(&lines.len()) && lines.iter().all(|line| line.len() == 3 && line[2] > 0));
        for side in [0, 1] {
            let mut ranges: Vec<_> = lines.iter().map(|line| (line[side], line[side] + line[2])).collect();
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{map}");
            assert!(ranges.iter().all(|(_, end)| *end <= u64::from(u32::MAX)), "{map}");
        }
    }
}

fn check_filter(filter: &Filter) {
    assert!((1..=4096).contains(&filter.program.len()));
    // linux/filter.h: the kernel takes no program whose last instruction does not return
    assert_eq!(filter.program.last().map(|last| last.code & 7), Some(6));
    for (at, step) in filter.program.iter().enumerate() {
        let far = match (step.code & 7, step.code & 0xf0) {
            (5, 0) => step.k as usize,
            (5, _) => usize::from(step.jt.max(step.jf)),
            _ => 0,
        };
        assert!(at + far + usize::from(step.code & 7 == 5) < filter.program.len());
    }
}

/// `linux.resources` alone, as `update --resources` reads it.
pub fn oci_resources(data: &[u8]) {
    if let Ok(resources) = serde_json::from_slice::<LinuxResources>(data) {
        check_resources(&resources);
    }
}

/// A profile alone.
pub fn oci_seccomp(data: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(data) else { return };
    match seccomp::compile(&profile) {
        Ok(filter) => check_filter(&filter),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// On hosts of all kinds: what is written is one line, into a file of the group's own.
fn check_resources(wanted: &LinuxResources) {
    let (v1, v2) = (Some(Version::V1), Some(Version::V2));
    let hybrid = |controller: &str| if controller == "cgroup" { v2 } else { v1 };
    type Host<'a> = &'a dyn Fn(&str) -> Option<Version>;
    let hosts: [Host<'_>; 4] = [&|_| v1, &|_| v2, &hybrid, &|_| None];
    for host in hosts {
        match resources::plan(wanted, host) {
            Ok(plan) => {
                plan.writes.iter().for_each(check_write);
                // nothing is written where there is no group
                assert_eq!(resources::apply(&plan.writes, &|_| None).is_err(), !plan.writes.is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let rules = wanted.devices().as_deref().unwrap_or_default();
    if let Ok(writes) = devices::v1(rules) {
        writes.iter().for_each(check_write);
    }
    if let Ok(program) = devices::program(rules) {
        assert!(!program.is_empty());
    }
}

fn check_write(write: &Write) {
    assert!(
        !write.file.contains(['/', '\0', '\n']) && write.file.contains('.') && !write.file.starts_with('.')
    );
    assert!(!write.controller.contains('/'));
    assert!(!write.value.contains(['\0', '\n']), "{write:?}");
    assert!(write.field.starts_with("linux.resources"), "{write:?}");
    if let Missing::Else(other) = &write.missing {
        check_write(other);
    }
}
