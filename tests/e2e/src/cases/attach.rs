//! `ownproc attach`, `detach` and `attach --repair`, on containers that somebody else started.

mod hostile;
mod repair;
mod runtimes;

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde_json::Value;

use super::Row;
use crate::case::Needs::{Nothing, OwnMachine};
use crate::case::{Doing, Outcome, check, check_eq, check_in, fail};
use crate::daemon::{self, ownproc, ownproc_at};
use crate::groups::Group;
use crate::output::Output;
use crate::parse::{Meminfo, host_meminfo};
use crate::shell::{Shell, in_group};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("attach_targets", Nothing, targets),
    ("attach_runc", Nothing, runtimes::runc),
    ("attach_podman", Nothing, runtimes::podman),
];

/// All others.
pub const CASES: &[Row] = &[
    ("attach_unshare_and_detach", Nothing, unshare_and_detach),
    ("attach_user_namespace", Nothing, user_namespace),
    ("attach_registered_container", Nothing, registered),
    ("attach_all", OwnMachine, all),
    ("attach_what_others_mounted", Nothing, what_others_mounted),
    ("attach_without_sys", Nothing, without_sys),
    ("attach_names_the_cost_of_uptime", Nothing, cost_of_uptime),
    ("attach_without_a_daemon", Nothing, without_a_daemon),
    ("attach_proc_is_a_link", Nothing, hostile::link),
    ("attach_proc_is_a_tmpfs", Nothing, hostile::tmpfs),
    ("attach_proc_is_a_part_of_procfs", Nothing, hostile::part),
    ("attach_file_systems_that_hang", Nothing, hostile::hang),
    ("attach_swapped_half_way", Nothing, hostile::swapped),
    ("attach_pid_reused", Nothing, hostile::pid_reused),
    ("attach_shared_with_the_host_is_refused", Nothing, hostile::shared_with_the_host),
    ("attach_shared_inside_the_container", Nothing, hostile::shared_inside),
    ("attach_host_is_refused", Nothing, hostile::host),
    ("attach_repair_after_a_crash", Nothing, repair::after_a_crash),
    ("attach_repair_leaves_the_living", Nothing, repair::leaves_the_living),
    ("attach_repair_of_locked_mounts", Nothing, repair::locked),
];

/// MemTotal in KiB of a limit in MiB.
const fn kib(mib: u64) -> u64 {
    mib << 10
}

/// A container of somebody else's in a group with this limit: `unshare ARGS sh`.
struct Foreign {
    group: Group,
    shell: Shell,
    init: Pid,
}

impl Foreign {
    fn start(name: &str, mib: u64, args: &[&str]) -> Outcome<Self> {
        let group = Group::create(name)?;
        group.set_memory(mib)?;
        Self::start_in(group, args)
    }

    fn start_in(group: Group, args: &[&str]) -> Outcome<Self> {
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount", "--kill-child"]).args(args);
        if !args.contains(&"--") {
            command.arg("sh");
        }
        in_group(&mut command, &group)?;
        let shell = Shell::running_at(command, PathBuf::from("/proc"), group.path())?;
        let init = init_in(&group)?;
        Ok(Self { group, shell, init })
    }

    fn plain(name: &str, mib: u64) -> Outcome<Self> {
        Self::start(name, mib, &["--mount-proc"])
    }

    fn target(&self) -> String {
        format!("pid:{}", self.init)
    }

    fn total(&mut self) -> Outcome<u64> {
        Ok(Meminfo::parse(&self.shell.read("meminfo")?)?.get("MemTotal"))
    }

    /// Mounts of ours in it, without the copy of the mount points that it began with.
    fn mounts(&self) -> Outcome<Vec<String>> {
        ours(self.init)
    }
}

/// The init of a pid namespace among the processes of a group.
fn init_in(group: &Group) -> Outcome<Pid> {
    let is_init = |pid: &Pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<&str> = line.split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1")
    };
    group.pids()?.into_iter().find(is_init).doing(format!("an init in {}", group.path()))
}

/// Mount points of files and directories of ours, as a process sees them.
fn ours(pid: Pid) -> Outcome<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let ours = text.lines().filter(|line| line.contains(" - fuse.ownproc "));
    let fields = ours.map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(fields
        .filter(|fields| fields.get(3) != Some(&"/"))
        .filter_map(|fields| Some((*fields.get(4)?).to_owned()))
        .collect())
}

/// Nothing of ours lies over the files of this machine: neither of the tests' mount namespace nor of pid 1's.
fn host_is_untouched() -> Outcome {
    for pid in ["self", "1"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        for line in text.lines().filter(|line| line.contains(" - fuse.ownproc ")) {
            let point = Path::new(line.split(' ').nth(4).unwrap_or_default());
            check!(
                !["/proc", "/sys"].iter().any(|top| point.starts_with(top)),
                "over the files of {pid}: {line}"
            );
        }
    }
    check!(std::fs::read_to_string("/proc/meminfo")?.starts_with("MemTotal:"), "the host's meminfo");
    Ok(())
}

/// `ownproc ARGS --json`: the document and the exit code.
fn json(args: &[&str]) -> Outcome<(Value, Output)> {
    let mut words = args.to_vec();
    words.push("--json");
    let output = ownproc(&words)?;
    let value = serde_json::from_str(&output.stdout).doing(format!("{words:?}: {output:?}"))?;
    Ok((value, output))
}

/// The state of a file in the first container of a document.
fn state(document: &Value, path: &str) -> Outcome<String> {
    let files = document["containers"][0]["files"].as_array().doing("files")?;
    let file = files.iter().find(|file| file["path"] == path).doing(format!("{path} in {document}"))?;
    Ok(file["state"].as_str().unwrap_or_default().to_owned())
}

fn unshare_and_detach() -> Outcome {
    let mut foreign = Foreign::plain("unshare", 100)?;
    foreign.group.set_quota(100)?;
    check_eq!(foreign.total()?, host_meminfo()?.get("MemTotal"), "MemTotal before");
    let (document, output) = json(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    check!(document["version"].is_u64(), "no version in {document}");
    check_eq!(state(&document, "/proc/meminfo")?, "attached", "state of meminfo");
    check_eq!(state(&document, "/sys/devices/system/cpu")?, "attached", "state of the cpu directory");
    check_eq!(foreign.total()?, kib(100), "MemTotal after attach");
    check_eq!(foreign.shell.listed_cpus()?.len(), 1, "CPUs listed under a quota of one");
    // Everything that the tree has, and nothing else.
    let served = std::fs::read_dir(daemon::shared("proc")?)?.flatten();
    let mounts = foreign.mounts()?;
    for entry in served.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        let path = Path::new("/proc").join(entry.file_name()).display().to_string();
        check!(mounts.contains(&path), "{path} is not bound: {mounts:?}");
    }
    let listed = ownproc(&["ls", "--no-headers"])?.ok()?;
    let row =
        listed.lines().find(|line| line.split_whitespace().any(|word| word == foreign.init.to_string()));
    check!(row.is_some_and(|row| row.trim_end().ends_with("bound")), "VIEW: {row:?}");
    let (document, output) = json(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of a second attach ({})", output.stderr);
    check_eq!(state(&document, "/proc/meminfo")?, "already", "state of meminfo at a second attach");
    check_eq!(foreign.mounts()?, mounts, "mounts after a second attach");
    let output = ownproc(&["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach ({})", output.stderr);
    check_eq!(foreign.mounts()?.len(), 0, "mounts of ours after detach");
    check_eq!(foreign.total()?, host_meminfo()?.get("MemTotal"), "MemTotal after detach");
    host_is_untouched()
}

fn user_namespace() -> Outcome {
    let mut foreign = Foreign::start("userns", 100, &["--user", "--map-root-user", "--mount-proc"])?;
    let output = ownproc(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    check_eq!(foreign.total()?, kib(100), "MemTotal in a user namespace");
    check_eq!(foreign.shell.run("cat /proc/uptime | wc -w")?.trim(), "2", "words of uptime");
    let output = ownproc(&["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach ({})", output.stderr);
    check_eq!(foreign.mounts()?.len(), 0, "mounts of ours after detach");
    host_is_untouched()
}

/// The directory of systemd's own hierarchy, where there is one beside that of v2.
fn systemd_hierarchy() -> Outcome<Option<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let line = text.lines().find(|line| line.contains(" - cgroup ") && line.contains("name=systemd"));
    Ok(line.and_then(|line| line.split(' ').nth(4)).map(PathBuf::from))
}

/// By group, by the name that a manager gives, by systemd unit; and what is none.
fn targets() -> Outcome {
    let id = format!("{:064x}", 0xabcd_0000_0000u64 + u64::from(std::process::id()));
    let parent = Group::create("managed")?.child("docker")?;
    let group = parent.child(&id)?;
    group.set_memory(90)?;
    let mut foreign = Foreign::start_in(group, &["--mount-proc"])?;
    let unit = format!("e2e-{}.service", std::process::id());
    let by_unit = match systemd_hierarchy()? {
        Some(top) => {
            let dir = top.join(&unit);
            std::fs::create_dir(&dir).doing(dir.display())?;
            std::fs::write(dir.join("cgroup.procs"), foreign.init.to_string())?;
            Some(dir)
        }
        None => None,
    };
    let check = |foreign: &mut Foreign| -> Outcome {
        let group = format!("group:{}", foreign.group.path());
        let mut named = vec![id.as_str(), &id[..60], &group];
        if by_unit.is_some() {
            named.push(&unit);
        }
        for target in named {
            let output = ownproc(&["attach", target])?;
            check_eq!(output.code, 0, "exit code of attach {target} ({})", output.stderr);
            check_eq!(foreign.total()?, kib(90), "MemTotal after attach {target}");
            let output = ownproc(&["detach", target])?;
            check_eq!(output.code, 0, "exit code of detach {target} ({})", output.stderr);
            check_eq!(foreign.mounts()?.len(), 0, "mounts after detach {target}");
        }
        Ok(())
    };
    let outcome = check(&mut foreign);
    if let Some(dir) = by_unit {
        std::fs::write(dir.join("../cgroup.procs"), foreign.init.to_string())?;
        std::fs::remove_dir(&dir).doing(dir.display())?;
    }
    outcome?;
    for (args, code) in [
        (vec!["attach", "no-such-container"], 3),
        (vec!["detach", "pid:4194304"], 3),
        (vec!["attach"], 2),
        (vec!["detach"], 2),
        (vec!["attach", "--all", "x"], 2),
        (vec!["attach", "--repair", "--replace"], 2),
    ] {
        let output = ownproc(&args)?;
        check_eq!(output.code, code, "exit code of {args:?} ({})", output.stderr);
        check_eq!(output.stderr.trim_end().lines().count(), 1, "lines said of {args:?}: {:?}", output.stderr);
    }
    Ok(())
}

/// What our own launcher started: its files are those of containers/NAME.
fn registered() -> Outcome {
    let mut shell = Shell::launch(&["-m", "80M"])?;
    let name = shell.name().to_owned();
    let init = init_in(&Group::of_container(&name)?)?;
    let before = ours(init)?;
    let output = ownproc(&["detach", &name])?;
    check_eq!(output.code, 0, "exit code of detach ({})", output.stderr);
    check_eq!(ours(init)?.len(), 0, "mounts of ours after detach");
    check_eq!(shell.meminfo_total()?, host_meminfo()?.get("MemTotal"), "MemTotal after detach");
    let (document, output) = json(&["attach", &name])?;
    check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    check_eq!(document["containers"][0]["read_back_kib"].as_u64(), Some(kib(80)), "MemTotal read back");
    check_eq!(shell.meminfo_total()?, kib(80), "MemTotal after attach");
    let (mut before, mut after) = (before, ours(init)?);
    before.sort();
    after.sort();
    check_eq!(after, before, "what is bound, compared with the launcher");
    let table = std::fs::read_to_string(format!("/proc/{init}/mountinfo"))?;
    check!(table.contains(&format!("/containers/{name}/proc/meminfo")), "the root of the mount: {table}");
    Ok(())
}

/// All that `ls` lists. What shares the mounts of the host is no failure.
fn all() -> Outcome {
    let mut one = Foreign::plain("all-one", 70)?;
    let mut two = Foreign::start("all-two", 60, &["--user", "--map-root-user", "--mount-proc"])?;
    let group = Group::create("all-host")?;
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh"]);
    in_group(&mut command, &group)?;
    let _host = Shell::running_at(command, PathBuf::from("/proc"), group.path())?;
    let output = ownproc(&["attach", "--all"])?;
    check_eq!(output.code, 0, "exit code of attach --all ({})", output.stderr);
    check_eq!((one.total()?, two.total()?), (kib(70), kib(60)), "MemTotal of both");
    check!(output.stderr.contains("share the mounts of the host"), "what is said: {}", output.stderr);
    let output = ownproc(&["detach", "--all"])?;
    check_eq!(output.code, 0, "exit code of detach --all ({})", output.stderr);
    check_eq!((one.mounts()?.len(), two.mounts()?.len()), (0, 0), "mounts after detach --all");
    host_is_untouched()
}

/// Files of others stay, unless asked; masks stay always.
fn what_others_mounted() -> Outcome {
    let mut foreign = Foreign::plain("others", 100)?;
    foreign.shell.run("mount -t tmpfs none /mnt && echo 'MemTotal: 7 kB' >/mnt/meminfo")?;
    foreign.shell.run("mount --bind /mnt/meminfo /proc/meminfo")?;
    foreign.shell.run("mount --bind /dev/null /proc/swaps")?;
    foreign.shell.run("mount -t tmpfs none /proc/pressure 2>/dev/null || mount -t tmpfs none /proc/irq")?;
    // As runtimes do: parts of procfs, read-only.
    foreign.shell.run("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")?;
    foreign.shell.run("mount --bind /proc/vmstat /proc/vmstat")?;
    let (document, output) = json(&["attach", &foreign.target()])?;
    check_eq!(output.code, 1, "exit code of attach ({})", output.stderr);
    check!(
        output.stderr.contains("tmpfs") && output.stderr.contains("/proc/meminfo"),
        "said: {}",
        output.stderr
    );
    check_eq!(state(&document, "/proc/meminfo")?, "left", "a file of somebody else's");
    check_eq!(state(&document, "/proc/swaps")?, "masked", "a masked file");
    check_eq!(state(&document, "/proc/vmstat")?, "attached", "a file of procfs over itself");
    check_eq!(
        state(&document, "/proc/sys/kernel/random/boot_id")?,
        "attached",
        "a file below a read-only /proc/sys"
    );
    check_eq!(state(&document, "/proc/pressure/cpu")?, "masked", "a file below a masked directory");
    check_eq!(foreign.total()?, 7, "somebody else's file");
    check!(foreign.shell.read("loadavg")?.split(' ').count() == 5, "a file that was attached");
    let (document, output) = json(&["attach", "--replace", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach --replace ({})", output.stderr);
    check_eq!(state(&document, "/proc/meminfo")?, "replaced", "a file of somebody else's with --replace");
    check_eq!(state(&document, "/proc/swaps")?, "masked", "a masked file with --replace");
    check_eq!(foreign.total()?, kib(100), "MemTotal after --replace");
    // Only ours go.
    foreign.shell.run("mount --bind /mnt/meminfo /proc/cpuinfo")?;
    let output = ownproc(&["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach ({})", output.stderr);
    check_eq!(
        foreign.shell.read("cpuinfo")?,
        "MemTotal: 7 kB\n",
        "a file that somebody else mounted over ours"
    );
    check!(foreign.shell.run("cat /proc/swaps")?.is_empty(), "the masked file after detach");
    Ok(())
}

/// A container without /sys has nothing of the host's there: no failure.
fn without_sys() -> Outcome {
    let mut foreign = Foreign::plain("no-sys", 100)?;
    foreign.shell.run("umount -l /sys")?;
    let (document, output) = json(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    check_eq!(state(&document, "/sys")?, "absent", "state of /sys");
    check_eq!(foreign.total()?, kib(100), "MemTotal");
    Ok(())
}

fn cost_of_uptime() -> Outcome {
    let foreign = Foreign::plain("cost", 100)?;
    let output = ownproc(&["attach", &foreign.target()])?;
    check!(
        output.stderr.contains("btime") && output.stderr.contains("uptime = host"),
        "said: {}",
        output.stderr
    );
    let inside = Foreign::start("no-cost", 100, &["--time", "--mount-proc"])?;
    let output = ownproc(&["attach", &inside.target()])?;
    check_eq!(output.code, 0, "exit code of attach ({})", output.stderr);
    check!(!output.stderr.contains("btime"), "said in a time namespace: {}", output.stderr);
    Ok(())
}

fn without_a_daemon() -> Outcome {
    let foreign = Foreign::plain("no-daemon", 100)?;
    let mount = daemon::fresh_mount_point("nobody");
    for args in [vec!["attach", &foreign.target()], vec!["attach", "--repair", &foreign.target()]] {
        let output = ownproc_at(&mount, &args)?;
        check_eq!(output.code, 2, "exit code of {args:?} without a daemon");
        check!(output.stderr.contains("ownproc serve"), "what to do: {}", output.stderr);
        check_eq!(output.stderr.trim_end().lines().count(), 1, "lines: {}", output.stderr);
    }
    let output = ownproc_at(&mount, &["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach without a daemon ({})", output.stderr);
    Ok(())
}
