//! The launcher as an OCI runtime: bundles, and podman on top of it.

mod bad;
mod cve;
mod deep;
mod engines;
mod fields;
mod launched;
pub mod many;
mod mounts;
mod newcomers;
mod passed;
mod podman;
mod rootless;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Row;
use crate::bundle::Bundle;
use crate::case::Needs::{Cpus, Nothing, OwnMachine, V2};
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::output::{Output, run};
use crate::parse::Meminfo;
use crate::programs::ownproc_run;

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("oci_life_of_a_container", Nothing, life),
    ("oci_parents_go_with_the_last_container", Nothing, parents),
    ("oci_run_shows_its_own_files", Nothing, own_files),
    ("oci_exec", Nothing, exec),
    ("oci_update_is_seen_inside", Nothing, update),
    ("oci_user_namespace", Nothing, user_namespace),
    ("oci_devices_and_seccomp", Nothing, devices_and_seccomp),
    ("oci_maker_killed_at_any_moment", Nothing, many::launchers_killed),
    ("oci_launched_under_the_other_commands", Nothing, launched::life),
    ("oci_launched_user_devices_tmpfs", Nothing, launched::user_devices_tmpfs),
    ("oci_huge_pages", V2, fields::huge_pages),
    ("oci_process_settings", Cpus(2), fields::process_settings),
    ("oci_cpuset_partition", V2, fields::partition),
    ("oci_events", Nothing, fields::events),
    ("oci_newcomers_without_rights", Nothing, newcomers::without_rights),
    ("oci_newcomers_not_dumpable", OwnMachine, newcomers::not_dumpable),
    ("oci_newcomers_stopped", Nothing, newcomers::stopped),
    ("oci_newcomers_paused", Nothing, newcomers::paused),
    ("oci_deep_cgroups", Nothing, deep::nested),
    ("oci_podman", Nothing, podman::podman),
    ("oci_podman_pods", Nothing, podman::pods),
    ("oci_podman_newcomers", Nothing, podman::newcomers),
    ("oci_containerd", Nothing, engines::containerd),
    ("oci_docker", Nothing, engines::docker),
];

/// All others.
pub const CASES: &[Row] = &[
    ("oci_hooks", Nothing, hooks),
    ("oci_many", Nothing, many::many),
    ("oci_bad_configurations", Nothing, bad::configurations),
    ("oci_hostile_roots", Nothing, bad::roots),
    ("oci_launched_goes_by_itself", Nothing, launched::goes_by_itself),
    ("oci_launched_with_a_terminal", Nothing, launched::terminal),
    ("oci_descriptors_passed", Nothing, passed::descriptors),
    ("oci_ns", Nothing, fields::ns),
    ("oci_joining", Nothing, fields::joining),
    ("oci_mounts_owners", Nothing, mounts::owners),
    ("oci_mounts_copied_up", Nothing, mounts::copies),
    ("oci_mounts_whole_trees", Nothing, mounts::trees),
    ("oci_mounts_propagation", Nothing, mounts::propagation),
    ("oci_without_pivot", Nothing, mounts::without_pivot),
    ("oci_rootless", Nothing, rootless::life),
    ("oci_rootless_refused", Nothing, rootless::refused),
    ("oci_cve_2019_5736", Nothing, cve::cve_2019_5736),
    ("oci_cve_2019_16884", Nothing, cve::cve_2019_16884),
    ("oci_cve_2021_30465", Nothing, cve::cve_2021_30465),
    ("oci_cve_2023_27561", Nothing, cve::cve_2023_27561),
    ("oci_cve_2024_21626", Nothing, cve::cve_2024_21626),
    ("oci_cve_2025_31133", Nothing, cve::cve_2025_31133),
    ("oci_cve_2025_52565", Nothing, cve::cve_2025_52565),
    ("oci_cve_2025_52881", Nothing, cve::cve_2025_52881),
];

/// A bundle with its configuration, and a place for states of its own.
pub struct Oci {
    /// Its directory.
    pub bundle: Bundle,
    /// Its name.
    pub id: String,
    /// The program under test.
    runtime: PathBuf,
}

impl Oci {
    /// A bundle whose process is `sh -c SCRIPT`.
    pub fn new(name: &str, script: &str) -> Outcome<Self> {
        let runtime = PathBuf::from(ownproc_run()?.get_program());
        let oci =
            Self { bundle: Bundle::make(name)?, id: format!("e2e-{}-{name}", std::process::id()), runtime };
        oci.run(&["spec", "--bundle", &oci.bundle.dir.display().to_string()])?;
        oci.change(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sh", "-c", script]);
            config["linux"]["cgroupsPath"] = json!(format!("{}/{}", oci.bundle.parent, oci.id));
        })?;
        Ok(oci)
    }

    fn config(&self) -> Outcome<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.bundle.dir.join("config.json"))?)?)
    }

    /// Changes config.json.
    pub fn change(&self, change: impl FnOnce(&mut Value)) -> Outcome {
        let mut config = self.config()?;
        change(&mut config);
        Ok(std::fs::write(self.bundle.dir.join("config.json"), serde_json::to_vec(&config)?)?)
    }

    /// A bundle more with the same root, for a container beside this one; its name, which is its directory's, too.
    fn another(&self, number: usize) -> Outcome<String> {
        let id = format!("{}-{number}", self.id);
        let mut config = self.config()?;
        config["root"]["path"] = json!(self.bundle.root());
        config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", self.bundle.parent));
        std::fs::create_dir_all(self.bundle.dir.join(&id))?;
        std::fs::write(self.bundle.dir.join(&id).join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(id)
    }

    /// `run` of this many, some at once; what each left.
    fn all_at_once(&self, count: usize, at_once: usize) -> Outcome<Vec<Output>> {
        let ids = (0..count).map(|number| self.another(number)).collect::<Outcome<Vec<_>>>()?;
        let results: Vec<Outcome<Vec<Output>>> = std::thread::scope(|scope| {
            let part = |ids: &[String]| -> Outcome<Vec<Output>> {
                ids.iter().map(|id| self.output(&["run", "--bundle", id, id])).collect()
            };
            let threads: Vec<_> =
                ids.chunks(count.div_ceil(at_once)).map(|ids| scope.spawn(move || part(ids))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let outputs: Vec<Output> =
            results.into_iter().collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
        check_eq!(outputs.len(), count, "containers that ran");
        Ok(outputs)
    }

    pub fn command(&self, words: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.bundle.dir.join("states")).args(words).current_dir(&self.bundle.dir);
        command.stdin(Stdio::null());
        Ok(command)
    }

    pub fn output(&self, words: &[&str]) -> Outcome<Output> {
        run(&mut self.command(words)?)
    }

    /// A command that must succeed; what it printed.
    pub fn run(&self, words: &[&str]) -> Outcome<String> {
        self.output(words)?.ok().doing(format!("ownproc-run {words:?}"))
    }

    /// A command after which the container's process lives on, with what the command had as its output.
    pub fn leave(&self, words: &[&str]) -> Outcome {
        let path = self.bundle.dir.join("errors");
        let errors = std::fs::File::create(&path)?;
        let status = self.command(words)?.stdout(Stdio::null()).stderr(errors).status()?;
        check!(status.success(), "ownproc-run {words:?}: {}", std::fs::read_to_string(&path)?.trim());
        Ok(())
    }

    fn state(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.run(&["state", &self.id])?)?)
    }

    fn status(&self) -> Outcome<String> {
        Ok(self.state()?["status"].as_str().doing("status")?.to_owned())
    }

    /// Nothing of a container is there any more.
    pub fn nothing_is_left(&self) -> Outcome {
        check_eq!(self.run(&["list", "--quiet"])?, "", "containers that are left");
        if let Some(entry) = std::fs::read_dir(self.bundle.dir.join("states"))?.next() {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            fail!("a state is left: {} {text}", path.display());
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        for line in table.lines() {
            let point = line.split(' ').nth(4).unwrap_or_default();
            check!(!point.starts_with(&self.bundle.dir.display().to_string()), "a mount is left: {line}");
            if line.contains(" - cgroup ") || line.contains(" - cgroup2 ") {
                let parent = format!("{point}{}", self.bundle.parent);
                check!(!std::path::Path::new(&parent).exists(), "a group is left: {parent}");
            }
        }
        Ok(())
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        let _ = self.output(&["delete", "--force", &self.id]);
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, so: impl Fn() -> Outcome<bool>) -> Outcome {
    let until = Instant::now() + Duration::from_secs(20);
    while !so()? {
        check!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn life() -> Outcome {
    let oci = Oci::new("life", "trap 'exit 3' TERM; while :; do sleep 0.1; done")?;
    let id = oci.id.clone();
    oci.leave(&["create", "--pid-file", "pid", &id])?;
    check_eq!(oci.status()?, "created", "status after create");
    let pid = oci.state()?["pid"].as_i64().doing("pid")?;
    check_eq!(std::fs::read_to_string(oci.bundle.dir.join("pid"))?, pid.to_string(), "pid file");
    check!(oci.output(&["create", &id])?.stderr.contains("exists already"), "a second one of that name");
    oci.run(&["start", &id])?;
    check_eq!(oci.status()?, "running", "status after start");
    let other = oci.output(&["create", &format!("{id}-2")])?;
    check!(other.stderr.contains("exists already"), "groups in which somebody lives: {other:?}");
    check_eq!(oci.status()?, "running", "status after another one wanted its groups");
    check!(oci.output(&["start", &id])?.stderr.contains("only one that was created"), "a second start");
    check!(oci.output(&["delete", &id])?.stderr.contains("--force"), "delete of a running one");
    check!(oci.run(&["list"])?.contains(&id), "list");
    let pids: Vec<i64> = serde_json::from_str(&oci.run(&["ps", "--format", "json", &id])?)?;
    check!(pids.contains(&pid), "ps: {pids:?} without {pid}");
    oci.run(&["pause", &id])?;
    check_eq!(oci.status()?, "paused", "status after pause");
    oci.run(&["resume", &id])?;
    check_eq!(oci.status()?, "running", "status after resume");
    oci.run(&["kill", &id, "TERM"])?;
    eventually("stopped", || Ok(oci.status()? == "stopped"))?;
    check!(oci.output(&["kill", &id])?.stderr.contains("container not running"), "kill of a stopped one");
    oci.run(&["delete", &id])?;
    check!(oci.output(&["state", &id])?.stderr.contains("does not exist"), "state of none");
    oci.nothing_is_left()
}

/// The first container made the levels above, and goes first.
fn parents() -> Outcome {
    let oci = Oci::new("parents", "sleep 600")?;
    let first = oci.id.clone();
    let second = format!("{first}-2");
    oci.leave(&["create", &first])?;
    oci.change(|config| config["linux"]["cgroupsPath"] = json!(format!("{}/{second}", oci.bundle.parent)))?;
    oci.leave(&["create", &second])?;
    oci.run(&["delete", "--force", &first])?;
    let state: Value = serde_json::from_str(&oci.run(&["state", &second])?)?;
    check_eq!(state["status"], json!("created"), "status of the second");
    oci.run(&["delete", "--force", &second])?;
    oci.nothing_is_left()
}

fn own_files() -> Outcome {
    let script = "cat /proc/meminfo; echo ==; nproc; echo ==; cat /sys/devices/system/cpu/online; echo ==; \
        cat /proc/self/cgroup; exit 7";
    let oci = Oci::new("files", script)?;
    oci.change(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 128 << 20 });
        config["linux"]["resources"]["cpu"] = json!({ "cpus": "0" });
    })?;
    let output = oci.output(&["run", &oci.id])?;
    check_eq!(output.code, 7, "exit code ({})", output.stderr);
    let parts: Vec<&str> = output.stdout.split("==\n").collect();
    check_eq!(parts.len(), 4, "parts of {:?}", output.stdout);
    check_eq!(Meminfo::parse(parts[0])?.get("MemTotal"), 128 << 10, "MemTotal");
    check_eq!(parts[1].trim(), "1", "nproc");
    check_eq!(parts[2].trim(), "0", "CPUs online");
    let own = parts[3].lines().filter(|line| !line.contains("name=")).all(|line| line.ends_with(":/"));
    check!(own, "groups are the roots of the cgroup namespace: {}", parts[3]);
    oci.nothing_is_left()
}

fn exec() -> Outcome {
    let oci = Oci::new("exec", "sleep 600")?;
    let id = oci.id.clone();
    oci.change(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 }))?;
    oci.leave(&["run", "--detach", &id])?;
    let output =
        oci.output(&["exec", "-e", "A=b c", &id, "sh", "-c", "echo $A; head -n 1 /proc/meminfo; exit 9"])?;
    check_eq!(output.code, 9, "exit code ({})", output.stderr);
    check_eq!(output.stdout, "b c\nMemTotal:          65536 kB\n", "what it printed");
    // in the container's groups and namespaces, and with nothing of its maker open
    let open = oci.run(&["exec", &id, "sh", "-c", "ls /proc/self/fd; ls /proc | grep -c '^[0-9]'"])?;
    check_eq!(open.split_whitespace().take(4).collect::<Vec<_>>(), ["0", "1", "2", "3"], "descriptors");
    let user = oci.run(&["exec", "--user", "1000:1001", &id, "id"])?;
    check!(user.starts_with("uid=1000 gid=1001"), "id: {user}");
    let missing = oci.output(&["exec", &id, "no-such-program"])?;
    check!(missing.code != 0 && missing.stderr.contains("executable file not found"), "{missing:?}");
    let outside = oci.output(&["exec", "--cwd", "/proc/self/fd/7", &id, "true"])?;
    check!(outside.code != 0, "a directory of the caller's as the working directory");
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}

fn update() -> Outcome {
    let oci = Oci::new("update", "sleep 600")?;
    let id = oci.id.clone();
    oci.change(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 }))?;
    oci.leave(&["run", "--detach", &id])?;
    for mib in [96u64, 48] {
        oci.run(&["update", "--memory", &(mib << 20).to_string(), "--pids-limit", "99", &id])?;
        let seen = Meminfo::parse(&oci.run(&["exec", &id, "cat", "/proc/meminfo"])?)?.get("MemTotal");
        check_eq!(seen, mib << 10, "MemTotal after the update");
    }
    check!(oci.output(&["update", &id])?.stderr.contains("nothing to change"), "an update of nothing");
    Ok(())
}

fn user_namespace() -> Outcome {
    let oci = Oci::new(
        "userns",
        "id; cat /proc/self/uid_map; head -n 1 /proc/meminfo; echo x >/tmp/file; true >/dev/null",
    )?;
    oci.change(|config| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.push(json!({ "type": "user" }));
        }
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["root"]["readonly"] = json!(false);
    })?;
    std::os::unix::fs::chown(oci.bundle.root().join("tmp"), Some(100_000), Some(100_000))?;
    let output = oci.output(&["run", &oci.id])?;
    check_eq!(output.code, 0, "exit code ({})", output.stderr);
    check!(output.stdout.starts_with("uid=0"), "id: {}", output.stdout);
    check!(output.stdout.contains("100000"), "map: {}", output.stdout);
    check!(output.stdout.contains("65536 kB"), "meminfo: {}", output.stdout);
    use std::os::unix::fs::MetadataExt;
    check_eq!(std::fs::metadata(oci.bundle.root().join("tmp/file"))?.uid(), 100_000, "owner of a file");
    oci.nothing_is_left()
}

fn devices_and_seccomp() -> Outcome {
    let oci = Oci::new(
        "rules",
        "mkdir /tmp/x; echo $?; head -c 1 /dev/kmsg >/dev/null 2>&1; echo $?; head -c 1 /dev/zero | grep -c .",
    )?;
    oci.change(|config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["devices"] =
            json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 438 }]);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
        });
    })?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.stderr.contains("not supported"), "mkdir said {:?}", output.stderr);
    let codes: Vec<&str> = output.stdout.split_whitespace().collect();
    check_eq!(codes.first(), Some(&"1"), "exit code of mkdir");
    check_eq!(
        codes.get(1),
        Some(&"1"),
        "exit code of a read of /dev/kmsg, whose node is there and which no rule allows"
    );
    oci.nothing_is_left()
}

fn hooks() -> Outcome {
    let oci = Oci::new("hooks", "true")?;
    let log = oci.bundle.dir.join("log");
    oci.change(|config| {
        let hook = |name: &str| {
            let script = format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"') >>{}", log.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 20 }])
        };
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    })?;
    oci.run(&["run", &oci.id])?;
    let said = std::fs::read_to_string(&log)?;
    let names: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    check_eq!(
        names,
        ["prestart", "createRuntime", "createContainer", "poststart", "poststop"],
        "order of hooks"
    );
    check!(said.lines().all(|line| line.contains("status")), "each gets the state: {said}");
    oci.nothing_is_left()?;
    oci.change(|config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 5"] }] });
    })?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.code != 0 && output.stderr.contains("no luck"), "a hook that fails: {output:?}");
    oci.nothing_is_left()
}
