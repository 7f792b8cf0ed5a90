//! `features`: what this runtime can do, as the OCI runtime specification writes it down (features.md).

use serde_json::json;

use super::config::PROPAGATIONS;
use super::{Doing, OciError, inspect};

/// Prints it.
pub fn print() -> Result<(), OciError> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": inspect::OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": super::config::mounts::names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": caps::all().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
        },
        "annotations": { "io.ownproc.version": env!("CARGO_PKG_VERSION"), "io.ownproc.rootfsPropagations": PROPAGATIONS.join(",") },
    });
    match std::io::Write::write_all(&mut std::io::stdout(), format!("{document:#}\n").as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).doing("write to stdout"),
        _ => Ok(()),
    }
}
