//! What becomes `/`.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::mounts::{self, Opt};
use super::resolve::Root;
use super::{SetupError, Step};
use crate::state;

/// Mounts the directory, or the host's root under a throw-away layer, at the scratch mount point.
pub fn mount(rootfs: Option<&Path>, memory: Option<u64>) -> Result<Root, SetupError> {
    let source = rootfs
        .map(|path| {
            let what = || format!("cannot use {} as the root", path.display());
            let directory = mounts::open_host(path).step(what)?;
            mounts::copy(&directory, true).step(what)
        })
        .transpose()?;
    // a tmpfs over the launcher's state directory, in this mount namespace only. Mounted by a process in the
    // container's groups, so that what is written to it is charged to the container.
    let scratch = mounts::filesystem("tmpfs", &tmpfs_options("0700", memory), mounts::NOSUID_NODEV)?;
    let over = mounts::open_host(Path::new(state::DIR)).step(|| format!("cannot open {}", state::DIR))?;
    mounts::attach(&scratch, &over)?;
    let make = |name: &str, mode| {
        rustix::fs::mkdirat(&scratch, name, Mode::from_raw_mode(mode))
            .step(|| format!("cannot make a directory on the scratch tmpfs for {name}"))
    };
    make("root", 0o755)?;
    let place = rustix::fs::openat(&scratch, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| "cannot open the scratch directory".to_owned())?;
    let root = match source {
        Some(tree) => {
            mounts::attach(&tree, &place)?;
            mounts::set_attributes_below(&tree, mounts::NODEV)?;
            tree
        }
        None => {
            make("upper", 0o755)?;
            make("work", 0o700)?;
            let directory = |name: &str| format!("{}/{name}", state::DIR);
            let options = [
                Opt::Value("lowerdir", "/".to_owned()),
                Opt::Value("upperdir", directory("upper")),
                Opt::Value("workdir", directory("work")),
            ];
            // nodev: the nodes of the host's disks may lie in its /dev, below the devtmpfs
            let overlay = mounts::filesystem("overlay", &options, mounts::NODEV)?;
            mounts::attach(&overlay, &place)?;
            overlay
        }
    };
    Ok(Root::new(root))
}

/// Fresh /run and /tmp.
pub fn mount_scratch(root: &Root, memory: Option<u64>) -> Result<(), SetupError> {
    for (path, mode) in [("run", "0755"), ("tmp", "1777")] {
        let tmpfs = mounts::filesystem("tmpfs", &tmpfs_options(mode, memory), mounts::NOSUID_NODEV)?;
        mounts::attach(&tmpfs, &root.directory(path)?)?;
    }
    Ok(())
}

/// A tmpfs as large as a machine of the container's memory would have it: half of that. Then one that is filled
/// means "no space left" to the writer; as large as the limit, it would mean death by the OOM killer for all, since
/// what lies there cannot be reclaimed. Without a limit the kernel's default applies, half of the host's memory.
pub fn tmpfs_options(mode: &str, memory: Option<u64>) -> Vec<Opt<'static>> {
    let mut options = vec![Opt::Value("mode", mode.to_owned())];
    options.extend(memory.map(|bytes| Opt::Value("size", (bytes / 2).to_string())));
    options
}
