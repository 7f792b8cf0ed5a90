//! Processes that come into a container, and what its processes can do to them.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Oci, eventually};
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::output::{Output, run_within};

/// Within this time commands have to end, whatever a container does.
const AT_MOST: Duration = Duration::from_secs(12);

/// A container whose first process is a tool of ours, with /tmp to write to.
fn with_tool(name: &str, words: &str) -> Outcome<Oci> {
    let oci = Oci::new(name, &format!("exec /e2e/ownproc-e2e tool newcomers {words}"))?;
    let own = std::env::current_exe()?;
    oci.bundle.add_libraries(&own)?;
    let directory = own.parent().doing("the directory of the program")?.display().to_string();
    oci.change(|config| {
        config["root"]["readonly"] = json!(false);
        let tool = json!({
            "destination": "/e2e", "type": "bind", "source": directory, "options": ["bind", "ro"],
        });
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(tool);
        }
    })?;
    std::fs::set_permissions(
        oci.bundle.root().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )?;
    Ok(oci)
}

fn capabilities(config: &mut Value, names: &[&str]) {
    config["process"]["capabilities"] = json!({ "bounding": names, "effective": names, "permitted": names });
}

fn in_tmp(oci: &Oci, name: &str) -> PathBuf {
    oci.bundle.root().join("tmp").join(name)
}

fn began(oci: &Oci) -> Outcome {
    eventually("the tool has begun", || Ok(in_tmp(oci, "waiting").exists()))
}

/// A command that must end soon, in whatever way.
fn ends(oci: &Oci, words: &[&str]) -> Outcome<Output> {
    run_within(&mut oci.command(words)?, AT_MOST)
}

/// A command that goes on in the background.
fn begin(oci: &Oci, words: &[&str]) -> Outcome<Child> {
    Ok(oci.command(words)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn ended(child: &mut Child, within: Duration) -> Outcome<Option<i32>> {
    use std::os::unix::process::ExitStatusExt;
    let until = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))));
        }
        if Instant::now() > until {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process of `exec`, and the first one of a container that joins the pid namespace, has no right
/// more than the container from the moment in which it can be seen.
pub fn without_rights() -> Outcome {
    let mark = format!("{}/mark", std::env::temp_dir().display()).trim_start_matches('/').to_owned();
    let mark = format!("{mark}-{}", std::process::id());
    std::fs::write(format!("/{mark}"), "")?;
    let outcome = without_rights_by(&mark);
    let _ = std::fs::remove_file(format!("/{mark}"));
    outcome
}

fn without_rights_by(mark: &str) -> Outcome {
    let oci = with_tool("unseen", &format!("reach {mark} 60"))?;
    // it may look into every process of its pid namespace
    let names = ["CAP_SYS_PTRACE", "CAP_KILL", "CAP_SETUID", "CAP_DAC_OVERRIDE"];
    oci.change(|config| capabilities(config, &names))?;
    let (id, guest) = (oci.id.clone(), format!("{}-guest", oci.id));
    let errors = oci.bundle.dir.join("errors");
    oci.leave(&["run", "--detach", &id])?;
    began(&oci)?;
    let seen = || Ok::<_, crate::case::Failure>(std::fs::read_to_string(&errors)?.trim().to_owned());
    let alive = |when: &str| -> Outcome {
        let status = oci.status()?;
        check!(status == "running", "{when}: {}", seen()?);
        Ok(())
    };
    for _ in 0..10 {
        let output = ends(&oci, &["exec", &id, "true"])?;
        check!(output.code == 0, "exec: {output:?}; {}", seen()?);
        let output = ends(&oci, &["exec", "--user", "1000:1000", "--no-new-privs", &id, "true"])?;
        check!(output.code == 0, "exec of a user: {output:?}; {}", seen()?);
        alive("exec")?;
    }
    let pid = oci.state()?["pid"].to_string();
    oci.change(|config| {
        config["process"]["args"] = json!(["sh", "-c", "ls -d /proc/1 /proc/self; head -n 1 /proc/meminfo"]);
        config["linux"]["cgroupsPath"] = json!(format!("{}/{guest}", oci.bundle.parent));
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        for space in config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
            if space["type"] == json!("pid") {
                space["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
    })?;
    for _ in 0..5 {
        let output = ends(&oci, &["run", &guest])?;
        check!(output.code == 0, "a guest: {output:?}; {}", seen()?);
        check_eq!(output.stdout, "/proc/1\n/proc/self\nMemTotal:          65536 kB\n", "what a guest sees");
        alive("a guest")?;
    }
    // between create and start, too, and the daemon knows the guest by the process that stays
    oci.leave(&["create", &guest])?;
    std::thread::sleep(Duration::from_millis(200));
    alive("a guest that waits")?;
    let state: Value = serde_json::from_str(&oci.run(&["state", &guest])?)?;
    check_eq!(state["status"], json!("created"), "status of a guest that waits");
    check!(oci.run(&["exec", &guest, "head", "-n", "1", "/proc/meminfo"])?.contains("65536 kB"), "its files");
    oci.run(&["start", &guest])?;
    oci.run(&["delete", "--force", &guest])?;
    std::fs::write(in_tmp(&oci, "enough"), "")?;
    eventually("the tool has ended", || Ok(oci.status()? == "stopped"))?;
    check_eq!(seen()?, "", "what the tool says");
    oci.run(&["delete", &id])?;
    oci.nothing_is_left()
}

/// Nobody of the same user looks into one, also where fs.suid_dumpable would let him.
pub fn not_dumpable() -> Outcome {
    let oci = with_tool("dumpable", "look 60")?;
    let id = oci.id.clone();
    oci.change(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        capabilities(config, &[]);
    })?;
    let setting = "/proc/sys/fs/suid_dumpable";
    let before = std::fs::read_to_string(setting)?;
    std::fs::write(setting, "1")?;
    let look = || -> Outcome {
        oci.leave(&["run", "--detach", &id])?;
        began(&oci)?;
        for _ in 0..30 {
            let output = ends(&oci, &["exec", &id, "true"])?;
            let seen = std::fs::read_to_string(oci.bundle.dir.join("errors"))?;
            check!(output.code == 0 && seen.is_empty(), "exec: {output:?}; {seen}");
        }
        oci.run(&["delete", "--force", &id])?;
        oci.nothing_is_left()
    };
    let outcome = look();
    std::fs::write(setting, before)?;
    outcome
}

/// A container stops each process that comes: nobody outside waits for it longer than he wants to.
pub fn stopped() -> Outcome {
    let oci = with_tool("stopped", "stop 100")?;
    let id = oci.id.clone();
    oci.change(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        capabilities(config, &[]);
    })?;
    oci.leave(&["run", "--detach", &id])?;
    began(&oci)?;
    let mut hung = 0;
    for round in 0..4 {
        let mut child = begin(&oci, &["exec", &id, "sleep", "100"])?;
        std::thread::sleep(Duration::from_millis(100));
        let state = ends(&oci, &["state", &id])?;
        check!(state.code == 0, "state: {state:?}");
        let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        kill(pid, signal)?;
        match ended(&mut child, Duration::from_secs(3))? {
            Some(code) => check_eq!(code, 128 + signal as i32, "exit code of exec"),
            // its program had begun: it is the program that is stopped, and the signal waits for it
            None => {
                hung += 1;
                kill(pid, Signal::SIGKILL)?;
                child.wait()?;
            }
        }
    }
    check!(hung < 4, "exec ended in none of 4 rounds");
    for words in [&["pause", &id] as &[&str], &["resume", &id], &["kill", &id, "USR1"], &["ps", &id]] {
        let output = ends(&oci, words)?;
        check!(output.code == 0, "{words:?}: {output:?}");
    }
    let output = ends(&oci, &["delete", "--force", &id])?;
    check!(output.code == 0, "delete: {output:?}");
    oci.nothing_is_left()
}

/// `exec --ignore-paused` waits for `resume`, and holds up nobody meanwhile.
pub fn paused() -> Outcome {
    let oci = Oci::new("paused", "sleep 600")?;
    let id = oci.id.clone();
    oci.leave(&["run", "--detach", &id])?;
    oci.run(&["pause", &id])?;
    let refused = ends(&oci, &["exec", &id, "true"])?;
    check!(refused.code != 0 && refused.stderr.contains("resume"), "exec in a paused one: {refused:?}");
    let mut given_up = begin(&oci, &["exec", "--ignore-paused", &id, "true"])?;
    let mut waiting = begin(&oci, &["exec", "--ignore-paused", &id, "sh", "-c", "exit 9"])?;
    std::thread::sleep(Duration::from_millis(300));
    for words in [&["state", &id] as &[&str], &["ps", &id], &["list"], &["kill", &id, "USR1"]] {
        let output = ends(&oci, words)?;
        check!(output.code == 0, "{words:?} of a paused one: {output:?}");
    }
    check!(ended(&mut waiting, Duration::ZERO)?.is_none(), "exec does not wait");
    kill(Pid::from_raw(i32::try_from(given_up.id())?), Signal::SIGTERM)?;
    match ended(&mut given_up, Duration::from_secs(3))? {
        Some(code) => check_eq!(code, 143, "exit code of one that was given up"),
        None => fail!("exec does not end at SIGTERM"),
    }
    oci.run(&["resume", &id])?;
    check_eq!(ended(&mut waiting, AT_MOST)?, Some(9), "exit code of one that waited");
    // deleted while it is paused and somebody waits to come in
    oci.run(&["pause", &id])?;
    let mut waiting = begin(&oci, &["exec", "--ignore-paused", &id, "true"])?;
    std::thread::sleep(Duration::from_millis(200));
    let output = ends(&oci, &["delete", "--force", &id])?;
    check!(output.code == 0, "delete of a paused one: {output:?}");
    check!(ended(&mut waiting, AT_MOST)?.is_some(), "exec goes on without its container");
    oci.nothing_is_left()
}
