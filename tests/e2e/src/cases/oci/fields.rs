//! Fields of a configuration and verbs beyond the plain life of a container.

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
