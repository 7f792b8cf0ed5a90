//! `attach --repair`: after a daemon was killed and another one serves its mount point.

use super::{Foreign, check, check_eq, host_is_untouched, kib, ours};
use crate::case::Outcome;
use crate::daemon::{self, Daemon, ownproc_at};
use crate::parse::Meminfo;

/// Files of a daemon of its own in a container, then kill -9 and a new start.
fn crashed(name: &str, containers: &mut [&mut Foreign]) -> Outcome<Daemon> {
    let mount = daemon::fresh_mount_point(name);
    let daemon = Daemon::start(mount.clone())?;
    for foreign in containers.iter_mut() {
        let output = ownproc_at(&mount, &["attach", &foreign.target()])?;
        check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    }
    daemon.crash()?;
    Daemon::start(mount)
}

fn repair(daemon: &Daemon, foreign: &Foreign) -> Outcome {
    let output = ownproc_at(daemon.mount(), &["attach", "--repair", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach --repair ({})", output.stderr);
    Ok(())
}

pub fn after_a_crash() -> Outcome {
    let mut foreign = Foreign::plain("crash", 100)?;
    let daemon = crashed("crash", &mut [&mut foreign])?;
    let before = foreign.mounts()?;
    let (code, said) = foreign.shell.status("cat /proc/meminfo")?;
    check!(code != 0 && said.contains("not connected"), "a dead mount: {said}");
    let listed = ownproc_at(daemon.mount(), &["ls", "--no-headers"])?.ok()?;
    check!(listed.contains(" dead"), "VIEW of a dead mount: {listed}");
    repair(&daemon, &foreign)?;
    check_eq!(foreign.total()?, kib(100), "MemTotal after repair");
    check!(!foreign.shell.listed_cpus()?.is_empty(), "CPUs listed after repair");
    let (mut after, mut before) = (foreign.mounts()?, before);
    after.sort();
    before.sort();
    check_eq!(after, before, "mounts after repair: dead ones are gone, and none is missing");
    // Nothing to do is no failure; plain attach replaces dead ones as well.
    repair(&daemon, &foreign)?;
    daemon.crash()?;
    let daemon = Daemon::start(daemon::fresh_mount_point("crash"))?;
    let output = ownproc_at(daemon.mount(), &["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach over dead mounts ({})", output.stderr);
    check_eq!(foreign.total()?, kib(100), "MemTotal after attach over dead mounts");
    // What nobody serves any more is taken away without a daemon.
    daemon.crash()?;
    let mount = daemon::fresh_mount_point("crash");
    let output = ownproc_at(&mount, &["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach without a daemon ({})", output.stderr);
    check_eq!(foreign.mounts()?.len(), 0, "mounts after detach");
    daemon::clean(&mount);
    host_is_untouched()
}

/// Dead mounts are replaced wherever they lie; what lives, and what is not ours, stays as it is.
pub fn leaves_the_living() -> Outcome {
    let mut foreign = Foreign::plain("living", 100)?;
    let shared = daemon::shared_mount()?.display().to_string();
    foreign.shell.run("mount -t tmpfs none /mnt && echo theirs >/mnt/theirs && touch /mnt/place")?;
    foreign.shell.run("mount --bind /mnt/theirs /proc/loadavg")?;
    foreign.shell.run(&format!("mount --bind {shared}/proc/uptime /proc/uptime"))?;
    let mount = daemon::fresh_mount_point("living");
    let first = Daemon::start(mount.clone())?;
    let output = ownproc_at(&mount, &["attach", &foreign.target()])?;
    check_eq!(output.code, 1, "exit code of attach beside others ({})", output.stderr);
    check!(output.stderr.contains("another ownproc daemon"), "said: {}", output.stderr);
    foreign.shell.run(
        "mount --bind /proc/version /mnt/place && umount /mnt/place && mount --bind /proc/stat /mnt/place",
    )?;
    first.crash()?;
    let daemon = Daemon::start(mount)?;
    let living = |pid| -> Outcome<Vec<String>> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let lines =
            text.lines().filter(|line| line.contains("/proc/uptime") || line.contains("/proc/loadavg"));
        Ok(lines.map(str::to_owned).collect())
    };
    let before = living(foreign.init)?;
    repair(&daemon, &foreign)?;
    check_eq!(living(foreign.init)?, before, "mounts of others after repair");
    check_eq!(foreign.shell.read("loadavg")?, "theirs\n", "somebody else's file");
    check!(foreign.shell.run("cat /mnt/place")?.starts_with("cpu "), "a file of ours at another place");
    check_eq!(foreign.total()?, kib(100), "MemTotal after repair");
    let output = ownproc_at(daemon.mount(), &["detach", &foreign.target()])?;
    check_eq!(output.code, 1, "exit code of detach with a file of another daemon's ({})", output.stderr);
    check_eq!(ours(foreign.init)?, ["/proc/uptime"], "what detach leaves");
    Ok(())
}

/// A container within a container, with a user namespace of its own, has copies of our mounts that cannot be taken away.
pub fn locked() -> Outcome {
    let mut outer = Foreign::plain("outer", 100)?;
    let group = outer.group.move_own_processes_down("init")?;
    let inner = group.path();
    let mount = daemon::fresh_mount_point("locked");
    let first = Daemon::start(mount.clone())?;
    check_eq!(ownproc_at(&mount, &["attach", &outer.target()])?.code, 0, "exit code of attach");
    outer.shell.run("unshare --user --map-root-user --mount --fork --kill-child sleep 600 & sleep 0.5")?;
    let sleeper = group
        .pids()?
        .into_iter()
        .find(|pid| {
            let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            command.trim() == "sleep" && user(&pid.to_string()) != user("self")
        })
        .ok_or_else(|| crate::case::Failure(format!("no sleeper in {inner}")))?;
    first.crash()?;
    let daemon = Daemon::start(mount)?;
    let path = format!("/proc/{sleeper}/root/proc/meminfo");
    check!(std::fs::read(&path).is_err(), "a dead mount in the inner container is read");
    let output = ownproc_at(daemon.mount(), &["attach", "--repair", &format!("pid:{sleeper}")])?;
    check_eq!(output.code, 0, "exit code of attach --repair ({})", output.stderr);
    Meminfo::parse(&std::fs::read_to_string(&path)?)?;
    check!(
        std::fs::read(format!("/proc/{}/root/proc/meminfo", outer.init)).is_err(),
        "the outer one was not asked for"
    );
    repair(&daemon, &outer)?;
    let mut outer = outer;
    check_eq!(outer.total()?, kib(100), "MemTotal in the outer container");
    Ok(())
}
