//! `mounts`: what each option means to the kernel's mount calls.

use std::path::{Path, PathBuf};

use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::super::OciError;
use super::inside;
use super::namespaces::Maps;

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file or directory of the host, with the mounts below it or without.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// rbind.
        recursive: bool,
    },
    /// The container's own groups.
    Cgroup,
    /// A new filesystem of this type.
    New(String),
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path from the container's root, without the leading slash.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: Kind,
    /// First column of mount(8).
    pub source: String,
    /// Attributes that are set, and taken away.
    pub attributes: Attributes,
    /// The same for all mounts below it, too (`rro` and so on).
    pub recursive: Attributes,
    /// In the order given.
    pub propagation: Vec<MountPropagationFlags>,
    /// The filesystem's own: `key` or `key=value`.
    pub data: Vec<String>,
    /// Owners of its files that differ from those on disk.
    pub idmap: Option<IdMap>,
    /// A tmpfs that begins with what lies at its place in the root.
    pub copy_up: bool,
}

/// Owners as the mount shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// From the ids on disk to those of the host; `None`: as the container's user namespace has them.
    pub maps: Option<Maps>,
    /// Also of the mounts below it.
    pub recursive: bool,
}

/// Changes of a mount's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Set.
    pub set: MountAttrFlags,
    /// Taken away.
    pub clear: MountAttrFlags,
}

impl Attributes {
    /// No change.
    pub const NONE: Self = Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty() };

    fn add(&mut self, on: bool, attribute: MountAttrFlags) {
        let atime = MountAttrFlags::MOUNT_ATTR__ATIME;
        if atime.contains(attribute) && attribute != MountAttrFlags::MOUNT_ATTR_NODIRATIME {
            // one of three: the kernel wants all bits of the field cleared where one is set
            self.clear |= atime;
            self.set.remove(atime);
            self.set |= attribute;
            return;
        }
        let (to, from) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *to |= attribute;
        from.remove(attribute);
    }
}

/// Options that are attributes of the mount: with their opposites.
const ATTRIBUTES: &[(&str, bool, MountAttrFlags)] = &[
    ("ro", true, MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("rw", false, MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("nosuid", true, MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("suid", false, MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("nodev", true, MountAttrFlags::MOUNT_ATTR_NODEV),
    ("dev", false, MountAttrFlags::MOUNT_ATTR_NODEV),
    ("noexec", true, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("exec", false, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("nodiratime", true, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("diratime", false, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", true, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ("symfollow", false, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ("noatime", true, MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("strictatime", true, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ("relatime", true, MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("atime", true, MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("norelatime", true, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ("nostrictatime", true, MountAttrFlags::MOUNT_ATTR_RELATIME),
];

/// Options without an effect: the default, or the kernel decides.
const NOTHING: &[&str] = &["defaults", "async", "loud", "nomand", "noiversion", "silent", "copy", "nocopy"];

const PROPAGATION: &[(&str, MountPropagationFlags)] = &[
    ("private", MountPropagationFlags::PRIVATE),
    ("shared", MountPropagationFlags::SHARED),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    ("unbindable", MountPropagationFlags::UNBINDABLE),
];

/// The flags of a propagation word, `rslave` for example.
pub fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let of = |word: &str| PROPAGATION.iter().find(|(name, _)| *name == word).map(|(_, flags)| *flags);
    of(word).or_else(|| Some(of(word.strip_prefix('r')?)? | MountPropagationFlags::REC))
}

/// Checks all of them; relative sources lie in the bundle. `in_user`: the container has a user namespace.
pub fn all(
    mounts: &[oci_spec::runtime::Mount],
    bundle: &Path,
    in_user: bool,
) -> Result<Vec<Mount>, OciError> {
    let one = |(index, mount)| one(mount, &format!("mounts[{index}]"), bundle, in_user);
    mounts.iter().enumerate().map(one).collect()
}

/// `linux.mountLabel`: the SELinux label of all files of the filesystems that are new. Those of the kernel's own have theirs.
pub fn label(mounts: &mut [Mount], label: &str) -> Result<(), OciError> {
    if label.contains(['\0', '\n', '"']) {
        return Err(OciError::config("linux.mountLabel", format!("{label:?} is no label")));
    }
    for mount in mounts {
        let Kind::New(kind) = &mount.kind else { continue };
        if !["proc", "sysfs", "mqueue"].contains(&kind.as_str()) {
            mount.data.push(format!("context={label}"));
        }
    }
    Ok(())
}

fn one(
    mount: &oci_spec::runtime::Mount,
    field: &str,
    bundle: &Path,
    in_user: bool,
) -> Result<Mount, OciError> {
    let destination = inside(&format!("{field}.destination"), mount.destination())?;
    if destination.as_os_str().is_empty() {
        return Err(OciError::config(field, "the destination is the root itself: set root.path"));
    }
    let typ = mount.typ().as_deref().unwrap_or("none");
    let source = mount.source().as_ref().map(|path| path.to_string_lossy().into_owned());
    let (mut attributes, mut recursive) = (Attributes::NONE, Attributes::NONE);
    let (mut mapped, mut copy_up) = (None, false);
    let (mut flags, mut data, mut bind) = (Vec::new(), Vec::new(), (typ == "bind").then_some(false));
    for option in mount.options().iter().flatten() {
        let attribute = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
        match option.as_str() {
            "" => {}
            "bind" => bind = Some(bind.unwrap_or(false)),
            "rbind" => bind = Some(true),
            "idmap" | "ridmap" => mapped = Some(option == "ridmap"),
            "tmpcopyup" => copy_up = true,
            "remount" => {
                return Err(OciError::config(
                    field,
                    "remount is not supported: give the mount these options itself",
                ));
            }
            word if NOTHING.contains(&word) => {}
            word => {
                if let Some((_, on, flag)) = attribute(word) {
                    attributes.add(*on, *flag);
                } else if let Some((_, on, flag)) = word.strip_prefix('r').and_then(attribute) {
                    recursive.add(*on, *flag);
                } else if let Some(flag) = propagation(word) {
                    flags.push(flag);
                } else if word.contains(['\0', '\n']) {
                    return Err(OciError::config(field, "an option holds a NUL byte or a line feed"));
                } else {
                    data.push(word.to_owned());
                }
            }
        }
    }
    // behind all of them: the word bind may stand anywhere
    if let (Some(_), Some(word)) = (bind, data.first()) {
        return Err(OciError::config(field, format!("{word:?} is no option of a bind mount")));
    }
    let kind = match (bind, typ) {
        (Some(recursive), _) => {
            let source = source.as_deref().filter(|source| !source.is_empty());
            let source = source.ok_or_else(|| OciError::config(field, "a bind mount needs a source"))?;
            Kind::Bind { source: bundle.join(source), recursive }
        }
        (None, "cgroup" | "cgroup2") => Kind::Cgroup,
        (None, "none" | "") => return Err(OciError::config(field, "no type, and neither bind nor rbind")),
        (None, typ) => Kind::New(typ.to_owned()),
    };
    if copy_up && kind != Kind::New("tmpfs".to_owned()) {
        return Err(OciError::config(field, "tmpcopyup is an option of tmpfs alone"));
    }
    let idmap = idmap(mount, field, mapped, &kind, in_user)?;
    let source = source.unwrap_or_else(|| typ.to_owned());
    Ok(Mount { destination, kind, source, attributes, recursive, propagation: flags, data, idmap, copy_up })
}

/// `mapped`: by a word among the options, with the mounts below it or without.
fn idmap(
    mount: &oci_spec::runtime::Mount,
    field: &str,
    mapped: Option<bool>,
    kind: &Kind,
    in_user: bool,
) -> Result<Option<IdMap>, OciError> {
    let list = |list: &Option<Vec<_>>| list.clone().unwrap_or_default();
    let (uids, gids) = (list(mount.uid_mappings()), list(mount.gid_mappings()));
    if mapped.is_none() && uids.is_empty() && gids.is_empty() {
        return Ok(None);
    }
    let Kind::Bind { recursive, .. } = kind else {
        return Err(OciError::config(
            field,
            "the owners of a bind mount's files can be mapped, of no other's",
        ));
    };
    let maps = match (uids.is_empty(), gids.is_empty()) {
        (true, true) if in_user => None,
        (true, true) => {
            let reason = "idmap needs uidMappings and gidMappings of the mount, or a user namespace in linux.namespaces";
            return Err(OciError::config(field, reason));
        }
        (false, false) => Some(Maps::new(field, &uids, &gids)?),
        _ => return Err(OciError::config(field, "has one of uidMappings and gidMappings: give both")),
    };
    Ok(Some(IdMap { maps, recursive: mapped.unwrap_or(*recursive) }))
}

/// Every option that is understood of any mount.
pub fn names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(name, ..)| [(*name).to_owned(), format!("r{name}")]);
    let propagation = PROPAGATION.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let mut all: Vec<String> = attributes.chain(propagation).collect();
    all.extend(["bind", "rbind", "idmap", "ridmap", "tmpcopyup"].map(str::to_owned));
    all.extend(NOTHING.iter().map(|name| (*name).to_owned()));
    all.sort();
    all
}
