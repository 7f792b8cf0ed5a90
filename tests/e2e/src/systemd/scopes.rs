//! Containers in scopes that systemd makes: `ownproc-run --systemd-cgroup`, alone and under podman.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::systemctl;
use crate::bundle::Bundle;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::manager::eventually;
use crate::output::{Output, run};
use crate::programs::ownproc_run;

const MEMORY: u64 = 64 << 20;

/// The group of a process, on v2.
fn group_of(pid: &str) -> Outcome<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).doing("the line of v2")?;
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

fn value(group: &Path, file: &str) -> Outcome<String> {
    let path = group.join(file);
    Ok(std::fs::read_to_string(&path).doing(path.display())?.trim().to_owned())
}

fn is_there(unit: &str) -> Outcome<bool> {
    Ok(systemctl(&["show", "--value", "-p", "LoadState,ActiveState", unit])?.stdout.contains("loaded"))
}

/// A bundle's life in a scope: limits that a reload of systemd leaves alone, and no unit at the end.
pub fn bundle() -> Outcome {
    let bundle = Bundle::make("scope")?;
    let id = "e2e-scope";
    let unit = format!("e2e-{id}.scope");
    let ownproc_run = |words: &[&str]| -> Outcome<Command> {
        let mut command = ownproc_run()?;
        command.arg("--root").arg(bundle.dir.join("states")).arg("--systemd-cgroup").args(words);
        command.current_dir(&bundle.dir).stdin(Stdio::null());
        Ok(command)
    };
    let output = |words: &[&str]| -> Outcome<Output> { run(&mut ownproc_run(words)?) };
    output(&["spec"])?.ok()?;
    let path = bundle.dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sleep", "600"]);
    config["linux"]["cgroupsPath"] = json!(format!("e2e-deep.slice:e2e:{id}"));
    config["linux"]["resources"] = json!({
        "memory": { "limit": MEMORY },
        "cpu": { "quota": 50_000, "period": 100_000, "cpus": "1" },
        "pids": { "limit": 50 },
    });
    std::fs::write(&path, serde_json::to_vec(&config)?)?;

    let errors = std::fs::File::create(bundle.dir.join("errors"))?;
    let mut create = ownproc_run(&["create", "--pid-file", "pid", id])?;
    let made = create.stdout(Stdio::null()).stderr(errors).status()?;
    check!(made.success(), "create: {}", std::fs::read_to_string(bundle.dir.join("errors"))?);
    output(&["start", id])?.ok().doing("start")?;
    let group = group_of(&std::fs::read_to_string(bundle.dir.join("pid"))?)?;
    check_eq!(group, Path::new("/sys/fs/cgroup/e2e.slice/e2e-deep.slice").join(&unit), "its group");
    let limits = |memory: u64, when: &str| -> Outcome {
        for (file, wanted) in [
            ("memory.max", memory.to_string()),
            ("cpu.max", "50000 100000".to_owned()),
            ("cpuset.cpus", "1".to_owned()),
            ("pids.max", "50".to_owned()),
        ] {
            check_eq!(value(&group, file)?, wanted, "{file} {when}");
        }
        Ok(())
    };
    limits(MEMORY, "after start")?;
    check_eq!(systemctl(&["show", "--value", "-p", "Delegate", &unit])?.ok()?.trim(), "yes", "Delegate");
    systemctl(&["daemon-reload"])?.ok()?;
    // it writes them again when anything of its own changes there
    systemctl(&["set-property", "--runtime", &unit, "CPUWeight=50"])?.ok()?;
    limits(MEMORY, "after daemon-reload")?;
    let total = output(&["exec", id, "head", "-n", "1", "/proc/meminfo"])?.ok().doing("exec")?;
    check_eq!(total, format!("MemTotal:       {:8} kB\n", MEMORY >> 10), "meminfo inside");
    output(&["update", "--memory", &(2 * MEMORY).to_string(), id])?.ok().doing("update")?;
    systemctl(&["daemon-reload"])?.ok()?;
    systemctl(&["set-property", "--runtime", &unit, "CPUWeight=60"])?.ok()?;
    limits(2 * MEMORY, "after update and daemon-reload")?;
    output(&["delete", "--force", id])?.ok().doing("delete")?;
    check!(!group.exists(), "{} is left", group.display());
    check!(!is_there(&unit)?, "{unit} is left");

    // and in one go, with a name of the unit that nobody chose
    config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/cgroup; exit 3"]);
    config["linux"]["cgroupsPath"] = serde_json::Value::Null;
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    let ran = output(&["run", id])?;
    check_eq!(ran.code, 3, "exit code of run ({})", ran.stderr);
    check!(!is_there(&format!("ownproc-{id}.scope"))?, "the scope of run is left");
    Ok(())
}

/// podman as Debian sets it up: with systemd as the manager of groups.
pub fn podman() -> Outcome {
    let bundle = Bundle::make("scope-podman")?;
    let runtime = ownproc_run()?.get_program().to_string_lossy().into_owned();
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(bundle.dir.join("root")).arg("--runroot").arg(bundle.dir.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "systemd", "--events-backend", "none"]);
        command.args(["--runtime", &runtime]).args(words);
        run(&mut command)
    };
    let root = bundle.root().display().to_string();
    #[rustfmt::skip]
    let ran = podman(&[
        "run", "--rm", "--memory", "96m", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
        "--rootfs", &root, "sh", "-c", "head -n 1 /proc/meminfo; exit 7",
    ])?;
    check_eq!(ran.code, 7, "exit code of podman run ({})", ran.stderr);
    check_eq!(ran.stdout, "MemTotal:          98304 kB\n", "what podman run printed");
    eventually("no scope of podman is left", || {
        Ok(!systemctl(&["list-units", "--all", "--no-legend", "libpod-*.scope"])?.ok()?.contains("libpod-"))
    })
}
