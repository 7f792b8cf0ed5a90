//! A configuration, checked. Pure: nothing of the host is looked at.

pub mod mounts;
pub mod namespaces;
pub mod process;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, Spec};

use super::OciError;
use super::scope::Scope;
use super::seccomp::{self, Filter};
use mounts::Mount;
use namespaces::Namespaces;
use process::Process;

/// What `linux.rootfsPropagation` may be; `None` stands for the default, private.
pub const PROPAGATIONS: &[&str] =
    &["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

/// Everything that a container is made from.
#[derive(Debug)]
pub struct Config {
    /// Namespaces, made and joined.
    pub namespaces: Namespaces,
    /// Absolute path of the root.
    pub root: PathBuf,
    /// The root cannot be written to.
    pub read_only: bool,
    /// In the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Nodes beside the default ones.
    pub devices: Vec<LinuxDevice>,
    /// Hidden.
    pub masked: Vec<PathBuf>,
    /// Readable only.
    pub read_only_paths: Vec<PathBuf>,
    /// Kernel settings, by their file below /proc/sys.
    pub sysctl: Vec<(PathBuf, String)>,
    /// Host name; needs a uts namespace of its own.
    pub hostname: Option<String>,
    /// NIS domain.
    pub domainname: Option<String>,
    /// Of the root mount.
    pub propagation: Option<String>,
    /// The process.
    pub process: Process,
    /// What it may call.
    pub seccomp: Option<Filter>,
    /// Path from the hierarchies' roots.
    pub cgroup: PathBuf,
    /// Where systemd manages it.
    pub scope: Option<Scope>,
}

impl Config {
    /// Checks `spec`, which lies in `bundle`. `systemd`: its cgroupsPath is written in systemd's way.
    pub fn new(spec: &Spec, bundle: &Path, id: &str, systemd: bool) -> Result<Self, OciError> {
        version(spec.version())?;
        for (field, there) in [
            ("solaris", spec.solaris().is_some()),
            ("windows", spec.windows().is_some()),
            ("vm", spec.vm().is_some()),
            ("zos", spec.zos().is_some()),
        ] {
            if there {
                return Err(OciError::config(field, "this runtime makes Linux containers alone"));
            }
        }
        let root = spec.root().as_ref().ok_or_else(|| OciError::config("root", "missing"))?;
        let linux = spec.linux().as_ref().ok_or_else(|| OciError::config("linux", "missing"))?;
        not_yet(linux)?;
        let namespaces = Namespaces::new(linux)?;
        let process = spec.process().as_ref().ok_or_else(|| OciError::config("process", "missing"))?;
        let paths = |field: &str, list: &Option<Vec<String>>| -> Result<Vec<PathBuf>, OciError> {
            list.iter().flatten().map(|path| inside(field, Path::new(path))).collect()
        };
        let own_uts = namespaces.has_own(libc::CLONE_NEWUTS);
        for (field, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
            if value.is_some() && !own_uts {
                return Err(OciError::config(field, "needs a uts namespace in linux.namespaces"));
            }
        }
        if let Some(propagation) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty())
            && !PROPAGATIONS.contains(&propagation)
        {
            return Err(OciError::config(
                "linux.rootfsPropagation",
                format!("{propagation:?} is not one of {}", PROPAGATIONS.join(", ")),
            ));
        }
        let (cgroup, scope) = cgroup(linux.cgroups_path().as_deref(), id, systemd)?;
        Ok(Self {
            root: bundle.join(root.path()),
            read_only: root.readonly().unwrap_or(false),
            mounts: mounts::all(spec.mounts().as_deref().unwrap_or_default(), bundle)?,
            devices: linux.devices().clone().unwrap_or_default(),
            masked: paths("linux.maskedPaths", linux.masked_paths())?,
            read_only_paths: paths("linux.readonlyPaths", linux.readonly_paths())?,
            sysctl: sysctl(linux.sysctl().as_ref(), &namespaces)?,
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            propagation: linux.rootfs_propagation().clone().filter(|word| !word.is_empty()),
            process: Process::new(process)?,
            seccomp: linux.seccomp().as_ref().map(seccomp::compile).transpose()?,
            cgroup,
            scope,
            namespaces,
        })
    }
}

/// Fields that this runtime does not do yet: better an error than a container without them.
fn not_yet(linux: &oci_spec::runtime::Linux) -> Result<(), OciError> {
    for (field, there) in [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
    ] {
        if there {
            return Err(OciError::config(field, "not supported: take it out"));
        }
    }
    Ok(())
}

/// 1.x of the specification.
fn version(text: &str) -> Result<(), OciError> {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let good = numbers.split('.').count() == 3
        && numbers.split('.').all(|part| part.parse::<u32>().is_ok())
        && numbers.starts_with("1.");
    if good {
        Ok(())
    } else {
        Err(OciError::config("ociVersion", format!("{text:?}; 1.0.0 and later 1.x are understood")))
    }
}

/// An absolute path inside the container, without the slash that it begins with.
pub fn inside(field: &str, path: &Path) -> Result<PathBuf, OciError> {
    let bad = |reason: &str| OciError::config(field, format!("{}: {reason}", path.display()));
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(bad("holds a NUL byte"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(bad("goes up by .."));
    }
    Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// Kernel settings that are a container's own: those of a namespace that it has for itself, as runc allows them.
fn sysctl(
    settings: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
) -> Result<Vec<(PathBuf, String)>, OciError> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut sorted: Vec<_> = settings.into_iter().flatten().collect();
    sorted.sort();
    sorted
        .into_iter()
        .map(|(key, value)| {
            let bad = |reason: &str| OciError::config(format!("linux.sysctl.{key}"), reason);
            // with a slash in it dots are part of names (sysctl(8))
            let file: PathBuf = if key.contains('/') { key.into() } else { key.split('.').collect() };
            let dotted = key.replace('/', ".");
            let needs = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
                libc::CLONE_NEWIPC
            } else if dotted.starts_with("net.") {
                libc::CLONE_NEWNET
            } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
                libc::CLONE_NEWUTS
            } else {
                return Err(bad("is the host's, not a container's own"));
            };
            if !namespaces.has_own(needs) {
                return Err(bad("belongs to a namespace that the container does not have for itself"));
            }
            if file.components().any(|part| !matches!(part, Component::Normal(_))) {
                return Err(bad("is no name of a setting"));
            }
            Ok((file, value.clone()))
        })
        .collect()
}

/// The groups' path from the hierarchies' roots, and systemd's scope there.
fn cgroup(path: Option<&Path>, id: &str, systemd: bool) -> Result<(PathBuf, Option<Scope>), OciError> {
    let field = "linux.cgroupsPath";
    let own;
    let path = match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => path,
        None if systemd => {
            own = PathBuf::from(format!(":ownproc:{id}"));
            &own
        }
        None => return Ok((Path::new("ownproc").join(id), None)),
    };
    let text = path.to_str().ok_or_else(|| OciError::config(field, "is not UTF-8"))?;
    if text.contains('\n') {
        return Err(OciError::config(field, "holds a line feed"));
    }
    let (path, scope) = if systemd {
        let (path, scope) = scope(text)?;
        (path, Some(scope))
    } else {
        (path.to_owned(), None)
    };
    let path = inside(field, &path)?;
    if path.as_os_str().is_empty() {
        return Err(OciError::config(field, "is the root of the hierarchies"));
    }
    Ok((path, scope))
}

/// SLICE:PREFIX:NAME as that scope and the path that systemd gives it: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn scope(text: &str) -> Result<(PathBuf, Scope), OciError> {
    let bad = |reason: &str| OciError::config("linux.cgroupsPath", format!("{text:?}: {reason}"));
    let mut parts = text.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("with --systemd-cgroup it is SLICE:PREFIX:NAME"));
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or_else(|| bad("the slice's name must end in .slice"))?;
    if [stem, prefix, name].iter().any(|part| part.contains('/')) || name.is_empty() {
        return Err(bad("a slash in it, or no name"));
    }
    let mut path = PathBuf::new();
    if stem != "-" {
        let words: Vec<&str> = stem.split('-').collect();
        if words.iter().any(|word| word.is_empty()) {
            return Err(bad("an empty part in the slice's name"));
        }
        for length in 1..=words.len() {
            path.push(format!("{}.slice", words[..length].join("-")));
        }
    }
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    path.push(&unit);
    Ok((path, Scope { unit, slice: slice.to_owned() }))
}

#[cfg(test)]
mod tests;
