//! Containers of an ordinary user.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Oci, eventually};
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::{Output, run};

/// Nobody's on any machine.
const UID: u32 = 61_234;

/// A bundle that belongs to [`UID`], and `ownproc-run` as that user.
struct User {
    oci: Oci,
}

impl User {
    fn new(name: &str, script: &str) -> Outcome<Self> {
        let oci = Oci::new(name, script)?;
        oci.change(|config| {
            let map = json!([{ "containerID": 0, "hostID": UID, "size": 1 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
                all.push(json!({ "type": "user" }));
            }
            if let Some(mounts) = config["mounts"].as_array_mut() {
                // no group but one is mapped
                mounts.iter_mut().filter(|mount| mount["destination"] == json!("/dev/pts")).for_each(
                    |mount| {
                        mount["options"] =
                            json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
                    },
                );
            }
        })?;
        let dir = &oci.bundle.dir;
        std::fs::create_dir(dir.join("user"))?;
        for path in [dir.clone(), dir.join("user"), dir.join("config.json")] {
            chown(path, Some(UID), Some(UID))?;
        }
        // the program too, wherever this one's lies
        std::fs::copy(crate::programs::ownproc_run()?.get_program(), dir.join("ownproc-run"))?;
        std::fs::set_permissions(dir.join("ownproc-run"), PermissionsExt::from_mode(0o755))?;
        Ok(Self { oci })
    }

    fn command(&self, words: &[&str]) -> Command {
        let dir = &self.oci.bundle.dir;
        let mut command = Command::new(dir.join("ownproc-run"));
        command.uid(UID).gid(UID).current_dir(dir).args(words).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", dir.join("user"));
        command
    }

    fn output(&self, words: &[&str]) -> Outcome<Output> {
        run(&mut self.command(words))
    }

    fn run(&self, words: &[&str]) -> Outcome<String> {
        self.output(words)?.ok().doing(format!("ownproc-run {words:?} of a user"))
    }
}

/// The whole life of one.
pub fn life() -> Outcome {
    let user =
        User::new("rootless", "trap 'exit 3' TERM; echo mark >/dev/mark; while :; do sleep 0.1; done")?;
    let id = user.oci.id.clone();
    let status = user
        .command(&["--rootless", "run", "--detach", &id])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(user.oci.bundle.dir.join("said"))?)
        .status()?;
    let said = std::fs::read_to_string(user.oci.bundle.dir.join("said"))?;
    check!(status.success(), "run of a user: {said}");
    check!(said.contains("without limits"), "it says what it is not: {said}");
    let work = || -> Outcome {
        let state: Value = serde_json::from_str(&user.run(&["state", &id])?)?;
        check_eq!((&state["status"], &state["owner"]), (&json!("running"), &json!(UID.to_string())), "state");
        let pid = state["pid"].as_i64().doing("pid")?;
        use std::os::unix::fs::MetadataExt;
        check_eq!(std::fs::metadata(format!("/proc/{pid}"))?.uid(), UID, "whose process it is");
        check!(
            user.oci.bundle.dir.join("user/ownproc-run").join(&id).exists(),
            "its state is the user's own"
        );
        eventually("it has begun", || {
            Ok(user.output(&["exec", &id, "cat", "/dev/mark"])?.stdout == "mark\n")
        })?;
        let seen = user.output(&["exec", &id, "sh", "-c", "id; ls /proc | grep -c '^[0-9]'; exit 9"])?;
        check!(seen.code == 9 && seen.stdout.starts_with("uid=0"), "exec: {seen:?}");
        check!(user.run(&["list"])?.contains(&id), "list");
        check!(user.output(&["pause", &id])?.code != 0, "pause without a freezer");
        user.run(&["kill", &id, "TERM"])?;
        eventually("stopped", || Ok(user.run(&["state", &id])?.contains("\"stopped\"")))
    };
    let outcome = work();
    let deleted = user.output(&["delete", "--force", &id])?;
    outcome?;
    deleted.ok().doing("delete of a user")?;
    check_eq!(user.run(&["list", "--quiet"])?, "", "containers that are left");
    Ok(())
}

/// What a user cannot have is said.
pub fn refused() -> Outcome {
    let user = User::new("rootless-not", "id; cat /proc/self/uid_map")?;
    let id = user.oci.id.clone();
    let output = user.output(&["run", &id])?;
    check!(output.code == 0 && output.stdout.starts_with("uid=0"), "before it is made wrong: {output:?}");
    let path = user.oci.bundle.dir.join("config.json");
    let good: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 5] = [
        (|c| c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 }), "linux.resources"),
        (|c| c["linux"]["resources"]["pids"] = json!({ "limit": 5 }), "linux.resources"),
        (|c| c["process"]["oomScoreAdj"] = json!(-5), "oomScoreAdj"),
        (|c| c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }]), "user namespace"),
        (|c| c["linux"]["uidMappings"][0]["size"] = json!(5), "map"),
    ];
    for (change, word) in changes {
        let mut config = good.clone();
        change(&mut config);
        if word == "user namespace" {
            config["linux"]["uidMappings"] = json!([]);
            config["linux"]["gidMappings"] = json!([]);
        }
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        let output = user.output(&["run", &id])?;
        let last = output.stderr.trim().lines().last().unwrap_or_default();
        check!(output.code != 0 && last.contains(word), "{word}: {output:?}");
        check_eq!(user.run(&["list", "--quiet"])?, "", "containers that are left ({word})");
    }
    std::fs::write(&path, serde_json::to_vec(&good)?)?;
    let output = user.output(&["--rootless=false", "run", &id])?;
    check!(output.code != 0 && output.stderr.contains("must run as root"), "{output:?}");
    let output = user.output(&["run", "--bundle", "/root", &id])?;
    check!(output.code != 0, "a bundle of root's: {output:?}");
    Ok(())
}
