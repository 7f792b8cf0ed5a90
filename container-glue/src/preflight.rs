//! What this host must offer, found out before anything is made. Each failure is one line with the next step.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use ownproc::model::CpuSet;

use crate::groups::{GroupError, Hierarchies};
use crate::spec::Spec;
use crate::spec::limits::PERIOD_US;

/// Least kernel: openat2, close_range and pidfd waits together.
const KERNEL: (u32, u32) = (5, 10);

/// Why the container cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// euid is not 0.
    #[error("must run as root: use sudo")]
    NotRoot,
    /// Root without rights, as in most containers.
    #[error("root lacks {0} here: run on the host, or in a container started with --privileged")]
    NoCapability(Capability),
    /// Too old.
    #[error("Linux {release} is too old: {}.{} or later is needed", KERNEL.0, KERNEL.1)]
    OldKernel {
        /// As uname(1) prints it.
        release: String,
    },
    /// A kind of namespace is missing.
    #[error("this kernel has no {0} namespaces: it is built without them")]
    NoNamespace(&'static str),
    /// No FUSE.
    #[error("/dev/fuse cannot be used ({0}): load the module with modprobe fuse, or pass the device in")]
    NoFuse(String),
    /// No overlayfs.
    #[error(
        "this kernel has no overlay filesystem ({0}): modprobe overlay, or give a root with --rootfs DIR"
    )]
    NoOverlay(io::Error),
    /// No cgroup hierarchy at all.
    #[error("no cgroup hierarchy is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup")]
    NoCgroups,
    /// See [`GroupError`].
    #[error(transparent)]
    Groups(#[from] GroupError),
    /// A file that tells about the host.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A set that the host does not have.
    #[error("{flag} {wanted}: this host has {has} only")]
    NotThere {
        /// The flag.
        flag: &'static str,
        /// Its value.
        wanted: String,
        /// What there is.
        has: String,
    },
    /// More CPU time than there is.
    #[error("--cpus {wanted}: this host has {has} CPUs; give at most that")]
    TooManyCpus {
        /// In CPUs.
        wanted: f64,
        /// In CPUs.
        has: usize,
    },
    /// --rootfs
    #[error("--rootfs {}: {reason}", path.display())]
    Rootfs {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// -v
    #[error("--volume: {} of the host: {source}; create it first", path.display())]
    Volume {
        /// SRC.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Checks all of it and returns the hierarchies.
pub fn check(spec: &Spec) -> Result<Hierarchies, PreflightError> {
    rights()?;
    kernel()?;
    fuse()?;
    match &spec.rootfs {
        Some(path) => rootfs(path)?,
        None => overlay()?,
    }
    for volume in &spec.volumes {
        std::fs::symlink_metadata(&volume.source)
            .map_err(|source| PreflightError::Volume { path: volume.source.clone(), source })?;
    }
    let proc = Path::new("/proc");
    let hierarchies = Hierarchies::discover(proc)
        .map_err(|source| PreflightError::Read { path: proc.join("self/mountinfo"), source })?;
    if hierarchies.0.is_empty() {
        return Err(PreflightError::NoCgroups);
    }
    crate::groups::limits::check(&spec.limits, &hierarchies)?;
    sets(spec, Path::new("/sys/devices/system"))?;
    Ok(hierarchies)
}

/// The rights that every container needs its maker to have.
pub fn rights() -> Result<(), PreflightError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(PreflightError::NotRoot);
    }
    for capability in [Capability::CAP_SYS_ADMIN, Capability::CAP_MKNOD, Capability::CAP_NET_ADMIN] {
        // what cannot be asked will fail by itself later
        if caps::has_cap(None, CapSet::Effective, capability).is_ok_and(|has| !has) {
            return Err(PreflightError::NoCapability(capability));
        }
    }
    Ok(())
}

/// The kernel has what every container is made with.
pub fn kernel() -> Result<(), PreflightError> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    if version(&release).is_some_and(|version| version < KERNEL) {
        return Err(PreflightError::OldKernel { release: release.into_owned() });
    }
    for (file, name) in [
        ("mnt", "mount"),
        ("uts", "uts"),
        ("ipc", "ipc"),
        ("net", "network"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
    ] {
        if !Path::new("/proc/self/ns").join(file).exists() {
            return Err(PreflightError::NoNamespace(name));
        }
    }
    Ok(())
}

/// `6.18.4-x` -> (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn fuse() -> Result<(), PreflightError> {
    let path = Path::new("/dev/fuse");
    let kind =
        std::fs::metadata(path).map_err(|error| PreflightError::NoFuse(error.to_string()))?.file_type();
    if !kind.is_char_device() {
        return Err(PreflightError::NoFuse("not a device".to_owned()));
    }
    let opened = std::fs::File::options().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| PreflightError::NoFuse(error.to_string()))
}

/// Opening the filesystem type makes the kernel load its module, and nothing else.
fn overlay() -> Result<(), PreflightError> {
    rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)
        .map(drop)
        .map_err(|error| PreflightError::NoOverlay(error.into()))
}

fn rootfs(path: &Path) -> Result<(), PreflightError> {
    let fail = |reason: String| PreflightError::Rootfs { path: path.to_owned(), reason };
    let meta = std::fs::metadata(path)
        .map_err(|error| fail(format!("{error}; give the directory of a root tree")))?;
    if !meta.is_dir() {
        return Err(fail("not a directory; unpack the image and give the directory".to_owned()));
    }
    for name in ["proc", "sys", "dev"] {
        if !std::fs::symlink_metadata(path.join(name)).is_ok_and(|meta| meta.is_dir()) {
            return Err(fail(format!(
                "has no directory /{name}; create it with mkdir {}/{name}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The requested CPUs and nodes are there. `system` is /sys/devices/system.
fn sets(spec: &Spec, system: &Path) -> Result<(), PreflightError> {
    let cpus = read_set(&system.join("cpu/online"))?;
    for (flag, wanted, has) in [
        ("--cpuset-cpus", &spec.limits.cpuset_cpus, Some(cpus.clone())),
        // a kernel without NUMA has one node and no directory
        ("--cpuset-mems", &spec.limits.cpuset_mems, read_set(&system.join("node/online")).ok()),
    ] {
        let has = has.unwrap_or_else(|| CpuSet::first(1));
        if let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.without(&has).is_empty()) {
            return Err(PreflightError::NotThere { flag, wanted: wanted.to_string(), has: has.to_string() });
        }
    }
    if let Some(quota) = spec.limits.cpus.filter(|&quota| quota > PERIOD_US.saturating_mul(cpus.len() as u64))
    {
        return Err(PreflightError::TooManyCpus { wanted: quota as f64 / PERIOD_US as f64, has: cpus.len() });
    }
    Ok(())
}

/// A file that holds a set.
pub fn read_set(path: &Path) -> Result<CpuSet, PreflightError> {
    let fail = |source| PreflightError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(fail)?;
    CpuSet::parse(&text).map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidData, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("5.9.0"), Some((5, 9)));
        assert_eq!(version("x"), None);
    }

    #[test]
    fn roots_that_cannot_serve() {
        let root = tempfile::tempdir().unwrap();
        let message = |path: &Path| rootfs(path).unwrap_err().to_string();
        assert!(message(&root.path().join("none")).contains("No such file"));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(message(&root.path().join("file")).contains("not a directory"));
        assert!(message(root.path()).contains("no directory /proc"));
        for name in ["proc", "sys", "dev"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        rootfs(root.path()).unwrap();
    }
}
