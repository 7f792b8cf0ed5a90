//! The container's file tree as its configuration describes it, built by its first process in its own mount namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, makedev};
use rustix::mount::MountAttrFlags;

use super::config::Config;
use super::config::mounts::{Attributes, Kind, Mount, propagation};
use super::console::Console;
use super::join::Joined;
use super::{copy_up, idmap};
use crate::groups::Hierarchy;
use crate::rootfs::mounts::{self, Opt};
use crate::rootfs::resolve::{Root, is_directory};
use crate::rootfs::{SetupError, Step, VirtualFiles, cgroupfs, layer};

/// Nodes that every container has (config-linux.md, "Default Devices").
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Files of /proc that a mount may cover, as runc allows them; what the daemon serves comes on top by itself.
const COVERED: &[&str] = &[
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// What was opened of the host before the container existed.
#[derive(Debug)]
pub struct Sources {
    /// `None`: the host's under a throw-away layer.
    root: Option<OwnedFd>,
    /// Device nodes of the root's own are of no use.
    pub no_devices: bool,
    /// For each mount of the configuration that is a bind: its detached copy.
    binds: Vec<Option<OwnedFd>>,
    /// In a user namespace nodes cannot be made: those of the host, with their place below /dev.
    nodes: Vec<(PathBuf, OwnedFd)>,
}

impl Sources {
    /// Opens all of it. `layer`: the root is the host's under a throw-away layer.
    pub fn open(config: &Config, layer: bool) -> Result<Self, SetupError> {
        let copy = |path: &Path, recursive: bool, what: &str| {
            let what = || format!("cannot use {} as {what}", path.display());
            mounts::open_host(path).and_then(|found| mounts::copy(&found, recursive)).step(what)
        };
        let binds = config.mounts.iter().map(|mount| match &mount.kind {
            Kind::Bind { source, recursive } => {
                let copy = copy(source, *recursive, "the source of a mount")?;
                idmap::apply(config, mount, &copy)?;
                Ok(Some(copy))
            }
            _ => Ok(None),
        });
        let root = if layer { None } else { Some(copy(&config.root, true, "the root (root.path)")?) };
        if root.as_ref().is_some_and(|root| !is_directory(root).unwrap_or(false)) {
            return Err(io::Error::from(io::ErrorKind::NotADirectory))
                .step(|| format!("cannot use {} as the root", config.root.display()));
        }
        let nodes = if config.namespaces.has_own(libc::CLONE_NEWUSER) {
            let defaults = DEVICES.iter().map(|(name, ..)| Path::new("/dev").join(name));
            let all = defaults.chain(config.devices.iter().map(|device| device.path().clone()));
            let node = |path: PathBuf| Ok((path.clone(), copy(&path, false, "a device")?));
            all.map(node).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        Ok(Self { root, no_devices: false, binds: binds.collect::<Result<_, _>>()?, nodes })
    }
}

/// The tree while it is built.
pub struct Tree<'a> {
    config: &'a Config,
    root: Root,
    /// Namespaces that are joined: /proc shows the processes of its pid namespace.
    join: &'a Joined,
    /// Kernel filesystems by the mounts that were made: paths in them are not looked up through the tree again.
    kernel: Vec<(PathBuf, Root)>,
}

impl<'a> Tree<'a> {
    /// Mounts it and makes its devices. `groups`: the container's own; `memory`: its limit, bytes, after which the throw-away
    /// layer is sized.
    pub fn build(
        config: &'a Config,
        join: &'a Joined,
        sources: Sources,
        groups: &[(&Hierarchy, &Path)],
        memory: Option<u64>,
    ) -> Result<Self, SetupError> {
        rustix::process::umask(Mode::empty());
        set_propagation(config)?;
        let root = match sources.root {
            Some(root) => {
                let over = mounts::open_host(Path::new("/")).step(|| "cannot open /".to_owned())?;
                mounts::attach(&root, &over)?;
                cut_off(&root, from_host(config))?;
                if sources.no_devices {
                    mounts::set_attributes_below(&root, mounts::NODEV)?;
                }
                Root::new(root)
            }
            None => layer::mount(memory)?,
        };
        let mut tree = Self { config, root, join, kernel: Vec::new() };
        for (mount, bind) in config.mounts.iter().zip(sources.binds) {
            tree.mount(mount, bind, groups)?;
        }
        if !config
            .mounts
            .iter()
            .any(|m| m.destination == Path::new("dev") && matches!(m.kind, Kind::Bind { .. }))
        {
            tree.devices(&sources.nodes)?;
        }
        Ok(tree)
    }

    /// What lies over it: what is read-only, the daemon's `files`, where it knows the container, and what is hidden.
    pub fn cover(&self, files: Option<&VirtualFiles>) -> Result<(), SetupError> {
        for (file, value) in &self.config.sysctl {
            self.set(file, value)?;
        }
        for path in &self.config.read_only_paths {
            let Some(place) = self.find(path)? else { continue };
            let copy = mounts::copy(&place, true).step(|| format!("cannot bind /{}", path.display()))?;
            mounts::attach(&copy, &place)?;
            mounts::set_attributes_below(&copy, mounts::RDONLY)?;
        }
        if let Some(files) = files {
            files.attach(|path| self.find(path))?;
        }
        let served = |path: &Path| files.is_some_and(|files| files.serve(path));
        for path in self.config.masked.iter().filter(|path| !served(path)) {
            self.mask(path)?;
        }
        Ok(())
    }

    /// What is at a path of the container.
    fn find(&self, path: &Path) -> Result<Option<OwnedFd>, SetupError> {
        for (at, root) in self.kernel.iter().rev() {
            if let Ok(below) = path.strip_prefix(at) {
                return root.find(below);
            }
        }
        self.root.find(path)
    }

    fn mount(
        &mut self,
        mount: &Mount,
        bind: Option<OwnedFd>,
        groups: &[(&Hierarchy, &Path)],
    ) -> Result<(), SetupError> {
        let at = &mount.destination;
        let what = || format!("cannot mount on /{} of the container", at.display());
        let kernels = ["proc", "sys"].iter().any(|name| at == Path::new(name));
        if kernels && rustix::fs::readlinkat(self.root.fd(), at, Vec::new()).is_ok() {
            return Err(io::Error::other("a symbolic link lies there in the root")).step(what);
        }
        let directory = match &bind {
            Some(source) => is_directory(source).step(what)?,
            None => true,
        };
        let place = if at.starts_with("proc") && at != Path::new("proc") {
            self.in_proc(at)?
        } else if directory {
            self.root.directory(at)?
        } else {
            self.root.file(at)?
        };
        let mut late = false;
        self.not_in_proc(at, &place).step(what)?;
        let made = match (&mount.kind, bind) {
            (Kind::Cgroup, _) => {
                let read_only = mount.attributes.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
                return cgroupfs::mount_at(&self.root, at, &place, groups, read_only);
            }
            (Kind::New(kind), _) => {
                let made = fresh(self.join, kind, mount).or_else(|error| long_options(kind, mount, error))?;
                if mount.copy_up {
                    copy_up::copy(&place, &made).step(|| {
                        format!("cannot copy what lies at /{} of the container (tmpcopyup)", at.display())
                    })?;
                    change(&made, mount.attributes, false).step(what)?;
                }
                made
            }
            (Kind::Bind { .. }, Some(copy)) => {
                match change(&copy, mount.attributes, false) {
                    // before Linux 5.12 an attached mount alone can be changed
                    Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => late = true,
                    other => other.step(what)?,
                }
                copy
            }
            (Kind::Bind { .. }, None) => return Err(io::Error::from(io::ErrorKind::NotFound)).step(what),
        };
        change(&made, mount.recursive, true).step(what)?;
        if at == Path::new("proc") && !is_proc(&made).step(what)? {
            return Err(io::Error::other("only the kernel's /proc can be mounted there")).step(what);
        }
        mounts::attach(&made, &place)?;
        if late {
            mounts::set_attributes(&made, mount.attributes.set)?;
        }
        if matches!(mount.kind, Kind::Bind { .. }) {
            // what asks for both directions stays one of the host's, as far as that is shared itself
            if !mount.to_host(self.config) {
                cut_off(&made, from_host(self.config))?;
            }
        }
        for flags in &mount.propagation {
            rustix::mount::mount_change(mounts::proc_path(&made), *flags).step(what)?;
        }
        if matches!(&mount.kind, Kind::New(kind) if kind == "proc" || kind == "sysfs" || kind == "devpts") {
            self.kernel.push((at.clone(), Root::new(made)));
        }
        Ok(())
    }

    /// A file of the container's own /proc, and of no other (CVE-2019-16884, CVE-2023-27561).
    fn in_proc(&self, at: &Path) -> Result<OwnedFd, SetupError> {
        let what = || format!("cannot mount on /{}", at.display());
        if !COVERED.iter().any(|covered| at == Path::new(covered)) {
            return Err(io::Error::other(
                "mounts in /proc are allowed on its files for cpuinfo, meminfo, stat and their like alone",
            ))
            .step(what);
        }
        let place = self.find(at)?.ok_or(io::ErrorKind::NotFound).map_err(io::Error::from).step(what)?;
        if !is_proc(&place).step(what)? {
            return Err(io::Error::other("it is not the kernel's /proc")).step(what);
        }
        Ok(place)
    }

    /// What is to be mounted elsewhere must not come to lie in the container's /proc, which a link in the root can lead to:
    /// settings and labels would be written to whatever covers them (CVE-2025-52881).
    fn not_in_proc(&self, at: &Path, place: &OwnedFd) -> io::Result<()> {
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        for (proc, root) in self.kernel.iter().filter(|(proc, _)| !at.starts_with(proc)) {
            if is_proc(root.fd())? && device(root.fd())? == device(place)? {
                return Err(io::Error::other(format!("a link in the root leads into /{}", proc.display())));
            }
        }
        Ok(())
    }

    fn devices(&self, nodes: &[(PathBuf, OwnedFd)]) -> Result<(), SetupError> {
        let dev = self.root.directory("dev")?;
        // O_PATH descriptors cannot be made entries in on every kernel: open it anew, by the descriptor
        let dev = rustix::fs::openat(&dev, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(|| "cannot open /dev of the container".to_owned())?;
        if self.config.namespaces.has_own(libc::CLONE_NEWUSER) {
            for (path, node) in nodes {
                let place = self.root.file(path)?;
                self.not_in_proc(Path::new("dev"), &place)
                    .step(|| format!("cannot bind the device {}", path.display()))?;
                mounts::attach(node, &place)?;
            }
        } else {
            for &(name, major, minor) in DEVICES {
                if self.config.devices.iter().any(|device| *device.path() == Path::new("/dev").join(name)) {
                    continue;
                }
                make_node(&dev, Path::new(name), FileType::CharacterDevice, 0o666, (major, minor), (0, 0))?;
            }
            for device in &self.config.devices {
                self.device(device)?;
            }
        }
        for &(name, target) in LINKS {
            match rustix::fs::symlinkat(target, &dev, name) {
                Err(rustix::io::Errno::EXIST) => {}
                other => other.step(|| format!("cannot link /dev/{name}"))?,
            }
        }
        Ok(())
    }

    fn device(&self, device: &LinuxDevice) -> Result<(), SetupError> {
        let path = device.path();
        let what = || format!("cannot make the device {}", path.display());
        let bad = |why: &'static str| Err(io::Error::other(why)).step(what);
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => return bad("its type is none of b, c, u, p"),
        };
        let number = |number: i64| u32::try_from(number);
        let (Ok(major), Ok(minor)) = (number(device.major()), number(device.minor())) else {
            return bad("its numbers are negative");
        };
        let below = super::config::inside("linux.devices", path)
            .map_err(|error| io::Error::other(error.to_string()))
            .step(what)?;
        let (Some(above), Some(name)) = (below.parent(), below.file_name()) else {
            return bad("it has no name");
        };
        let above = self.root.directory(above)?;
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        make_node(&above, Path::new(name), kind, mode, (major, minor), owner)
    }

    /// Writes a kernel setting of the container's own.
    fn set(&self, file: &Path, value: &str) -> Result<(), SetupError> {
        let what = || format!("cannot set linux.sysctl {} to {value}", file.display());
        let (_, proc) = self
            .kernel
            .iter()
            .find(|(at, _)| at == Path::new("proc"))
            .ok_or_else(|| io::Error::other("mounts has no proc on /proc"))
            .step(what)?;
        let path = Path::new("sys").join(file);
        // the kernel's own file, and not what a mount or a link has put in its place (CVE-2025-52881)
        let how = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(proc.fd(), &path, flags, Mode::empty(), how).step(what)?;
        rustix::io::write(&fd, value.as_bytes()).map(drop).step(what)
    }

    /// Covers a file by /dev/null and a directory by an empty one.
    fn mask(&self, path: &Path) -> Result<(), SetupError> {
        let Some(place) = self.find(path)? else { return Ok(()) };
        let what = || format!("cannot mask /{}", path.display());
        if is_directory(&place).step(what)? {
            let size = Opt::Value("size", "64k".to_owned());
            let empty = mounts::filesystem("tmpfs", &[size], mounts::NOSUID_NODEV_NOEXEC | mounts::RDONLY)?;
            return mounts::attach(&empty, &place);
        }
        let null = self.root.find("dev/null")?.ok_or(io::ErrorKind::NotFound);
        let null = null.map_err(io::Error::from).step(what)?;
        // whatever the tree has under that name (CVE-2025-31133)
        let stat = rustix::fs::fstat(&null).step(what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3)
        {
            return Err(io::Error::other("/dev/null of the container is not the null device")).step(what);
        }
        mounts::attach(&mounts::copy(&null, false).step(what)?, &place)
    }

    /// The devpts of the container, in which its terminal is made.
    pub fn devpts(&self) -> Result<&OwnedFd, SetupError> {
        let found = self.kernel.iter().find(|(at, _)| at == Path::new("dev/pts"));
        found
            .map(|(_, root)| root.fd())
            .ok_or_else(|| io::Error::other("mounts has no devpts on /dev/pts"))
            .step(|| "cannot make a terminal".to_owned())
    }

    /// The terminal as /dev/console.
    pub fn console(&self, console: &Console) -> Result<(), SetupError> {
        console.bind(self.devpts()?.as_fd(), &self.root.file_itself("dev", "console")?)
    }

    /// Makes it `/`.
    pub fn enter(self, no_pivot: bool) -> Result<(), SetupError> {
        if self.config.read_only {
            mounts::set_attributes(self.root.fd(), mounts::RDONLY)?;
        }
        if no_pivot {
            self.root.cover_host()?;
        } else {
            self.root.pivot()?;
        }
        if let Some(flags) = self.config.propagation.as_deref().and_then(propagation) {
            rustix::mount::mount_change("/", flags)
                .step(|| "cannot set linux.rootfsPropagation".to_owned())?;
        }
        Ok(())
    }
}

/// Whether it is of a procfs.
fn is_proc(fd: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == libc::PROC_SUPER_MAGIC)
}

/// Whether what is mounted on the host later may appear in the container.
fn from_host(config: &Config) -> bool {
    use rustix::mount::MountPropagationFlags as Flags;
    config.propagation.as_deref().is_some_and(|word| word.ends_with("shared") || word.ends_with("slave"))
        || config.mounts.iter().any(|mount| {
            mount.propagation.iter().any(|flags| flags.intersects(Flags::SHARED | Flags::DOWNSTREAM))
        })
}

impl Mount {
    /// Whether what the container mounts below it appears on the host as well: said by the mount and by
    /// rootfsPropagation. Never from a user namespace, where the host's rights end.
    fn to_host(&self, config: &Config) -> bool {
        use rustix::mount::MountPropagationFlags as Flags;
        let shared = config.propagation.as_deref().is_some_and(|word| word.ends_with("shared"));
        let last = self.propagation.last();
        shared
            && last.is_some_and(|flags| flags.contains(Flags::SHARED))
            && !config.namespaces.has_own(libc::CLONE_NEWUSER)
    }
}

/// What comes from the host reaches the container where that is asked for; nothing goes the other way but by
/// [`Mount::to_host`].
fn set_propagation(config: &Config) -> Result<(), SetupError> {
    let root = mounts::open_host(Path::new("/")).step(|| "cannot open /".to_owned())?;
    cut_off(&root, from_host(config))
}

/// The same for a mount and all below it. A copy of the host's belongs to its group of peers still.
fn cut_off(mount: &OwnedFd, from_host: bool) -> Result<(), SetupError> {
    use rustix::mount::MountPropagationFlags as Flags;
    let flags = if from_host { Flags::DOWNSTREAM } else { Flags::PRIVATE };
    rustix::mount::mount_change(mounts::proc_path(mount), flags | Flags::REC)
        .step(|| format!("cannot cut the mounts at {} off from the host's", mounts::name(mount)))
}

/// A new filesystem, not attached yet.
fn fresh(join: &Joined, kind: &str, mount: &Mount) -> Result<OwnedFd, SetupError> {
    let options: Vec<Opt<'_>> = mount
        .data
        .iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => Opt::Value(key, value.to_owned()),
            None => Opt::Flag(option),
        })
        .collect();
    let mut attributes = mount.attributes.set;
    // filled first
    attributes.set(mounts::RDONLY, attributes.contains(mounts::RDONLY) && !mount.copy_up);
    if kind == "proc" {
        return mounts::filesystem_of(join.procfs(), kind, &mount.source, &options, attributes);
    }
    mounts::filesystem_from(kind, &mount.source, &options, attributes)
}

/// fsconfig(2) takes values of 255 bytes at most, overlay's lower directories are longer: such a one is mounted by
/// mount(2) on a directory that only this process sees, and taken off again as a detached copy.
fn long_options(kind: &str, mount: &Mount, error: SetupError) -> Result<OwnedFd, SetupError> {
    if mount.data.iter().all(|option| option.len() < 256) {
        return Err(error);
    }
    let what = || format!("cannot mount a new {kind}");
    let scratch = mounts::filesystem("tmpfs", &[], mounts::NOSUID_NODEV_NOEXEC)?;
    let at = mounts::open_host(Path::new("/dev")).step(what)?;
    mounts::attach(&scratch, &at)?;
    let path = mounts::proc_path(&scratch);
    let data = std::ffi::CString::new(mount.data.join(",")).map_err(io::Error::from).step(what)?;
    let mounted = rustix::mount::mount(
        mount.source.as_str(),
        path.as_str(),
        kind,
        rustix::mount::MountFlags::empty(),
        Some(data.as_c_str()),
    );
    let made = mounted.map_err(io::Error::from).and_then(|()| {
        let top = mounts::open_host(Path::new("/dev"))?;
        let copy = mounts::copy(&top, false)?;
        rustix::mount::unmount("/dev", rustix::mount::UnmountFlags::DETACH)?;
        mounts::change(&copy, mount.attributes.set, MountAttrFlags::empty(), false)?;
        Ok(copy)
    });
    let off = rustix::mount::unmount("/dev", rustix::mount::UnmountFlags::DETACH);
    let made = made.step(what)?;
    off.step(what)?;
    Ok(made)
}

fn change(mount: &OwnedFd, attributes: Attributes, below: bool) -> io::Result<()> {
    if attributes == Attributes::NONE {
        return Ok(());
    }
    mounts::change(mount, attributes.set, attributes.clear, below)
}

fn make_node(
    above: &OwnedFd,
    name: &Path,
    kind: FileType,
    mode: u32,
    (major, minor): (u32, u32),
    (uid, gid): (u32, u32),
) -> Result<(), SetupError> {
    let what = || format!("cannot make the device node {}", name.display());
    let device = if kind == FileType::Fifo { 0 } else { makedev(major, minor) };
    match rustix::fs::mknodat(above, name, kind, Mode::from_raw_mode(mode), device) {
        Err(rustix::io::Errno::EXIST) => {
            // of the root that was given: the same node, or nothing that may stand for it
            let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW).step(what)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
                return Err(io::Error::other("something else lies there in the root")).step(what);
            }
        }
        other => other.step(what)?,
    }
    rustix::fs::chownat(
        above,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .step(what)
}
