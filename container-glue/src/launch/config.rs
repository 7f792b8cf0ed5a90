//! What was asked of `launch`, as an OCI configuration. Pure.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec as OciSpec;
use serde_json::{Value, json};

use super::profile;
use crate::args::Sysinfo;
use crate::oci::inspect::OCI_VERSION;
use crate::spec::limits::{Max, PERIOD_US};
use crate::spec::{Limits, Network, Spec};

/// Docker's default set less MKNOD: no container needs nodes beside those that it is given.
const KEPT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Hidden, unless the daemon serves a container's own: runc's list, and what else shows the host's state.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    "/proc/fs/ext4",
    "/proc/fs/f2fs",
    "/proc/fs/jbd2",
    "/proc/fs/xfs",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/vmallocinfo",
    "/sys/firmware",
    "/sys/fs/ext4",
    "/sys/kernel/irq",
    "/sys/kernel/slab",
    "/sys/devices/virtual/powercap",
];

/// Readable only. The container's root is uid 0 of the host, so file modes alone would let it write.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of the host the configuration depends on.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    /// The kernel has time namespaces.
    pub time: bool,
    /// The kernel can set attributes of a whole tree of mounts (Linux 5.12).
    pub whole_trees: bool,
    /// The caller's terminal, where the container shares it.
    pub terminal: Option<&'a Path>,
    /// Score of the caller for the OOM killer is below 0.
    pub spared: bool,
    /// The user and its groups, by number.
    pub user: User,
    /// --device
    pub devices: Vec<Device>,
    /// --io-max, as `linux.resources.blockIO` has it.
    pub block_io: Value,
}

/// A node of the host's that the container has, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it is inside.
    pub path: PathBuf,
    /// `b` or `c`.
    pub kind: char,
    /// Of the node.
    pub major: u32,
    /// Of the node.
    pub minor: u32,
    /// Some of `rwm`.
    pub access: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: (u32, u32),
}

impl Device {
    fn node(&self) -> Value {
        json!({
            "path": self.path, "type": self.kind, "major": self.major, "minor": self.minor, "fileMode": self.mode,
            "uid": self.owner.0, "gid": self.owner.1,
        })
    }

    fn rule(&self) -> Value {
        json!({ "allow": true, "type": self.kind, "major": self.major, "minor": self.minor, "access": self.access })
    }
}

/// A user by numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// uid
    pub uid: u32,
    /// gid
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The configuration. `limits`: those of `spec` with the CPUs that were chosen.
pub fn configuration(spec: &Spec, limits: &Limits, host: &Host<'_>) -> serde_json::Result<OciSpec> {
    let mut namespaces = vec!["mount", "uts", "ipc", "pid", "cgroup"];
    if spec.network == Network::None {
        namespaces.push("network");
    }
    // it has a clock of its own, whatever a file says: who wants the host's uptime does without
    if host.time && spec.view.uptime != Some(ownproc::model::UptimePolicy::Host) {
        namespaces.push("time");
    }
    let types: Vec<Value> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
    let env: Vec<String> = spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let args: Vec<_> = spec.command.iter().map(|word| word.to_string_lossy()).collect();
    let mut process = json!({
        "terminal": spec.terminal,
        "user": { "uid": host.user.uid, "gid": host.user.gid, "additionalGids": host.user.groups },
        "args": args,
        "env": env,
        "cwd": spec.workdir,
        "noNewPrivileges": true,
        // of another user than root none is left but in the bounding set, as execve(2) would have it
        "capabilities": {
            "bounding": KEPT,
            "effective": if host.user.uid == 0 { KEPT } else { &[] },
            "permitted": if host.user.uid == 0 { KEPT } else { &[] },
        },
    });
    if host.spared {
        // a caller that the OOM killer spares (sshd, a supervisor) must not hand that down: a container at its memory
        // limit in which nothing may be killed hangs
        process["oomScoreAdj"] = json!(0);
    }
    let root = spec.rootfs.as_deref().unwrap_or(Path::new("/"));
    serde_json::from_value(json!({
        "ociVersion": OCI_VERSION,
        "hostname": spec.hostname,
        "root": { "path": root, "readonly": spec.read_only },
        "process": process,
        "mounts": mounts(spec, limits, host),
        "annotations": { "io.ownproc.sysinfo": if spec.sysinfo == Sysinfo::View { "view" } else { "kernel" } },
        "linux": {
            "namespaces": types,
            "cgroupsPath": Path::new("/").join(&spec.cgroup_parent).join(spec.name.as_str()),
            "resources": resources(limits, host),
            "devices": host.devices.iter().map(Device::node).collect::<Vec<_>>(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": profile::document(),
        },
    }))
}

/// A tmpfs as large as a machine of the container's memory would have it: half of that. Then one that is filled
/// means "no space left" to the writer; as large as the limit, it would mean death by the OOM killer for all, since
/// what lies there cannot be reclaimed. Without a limit the kernel's default applies, half of the host's memory.
fn tmpfs(at: &str, mode: &str, limits: &Limits, further: &[&str]) -> Value {
    let mut options: Vec<String> =
        ["nosuid", "nodev"].iter().chain(further).map(ToString::to_string).collect();
    options.push(format!("mode={mode}"));
    options.extend(limits.memory.map(|bytes| format!("size={}", bytes / 2)));
    json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn mounts(spec: &Spec, limits: &Limits, host: &Host<'_>) -> Vec<Value> {
    let new = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let mut all = vec![
        new("/proc", "proc", &["nosuid", "nodev", "noexec"]),
        new("/sys", "sysfs", &["nosuid", "nodev", "noexec", "ro"]),
        new("/dev", "tmpfs", &["nosuid", "noexec", "mode=0755", "size=64k"]),
        // the group tty of every distribution, on which grantpt(3) relies
        new(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        tmpfs("/dev/shm", "1777", limits, &["noexec"]),
        new("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
        new("/sys/fs/cgroup", "cgroup", &["ro"]),
    ];
    // the caller's terminal under the name by which ttyname(3) finds it
    all.extend(host.terminal.map(|terminal| {
        json!({ "destination": "/dev/console", "type": "bind", "source": terminal, "options": ["bind"] })
    }));
    if spec.rootfs.is_none() {
        // the host's are full of what only makes sense there
        all.extend([tmpfs("/run", "0755", limits, &[]), tmpfs("/tmp", "1777", limits, &[])]);
    }
    all.extend(spec.tmpfs.iter().map(|at| tmpfs(at, "1777", limits, &["noexec"])));
    all.extend(spec.volumes.iter().map(|volume| {
        let options: &[&str] = match (host.whole_trees, volume.read_only) {
            (true, true) => &["rbind", "rnodev", "rro"],
            (true, false) => &["rbind", "rnodev"],
            // where a tree cannot be changed as a whole, the mounts below the source are left out
            (false, true) => &["bind", "nodev", "ro"],
            (false, false) => &["bind", "nodev"],
        };
        json!({ "destination": volume.target, "type": "bind", "source": volume.source, "options": options })
    }));
    all
}

/// `linux.resources`: what `update` begins with, and the rules for devices.
fn resources(limits: &Limits, host: &Host<'_>) -> Value {
    let max = |max: Max| match max {
        Max::Unlimited => -1,
        Max::At(number) => i64::try_from(number).unwrap_or(i64::MAX),
    };
    let mut found = json!({
        "devices": host.devices.iter().map(Device::rule).collect::<Vec<_>>(),
        "memory": {},
        "cpu": {},
        "blockIO": host.block_io,
    });
    if let Some(bytes) = limits.memory {
        found["memory"]["limit"] = json!(bytes);
    }
    if let Some(swap) = limits.memory_swap {
        found["memory"]["swap"] = json!(max(swap));
    }
    if let Some(quota) = limits.cpus {
        found["cpu"]["quota"] = json!(quota);
        found["cpu"]["period"] = json!(PERIOD_US);
    }
    if let Some(shares) = limits.cpu_shares() {
        found["cpu"]["shares"] = json!(shares);
    }
    for (key, set) in [("cpus", &limits.cpuset_cpus), ("mems", &limits.cpuset_mems)] {
        if let Some(set) = set {
            found["cpu"][key] = json!(set.to_string());
        }
    }
    if let Some(pids) = limits.pids {
        found["pids"] = json!({ "limit": max(pids) });
    }
    found
}

#[cfg(test)]
mod tests;
