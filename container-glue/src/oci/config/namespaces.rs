//! `linux.namespaces`, the maps of users, and the clocks' offsets.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::super::OciError;

/// `CLONE_NEWTIME` of linux/sched.h, which libc has not.
pub const CLONE_NEWTIME: i32 = 0x80;

/// All kinds, by their names in /proc/PID/ns, with their `CLONE_NEW*`.
pub const KINDS: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("mnt", libc::CLONE_NEWNS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];

/// Lines of uid_map and gid_map (user_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// uid_map.
    pub uids: String,
    /// gid_map.
    pub gids: String,
}

impl Maps {
    /// Checks `uidMappings` and `gidMappings` of an object of the configuration, `linux` or a mount.
    pub fn new(field: &str, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<Self, OciError> {
        Ok(Self {
            uids: map(&format!("{field}.uidMappings"), uids)?,
            gids: map(&format!("{field}.gidMappings"), gids)?,
        })
    }
}

/// Which namespaces the container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEW*` of those that are made.
    pub new: i32,
    /// Those that are joined: `CLONE_NEW*` and the file.
    pub join: Vec<(i32, PathBuf)>,
    /// Of a new user namespace.
    pub maps: Option<Maps>,
    /// Seconds and nanoseconds that the monotonic and the boot clock are ahead of the host's; `None`: both start at 0.
    pub offsets: Option<[(i64, u32); 2]>,
}

impl Namespaces {
    /// Checks `linux.namespaces`, `uidMappings`, `gidMappings` and `timeOffsets`.
    pub fn new(linux: &Linux) -> Result<Self, OciError> {
        let field = "linux.namespaces";
        let mut found = Self::default();
        for namespace in linux.namespaces().iter().flatten() {
            let (kind, name) = kind(namespace.typ());
            if (found.new | found.joined()) & kind != 0 {
                return Err(OciError::config(field, format!("{name} is there twice")));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => found.new |= kind,
                Some(path) if !path.is_absolute() => {
                    return Err(OciError::config(field, format!("{}: not absolute", path.display())));
                }
                Some(path) => found.join.push((kind, path.clone())),
            }
        }
        if !found.has_own(libc::CLONE_NEWNS) {
            return Err(OciError::config(
                field,
                "a mount namespace is needed: the host's mounts are not to be changed",
            ));
        }
        let [uids, gids] = [linux.uid_mappings(), linux.gid_mappings()].map(Option::as_deref);
        let mapped = |list: Option<&[LinuxIdMapping]>| list.is_some_and(|list| !list.is_empty());
        if found.new & libc::CLONE_NEWUSER != 0 {
            if !mapped(uids) || !mapped(gids) {
                return Err(OciError::config(
                    "linux.uidMappings",
                    "a user namespace needs uidMappings and gidMappings",
                ));
            }
            found.maps = Some(Maps::new("linux", uids.unwrap_or_default(), gids.unwrap_or_default())?);
        } else if found.joined() & libc::CLONE_NEWUSER != 0 {
            // it has its maps; podman gives some all the same
            Maps::new("linux", uids.unwrap_or_default(), gids.unwrap_or_default())?;
        } else if mapped(uids) || mapped(gids) {
            return Err(OciError::config("linux.uidMappings", "needs a user namespace in linux.namespaces"));
        }
        if found.joined() & libc::CLONE_NEWNS != 0 && found.new & libc::CLONE_NEWUSER != 0 {
            return Err(OciError::config(
                field,
                "a new user namespace has no rights over a mount namespace that is joined: join its user namespace, too",
            ));
        }
        found.offsets = found.clocks(linux)?;
        Ok(found)
    }

    fn clocks(&self, linux: &Linux) -> Result<Option<[(i64, u32); 2]>, OciError> {
        let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else {
            return Ok(None);
        };
        let field = "linux.timeOffsets";
        if self.new & CLONE_NEWTIME == 0 {
            return Err(OciError::config(field, "needs a time namespace in linux.namespaces"));
        }
        if let Some(other) = offsets.keys().find(|key| !["monotonic", "boottime"].contains(&key.as_str())) {
            return Err(OciError::config(field, format!("{other:?} is neither monotonic nor boottime")));
        }
        let of = |clock: &str| -> Result<(i64, u32), OciError> {
            let Some(offset) = offsets.get(clock) else { return Ok((0, 0)) };
            let nanoseconds = offset.nanosecs().unwrap_or(0);
            if nanoseconds >= 1_000_000_000 {
                return Err(OciError::config(field, format!("{clock}: nanosecs is 0 to 999999999")));
            }
            Ok((offset.secs().unwrap_or(0), nanoseconds))
        };
        Ok(Some([of("monotonic")?, of("boottime")?]))
    }

    /// `CLONE_NEW*` of those that are joined.
    pub fn joined(&self) -> i32 {
        self.join.iter().fold(0, |bits, (kind, _)| bits | kind)
    }

    /// Whether a kind of namespace is not the host's.
    pub fn has_own(&self, kind: i32) -> bool {
        (self.new | self.joined()) & kind != 0
    }
}

/// `CLONE_NEW*` and the name in /proc/PID/ns.
pub fn kind(typ: LinuxNamespaceType) -> (i32, &'static str) {
    match typ {
        LinuxNamespaceType::Mount => (libc::CLONE_NEWNS, "mount"),
        LinuxNamespaceType::Cgroup => (libc::CLONE_NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (libc::CLONE_NEWUTS, "uts"),
        LinuxNamespaceType::Ipc => (libc::CLONE_NEWIPC, "ipc"),
        LinuxNamespaceType::User => (libc::CLONE_NEWUSER, "user"),
        LinuxNamespaceType::Pid => (libc::CLONE_NEWPID, "pid"),
        LinuxNamespaceType::Network => (libc::CLONE_NEWNET, "network"),
        LinuxNamespaceType::Time => (CLONE_NEWTIME, "time"),
    }
}

/// The lines of a map (user_namespaces(7)): at most 340, none of them over another.
fn map(field: &str, mappings: &[LinuxIdMapping]) -> Result<String, OciError> {
    if mappings.len() > 340 {
        return Err(OciError::config(field, "more than the kernel's 340 lines"));
    }
    let ends = |start: u32, size: u32| u64::from(start) + u64::from(size);
    for (index, mapping) in mappings.iter().enumerate() {
        let (inside, outside, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        if size == 0 || ends(inside, size) > u64::from(u32::MAX) || ends(outside, size) > u64::from(u32::MAX)
        {
            return Err(OciError::config(
                field,
                format!("line {index}: size {size} is 0 or goes beyond the last id"),
            ));
        }
        for other in &mappings[..index] {
            let overlap =
                |a: u32, b: u32| u64::from(a) < ends(b, other.size()) && u64::from(b) < ends(a, size);
            if overlap(inside, other.container_id()) || overlap(outside, other.host_id()) {
                return Err(OciError::config(field, format!("line {index} lies over another")));
            }
        }
    }
    let line = |mapping: &LinuxIdMapping| {
        format!("{} {} {}\n", mapping.container_id(), mapping.host_id(), mapping.size())
    };
    Ok(mappings.iter().map(line).collect())
}
