//! Fields of a configuration and verbs beyond the plain life of a container.

use std::process::Stdio;

use serde_json::{Value, json};

use super::Oci;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::shell::Shell;

/// Makes the namespace of a kind one that is joined, or with an empty path a new one.
fn namespace(config: &mut Value, kind: &str, path: &str) -> Outcome {
    let all = config["linux"]["namespaces"].as_array_mut().doing("linux.namespaces")?;
    all.retain(|one| one["type"] != json!(kind));
    all.push(if path.is_empty() { json!({ "type": kind }) } else { json!({ "type": kind, "path": path }) });
    Ok(())
}

/// The kinds that `ns --json A B` says are shared.
fn shared(oci: &Oci, a: &str, b: &str) -> Outcome<Vec<String>> {
    let document: Value = serde_json::from_str(&oci.run(&["ns", "--json", a, b])?)?;
    let rows = document["namespaces"].as_array().doing("namespaces")?;
    check_eq!(rows.len(), 8, "kinds of {document}");
    let shared = rows.iter().filter(|row| row["shared"] == json!(true));
    let mut kinds: Vec<String> = shared.filter_map(|row| row["kind"].as_str().map(str::to_owned)).collect();
    kinds.sort();
    Ok(kinds)
}

/// Containers by name, processes by number and what `launch` started.
pub fn ns() -> Outcome {
    let oci = Oci::new("ns", "sleep 600")?;
    let first = oci.id.clone();
    let second = format!("{first}-2");
    oci.leave(&["run", "--detach", &first])?;
    let pid = oci.state()?["pid"].to_string();
    let mut done = Ok(());
    oci.change(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("{}/{second}", oci.bundle.parent));
        done = namespace(config, "network", &format!("/proc/{pid}/ns/net"))
            .and_then(|()| namespace(config, "ipc", &format!("/proc/{pid}/ns/ipc")));
    })?;
    done?;
    oci.leave(&["run", "--detach", &second])?;
    let both = shared(&oci, &first, &second)?;
    for kind in ["net", "ipc", "user"] {
        check!(both.iter().any(|one| one == kind), "{kind} is shared: {both:?}");
    }
    for kind in ["mnt", "pid", "uts", "cgroup"] {
        check!(both.iter().all(|one| one != kind), "{kind} is not shared: {both:?}");
    }
    check_eq!(shared(&oci, &first, &pid)?.len(), 8, "kinds that a container shares with its own process");
    let host = shared(&oci, &std::process::id().to_string(), &first)?;
    check!(host.iter().all(|kind| kind != "net" && kind != "pid"), "shared with the host: {host:?}");
    let table = oci.run(&["ns", &first, &second])?;
    check_eq!(table.lines().count(), 9, "lines of {table}");
    check!(table.lines().any(|line| line.starts_with("net ") && line.ends_with(" shared")), "{table}");
    check!(table.lines().any(|line| line.starts_with("mnt ") && line.ends_with(" own")), "{table}");

    let mut shell = Shell::launch(&[])?;
    shell.run("true")?;
    let launched = shared(&oci, shell.name(), &first)?;
    check!(launched.iter().any(|kind| kind == "user"), "with one that was launched: {launched:?}");
    check!(launched.iter().all(|kind| kind != "net"), "with one that was launched: {launched:?}");

    for nobody in ["no-such-container", "4194304999", "0", "-1x", "../x"] {
        let output = oci.output(&["ns", "--", nobody, &first])?;
        check!(output.code != 0 && output.stderr.contains("is no process"), "{nobody}: {output:?}");
    }
    oci.run(&["kill", &second, "KILL"])?;
    super::eventually("stopped", || Ok(oci.run(&["state", &second])?.contains("\"stopped\"")))?;
    let output = oci.output(&["ns", &first, &second])?;
    check!(output.code != 0 && output.stderr.contains("not running"), "one that ended: {output:?}");
    oci.run(&["delete", &second])?;
    oci.run(&["delete", "--force", &first])?;
    oci.nothing_is_left()
}

/// The lines that `events` prints from before memory runs out in a container until that has ended.
pub fn events() -> Outcome {
    let script = "cat /dev/zero | head -c 100m | tail >/dev/null; while :; do sleep 0.1; done";
    let oci = Oci::new("events", script)?;
    let id = oci.id.clone();
    std::os::unix::fs::symlink("busybox", oci.bundle.root().join("bin/tail"))?;
    oci.change(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
    })?;
    check!(oci.output(&["events", &id])?.stderr.contains("does not exist"), "events of none");
    oci.leave(&["create", &id])?;
    let one: Value = serde_json::from_str(&oci.run(&["events", "--stats", &id])?)?;
    check_eq!((&one["type"], &one["id"]), (&json!("stats"), &json!(id)), "what --stats says");
    let data = &one["data"];
    check_eq!(data["memory"]["usage"]["limit"], json!(32 << 20), "limit of memory");
    check_eq!(data["pids"], json!({ "current": 1, "limit": 77 }), "pids");
    check!(data["cpu"]["usage"]["total"].as_u64().unwrap_or(0) > 0, "CPU time: {data}");
    check!(data["memory"]["usage"]["usage"].as_u64().unwrap_or(0) > 0, "memory in use: {data}");
    check!(data["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 5), "memory.stat: {data}");
    for bad in ["0s", "5", "1d"] {
        let output = oci.output(&["events", "--interval", bad, &id])?;
        check!(output.code != 0 && output.stderr.contains("--interval"), "{bad}: {output:?}");
    }
    let path = oci.bundle.dir.join("events");
    let mut watcher = oci
        .command(&["events", "--interval", "200ms", &id])?
        .stdout(std::fs::File::create(&path)?)
        .stderr(Stdio::null())
        .spawn()?;
    let lines = || -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(&path)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let work = || -> Outcome {
        super::eventually("a first line", || Ok(!lines()?.is_empty()))?;
        oci.run(&["start", &id])?;
        super::eventually("an oom event", || {
            Ok(lines()?.iter().any(|line| *line == json!({ "type": "oom", "id": id })))
        })?;
        super::eventually("the container lives on", || Ok(oci.status()? == "running"))?;
        let so_far = lines()?.len();
        super::eventually("more lines", || Ok(lines()?.len() > so_far + 1))?;
        oci.run(&["kill", &id, "KILL"])?;
        super::eventually("stopped", || Ok(oci.status()? == "stopped"))
    };
    let outcome = work();
    if outcome.is_err() {
        let _ = watcher.kill();
    }
    let mut ended = watcher.try_wait()?;
    for _ in 0..200 {
        if ended.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        ended = watcher.try_wait()?;
    }
    if ended.is_none() {
        watcher.kill()?;
        watcher.wait()?;
    }
    outcome?;
    check_eq!(
        ended.and_then(|status| status.code()),
        Some(0),
        "exit code of events when its container ended"
    );
    let output = oci.output(&["events", "--stats", &id])?;
    check!(output.code != 0 && output.stderr.contains("stopped"), "events of one that ended: {output:?}");
    oci.run(&["delete", &id])?;
    oci.nothing_is_left()
}
