//! A container that nests its cgroups deeper than a path can be long.

use serde_json::json;

use super::{Oci, eventually};
use crate::case::{Outcome, check, check_eq};
use crate::output::run_within;

/// In every hierarchy 16 cgroups, one in the other, with names of 250 bytes. A process is in the
/// last one; where there is a freezer of v1 it is frozen there, by itself.
const SCRIPT: &str = r#"
name=$(head -c 250 /dev/zero | tr '\0' d)
for root in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ -e "$root/cgroup.procs" ] || continue
    cd "$root"
    i=0
    while [ $i -lt 16 ] && mkdir "$name" && cd "$name"; do
        for file in cpuset.cpus cpuset.mems; do
            [ -e $file ] && [ -z "$(cat $file)" ] && cat ../$file >$file
        done
        i=$((i + 1))
    done
    places="$places $root"
    [ $i = 16 ] && echo $root >>/tmp/made
done
sleep 600 &
frozen=$!
sleep 600 &
for root in $places; do
    cd "$root"
    i=0
    while [ $i -lt 16 ]; do cd "$name"; i=$((i + 1)); done
    echo $! >cgroup.procs
    if [ -e freezer.state ]; then
        echo $frozen >cgroup.procs
        echo FROZEN >freezer.state
    fi
done
echo x >/tmp/done
while :; do sleep 1; done
"#;

/// Every command ends, and what is deleted is gone.
pub fn nested() -> Outcome {
    let oci = Oci::new("deep", SCRIPT)?;
    for name in ["tr", "mkdir", "sleep"] {
        let link = oci.bundle.root().join("bin").join(name);
        if !link.exists() && link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("busybox", link)?;
        }
    }
    let id = oci.id.clone();
    oci.change(|config| {
        config["root"]["readonly"] = json!(false);
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if mount["type"] == json!("cgroup") {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
            }
        }
    })?;
    oci.leave(&["run", "--detach", &id])?;
    eventually("the cgroups are there", || Ok(oci.bundle.root().join("tmp/done").exists()))?;
    let made = std::fs::read_to_string(oci.bundle.root().join("tmp/made")).unwrap_or_default();
    check!(made.lines().count() > 0, "no hierarchy took 16 levels");
    let within = |words: &[&str]| run_within(&mut oci.command(words)?, std::time::Duration::from_secs(12));
    let pids = oci.run(&["ps", "--format", "json", &id])?;
    let pids: Vec<i64> = serde_json::from_str(&pids)?;
    check!(pids.len() >= 3, "processes that ps finds: {pids:?}");
    for words in [&["ps", &id] as &[&str], &["kill", "--all", &id, "USR2"], &["pause", &id], &["resume", &id]]
    {
        let output = within(words)?;
        // USR2 ends the shell: what is left can be neither paused nor resumed
        let over = words[0] != "ps" && output.stderr.contains("stopped");
        check!(output.code == 0 || over, "{words:?}: {output:?}");
    }
    let output = within(&["delete", "--force", &id])?;
    check_eq!((output.code, output.stderr.as_str()), (0, ""), "delete");
    oci.nothing_is_left()
}
