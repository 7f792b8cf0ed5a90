//! A configuration, checked. Pure: nothing of the host is looked at.

pub mod cgroup;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod sysinfo;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, Spec};

use super::OciError;
use super::seccomp::{self, Filter};
use cgroup::Scope;
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
    /// Argument of personality(2).
    pub personality: Option<libc::c_ulong>,
    /// The process.
    pub process: Process,
    /// What it may call.
    pub seccomp: Option<Filter>,
    /// The same with sysinfo(2) answered by the daemon, where it is.
    pub sysinfo: Option<Filter>,
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
        if namespaces.joined() & libc::CLONE_NEWNS != 0 {
            tree_of_others(spec, linux)?;
        }
        let process = spec.process().as_ref().ok_or_else(|| OciError::config("process", "missing"))?;
        let paths = |field: &str, list: &Option<Vec<String>>| -> Result<Vec<PathBuf>, OciError> {
            list.iter().flatten().map(|path| inside(field, Path::new(path))).collect()
        };
        let own_uts = namespaces.has_own(libc::CLONE_NEWUTS);
        for (field, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
            if value.is_some() && !own_uts {
                return Err(OciError::config(field, "needs a uts namespace in linux.namespaces"));
            }
            // what sethostname(2) and setdomainname(2) take
            if value.as_ref().is_some_and(|name| name.len() > 64 || name.contains('\0')) {
                return Err(OciError::config(field, "is longer than 64 bytes, or holds a NUL byte"));
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
        let in_user = namespaces.has_own(libc::CLONE_NEWUSER);
        for device in linux.devices().iter().flatten() {
            for (owner, number) in [("uid", device.uid()), ("gid", device.gid())] {
                number.map(|number| process::id(&format!("linux.devices.{owner}"), number)).transpose()?;
            }
        }
        let mut made = mounts::all(spec.mounts().as_deref().unwrap_or_default(), bundle, in_user)?;
        if let Some(label) = linux.mount_label().as_deref().filter(|label| !label.is_empty()) {
            mounts::label(&mut made, label)?;
        }
        let (cgroup, scope) = cgroup::path(linux.cgroups_path().as_deref(), id, systemd)?;
        Ok(Self {
            root: bundle.join(root.path()),
            read_only: root.readonly().unwrap_or(false),
            mounts: made,
            devices: linux.devices().clone().unwrap_or_default(),
            masked: paths("linux.maskedPaths", linux.masked_paths())?,
            read_only_paths: paths("linux.readonlyPaths", linux.readonly_paths())?,
            sysctl: sysctl(linux.sysctl().as_ref(), &namespaces)?,
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            propagation: linux.rootfs_propagation().clone().filter(|word| !word.is_empty()),
            personality: personality(linux)?,
            process: Process::new(process)?,
            seccomp: linux.seccomp().as_ref().map(seccomp::compile).transpose()?,
            sysinfo: sysinfo::filter(spec)?,
            cgroup,
            scope,
            namespaces,
        })
    }
}

/// What personality(2) is to be called with.
pub fn personality(linux: &oci_spec::runtime::Linux) -> Result<Option<libc::c_ulong>, OciError> {
    use oci_spec::runtime::LinuxPersonalityDomain as Domain;
    let Some(personality) = linux.personality() else { return Ok(None) };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(OciError::config("linux.personality.flags", "no flags are known: leave them out"));
    }
    // linux/personality.h
    Ok(Some(match personality.domain() {
        Domain::PerLinux => 0,
        Domain::PerLinux32 => 8,
    }))
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

/// The tree of a mount namespace that is joined is there already, and not this container's to change.
fn tree_of_others(spec: &Spec, linux: &oci_spec::runtime::Linux) -> Result<(), OciError> {
    fn any<T>(list: &Option<Vec<T>>) -> bool {
        list.as_ref().is_some_and(|list| !list.is_empty())
    }
    if let Some(root) = spec.root()
        && root.path() != Path::new("/")
    {
        return Err(OciError::config(
            "root.path",
            "is / where a mount namespace is joined, whose root it is",
        ));
    }
    for (field, there) in [
        ("root.readonly", spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true))),
        ("mounts", any(spec.mounts())),
        ("linux.devices", any(linux.devices())),
        ("linux.maskedPaths", any(linux.masked_paths())),
        ("linux.readonlyPaths", any(linux.readonly_paths())),
        ("linux.sysctl", linux.sysctl().as_ref().is_some_and(|settings| !settings.is_empty())),
        ("linux.rootfsPropagation", linux.rootfs_propagation().as_ref().is_some_and(|word| !word.is_empty())),
    ] {
        if there {
            let reason = "changes the tree of the mount namespace that is joined: leave it out";
            return Err(OciError::config(field, reason));
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
    let mut sorted: Vec<_> = settings.into_iter().flatten().collect();
    sorted.sort();
    sorted
        .into_iter()
        .map(|(key, value)| {
            let bad = |reason: &str| OciError::config(format!("linux.sysctl.{key}"), reason);
            // with a slash in it dots are part of names (sysctl(8))
            let file: PathBuf = if key.contains('/') { key.into() } else { key.split('.').collect() };
            let Some(needs) = namespace_of(&file) else {
                return Err(bad("is the host's, not a container's own"));
            };
            if !namespaces.has_own(needs) {
                return Err(bad("belongs to a namespace that the container does not have for itself"));
            }
            let plain = file.components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || file.components().count() < 2 || key.contains('\0') {
                return Err(bad("is no name of a setting"));
            }
            if value.contains('\0') {
                return Err(bad("its value holds a NUL byte"));
            }
            Ok((file, value.clone()))
        })
        .collect()
}

/// `CLONE_NEW*` of the namespace that a setting, by its file below /proc/sys, is part of; `None`: it is all the host's.
pub fn namespace_of(file: &Path) -> Option<i32> {
    const IPC: &[&str] =
        &["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let words: Vec<&str> = file.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        ["kernel", name] if IPC.contains(name) => Some(libc::CLONE_NEWIPC),
        ["fs", "mqueue", _, ..] => Some(libc::CLONE_NEWIPC),
        ["net", _, ..] => Some(libc::CLONE_NEWNET),
        ["kernel", "domainname" | "hostname"] => Some(libc::CLONE_NEWUTS),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
