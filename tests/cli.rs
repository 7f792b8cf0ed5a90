//! The `ownproc` program: exit codes, messages, output. Needs root and a writable memory cgroup hierarchy.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that fails panics

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ownproc::cgroup::{Controller, Layout, Version};
use ownproc::config::Layers;
use ownproc::control::{
    ConfigInfo, ContainerInfo, Handler, Paths, Refusal, RefusalKind, RegisterRequest, Registered, Server,
    ShowTarget, Status, ViewInfo,
};
use ownproc::model::{ContainerName, HostPid, Nsec, Policies, PolicyChange, PolicyChoices};
use serde_json::Value;

/// A mount point of this test's own, at which no daemon is.
struct Place {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("mount"));
        Self { dir, paths }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ownproc"));
        command.args(args).env("OWNPROC_MOUNT", &self.paths.mount).env_remove("OWNPROC_LOG");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.paths.dir);
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It failed with this code and one line that says why.
    fn failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert!(self.err.starts_with("ownproc: ") && self.err.contains(why), "{}", self.err);
        assert_eq!(self.out, "");
    }

    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        let value: Value = serde_json::from_str(&self.out).unwrap();
        assert_eq!(value["version"], 1);
        value
    }
}

#[test]
fn wrong_usage_is_2_and_one_line() {
    let place = Place::new();
    for (args, why) in [
        (&["bogus"][..], "bogus"),
        (&["limits"], "<TARGET>"),
        (&["show", "meminfo"], "<TARGET>"),
        (&["ls", "--nope"], "--nope"),
        (&["ls", "extra"], "extra"),
        (&["serve", "--idle-exit", "soon"], "expected seconds"),
        (&["serve", "--idle-exit=-1"], "expected seconds"),
        (&["serve", "/a", "/b"], "/b"),
        (&["serve", "--cpus", "all"], "[possible values: quota, cpuset]"),
        (&["serve", "--on-unreadable", "eio"], "[possible values: host, error]"),
        (&["view"], "<TARGET>"),
        (&["view", "x", "cpu=quota"], "did you mean cpus?"),
        (&["view", "x", "cpus=all"], "\"quota\" or \"cpuset\""),
        (&["view", "x", "cpus"], "not KEY=VALUE"),
        (&["view", "x", "on-unreadable=error"], "readers without a container"),
        (&["config", "--check"], "--check"),
        (&["umount", "/a", "--mount", "/b"], "--mount"),
        (&["show", "nothing", "1"], "no virtual file"),
        (&["show", "proc/../stat", "1"], "no virtual file"),
        (&["limits", "pid:x"], "not a pid"),
        (&["limits", "0"], "not a pid"),
    ] {
        place.run(args).failed(2, why);
    }
    let none = place.run(&[]);
    assert_eq!((none.code, none.out.as_str()), (2, ""));
    assert!(none.err.contains("Usage:"));
}

#[test]
fn help_and_version_are_0() {
    let place = Place::new();
    let help = place.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in ["serve", "umount", "ls", "limits", "show", "view", "config"] {
        assert!(help.out.contains(&format!("  {command}")), "{command}");
        assert_eq!(place.run(&[command, "--help"]).code, 0);
    }
    assert_eq!(place.run(&["--version"]).out, format!("ownproc {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_such_target_is_3() {
    let place = Place::new();
    for target in ["nobody-is-called-so", "pid:2147483647", "/no/such/group", "group:nobody", "x.service", ""]
    {
        place.run(&["limits", target]).failed(3, "");
        let shown = place.run(&["show", "meminfo", target]);
        assert_eq!(shown.code, 3);
    }
    for args in [&["umount"][..], &["view", "1"], &["view", "1", "swap=hide"], &["config"]] {
        place.run(args).failed(3, "no ownproc daemon serves");
    }
    let elsewhere = place.dir.path().join("other");
    let elsewhere = elsewhere.to_str().unwrap();
    place.run(&["umount", "--mount", elsewhere]).failed(3, elsewhere);
    place.run(&["umount", elsewhere]).failed(3, elsewhere);
}

#[test]
fn serving_needs_root_and_a_directory() {
    let place = Place::new();
    let file = place.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    place.run(&["serve", file.to_str().unwrap()]).failed(2, "file");
    // The built program may lie where nobody else can reach it.
    let copy = place.dir.path().join("ownproc");
    std::fs::copy(env!("CARGO_BIN_EXE_ownproc"), &copy).unwrap();
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(place.dir.path(), open).unwrap();
    let mount = place.dir.path().join("mount");
    let output = Command::new(&copy).arg("serve").arg(mount).uid(65534).gid(65534).output().unwrap();
    Ran::of(output).failed(2, "root");
}

#[test]
fn a_closed_pipe_is_success_and_a_full_disk_is_not() {
    let place = Place::new();
    let own = std::process::id().to_string();
    for args in [&["show", "cpuinfo", &own][..], &["ls"], &["limits", &own, "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = place.command(args).stdout(writer).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["ls"]).stdout(full).output().unwrap();
    Ran::of(output).failed(2, "cannot write the output");
}

#[test]
fn a_configuration_is_checked_without_a_daemon() {
    let place = Place::new();
    let file = place.dir.path().join("c.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[defaults]\nswap = \"hide\"\n[containers.\"web-*\"]\ncpus = \"cpuset\"\n")
        .unwrap();
    let table = place.run(&["config", "--check", path]);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let swap = format!("{path}:2");
    let cpus = format!("{path}:4");
    assert_eq!(rows[0], ["SECTION", "KEY", "VALUE", "FROM"]);
    assert_eq!(rows[1], ["defaults", "cpus", "quota", "default"]);
    assert_eq!(rows[3], ["defaults", "swap", "hide", &swap, "[defaults]"]);
    assert_eq!(rows[7], ["containers.web-*", "cpus", "cpuset", &cpus, "[containers.web-*]"]);
    let json = place.run(&["config", "--check", path, "--json"]).json();
    assert_eq!(json["file"], path);
    assert_eq!(json["defaults"][2]["line"], 2);
    assert_eq!(json["containers"][0]["settings"][0]["section"], "containers.web-*");
    for (text, said) in [
        ("[defaults]\n\nswap = \"no\"\n", ":3: swap = \"no\": it must be \"show\" or \"hide\""),
        ("[defaults]\nswop = \"hide\"\n", ":2: \"swop\" is no policy: did you mean swap?"),
        ("[defaults]\nswap = 1\n", ":2: swap = 1: a number where it must be \"show\" or \"hide\""),
        ("[defaults]\nswap = \"hide\"\nswap = \"hide\"\n", ":3: swap stands twice"),
    ] {
        std::fs::write(&file, text).unwrap();
        place.run(&["config", "--check", path]).failed(1, &format!("{path}{said}"));
        // A daemon does not start with it, and has made nothing by then.
        place.run(&["serve", "--config", path]).failed(2, said);
        assert!(!place.paths.mount.exists() && !place.paths.dir.exists());
    }
    std::fs::write(&file, b"# \xff\n").unwrap();
    place.run(&["config", "--check", path]).failed(1, ":1: the configuration is not UTF-8 text");
    std::fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
    place.run(&["config", "--check", path]).failed(1, "larger than 1048576 bytes");
    let dir = place.dir.path().to_str().unwrap();
    place.run(&["config", "--check", dir]).failed(2, "not a regular file");
    for args in [&["config", "--check", "/no/such.toml"][..], &["serve", "--config", "/no/such.toml"]] {
        place.run(args).failed(2, "/no/such.toml: cannot read the configuration: No such file");
    }
}

#[test]
fn the_view_of_a_container_is_told_and_changed() {
    let place = Place::new();
    let running = Server::bind(place.paths.clone()).unwrap().start(Arc::new(Fake)).unwrap();
    let ran = place.run(&["view", "shop-a"]);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((ran.code, rows.len(), ran.err.as_str()), (0, 6, ""));
    assert_eq!(rows[..2], [["KEY", "VALUE", "FROM"], ["cpus", "quota", "default"]]);
    let json = place.run(&["view", "shop-a", "cpus=cpuset,swap=default", "uptime=host", "--json"]);
    assert_eq!(
        json.err,
        "ownproc: note: shop-a has a time namespace, so its uptime is that of the namespace all the same\n"
    );
    let json = json.json();
    assert_eq!((&json["target"], &json["container"]), (&"shop-a".into(), &"shop-a".into()));
    assert_eq!(
        json["settings"][0],
        serde_json::json!({"key": "cpus", "value": "cpuset", "from": "container"})
    );
    assert_eq!(json["settings"][2], serde_json::json!({"key": "swap", "value": "show", "from": "default"}));
    // One that nobody registered has no choices of its own.
    assert_eq!(place.run(&["view", "1", "--no-headers"]).out.lines().count(), 5);
    place.run(&["view", "1", "swap=hide"]).failed(2, "1 is not registered");
    place.run(&["view", "nobody-is-called-so"]).failed(3, "");
    let config = place.run(&["config"]);
    assert_eq!((config.code, config.out.lines().count()), (1, 7));
    assert!(config.err.contains("the last reload failed") && config.err.contains("/etc/x.toml:3: cpus = 1"));
    running.stop();
}

/// A process in a memory group of 64 MiB below one of 48 MiB.
struct Limited {
    child: Child,
    outer: PathBuf,
    inner: PathBuf,
    limit_file: &'static str,
}

impl Limited {
    fn start() -> Self {
        let layout = Layout::discover(Path::new("/")).unwrap();
        let memory = layout.get(layout.hierarchy_of(Controller::Memory).unwrap()).unwrap();
        let limit_file = match memory.version() {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let name = format!("/ownproc-test-cli-{}", std::process::id());
        let outer = memory.file_path(Path::new(&name), "");
        let inner = outer.join("inner");
        if memory.version() == Version::V2 {
            std::fs::write(memory.mountpoint().join("cgroup.subtree_control"), "+memory").unwrap();
        }
        std::fs::create_dir(&outer).unwrap();
        if memory.version() == Version::V2 {
            std::fs::write(outer.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.join(limit_file), (48 << 20).to_string()).unwrap();
        std::fs::write(inner.join(limit_file), (64 << 20).to_string()).unwrap();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
        Self { child, outer, inner, limit_file }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for dir in [&self.inner, &self.outer] {
            for _ in 0..100 {
                if std::fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn limits_and_show_without_a_daemon() {
    let place = Place::new();
    let limited = Limited::start();
    let pid = limited.child.id().to_string();
    let file = limited.outer.join(limited.limit_file);
    let inner = limited.inner.to_str().unwrap();
    for target in [pid.as_str(), inner, &format!("group:{inner}"), &format!("pid:{pid}")] {
        let json = place.run(&["limits", target, "--json"]).json();
        assert_eq!(json["target"], target);
        let memory = &json["limits"][0];
        assert_eq!((&memory["resource"], &memory["unit"]), (&"memory".into(), &"bytes".into()));
        assert_eq!(memory["limit"], 48 << 20, "the ancestor's");
        assert_eq!(memory["imposed_by"], file.to_str().unwrap());
        let shown = place.run(&["show", "meminfo", target]);
        assert!(shown.out.starts_with("MemTotal:          49152 kB\n"), "{}", shown.out);
        assert!(shown.err.contains("computed here") && shown.err.lines().count() == 1, "{}", shown.err);
    }
    let table = place.run(&["limits", &pid]).out;
    let first = "memory       48M ";
    assert!(table.starts_with("RESOURCE ") && table.lines().nth(1).unwrap().starts_with(first), "{table}");
    let plain = place.run(&["limits", &pid, "--bytes", "--no-headers"]).out;
    assert!(plain.starts_with("memory ") && plain.contains(&(48 << 20).to_string()), "{plain}");
    let online = place.run(&["show", "/sys/devices/system/cpu/online", &pid]).out;
    assert!(online.ends_with('\n') && online.trim().bytes().all(|byte| b"0123456789-,".contains(&byte)));
    place.run(&["limits", &format!("{inner}-not")]).failed(3, "");
    let unknown = place.run(&["show", "sys/devices/system/cpu/nothing", &pid]);
    assert_eq!(unknown.code, 3, "{}", unknown.err);
}

fn view(name: Option<&ContainerName>, choices: PolicyChoices) -> ViewInfo {
    let settings = Layers::default().settings(name, choices);
    ViewInfo { container: name.cloned(), time_namespace: true, settings }
}

/// A daemon that has registered this test's own process, and other names.
struct Fake;

impl Handler for Fake {
    fn register(&self, _: RegisterRequest) -> Result<Registered, Refusal> {
        Err(Refusal::new(RefusalKind::Failed, "not here"))
    }
    fn unregister(&self, _: &ContainerName) -> Result<(), Refusal> {
        Ok(())
    }
    fn list(&self) -> Vec<ContainerInfo> {
        let info = |name: &str, pid: u32| ContainerInfo {
            name: ContainerName::new(name).unwrap(),
            pid: HostPid::new(pid as i32).unwrap(),
            slot: 1,
            groups: Vec::new(),
            policies: Policies::default(),
            start: Nsec(0),
        };
        vec![info("shop-a", std::process::id()), info("shop-b", i32::MAX as u32)]
    }
    fn show(&self, target: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal> {
        match target {
            ShowTarget::Name(name) => Ok(format!("{file} of {name}\n").into_bytes()),
            _ => Err(Refusal::new(RefusalKind::NotFound, "it is gone")),
        }
    }
    fn view(&self, target: &ShowTarget) -> Result<ViewInfo, Refusal> {
        match target {
            ShowTarget::Name(name) => Ok(view(Some(name), PolicyChoices::default())),
            ShowTarget::Pid(pid) if pid.get() == 1 => Ok(view(None, PolicyChoices::default())),
            _ => Err(Refusal::new(RefusalKind::NotFound, "it is gone")),
        }
    }
    fn choose(&self, name: &ContainerName, changes: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        let mut choices = PolicyChoices::default();
        for change in changes {
            change.apply(&mut choices).unwrap();
        }
        Ok(view(Some(name), choices))
    }
    fn config(&self) -> ConfigInfo {
        let layers = Layers::default();
        let error = Some("/etc/x.toml:3: cpus = 1".into());
        ConfigInfo {
            file: "/etc/x.toml".into(),
            found: true,
            error,
            defaults: layers.defaults(),
            containers: Vec::new(),
        }
    }
    fn status(&self) -> Status {
        Status::default()
    }
    fn umount(&self, force: bool) -> Result<(), Refusal> {
        assert!(!force);
        Err(Refusal::new(RefusalKind::InUse, "2 containers hold files; end them first, or add --force"))
    }
}

#[test]
fn the_daemon_is_asked_where_there_is_one() {
    let place = Place::new();
    let running = Server::bind(place.paths.clone()).unwrap().start(Arc::new(Fake)).unwrap();
    let shown = place.run(&["show", "stat", "shop-a"]);
    assert_eq!((shown.code, shown.out.as_str(), shown.err.as_str()), (0, "proc/stat of shop-a\n", ""));
    let json = place.run(&["show", "stat", "name:shop-b", "--json"]).json();
    assert_eq!(json["text"], "proc/stat of shop-b\n");
    place.run(&["show", "stat", "1"]).failed(3, "it is gone");
    // By pid too, and by a prefix only where it says which.
    assert_eq!(place.run(&["show", "stat", &std::process::id().to_string()]).out, shown.out);
    place.run(&["limits", "shop"]).failed(2, "name:shop-a, name:shop-b");
    let json = place.run(&["ls", "--json"]).json();
    let rows = json["containers"].as_array().unwrap();
    assert_eq!((&rows[0]["name"], &rows[0]["view"]), (&"shop-a".into(), &"no".into()));
    assert_eq!(
        (&rows[1]["name"], &rows[1]["memory_bytes"]),
        (&"shop-b".into(), &Value::Null),
        "it has ended"
    );
    assert!(json["daemon"].is_string());
    let table = place.run(&["ls"]).out;
    assert!(table.starts_with("NAME "), "{table}");
    assert!(!place.run(&["ls", "--no-headers"]).out.contains("NAME"));
    place.run(&["umount"]).failed(2, "2 containers hold files; end them first, or add --force");
    // A second daemon for the same mount point says whose turn it is.
    std::fs::create_dir(&place.paths.mount).unwrap();
    place.run(&["serve"]).failed(2, "already serves");
    running.stop();
    place.run(&["umount"]).failed(3, "no ownproc daemon serves");
}

#[test]
fn attach_needs_a_daemon_and_detach_does_not() {
    let place = Place::new();
    for args in [["attach", "pid:1"].as_slice(), &["attach", "--repair"], &["attach", "--all"]] {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("ownproc serve") && ran.err.lines().count() == 1, "{}", ran.err);
    }
    let ran = place.run(&["detach", "no-such-container"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    // The mounts of this test's own process are the host's.
    let ran = place.run(&["detach", &format!("pid:{}", std::process::id()), "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["version"], &document["action"]), (&1.into(), &"detach".into()));
    assert!(document["containers"][0]["failure"].as_str().unwrap().contains("the host's"), "{document}");
}
