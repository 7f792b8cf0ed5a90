//! The host's root under a throw-away layer.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::mounts::{self, Opt};
use super::resolve::Root;
use super::{SetupError, Step};
use crate::oci::args::DEFAULT_ROOT as DIR;

/// Mounts it on a tmpfs that lies over the launcher's own directory, in this mount namespace alone, and is half as large
/// as `memory`, the container's limit in bytes.
pub fn mount(memory: Option<u64>) -> Result<Root, SetupError> {
    // a tmpfs over the launcher's state directory, in this mount namespace only. Mounted by a process in the
    // container's groups, so that what is written to it is charged to the container.
    let scratch = mounts::filesystem("tmpfs", &tmpfs_options(memory), mounts::NOSUID_NODEV)?;
    let over = mounts::open_host(Path::new(DIR)).step(|| format!("cannot open {}", DIR))?;
    mounts::attach(&scratch, &over)?;
    let make = |name: &str, mode| {
        rustix::fs::mkdirat(&scratch, name, Mode::from_raw_mode(mode))
            .step(|| format!("cannot make a directory on the scratch tmpfs for {name}"))
    };
    make("root", 0o755)?;
    let place = rustix::fs::openat(&scratch, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| "cannot open the scratch directory".to_owned())?;
    make("upper", 0o755)?;
    make("work", 0o700)?;
    let directory = |name: &str| format!("{DIR}/{name}");
    let options = [
        Opt::Value("lowerdir", "/".to_owned()),
        Opt::Value("upperdir", directory("upper")),
        Opt::Value("workdir", directory("work")),
    ];
    // nodev: the nodes of the host's disks may lie in its /dev, below the devtmpfs
    let overlay = mounts::filesystem("overlay", &options, mounts::NODEV)?;
    mounts::attach(&overlay, &place)?;
    Ok(Root::new(overlay))
}

/// As large as `launch/config.rs` makes a container's other tmpfs: half of its memory.
fn tmpfs_options(memory: Option<u64>) -> Vec<Opt<'static>> {
    let mut options = vec![Opt::Value("mode", "0700".to_owned())];
    options.extend(memory.map(|bytes| Opt::Value("size", (bytes / 2).to_string())));
    options
}
