//! Paths of /proc and /sys that reach beyond the container: runc's lists, and what else shows the host's state.

use std::path::Path;

use super::mounts;
use super::resolve::is_directory;
use super::virtual_files::VirtualFiles;
use super::{KernelTrees, SetupError, Step};

/// Hidden, unless the daemon serves a container's own: under the container's /dev/null, or an empty directory.
const MASKED: &[&str] = &[
    "proc/acpi",
    "proc/allocinfo",
    "proc/asound",
    "proc/fs/ext4",
    "proc/fs/f2fs",
    "proc/fs/jbd2",
    "proc/fs/xfs",
    "proc/interrupts",
    "proc/kcore",
    "proc/key-users",
    "proc/keys",
    "proc/kpagecgroup",
    "proc/kpagecount",
    "proc/kpageflags",
    "proc/latency_stats",
    "proc/pagetypeinfo",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/vmallocinfo",
    "sys/firmware",
    "sys/fs/ext4",
    "sys/kernel/irq",
    "sys/kernel/slab",
    "sys/devices/virtual/powercap",
];

/// Readable only. The container's root is uid 0 of the host, so file modes alone would let it write.
const READ_ONLY: &[&str] = &["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Binds each path over itself, read-only.
pub fn read_only_paths(kernel: &KernelTrees) -> Result<(), SetupError> {
    for path in READ_ONLY {
        let Some(place) = kernel.find(Path::new(path))? else { continue };
        let copy = mounts::copy(&place, true).step(|| format!("cannot bind /{path}"))?;
        mounts::attach(&copy, &place)?;
        mounts::set_attributes_below(&copy, mounts::RDONLY)?;
    }
    Ok(())
}

/// Covers each path that the daemon does not serve.
pub fn mask_paths(kernel: &KernelTrees, files: &VirtualFiles) -> Result<(), SetupError> {
    for path in MASKED.iter().filter(|path| !files.serve(Path::new(path))) {
        let Some(place) = kernel.find(Path::new(path))? else { continue };
        let what = || format!("cannot mask /{path}");
        if is_directory(&place).step(what)? {
            let size = mounts::Opt::Value("size", "64k".to_owned());
            let empty = mounts::filesystem("tmpfs", &[size], mounts::NOSUID_NODEV_NOEXEC | mounts::RDONLY)?;
            mounts::attach(&empty, &place)?;
        } else {
            // the node that was made, on the mount that was made (CVE-2025-31133)
            let null = kernel.find(Path::new("dev/null"))?.ok_or(std::io::ErrorKind::NotFound);
            let null = null.map_err(std::io::Error::from).step(what)?;
            mounts::attach(&mounts::copy(&null, false).step(what)?, &place)?;
        }
    }
    Ok(())
}
