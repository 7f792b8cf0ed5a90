//! Containers of runc and podman.

use std::process::Command;

use super::{check, check_eq, host_is_untouched, init_in, json, kib, ours, ownproc, state};
use crate::bundle::Bundle;
use crate::case::{Doing, Outcome};
use crate::groups::Group;
use crate::output::run;
use crate::parse::Meminfo;

/// Attached, read by `exec` of the runtime, detached.
fn comes_and_goes(target: &str, init: i32, mib: u64, exec: &dyn Fn(&str) -> Outcome<String>) -> Outcome {
    let total = || -> Outcome<u64> { Ok(Meminfo::parse(&exec("/proc/meminfo")?)?.get("MemTotal")) };
    let host = total()?;
    let (document, output) = json(&["attach", target])?;
    check_eq!(output.code, 0, "exit code of attach {target} ({})", output.stderr);
    check_eq!(state(&document, "/proc/meminfo")?, "attached", "state of meminfo");
    check_eq!(state(&document, "/sys/devices/system/cpu")?, "attached", "state of the cpu directory");
    // Below /proc/sys, which these runtimes make read-only.
    check_eq!(state(&document, "/proc/sys/kernel/random/boot_id")?, "attached", "state of boot_id");
    check_eq!(total()?, kib(mib), "MemTotal after attach");
    check!(exec("/proc/stat")?.starts_with("cpu "), "stat");
    let output = ownproc(&["detach", target])?;
    check_eq!(output.code, 0, "exit code of detach {target} ({})", output.stderr);
    check_eq!(ours(nix::unistd::Pid::from_raw(init))?.len(), 0, "mounts after detach");
    check_eq!(total()?, host, "MemTotal after detach");
    host_is_untouched()
}

pub fn runc() -> Outcome {
    let bundle = Bundle::make("runc")?;
    run(Command::new("runc").arg("spec").current_dir(&bundle.dir))?.ok().doing("runc spec")?;
    let file = bundle.dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let name = format!("e2e-runc-{}", std::process::id());
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["sleep", "600"]);
    // Raising a limit needs a right that a machine of tests may lack.
    config["process"]["rlimits"] = serde_json::json!([]);
    config["root"]["readonly"] = true.into();
    config["linux"]["cgroupsPath"] = format!("{}/{name}", bundle.parent).into();
    config["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 96u64 << 20 });
    std::fs::write(&file, config.to_string())?;
    let state_dir = bundle.dir.join("state");
    let runc = || {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state_dir);
        command
    };
    let started = runc()
        .args(["run", "--detach", "--bundle"])
        .arg(&bundle.dir)
        .arg(&name)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .doing("runc run")?;
    check!(started.success(), "runc run: {started}");
    let work = || -> Outcome {
        let init = init_in(&Group::existing(&format!("{}/{name}", bundle.parent))?)?;
        let exec = |path: &str| run(runc().args(["exec", &name, "cat", path]))?.ok();
        comes_and_goes(&format!("pid:{init}"), init.as_raw(), 96, &exec)
    };
    let outcome = work();
    run(runc().args(["delete", "--force", &name]))?.ok().doing("runc delete")?;
    outcome
}

pub fn podman() -> Outcome {
    let bundle = Bundle::make("podman")?;
    let name = format!("e2e-podman-{}", std::process::id());
    let podman = || {
        let mut command = Command::new("podman");
        command.arg("--root").arg(bundle.dir.join("root")).arg("--runroot").arg(bundle.dir.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", "runc"]);
        command
    };
    let work = || -> Outcome {
        // Limits of its own, since the defaults may be above what this machine allows.
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let output = run(podman()
            .args(["run", "--detach", "--name", &name, "--network", "none", "--memory", "96m"])
            .args(["--cgroup-parent", &bundle.parent])
            .args(limits)
            .arg("--rootfs")
            .arg(bundle.root())
            .args(["/bin/sleep", "600"]))?;
        let id = output.ok().doing("podman run")?.trim().to_owned();
        let pid = run(podman().args(["inspect", "--format", "{{.State.Pid}}", &name]))?.ok()?;
        let exec = |path: &str| run(podman().args(["exec", &name, "cat", path]))?.ok();
        // By the beginning of its id, as podman prints it.
        comes_and_goes(id.get(..12).doing("an id")?, pid.trim().parse()?, 96, &exec)
    };
    let outcome = work();
    let removed = run(podman().args(["rm", "--force", "--time", "0", &name]))?;
    outcome?;
    removed.ok().doing("podman rm").map(drop)
}
