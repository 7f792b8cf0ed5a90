//! `ownproc doctor` finds what is wrong, names it and says what to do, and waits for nobody.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::daemon::{self, Daemon, ownproc_at};
use crate::readers::Container;

pub const CASES: &[Row] = &[
    ("doctor_healthy", Nothing, healthy),
    ("doctor_no_daemon", Nothing, no_daemon),
    ("doctor_worker_that_died", Nothing, worker_died),
    ("doctor_dead_mount", Nothing, dead_mount),
    ("doctor_nobody_answers", Nothing, nobody_answers),
    ("doctor_wrong_configuration", Nothing, wrong_configuration),
];

/// What it says: check, level and text, in the order in which it says it.
pub struct Said(Vec<(String, String, String)>);

impl Said {
    pub fn of(mount: &Path) -> Outcome<Self> {
        let began = Instant::now();
        let output = ownproc_at(mount, &["doctor", "--json"])?;
        check!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        check!(matches!(output.code, 0 | 1), "exit code {} ({})", output.code, output.stderr);
        let document: serde_json::Value = serde_json::from_str(&output.stdout).doing(&output.stdout)?;
        check_eq!(document["version"], 1, "version");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut said = Vec::new();
        for check in document["checks"].as_array().doing("checks")? {
            let (name, level) = (text(&check["check"]), text(&check["level"]));
            let words = format!("{}: {}", text(&check["message"]), text(&check["advice"]));
            check!(["ok", "warn", "fail"].contains(&level.as_str()), "level of {name}: {level:?}");
            check!(
                level == "ok" || !text(&check["advice"]).is_empty(),
                "{name} does not say what to do: {words}"
            );
            said.push((name, level, words));
        }
        let findings = said.iter().filter(|(_, level, _)| level != "ok").count();
        check_eq!(document["findings"], findings, "findings");
        check_eq!(output.code, i32::from(findings > 0), "exit code with {findings} findings");
        Ok(Self(said))
    }

    /// The text of a check, which must be of this level.
    pub fn expect(&self, name: &str, level: &str) -> Outcome<&str> {
        let found = self.0.iter().find(|(check, ..)| check == name).doing(format!("check {name}"))?;
        check_eq!(found.1, level, "level of {name}, which says {:?}", found.2);
        Ok(&found.2)
    }
}

/// Other tests run on this machine: what is said of all containers is not looked at.
fn healthy() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("well"))?;
    let said = Said::of(daemon.mount())?;
    for name in ["fuse", "cgroup", "daemon", "build", "worker", "fd-store", "descriptors", "mount", "config"]
    {
        said.expect(name, "ok")?;
    }
    let pid = daemon.pid().to_string();
    check!(said.expect("daemon", "ok")?.contains(&pid), "the daemon's pid {pid} is not told");
    daemon.stop()
}

fn no_daemon() -> Outcome {
    let mount = daemon::fresh_mount_point("nobody");
    let said = Said::of(&mount)?;
    let text = said.expect("daemon", "fail")?;
    check!(text.contains(&mount.display().to_string()) && text.contains("start"), "what it says: {text:?}");
    said.expect("config", "ok")?;
    check!(
        said.0.iter().all(|(name, ..)| name != "worker"),
        "it says something of a worker that is not there"
    );
    Ok(())
}

fn worker_died() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("died"))?;
    let before = Said::of(daemon.mount())?.expect("worker", "ok")?.to_owned();
    let pid =
        before.strip_prefix("pid ").and_then(|text| text.split(',').next()).doing("pid of the worker")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse()?), Signal::SIGKILL)?;
    crate::manager::eventually("a new worker", || {
        Ok(Said::of(daemon.mount())?.expect("worker", "warn").is_ok_and(|text| text.contains("was killed")))
    })?;
    daemon.stop()
}

/// SIGKILL of the main process, without anybody who keeps the connection.
fn dead_mount() -> Outcome {
    let mount = daemon::fresh_mount_point("deadly");
    let daemon = Daemon::start(mount.clone())?;
    let container = Container::launch(&mount)?;
    let name = container.name().to_owned();
    daemon.crash()?;
    let said = Said::of(&mount)?;
    said.expect("daemon", "fail")?;
    let place = mount.display().to_string();
    let text = said.expect("mounts", "fail")?;
    check!(
        text.contains("dead") && text.contains(&place) && text.contains("--repair"),
        "what it says: {text:?}"
    );
    let text = said.expect("containers", "fail")?;
    check!(text.contains("dead") && text.contains(&name), "what it says of {name}: {text:?}");
    drop(container);
    Daemon::start(mount)?.stop()
}

/// A worker that is stopped, for as long as its holder bears it; the command must not hang with it.
fn nobody_answers() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("silent"))?;
    daemon.signal(Signal::SIGSTOP)?; // the holder looks at nothing meanwhile
    let holder = daemon.pid();
    let children = std::fs::read_to_string(format!("/proc/{holder}/task/{holder}/children"))?;
    let pids: Vec<nix::unistd::Pid> = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(nix::unistd::Pid::from_raw)
        .collect();
    let send = |signal| {
        for pid in &pids {
            let _ = nix::sys::signal::kill(*pid, signal);
        }
    };
    send(Signal::SIGSTOP);
    let said = Said::of(daemon.mount());
    send(Signal::SIGCONT);
    daemon.signal(Signal::SIGCONT)?;
    let said = said?;
    said.expect("daemon", "fail")?;
    let text = said.expect("mounts", "fail")?;
    check!(text.contains(&daemon.mount().display().to_string()), "what it says: {text:?}");
    daemon.stop()
}

fn wrong_configuration() -> Outcome {
    let mount = daemon::fresh_mount_point("wrong");
    std::fs::create_dir_all(mount.parent().doing("parent")?)?;
    let file = mount.with_extension("toml");
    std::fs::write(&file, "[defaults]\nswap = \"show\"\n")?;
    let daemon = Daemon::start_with(mount.clone(), &["--config", &file.display().to_string()])?;
    Said::of(&mount)?.expect("config", "ok")?;
    std::fs::write(&file, "[defaults]\nswap = 7\n")?;
    daemon.signal(Signal::SIGHUP)?;
    let told = crate::manager::eventually("the mistake is told", || {
        Ok(Said::of(&mount)?.expect("config", "fail").is_ok_and(|text| text.contains("2")))
    });
    std::fs::remove_file(&file)?;
    told?;
    daemon.stop()
}
