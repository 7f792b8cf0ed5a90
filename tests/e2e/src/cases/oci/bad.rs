//! What must be refused: with a clear word, and with nothing left.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::Oci;
use crate::case::{Doing, Outcome, check};

/// One wrong configuration: a pointer into it, the value, and a word of the error.
const WRONG: &[(&str, &str, &str)] = &[
    ("/ociVersion", "\"0.1.0\"", "ociVersion"),
    ("/root/path", "\"/no/such/place\"", "/no/such/place"),
    ("/process/args", "[]", "process.args"),
    ("/process/cwd", "\"relative\"", "process.cwd"),
    ("/process/cwd", "\"/no/such\"", "/no/such"),
    ("/process/args", "[\"no-such-program\"]", "executable file not found"),
    ("/process/env", "[\"=x\"]", "process.env"),
    ("/process/oomScoreAdj", "5000", "process.oomScoreAdj"),
    ("/process/terminal", "true", "--console-socket"),
    ("/linux/namespaces", "[]", "mount namespace"),
    ("/linux/namespaces", "[{\"type\":\"mount\"},{\"type\":\"pid\"},{\"type\":\"pid\"}]", "twice"),
    (
        "/linux/namespaces",
        "[{\"type\":\"mount\"},{\"type\":\"uts\"},{\"type\":\"network\",\"path\":\"/no/such/ns\"}]",
        "/no/such/ns",
    ),
    ("/linux/cgroupsPath", "\"../../up\"", "cgroupsPath"),
    ("/linux/cgroupsPath", "\"/\"", "cgroupsPath"),
    ("/linux/rootfsPropagation", "\"sideways\"", "rootfsPropagation"),
    ("/linux/maskedPaths", "[\"/proc/../../etc\"]", "maskedPaths"),
    ("/linux/sysctl", "{\"vm.swappiness\":\"1\"}", "vm.swappiness"),
    ("/linux/sysctl", "{\"net/../../vm\":\"1\"}", "linux.sysctl"),
    ("/linux/uidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":9}]", "user namespace"),
    ("/linux/devices", "[{\"path\":\"/dev/null\",\"type\":\"b\",\"major\":-1,\"minor\":3}]", "/dev/null"),
    ("/linux/resources/memory", "{\"limit\":1024}", ""),
    ("/linux/resources/pids", "{\"limit\":-7}", "pids"),
    (
        "/mounts",
        "[{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/no/such\",\"options\":[\"rbind\"]}]",
        "/no/such",
    ),
    ("/mounts", "[{\"destination\":\"/../x\",\"type\":\"tmpfs\"}]", "destination"),
    ("/mounts", "[{\"destination\":\"/x\",\"type\":\"no-such-fs\"}]", "no-such-fs"),
];

pub fn configurations() -> Outcome {
    let oci = Oci::new("bad", "true")?;
    oci.run(&["run", &oci.id]).doing("the configuration before it is made wrong")?;
    let path = oci.bundle.dir.join("config.json");
    let good: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for (pointer, value, word) in WRONG {
        let mut config = good.clone();
        let (above, key) = pointer.rsplit_once('/').doing(*pointer)?;
        let place = if above.is_empty() { &mut config } else { config.pointer_mut(above).doing(*pointer)? };
        place[key] = serde_json::from_str(value)?;
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        let output = oci.output(&["run", &oci.id])?;
        check!(output.code != 0, "{pointer} = {value} was taken");
        let lines = output.stderr.trim().lines().count();
        check!(lines == 1 && output.stderr.contains(word), "{pointer} = {value} said {:?}", output.stderr);
        oci.nothing_is_left().doing(format!("{pointer} = {value}"))?;
    }
    for text in ["", "{", "[]", "{\"ociVersion\": 5}", "\u{0}\u{1}"] {
        std::fs::write(&path, text)?;
        let output = oci.output(&["create", &oci.id])?;
        check!(
            output.code != 0 && output.stderr.contains("config.json"),
            "{text:?} said {:?}",
            output.stderr
        );
    }
    for id in ["../x", "a/b", ".", "", "a b"] {
        let output = oci.output(&["create", id])?;
        check!(output.code != 0, "the name {id:?} was taken");
    }
    std::fs::write(&path, serde_json::to_vec(&good)?)?;
    oci.nothing_is_left()
}

/// Roots that try to lead a mount of ours out of the container, or to put a file of theirs over what is masked.
pub fn roots() -> Outcome {
    let oci =
        Oci::new("roots", "cat /proc/kcore | head -c 1; ls -l /dev/null; cat /proc/meminfo | head -n 1")?;
    let root = oci.bundle.root();
    let outside = oci.bundle.dir.join("outside");
    std::fs::create_dir(&outside)?;
    for (name, to) in [("dev", outside.as_path()), ("tmp", std::path::Path::new("../../../../../../tmp"))] {
        std::fs::remove_dir_all(root.join(name))?;
        symlink(to, root.join(name))?;
    }
    oci.change(|config| {
        config["root"]["readonly"] = json!(false);
        if let Some(all) = config["mounts"].as_array_mut() {
            all.push(json!({ "destination": "/tmp/a/b", "type": "tmpfs", "source": "tmpfs" }));
        }
    })?;
    let output = oci.output(&["run", &oci.id])?;
    check!(std::fs::read_dir(&outside)?.next().is_none(), "something was made outside of the root");
    check!(!std::path::Path::new("/tmp/a/b").exists(), "a mount point was made on the host");
    check!(output.code != 0 || output.stdout.contains("MemTotal"), "said {output:?}");
    oci.nothing_is_left()?;

    std::fs::remove_file(root.join("dev"))?;
    std::fs::create_dir(root.join("dev"))?;
    // links at the places of the kernel's own trees are refused
    for name in ["proc", "sys"] {
        std::fs::remove_dir_all(root.join(name))?;
        symlink("/etc", root.join(name))?;
        let output = oci.output(&["run", &oci.id])?;
        check!(output.code != 0 && output.stderr.contains("symbolic link"), "/{name} a link: {output:?}");
        std::fs::remove_file(root.join(name))?;
        std::fs::create_dir(root.join(name))?;
    }
    oci.nothing_is_left()
}
