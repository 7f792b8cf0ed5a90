//! Fields of a configuration and verbs beyond the plain life of a container.

use std::process::Stdio;

use serde_json::{Value, json};

use super::Oci;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::parse::cpu_list;
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
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1; while :; do sleep 0.1; done";
    let oci = Oci::new("events", script)?;
    let id = oci.id.clone();
    std::os::unix::fs::symlink("busybox", oci.bundle.root().join("bin/dd"))?;
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

/// One after the other joins namespaces of a first container, which is in a user namespace and has clocks of its own.
pub fn joining() -> Outcome {
    let oci = Oci::new("join", "echo here >/dev/mark; sleep 600")?;
    let path = oci.bundle.dir.join("config.json");
    let plain: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let mapped = |config: &mut Value| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map.clone();
    };
    let (first, second) = (oci.id.clone(), format!("{}-2", oci.id));
    oci.change(|config| {
        mapped(config);
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
        let _ = namespace(config, "user", "").and_then(|()| namespace(config, "time", ""));
    })?;
    oci.leave(&["run", "--detach", &first])?;
    let pid = oci.state()?["pid"].to_string();
    let space = |name: &str| format!("/proc/{pid}/ns/{name}");
    // a second one with `kinds` of the first
    let write = |script: &str, kinds: &[(&str, &str)], change: &dyn Fn(&mut Value)| -> Outcome {
        let mut config = plain.clone();
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["linux"]["cgroupsPath"] = json!(format!("{}/{second}", oci.bundle.parent));
        for (kind, name) in kinds {
            namespace(&mut config, kind, &space(name))?;
        }
        change(&mut config);
        Ok(std::fs::write(&path, serde_json::to_vec(&config)?)?)
    };
    super::eventually("the first one has begun", || {
        Ok(oci.output(&["exec", &first, "cat", "/dev/mark"])?.stdout == "here\n")
    })?;

    let joined = [("user", "user"), ("network", "net"), ("time", "time")];
    write("exec sleep 600", &joined, &|_| {})?;
    oci.leave(&["run", "--detach", &second])?;
    let both = shared(&oci, &first, &second)?;
    check_eq!(both, ["net", "time", "user"], "kinds that are shared");
    let state: Value = serde_json::from_str(&oci.run(&["state", &second])?)?;
    check_eq!(state["status"], json!("running"), "status of one that has the clocks of another");
    let seen =
        oci.run(&["exec", &second, "sh", "-c", "id; cat /proc/self/uid_map; ls /proc | grep -c '^[0-9]'"])?;
    check!(seen.starts_with("uid=0") && seen.contains("100000"), "users in the second: {seen}");
    oci.run(&["delete", "--force", &second])?;

    // a new user namespace, and a network over which that has no rights: it is joined before they end
    write("id; cat /proc/self/uid_map; ls -l /proc/self/ns/net", &[("network", "net")], &|config| {
        mapped(config);
        let _ = namespace(config, "user", "");
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/sys")));
        }
    })?;
    let output = oci.output(&["run", &second])?;
    check_eq!(output.code, 0, "exit code in a network of others ({})", output.stderr);
    let link = std::fs::read_link(space("net"))?;
    check!(
        output.stdout.starts_with("uid=0") && output.stdout.contains(&*link.to_string_lossy()),
        "in a network of others: {output:?}"
    );

    // with podman's dummy map; the mounts of the first
    let joined = [("mount", "mnt"), ("user", "user"), ("pid", "pid")];
    let bare = |config: &mut Value| {
        config["root"] = json!({ "path": "/" });
        for field in ["maskedPaths", "readonlyPaths"] {
            config["linux"][field] = json!([]);
        }
        config["mounts"] = json!([]);
    };
    write("cat /dev/mark; ls -d /proc/1 /proc/self; id", &joined, &|config| {
        bare(config);
        let dummy = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        config["linux"]["uidMappings"] = dummy.clone();
        config["linux"]["gidMappings"] = dummy;
    })?;
    let output = oci.output(&["run", &second])?;
    check_eq!(output.code, 0, "exit code in the first one's mounts ({})", output.stderr);
    check!(
        output.stdout.starts_with("here\n/proc/1\n/proc/self\nuid=0"),
        "in the first one's mounts: {output:?}"
    );

    for (change, word) in [
        (&|_: &mut Value| {} as _, "root.path"),
        (
            &|config: &mut Value| config["mounts"] = json!([{ "destination": "/x", "type": "tmpfs" }]),
            "mounts",
        ),
        (&|config: &mut Value| config["root"]["readonly"] = json!(true), "root.readonly"),
    ] as [(&dyn Fn(&mut Value), &str); 3]
    {
        write("true", &joined, &|config| {
            if word != "root.path" {
                bare(config);
            }
            change(config);
        })?;
        let output = oci.output(&["run", &second])?;
        check!(output.code != 0 && output.stderr.contains(word), "{word}: {output:?}");
    }
    for (kind, name) in [("network", "ipc"), ("user", "mnt"), ("uts", "../status")] {
        write("true", &[(kind, name)], &|_| {})?;
        let output = oci.output(&["run", &second])?;
        check!(
            output.code != 0 && output.stderr.contains(" namespace; give"),
            "{kind} by {name}: {output:?}"
        );
    }
    for (kind, field, value) in [
        ("uts", "/hostname", json!("of-a-container")),
        ("uts", "/domainname", json!("of-a-container")),
        ("network", "/linux/sysctl", json!({ "net.ipv4.ip_forward": "0" })),
        ("ipc", "/linux/sysctl", json!({ "kernel.shmmni": "77" })),
    ] {
        write("true", &[], &|config| {
            let name = if kind == "network" { "net" } else { kind };
            let _ = namespace(config, kind, &format!("/proc/{}/ns/{name}", std::process::id()));
            if let Some(fields) = config.as_object_mut() {
                fields.remove("hostname");
            }
            match field.strip_prefix("/linux/") {
                Some(key) => config["linux"][key] = value.clone(),
                None => config[&field[1..]] = value.clone(),
            }
        })?;
        let output = oci.output(&["run", &second])?;
        check!(output.code != 0 && output.stderr.contains("is the host's"), "{kind}, {field}: {output:?}");
    }
    check_eq!(oci.status()?, "running", "status of the first at the end");
    oci.run(&["delete", "--force", &first])?;
    oci.nothing_is_left()
}

/// What the kernel keeps for a process: its scheduling, its personality, and the CPUs of those that `exec` starts.
pub fn process_settings() -> Outcome {
    let script = "cat /proc/self/stat; ionice; uname -m; cat /proc/sys/kernel/domainname; \
        grep Cpus_allowed_list /proc/self/status";
    let oci = Oci::new("settings", &format!("({script}) >/out/new; mv /out/new /out/said; exec sleep 600"))?;
    let id = oci.id.clone();
    for applet in ["ionice", "uname", "mv"] {
        std::os::unix::fs::symlink("busybox", oci.bundle.root().join("bin").join(applet))?;
    }
    let out = oci.bundle.dir.join("out");
    std::fs::create_dir(&out)?;
    oci.change(|config| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 7 });
        config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "1" });
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
        config["domainname"] = json!("of.its.own");
        config["linux"]["resources"]["cpu"] = json!({ "cpus": "0-1" });
        if let Some(all) = config["mounts"].as_array_mut() {
            all.push(json!({ "destination": "/out", "type": "bind", "source": out, "options": ["bind"] }));
        }
    })?;
    oci.leave(&["run", "--detach", &id])?;
    super::eventually("it has said how it is", || Ok(out.join("said").exists()))?;
    let first = std::fs::read_to_string(out.join("said"))?;
    let more = oci.run(&["exec", &id, "sh", "-c", script])?;
    for (said, cpus) in [(&first, "0-1"), (&more, "1")] {
        let lines: Vec<&str> = said.lines().collect();
        check_eq!(lines.len(), 5, "lines of {said}");
        // proc_pid_stat(5), behind the name in brackets: nice is field 19, policy 41
        let stat: Vec<&str> = lines[0].rsplit(") ").next().unwrap_or_default().split(' ').collect();
        check_eq!((stat.get(16), stat.get(38)), (Some(&"5"), Some(&"3")), "nice and policy in {}", lines[0]);
        check_eq!(lines[1], "best-effort: prio 7", "I/O priority");
        let machine = std::env::consts::ARCH;
        check!(machine != "x86_64" || lines[2] == "i686", "machine of {machine}: {}", lines[2]);
        check_eq!(lines[3], "of.its.own", "NIS domain");
        check_eq!(lines[4].split_whitespace().nth(1), Some(cpus), "CPUs");
    }
    let process = oci.bundle.dir.join("process.json");
    let mut asked: Value = serde_json::from_slice(&std::fs::read(oci.bundle.dir.join("config.json"))?)?;
    let asked = &mut asked["process"];
    for (field, cpus) in [("initial", "8000"), ("final", "8000")] {
        asked["execCPUAffinity"] = json!({ field: cpus });
        asked["args"] = json!(["true"]);
        std::fs::write(&process, serde_json::to_vec(&asked)?)?;
        let output = oci.output(&["exec", "--process", "process.json", &id])?;
        check!(
            output.code != 0 && output.stderr.contains(&format!("execCPUAffinity.{field}")),
            "a CPU that is not there: {output:?}"
        );
    }
    for (pointer, value, word) in [
        ("personality", json!({ "domain": "LINUX", "flags": ["x"] }), "linux.personality.flags"),
        ("intelRdt", json!({ "closID": "x" }), "linux.intelRdt"),
        ("netDevices", json!({ "eth0": { "name": "e" } }), "linux.netDevices"),
        ("memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" }), "linux.memoryPolicy"),
    ] {
        oci.change(|config| config["linux"][pointer] = value.clone())?;
        let output = oci.output(&["create", &format!("{id}-2")])?;
        check!(output.code != 0 && output.stderr.contains(word), "{pointer}: {output:?}");
        oci.change(|config| config["linux"][pointer] = Value::Null)?;
    }
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}

/// CPUs that no other group has: where the kernel makes no partition of them its reason is told.
pub fn partition() -> Outcome {
    let oci = Oci::new("partition", "sleep 600")?;
    let id = oci.id.clone();
    let cpus = cpu_list(&std::fs::read_to_string("/sys/devices/system/cpu/online")?)?;
    let last = cpus.last().doing("CPUs")?.to_string();
    let top = format!("/e2e-{}-partition", std::process::id());
    let file = |group: &str| std::fs::read_to_string(format!("/sys/fs/cgroup{group}/cpuset.cpus.partition"));
    let with = |group: &str, partition: &str| {
        oci.change(|config| {
            config["linux"]["cgroupsPath"] = json!(group);
            config["linux"]["resources"]["unified"] =
                json!({ "cpuset.cpus": last, "cpuset.cpus.partition": partition });
        })
    };
    // below the root every group may be one
    for kind in ["root", "isolated"] {
        with(&top, kind)?;
        oci.leave(&["run", "--detach", &id])?;
        check_eq!(file(&top)?.trim(), kind, "partition of the container's group");
        check_eq!(oci.run(&["exec", &id, "nproc"])?.trim(), "1", "CPUs inside");
        oci.run(&["delete", "--force", &id])?;
    }
    // below a group that is none, the kernel takes the word and says that it does not hold
    let below = format!("{}/{id}", oci.bundle.parent);
    with(&below, "root")?;
    let output = oci.output(&["run", &id])?;
    check!(
        output.code != 0
            && output.stderr.contains("root does not hold: ")
            && output.stderr.trim().lines().count() == 1,
        "below a group that is no partition: {output:?}"
    );
    oci.nothing_is_left()?;
    // and an update leaves what was
    with(&below, "member")?;
    oci.leave(&["run", "--detach", &id])?;
    std::fs::write(oci.bundle.dir.join("new.json"), r#"{"unified":{"cpuset.cpus.partition":"isolated"}}"#)?;
    let output = oci.output(&["update", "--resources", "new.json", &id])?;
    check!(output.code != 0 && output.stderr.contains("isolated does not hold: "), "an update: {output:?}");
    check_eq!(file(&below)?.trim(), "member", "partition after an update that failed");
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}

/// Huge pages: a controller that the levels above have to pass down.
pub fn huge_pages() -> Outcome {
    let oci = Oci::new("huge", "sleep 600")?;
    let id = oci.id.clone();
    oci.change(|config| {
        let limits = json!([{ "pageSize": "2MB", "limit": 6 << 20 }]);
        config["linux"]["resources"]["hugepageLimits"] = limits;
    })?;
    oci.leave(&["run", "--detach", &id])?;
    let group = format!("/sys/fs/cgroup{}/{id}", oci.bundle.parent);
    for file in ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"] {
        let value = std::fs::read_to_string(format!("{group}/{file}")).doing(file)?;
        check_eq!(value.trim(), (6 << 20).to_string(), "{file}");
    }
    let stats: Value = serde_json::from_str(&oci.run(&["events", "--stats", &id])?)?;
    check_eq!(stats["data"]["hugetlb"]["2MB"]["usage"], json!(0), "events: {stats}");
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}
