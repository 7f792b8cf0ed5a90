//! Any process of the daemon is killed, without a service manager that keeps anything: no reader
//! notices more than a pause.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::daemon::{self, Daemon, is_mounted};
use crate::groups::Group;
use crate::manager::eventually;
use crate::readers::{Container, Readers};
use crate::shell::{Shell, in_group};
use crate::soak::changes::Random;

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[("kept_nothing_of_removed_cgroups", Nothing, removed_cgroups)];

/// All others.
pub const CASES: &[Row] = &[
    ("kept_each_process_killed", Nothing, each_killed),
    ("kept_daemon_of_the_launcher", Nothing, of_the_launcher),
    ("kept_helpers_killed", Nothing, helpers_killed),
    ("kept_ends_as_asked", Nothing, ends),
];

/// A process of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that was started.
    Main,
    Worker,
    /// Writes answers to sysinfo(2); a child of the worker.
    Helper,
    Keeper,
}

/// All processes of a mount point's daemon.
pub fn processes(mount: &Path) -> Outcome<Vec<(Role, Pid)>> {
    let wanted = mount.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if !words.iter().any(|word| *word == wanted)
            || !words.iter().any(|word| ["serve", "__serve"].contains(&&**word))
        {
            continue;
        }
        let role = words.iter().position(|word| *word == "--role").and_then(|at| words.get(at + 1));
        let parent = procfs_parent(pid);
        found.push((pid, parent, role.map(|role| role.to_string())));
    }
    let workers: Vec<i32> =
        found.iter().filter(|(.., role)| role.as_deref() == Some("worker")).map(|(pid, ..)| *pid).collect();
    let role = |parent: Option<i32>, role: Option<&str>| match role {
        None => Some(Role::Main),
        Some("worker") if parent.is_some_and(|parent| workers.contains(&parent)) => Some(Role::Helper),
        Some("worker") => Some(Role::Worker),
        Some("keeper") => Some(Role::Keeper),
        _ => None, // ends by itself soon
    };
    let known = |(pid, parent, name): &(i32, Option<i32>, Option<String>)| {
        Some((role(*parent, name.as_deref())?, Pid::from_raw(*pid)))
    };
    Ok(found.iter().filter_map(known).collect())
}

fn procfs_parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn one(mount: &Path, role: Role) -> Outcome<Option<Pid>> {
    Ok(processes(mount)?.into_iter().find(|(its, _)| *its == role).map(|(_, pid)| pid))
}

/// Waits for a process of that role other than `before`, and for a keeper beside it.
fn whole(mount: &Path) -> Outcome {
    for role in [Role::Main, Role::Worker, Role::Keeper] {
        eventually("a whole daemon", || Ok(one(mount, role)?.is_some()))?;
    }
    Ok(())
}

fn shot(mount: &Path, role: Role) -> Outcome {
    // a worker ends a moment after its main process
    eventually(&format!("{role:?} of {}", mount.display()), || Ok(one(mount, role)?.is_some()))?;
    if let Some(pid) = one(mount, role)? {
        let _ = kill(pid, Signal::SIGKILL);
    }
    Ok(())
}

/// Ends what is left of a daemon whose first process is gone.
struct Left(PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        for role in [Role::Keeper, Role::Main, Role::Worker] {
            if let Ok(Some(pid)) = one(&self.0, role) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn each_killed() -> Outcome {
    let mount = daemon::fresh_mount_point("kept");
    let daemon = Daemon::start(mount.clone())?;
    let _left = Left(mount.clone());
    let mut container = Container::launch(&mount)?;
    let readers = Readers::start(&mount)?;
    whole(&mount)?;
    // the first one by hand: it is this process's child
    check_eq!(daemon.leave(Signal::SIGKILL)?, 137, "exit code of the main process");
    let mut random = Random::new(u64::from(std::process::id()));
    let all = [Role::Main, Role::Worker, Role::Keeper, Role::Helper];
    for round in 0..8 {
        whole(&mount)?;
        readers.go_on().doing(format!("round {round}"))?;
        container.check().doing(format!("round {round}"))?;
        std::thread::sleep(Duration::from_millis(random.below(200)));
        // each in turn, then as chance has it
        let role = match round {
            0..4 => all[round],
            _ => all[usize::try_from(random.below(4))?],
        };
        shot(&mount, role)?;
    }
    whole(&mount)?;
    readers.go_on()?;
    let reads = readers.end()?;
    container.check()?;
    container.end()?;
    check!(reads > 0, "nobody has read");
    let main = one(&mount, Role::Main)?.doing("a main process")?;
    kill(main, Signal::SIGTERM)?;
    eventually("SIGTERM ends it, with all its processes", || Ok(processes(&mount)?.is_empty()))?;
    check!(!is_mounted(&mount)?, "the mount is left");
    Ok(())
}

/// A helper that is killed is nobody's crash, however often that happens.
fn helpers_killed() -> Outcome {
    let mount = daemon::fresh_mount_point("kept-helpers");
    let daemon = Daemon::start(mount.clone())?;
    let mut container = Container::launch(&mount)?;
    for round in 0..8 {
        let worker = one(&mount, Role::Worker)?.doing("a worker")?;
        shot(&mount, Role::Helper)?;
        eventually("another worker", || {
            let now = one(&mount, Role::Worker)?;
            Ok(now.is_some_and(|now| now != worker) && one(&mount, Role::Helper)?.is_some())
        })?;
        container.check().doing(format!("round {round}"))?;
    }
    super::doctor::Said::of(&mount)?.expect("worker", "ok")?;
    container.end()?;
    daemon.stop()
}

/// The daemon that nobody has started by hand, with a container that runs on by itself.
fn of_the_launcher() -> Outcome {
    let mount = daemon::fresh_mount_point("kept-launch");
    let _left = Left(mount.clone());
    let place = mount.display().to_string();
    let mut shell = Shell::launch(&["--mount", &place, "-m", "64M"])?;
    for role in [Role::Main, Role::Keeper, Role::Main, Role::Worker, Role::Main] {
        whole(&mount)?;
        shot(&mount, role)?;
        let total = shell.run("head -n 1 /proc/meminfo")?;
        check_eq!(total.trim(), "MemTotal:          65536 kB", "MemTotal after {role:?} was killed");
        // sysinfo(2) is answered on
        let free = shell.run("busybox free -k | sed -n 2p")?;
        let total = free.split_whitespace().nth(1);
        check_eq!(total, Some("65536"), "total of free after {role:?} was killed");
    }
    drop(shell);
    let main = one(&mount, Role::Main)?.doing("a main process")?;
    kill(main, Signal::SIGTERM)?;
    eventually("SIGTERM ends it, with all its processes", || Ok(processes(&mount)?.is_empty()))?;
    check!(!is_mounted(&mount)?, "the mount is left");
    Ok(())
}

/// A daemon that ends as it was asked to leaves no keeper.
fn ends() -> Outcome {
    let mount = daemon::fresh_mount_point("kept-ends");
    let daemon = Daemon::start(mount.clone())?;
    let container = Container::launch(&mount)?;
    whole(&mount)?;
    container.end()?;
    daemon.stop()?;
    eventually("no process is left", || Ok(processes(&mount)?.is_empty()))?;
    Ok(())
}

/// Descriptors of the daemon that lead to cgroups with this in their path.
fn held(worker: Pid, name: &str) -> Outcome<usize> {
    let links = std::fs::read_dir(format!("/proc/{worker}/fd"))?.flatten();
    let leads = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains(name))
    };
    Ok(links.filter(leads).count())
}

/// Readers in cgroups of their own come and go. The kernel frees no cgroup that somebody holds open.
fn removed_cgroups() -> Outcome {
    let mount = daemon::fresh_mount_point("kept-cgroups");
    let daemon = Daemon::start(mount.clone())?;
    let parent = Group::create("goes")?;
    let name = format!("{}-goes", std::process::id());
    let mut groups = Vec::new();
    for number in 0..30 {
        let group = parent.child(&format!("one-{number}"))?;
        let mut command = Command::new("cat");
        command.arg(mount.join("proc/meminfo")).stdout(Stdio::null());
        in_group(&mut command, &group)?;
        check!(command.status()?.success(), "a read in a cgroup");
        groups.push(group);
    }
    let worker = one(&mount, Role::Worker)?.doing("a worker")?;
    let most = held(worker, &name)?;
    check!(most > 30, "descriptors of living cgroups: {most}");
    // quiet meanwhile: what was looked at together with the last one that came is over
    std::thread::sleep(Duration::from_secs(3));
    for group in &groups {
        group.remove()?;
    }
    eventually("no descriptor of a removed cgroup", || Ok(held(worker, &format!("{name}/one-"))? == 0))?;
    parent.remove()?;
    daemon.stop()
}
