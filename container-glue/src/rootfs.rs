//! The container's file tree, built by its init in its own mount namespace and entered with pivot_root.
//!
//! Mounts are made detached (fsopen, open_tree) and attached to descriptors that were resolved inside the new root,
//! so that no symbolic link of the tree can lead one of them elsewhere.

pub(crate) mod cgroupfs;
mod dev;
pub(crate) mod mounts;
mod protect;
pub(crate) mod resolve;
mod root;
mod virtual_files;
mod volumes;

use std::io;
use std::path::{Path, PathBuf};

use crate::groups::Hierarchy;
use crate::spec::{Network, Spec};
use resolve::Root;
pub use virtual_files::VirtualFiles;

/// A step of the set-up that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SetupError {
    what: String,
    source: io::Error,
}

/// Says what a failed call was for.
pub trait Step<T> {
    /// Wraps the error; `what` is "cannot ...".
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError { what: what(), source: error.into() })
    }
}

/// What the tree is built from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The request.
    pub spec: &'a Spec,
    /// The container's group in each hierarchy.
    pub groups: &'a [(&'a Hierarchy, &'a Path)],
    /// The container's directory in the daemon's tree.
    pub tree: PathBuf,
}

/// The kernel's own trees, by the mounts that were made. What `/proc` names in a directory that another container
/// shares may be swapped meanwhile, so nothing is looked up through it again.
pub struct KernelTrees {
    proc: Root,
    sys: Root,
    dev: Root,
}

impl KernelTrees {
    /// What is at `proc/...`, `sys/...` or `dev/...`; `None` when it does not exist.
    pub fn find(&self, path: &Path) -> Result<Option<std::os::fd::OwnedFd>, SetupError> {
        for (name, tree) in [("proc", &self.proc), ("sys", &self.sys), ("dev", &self.dev)] {
            if let Ok(below) = path.strip_prefix(name) {
                return tree.find(below);
            }
        }
        Ok(None)
    }
}

/// Builds the tree and makes it `/`. Afterwards no mount of the host is reachable.
pub fn enter(plan: &Plan<'_>) -> Result<(), SetupError> {
    let spec = plan.spec;
    rustix::process::umask(rustix::fs::Mode::empty());
    mounts::make_all_private()?;
    // everything that comes from the host is opened while the host's tree is there
    let files = VirtualFiles::open(&plan.tree)?;
    let volumes = volumes::open(&spec.volumes)?;
    let root = root::mount(spec.rootfs.as_deref(), spec.limits.memory)?;

    let proc = mounts::filesystem("proc", &[], mounts::NOSUID_NODEV_NOEXEC)?;
    mounts::attach(&proc, &root.directory("proc")?)?;
    let sys = mounts::filesystem("sysfs", &[], mounts::NOSUID_NODEV_NOEXEC | mounts::RDONLY)?;
    mounts::attach(&sys, &root.directory("sys")?)?;
    let dev = dev::mount(&root, spec.limits.memory)?;
    let kernel = KernelTrees { proc: Root::new(proc), sys: Root::new(sys), dev: Root::new(dev) };
    cgroupfs::mount(&root, plan.groups)?;
    if spec.rootfs.is_none() {
        // the host's are full of what only makes sense there
        root::mount_scratch(&root, spec.limits.memory)?;
    }
    volumes::attach(&root, &volumes)?;
    protect::read_only_paths(&kernel)?;
    files.attach(|path| kernel.find(path))?;
    protect::mask_paths(&kernel, &files)?;
    if spec.read_only {
        mounts::set_attributes(root.fd(), mounts::RDONLY)?;
    }
    root.pivot()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Raises the loopback interface of a new network namespace.
pub fn loopback_up(network: Network) -> Result<(), SetupError> {
    if network == Network::Host {
        return Ok(());
    }
    dev::loopback_up().step(|| "cannot raise the loopback interface".to_owned())
}
