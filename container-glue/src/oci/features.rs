//! `features`: what this runtime can do, as the OCI runtime specification writes it down (features.md).

use serde_json::json;

use super::config::PROPAGATIONS;
use super::{OciError, inspect};

/// What `linux.seccomp` may name.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Prints it.
pub fn print() -> Result<(), OciError> {
    inspect::print(&format!("{:#}", document()))
}

fn document() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": inspect::OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": super::config::mounts::names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": caps::all().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "knownFlags": FLAGS,
                "supportedFlags": FLAGS,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false, "schemata": false, "monitoring": false },
            "memoryPolicy": { "modes": [], "flags": [] },
            "netDevices": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": { "io.ownproc.version": env!("CARGO_PKG_VERSION"), "io.ownproc.rootfsPropagations": PROPAGATIONS.join(",") },
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Features, LinuxSeccomp, Mount};

    use super::*;

    /// Each word is one that the types of the specification and this runtime know.
    #[test]
    fn it_is_true() {
        let features: Features = serde_json::from_value(document()).unwrap();
        for option in features.mount_options().as_ref().unwrap() {
            let typ = if option == "tmpcopyup" { "tmpfs" } else { "bind" };
            let mount = json!({"destination": "/x", "type": typ, "source": "/y", "options": [option]});
            let mount: Mount = serde_json::from_value(mount).unwrap();
            let checked = super::super::config::mounts::all(
                std::slice::from_ref(&mount),
                std::path::Path::new("/"),
                true,
            );
            assert!(checked.is_ok(), "{option}: {checked:?}");
        }
        for action in ACTIONS {
            for operator in OPERATORS {
                let rule = json!({"names": ["read"], "action": action,
                    "args": [{"index": 0, "value": 0, "valueTwo": 0, "op": operator}]});
                let profile = json!({"defaultAction": "SCMP_ACT_KILL", "flags": FLAGS, "syscalls": [rule]});
                let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
                super::super::seccomp::compile(&profile).unwrap();
            }
        }
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), super::super::config::namespaces::KINDS.len());
    }
}
