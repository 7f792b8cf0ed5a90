//! Mounts of our type, in whatever mount namespace, and the containers that have them or lack them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::probe::{self, Life};
use super::{Check, daemon, machine, names};
use crate::attach::Namespace;
use crate::attach::mounts::{self, Mount};
use crate::cli::host::Known;
use crate::cli::runtime::identify;
use crate::cli::survey::{self, ViewState};
use crate::control::paths::RUN_DIR;
use crate::control::{Client, Paths, ShowTarget};
use crate::model::{HostPid, Policy, PolicyKey, UptimePolicy};

/// File systems that are asked whether they answer; a host has one or two, a container may mount as many as it likes.
const MOST_PROBES: usize = 64;
const REPAIR: &str = "ownproc attach --repair, once a daemon serves again";
const WAITING: &str =
    "readers wait: start the daemon again if systemd keeps its connection; else look what it does";

/// One file system of our type: where it is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    pid: i32,
    point: PathBuf,
    /// In how many mount namespaces.
    namespaces: usize,
}

pub(super) fn checks(known: &Known, client: Option<&Client>, paths: &Paths) -> Vec<Check> {
    let living: Vec<String> =
        machine::daemons(Path::new(RUN_DIR)).iter().filter_map(daemon::device_of).collect();
    let seen = seen(Path::new("/proc"));
    let mut states: BTreeMap<&str, Life> = BTreeMap::new();
    for (device, place) in seen.iter().take(MOST_PROBES) {
        let life = match living.contains(device) {
            true => Life::Living,
            false => probe::life(place.pid, device, &place.point),
        };
        states.insert(device, life);
    }
    let answering: Vec<String> = states
        .iter()
        .filter(|(_, life)| **life == Life::Living)
        .map(|(device, _)| (*device).to_owned())
        .collect();
    let mut checks = vec![of_file_systems(&seen, &states, paths)];
    checks.extend(containers(known, client, &answering));
    checks
}

/// All file systems of our type by their device, with one place of each.
fn seen(proc: &Path) -> BTreeMap<String, Seen> {
    let mut found: BTreeMap<String, Seen> = BTreeMap::new();
    let mut looked = HashSet::new();
    let mut look = |pid: i32, process: &Path| {
        let Ok(namespace) = std::fs::read_link(process.join("ns/mnt")) else { return };
        if !looked.insert(namespace) {
            return;
        }
        let table = mounts::parse(&std::fs::read(process.join("mountinfo")).unwrap_or_default());
        let mut here = HashSet::new();
        for mount in table.iter().filter(|mount| mount.is_ownproc()) {
            let first = here.insert(mount.device.clone());
            let place = found.entry(mount.device.clone()).or_insert_with(|| Seen {
                pid,
                point: mount.point.clone(),
                namespaces: 0,
            });
            place.namespaces += usize::from(first);
        }
    };
    // Our own first: there the way to it is nobody else's.
    look(i32::try_from(std::process::id()).unwrap_or(0), &proc.join("self"));
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            look(pid, &entry.path());
        }
    }
    found
}

fn of_file_systems(seen: &BTreeMap<String, Seen>, states: &BTreeMap<&str, Life>, paths: &Paths) -> Check {
    let of = |life: Life| -> Vec<String> {
        let bad = seen.iter().filter(|(device, _)| states.get(device.as_str()) == Some(&life));
        bad.map(|(device, place)| {
            let here = if place.point == paths.mount { "" } else { " as seen by process " };
            let pid = if here.is_empty() { String::new() } else { place.pid.to_string() };
            format!(
                "{device} at {}{here}{pid} ({} mount namespace(s))",
                place.point.display(),
                place.namespaces
            )
        })
        .collect()
    };
    let (dead, silent) = (of(Life::Dead), of(Life::Silent));
    match (dead.is_empty(), silent.is_empty()) {
        (true, true) => Check::ok("mounts", format!("{} file system(s) of ours, none dead", seen.len())),
        (false, true) => {
            Check::fail("mounts", format!("dead, since their daemon is gone: {}", names(&dead)), REPAIR)
        }
        (true, false) => Check::fail("mounts", format!("nobody answers for {}", names(&silent)), WAITING),
        (false, false) => Check::fail(
            "mounts",
            format!(
                "dead, since their daemon is gone: {}; and nobody answers for {}",
                names(&dead),
                names(&silent)
            ),
            format!("{REPAIR}; {WAITING}"),
        ),
    }
}

/// What the containers see.
fn containers(known: &Known, client: Option<&Client>, answering: &[String]) -> Vec<Check> {
    let own_time = Namespace::own("time").ok();
    let (mut bound, mut without, mut dead, mut aged) = (0_usize, Vec::new(), Vec::new(), Vec::new());
    for init in &known.inits {
        let Ok(text) = std::fs::read(format!("/proc/{}/mountinfo", init.pid)) else { continue };
        let table = mounts::parse(&text);
        let name = label(known, init.pid, survey::main_group(&init.cgroup));
        match survey::bound(&table, answering) {
            ViewState::No => without.push(name),
            ViewState::Dead => dead.push(name),
            ViewState::Bound => {
                bound += 1;
                if shows_age(&table)
                    && same_time(init.pid, own_time.as_ref())
                    && client.is_some_and(|client| uptime_is_its_own(client, known, init.pid))
                {
                    aged.push(name);
                }
            }
        }
    }
    let mut checks = vec![of_containers(bound, &without, &dead)];
    checks.extend(of_aged(&aged));
    checks
}

/// What people call it.
fn label(known: &Known, pid: HostPid, group: &str) -> String {
    let registered = known.registered.iter().find(|info| info.pid == pid).map(|info| info.name.to_string());
    let managed = || identify(group).map(|managed| managed.name.chars().take(12).collect::<String>());
    registered.or_else(managed).map_or_else(|| format!("pid {pid}"), |name| format!("{name} (pid {pid})"))
}

fn shows_age(table: &[Mount]) -> bool {
    let uptime = Path::new("/proc/uptime");
    mounts::visible(table, uptime).is_some_and(|mount| mount.is_ownproc() && mount.point == uptime)
}

fn same_time(pid: HostPid, own: Option<&Namespace>) -> bool {
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/time")).ok();
    let ours = std::fs::read_link("/proc/self/ns/time").ok();
    own.is_some() && theirs.is_some() && theirs == ours
}

/// Whether the policy shows it its own uptime.
fn uptime_is_its_own(client: &Client, known: &Known, pid: HostPid) -> bool {
    let registered = known.registered.iter().find(|info| info.pid == pid);
    let target = registered.map_or(ShowTarget::Pid(pid), |info| ShowTarget::Name(info.name.clone()));
    let host = UptimePolicy::Host.name();
    client.view(target).is_ok_and(|view| {
        view.settings.iter().any(|setting| setting.key == PolicyKey::Uptime.name() && setting.value != host)
    })
}

fn of_containers(bound: usize, without: &[String], dead: &[String]) -> Check {
    if !dead.is_empty() {
        return Check::fail("containers", format!("dead files in {}", names(dead)), REPAIR);
    }
    match without.is_empty() {
        true => Check::ok("containers", format!("{bound} with our files, none without")),
        false => Check::warn(
            "containers",
            format!("{bound} with our files; the host's are shown to {}", names(without)),
            "ownproc attach TARGET, if they are to have their own",
        ),
    }
}

fn of_aged(aged: &[String]) -> Option<Check> {
    (!aged.is_empty()).then(|| {
        Check::warn(
            "uptime",
            format!("without a time namespace, and with an uptime of their own: {}", names(aged)),
            "`ps -o etime` and %CPU are wrong there; uptime = \"host\" shows the host's (SEMANTICS.md, T2 to T4)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn fixture() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (pid, namespace, line) in [
            ("self", "mnt:[1]", "30 1 0:50 / /var/lib/ownproc rw - fuse.ownproc ownproc ro\n"),
            ("10", "mnt:[1]", "30 1 0:50 / /var/lib/ownproc rw - fuse.ownproc ownproc ro\n"),
            (
                "20",
                "mnt:[2]",
                "31 1 0:50 /proc/meminfo /proc/meminfo rw - fuse.ownproc ownproc ro\n32 1 0:50 / /x rw - fuse.ownproc o ro\n",
            ),
            ("21", "mnt:[3]", "31 1 0:60 /proc/meminfo /proc/meminfo rw - fuse.ownproc ownproc ro\n"),
            ("22", "mnt:[4]", "31 1 0:70 / /proc/meminfo rw - fuse.lxcfs lxcfs ro\n"),
        ] {
            let process = dir.path().join(pid);
            std::fs::create_dir_all(process.join("ns")).unwrap();
            std::os::unix::fs::symlink(namespace, process.join("ns/mnt")).unwrap();
            std::fs::write(process.join("mountinfo"), line).unwrap();
        }
        dir
    }

    #[test]
    fn file_systems_are_counted_once_per_namespace() {
        let dir = fixture();
        let seen = seen(dir.path());
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["0:50", "0:60"]);
        assert_eq!(seen["0:50"].namespaces, 2);
        assert_eq!(seen["0:50"].point, Path::new("/var/lib/ownproc"));
        assert_eq!((seen["0:60"].pid, seen["0:60"].namespaces), (21, 1));
    }

    #[test]
    fn dead_comes_before_silent_and_both_are_failures() {
        let dir = fixture();
        let seen = seen(dir.path());
        let paths = Paths::new(Path::new("/var/lib/ownproc"));
        let of = |a, b| of_file_systems(&seen, &BTreeMap::from([("0:50", a), ("0:60", b)]), &paths);
        assert_eq!(of(Life::Living, Life::Unknown).level, Level::Ok);
        let check = of(Life::Silent, Life::Dead);
        assert_eq!(check.level, Level::Fail);
        assert!(check.message.contains("0:60 at /proc/meminfo as seen by process 21"), "{check:?}");
        let check = of(Life::Silent, Life::Living);
        assert!(
            check.level == Level::Fail && check.message.contains("0:50 at /var/lib/ownproc (2"),
            "{check:?}"
        );
    }

    #[test]
    fn containers_are_named() {
        assert_eq!(of_containers(2, &[], &[]).level, Level::Ok);
        let web = ["web (pid 7)".to_owned()];
        assert_eq!(of_containers(2, &web, &[]).level, Level::Warn);
        let check = of_containers(2, &web, &web);
        assert!(check.level == Level::Fail && check.advice.unwrap().contains("--repair"));
        assert!(of_aged(&[]).is_none());
        assert!(of_aged(&web).unwrap().message.ends_with("web (pid 7)"));
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert!(names(&many).ends_with("9 and 2 more"));
    }
}
