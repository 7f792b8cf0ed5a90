//! The registry with real processes in real groups. Needs root and a writable cgroup hierarchy.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::registry::RegistryError;
use super::verify::VerifyError;
use super::*;
use crate::cgroup::{Controller, Layout};
use crate::config::{Config, Layers};
use crate::model::{ContainerName, CpusPolicy, PolicyChange, PolicyChoices, PolicyKey};

/// A process of ours that is ended with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
    fn pidfd(&self) -> OwnedFd {
        pidfd_open(Pid::from_raw(self.pid()).unwrap(), PidfdFlags::empty()).unwrap()
    }
    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A group of the memory hierarchy that is removed with the test.
struct Group(PathBuf);

impl Group {
    fn new(layout: &Layout) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/ownproc-test-control-{}-{count}", std::process::id());
        let memory = layout.get(layout.hierarchy_of(Controller::Memory).unwrap()).unwrap();
        let path = memory.file_path(Path::new(&name), "");
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn dir(&self) -> OwnedFd {
        File::open(&self.0).unwrap().into()
    }
    fn add(&self, sleeper: &Sleeper) {
        std::fs::write(self.0.join("cgroup.procs"), sleeper.pid().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes were dropped before it, but the kernel may take a moment to let go.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Set {
    registry: Arc<Registry>,
    removed: mpsc::Receiver<(String, u32)>,
    layout: Arc<Layout>,
    dir: tempfile::TempDir,
}

fn set_up() -> Set {
    let dir = tempfile::tempdir().unwrap();
    let layout = Arc::new(Layout::discover(Path::new("/")).unwrap());
    let registry = Registry::open(Arc::clone(&layout), &dir.path().join("containers")).unwrap();
    let (sender, removed) = mpsc::channel();
    let sender = Mutex::new(sender);
    registry.on_removed(Box::new(move |entry| {
        let _ = sender.lock().unwrap().send((entry.name.to_string(), entry.slot));
    }));
    Set { registry, removed, layout, dir }
}

impl Set {
    fn state(&self) -> PathBuf {
        self.dir.path().join("containers")
    }
    fn files(&self) -> Vec<String> {
        files_in(&self.state())
    }
    fn register(&self, text: &str, sleeper: &Sleeper) -> Result<Arc<Entry>, RegistryError> {
        self.registry.register(name(text), PolicyChoices::default(), sleeper.pidfd(), Vec::new())
    }
    fn next_removed(&self) -> (String, u32) {
        self.removed.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

/// The records in a directory of state, but not what else is remembered there.
fn files_in(state: &std::path::Path) -> Vec<String> {
    let names =
        std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_container_comes_and_goes_with_its_init() {
    let set = set_up();
    let group = Group::new(&set.layout);
    let mut sleeper = Sleeper::start();
    group.add(&sleeper);
    let entry = set
        .registry
        .register(name("web"), PolicyChoices::default(), sleeper.pidfd(), vec![group.dir()])
        .unwrap();
    assert_eq!((entry.slot, entry.init.get()), (1, sleeper.pid()));
    assert!(entry.group_dirs.contains(&group.0), "{:?}", entry.group_dirs);
    assert!(entry.pidns.is_none(), "it shares our pid namespace");
    assert_eq!(set.registry.by_name(&entry.name).unwrap().slot, 1);
    assert_eq!(set.registry.by_slot(1).unwrap().name, entry.name);
    assert_eq!((set.registry.len(), set.files()), (1, vec!["web.json".to_owned()]));
    sleeper.end();
    assert_eq!(set.next_removed(), ("web".to_owned(), 1));
    assert!(set.registry.is_empty() && set.registry.by_slot(1).is_none());
    assert_eq!(set.files(), Vec::<String>::new());
}

#[test]
fn names_are_taken_and_freed_but_slots_never_come_back() {
    let set = set_up();
    let (mut first, second) = (Sleeper::start(), Sleeper::start());
    set.register("b", &first).unwrap();
    let error = set.register("b", &second).unwrap_err();
    assert!(matches!(error, RegistryError::NameTaken { .. }), "{error}");
    assert_eq!(set.register("b", &first).unwrap().slot, 1, "the same process asks again");
    assert_eq!(set.register("a", &second).unwrap().slot, 2);
    let names: Vec<String> = set.registry.list().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    set.registry.unregister(&name("a")).unwrap();
    assert_eq!(set.next_removed(), ("a".to_owned(), 2));
    assert!(matches!(set.registry.unregister(&name("a")), Err(RegistryError::NoSuchContainer(_))));
    assert_eq!(set.register("a", &second).unwrap().slot, 3);
    // Freed by the end of its init, at once: no waiting for the watcher.
    first.end();
    assert_eq!(set.register("b", &second).unwrap().slot, 4);
    assert_eq!(set.next_removed(), ("b".to_owned(), 1));
}

#[test]
fn a_pid_namespace_is_held() {
    let set = set_up();
    let unshare = Sleeper(
        Command::new("unshare")
            .args(["--pid", "--fork", "sleep", "1000"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
    let end = Instant::now() + Duration::from_secs(10);
    let inner = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Ok(pid) = text.trim().parse::<i32>() {
            break pid;
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    };
    let pidfd = pidfd_open(Pid::from_raw(inner).unwrap(), PidfdFlags::empty()).unwrap();
    let entry = set.registry.register(name("ns"), PolicyChoices::default(), pidfd, Vec::new()).unwrap();
    let link = std::fs::read_link(format!("/proc/{inner}/ns/pid")).unwrap();
    assert_eq!(format!("pid:[{}]", entry.pidns.as_ref().unwrap().inode), link.to_str().unwrap());
    rustix::process::pidfd_send_signal(&entry.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(set.next_removed().0, "ns");
}

#[test]
fn wrong_descriptors_are_refused() {
    let set = set_up();
    let group = Group::new(&set.layout);
    let sleeper = Sleeper::start();
    let mut ended = Sleeper::start();
    let ended_pidfd = ended.pidfd();
    ended.end();
    let mut zombie = Sleeper::start();
    let zombie_pidfd = zombie.pidfd();
    zombie.0.kill().unwrap();
    while !pidfd::ended(zombie_pidfd.as_fd()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let open = |path: &str| -> OwnedFd { File::open(path).unwrap().into() };
    let register =
        |pidfd, groups| match set.registry.register(name("x"), PolicyChoices::default(), pidfd, groups) {
            Err(RegistryError::Verify(error)) => error,
            other => panic!("{other:?}"),
        };
    assert!(matches!(register(open("/dev/null"), vec![]), VerifyError::NotAPidfd));
    assert!(matches!(register(ended_pidfd, vec![]), VerifyError::NotAPidfd));
    assert!(matches!(register(zombie_pidfd, vec![]), VerifyError::Ended(_)));
    let procs: OwnedFd = File::open(group.0.join("cgroup.procs")).unwrap().into();
    for wrong in [open("/"), open("/dev/null"), open("/proc/self"), procs] {
        assert!(matches!(register(sleeper.pidfd(), vec![wrong]), VerifyError::NotAGroup { index: 1 }));
    }
    // A group that the process is not in.
    let error = register(sleeper.pidfd(), vec![group.dir()]);
    assert!(matches!(error, VerifyError::NotInGroup { .. }), "{error}");
    group.add(&sleeper);
    let error = register(sleeper.pidfd(), vec![group.dir(), group.dir()]);
    assert!(matches!(error, VerifyError::Twice { .. }), "{error}");
    assert!(set.registry.is_empty());
    assert_eq!(set.files(), Vec::<String>::new());
    // Refusals take no slot.
    assert_eq!(set.register("x", &sleeper).unwrap().slot, 1);
    zombie.0.wait().unwrap();
}

#[test]
fn a_group_above_that_of_the_process_is_accepted() {
    let set = set_up();
    let group = Group::new(&set.layout);
    let below = Group(group.0.join("payload"));
    std::fs::create_dir(&below.0).unwrap();
    let sleeper = Sleeper::start();
    below.add(&sleeper);
    let entry = set
        .registry
        .register(name("system"), PolicyChoices::default(), sleeper.pidfd(), vec![group.dir()])
        .unwrap();
    assert!(entry.group_dirs.contains(&group.0), "{:?}", entry.group_dirs);
    drop(sleeper);
    drop(below);
}

#[test]
fn a_later_daemon_takes_the_living_up_again() {
    let Set { registry, layout, dir, removed } = set_up();
    let state = dir.path().join("containers");
    let group = Group::new(&layout);
    let (mut lives, mut ends, moves) = (Sleeper::start(), Sleeper::start(), Sleeper::start());
    group.add(&lives);
    group.add(&moves);
    let choices = PolicyChoices { cpus: Some(CpusPolicy::Cpuset), ..Default::default() };
    for (text, sleeper) in [("lives", &lives), ("ends", &ends), ("moves", &moves)] {
        registry.register(name(text), choices, sleeper.pidfd(), Vec::new()).unwrap();
    }
    let before: Vec<PathBuf> = registry.by_name(&name("lives")).unwrap().group_dirs.clone();
    // The daemon is killed: its records stay.
    let records = ["lives", "ends", "moves"].map(|text| {
        let file = state.join(format!("{text}.json"));
        (file.clone(), std::fs::read(file).unwrap())
    });
    drop((registry, removed));
    for (file, bytes) in &records {
        std::fs::write(file, bytes).unwrap();
    }
    ends.end();
    std::fs::write(group.0.parent().unwrap().join("cgroup.procs"), moves.pid().to_string()).unwrap();
    let registry = Registry::open(Arc::clone(&layout), &state).unwrap();
    let names: Vec<String> = registry.list().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["lives"]);
    let entry = registry.by_name(&name("lives")).unwrap();
    assert_eq!((entry.slot, entry.choices(), &entry.group_dirs), (1, choices, &before));
    assert_eq!(entry.policies.get(), choices.complete());
    assert_eq!(files_in(&state), ["lives.json"]);
    let next = registry.register(name("new"), choices, moves.pidfd(), Vec::new()).unwrap();
    assert_eq!(next.slot, 4, "slots of a daemon before are not given again");
    // It is watched as well as a new one.
    lives.end();
    let end = Instant::now() + Duration::from_secs(10);
    while registry.by_name(&name("lives")).is_some() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_of_another_boot_or_process_are_dropped() {
    let Set { registry, layout, dir, .. } = set_up();
    let state = dir.path().join("containers");
    let sleeper = Sleeper::start();
    registry.register(name("a"), PolicyChoices::default(), sleeper.pidfd(), Vec::new()).unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(state.join("a.json")).unwrap()).unwrap();
    drop(registry);
    for (field, value) in [
        ("boot_id", serde_json::json!("another")),
        ("start", serde_json::json!(1)),
        ("pid", serde_json::json!(i32::MAX)),
        ("groups", serde_json::json!(["/sys/fs/cgroup/no-such-group"])),
    ] {
        let mut changed = record.clone();
        changed[field] = value;
        std::fs::write(state.join("a.json"), changed.to_string()).unwrap();
        let registry = Registry::open(Arc::clone(&layout), &state).unwrap();
        assert!(registry.is_empty(), "{field}");
        assert!(!state.join("a.json").exists(), "{field}");
    }
}

fn change(key: &str, value: Option<&str>) -> PolicyChange {
    PolicyChange { key: key.to_owned(), value: value.map(str::to_owned) }
}

fn layers(text: &str) -> Layers {
    let config = Config::parse(text.as_bytes(), Path::new("/c")).unwrap();
    Layers { config, file: "/c".into(), ..Layers::default() }
}

#[test]
fn choices_are_kept_and_the_configuration_counts_for_the_rest() {
    let set = set_up();
    set.registry.configure(layers("[defaults]\nswap = \"hide\"\n[containers.\"w*\"]\ncpus = \"cpuset\"\n"));
    let sleeper = Sleeper::start();
    let entry = set.register("web", &sleeper).unwrap();
    let get = |entry: &Entry| PolicyKey::CONTAINER.map(|key| entry.policies.get().get(key).unwrap());
    assert_eq!(get(&entry), ["cpuset", "physical", "hide", "container", "zero"]);
    let web = name("web");
    set.registry.choose(&web, &[change("swap", Some("show")), change("numbering", Some("compact"))]).unwrap();
    assert_eq!(get(&entry), ["cpuset", "compact", "show", "container", "zero"]);
    // All or nothing.
    let refused = set.registry.choose(&web, &[change("swap", None), change("cpus", Some("all"))]);
    assert!(matches!(refused, Err(RegistryError::Policy(_))), "{refused:?}");
    assert_eq!(get(&entry), ["cpuset", "compact", "show", "container", "zero"]);
    let nobody = set.registry.choose(&name("nobody"), &[]);
    assert!(matches!(nobody, Err(RegistryError::NoSuchContainer(_))));
    // What was not chosen follows the configuration, here and for those that nobody registered.
    set.registry.configure(layers("[defaults]\nuptime = \"host\"\nswap = \"hide\"\n"));
    assert_eq!(get(&entry), ["quota", "compact", "show", "host", "zero"]);
    assert_eq!(set.registry.defaults().get().get(PolicyKey::Swap), Some("hide"));
    set.registry.choose(&web, &[change("swap", None)]).unwrap();
    assert_eq!(get(&entry), ["quota", "compact", "hide", "host", "zero"]);
    // A later daemon knows the choices, and no more: the rest is its own configuration's.
    let kept = set.state().join("web.json");
    let record = std::fs::read(&kept).unwrap();
    let Set { registry, layout, dir, .. } = set;
    drop((entry, registry));
    std::fs::write(&kept, &record).unwrap();
    let later = Registry::open(layout, &dir.path().join("containers")).unwrap();
    let entry = later.by_name(&web).unwrap();
    assert_eq!(get(&entry), ["quota", "compact", "show", "container", "zero"]);
    later.configure(layers("[containers.web]\ncounters = \"host\"\n"));
    assert_eq!(get(&entry), ["quota", "compact", "show", "container", "host"]);
}

/// A record of a daemon that knew no choices holds all policies: they are the container's own then.
#[test]
fn records_of_an_older_daemon_are_understood() {
    let Set { registry, layout, dir, .. } = set_up();
    let state = dir.path().join("containers");
    let sleeper = Sleeper::start();
    registry.register(name("a"), PolicyChoices::default(), sleeper.pidfd(), Vec::new()).unwrap();
    let file = state.join("a.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    drop(registry);
    assert_eq!(record["policies"], serde_json::json!({}));
    record["policies"] = serde_json::to_value(crate::model::Policies::default()).unwrap();
    std::fs::write(&file, record.to_string()).unwrap();
    let registry = Registry::open(layout, &state).unwrap();
    registry.configure(layers("[defaults]\ncpus = \"cpuset\"\n"));
    let entry = registry.by_name(&name("a")).unwrap();
    assert_eq!(entry.policies.get(), crate::model::Policies::default());
}
