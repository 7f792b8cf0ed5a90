//! What the daemon's processes may do, and what fails without each right that they have.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::Row;
use crate::case::Needs::{Nothing, OwnMachine};
use crate::case::{Doing, Outcome, check, check_eq};
use crate::daemon::{Daemon, fresh_mount_point};
use crate::groups::Group;
use crate::parse::{self, Meminfo};
use crate::shell::{Shell, in_group, launch, new_name};
use crate::{output, programs};

pub const CASES: &[Row] = &[
    ("confine_worker_has_its_rights_alone", Nothing, worker),
    ("confine_worker_of_a_daemon_with_triggers", Nothing, worker_with_triggers),
    ("confine_holder_has_its_rights_alone", Nothing, holder),
    ("confine_every_new_worker_is_confined", Nothing, every_worker),
    ("confine_worker_holds_no_file_that_it_could_write", Nothing, descriptors),
    ("confine_worker_writes_to_one_directory", Nothing, one_directory),
    ("confine_daemon_with_a_containers_rights", Nothing, few_rights),
    ("confine_without_sys_ptrace", Nothing, without_sys_ptrace),
    ("confine_without_dac_read_search", Nothing, without_dac_read_search),
    ("confine_without_dac_override", Nothing, without_dac_override),
    ("confine_without_sys_resource", OwnMachine, without_sys_resource),
];

/// capabilities(7), by their bits.
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;

/// The user that workers run as.
const WORKER_ID: &str = "65533";

/// `/proc/PID/status` of every thread.
fn threads(pid: Pid) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        all.push(std::fs::read_to_string(entry?.path().join("status"))?);
    }
    Ok(all)
}

fn number(status: &str, key: &str) -> Outcome<u64> {
    Ok(u64::from_str_radix(parse::value(status, key)?, 16)?)
}

/// The worker of a daemon.
fn worker_of(daemon: &Daemon) -> Outcome<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = std::fs::read_to_string(&path).doing(path)?;
    let is_worker = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "ownproc-worker\n")
    };
    let worker = children.split_whitespace().find(is_worker).doing("a worker")?;
    Ok(Pid::from_raw(worker.parse()?))
}

/// What of some capabilities this machine's root has at all.
fn of_ours(wanted: u64) -> Outcome<u64> {
    Ok(number(&std::fs::read_to_string("/proc/self/status")?, "CapPrm")? & wanted)
}

fn check_worker(worker: Pid, wanted: u64) -> Outcome {
    let wanted = of_ours(wanted)?;
    let threads = threads(worker)?;
    check!(threads.len() > 3, "a worker of {} threads", threads.len());
    for status in &threads {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            check_eq!(number(status, set)?, wanted, "{set} of a worker");
        }
        for set in ["CapInh", "CapAmb"] {
            check_eq!(number(status, set)?, 0, "{set} of a worker");
        }
        check_eq!(parse::value(status, "NoNewPrivs")?, "1", "NoNewPrivs of a worker");
        check_eq!(parse::value(status, "Seccomp")?, "2", "Seccomp of a worker");
        for ids in ["Uid", "Gid"] {
            let ids = parse::value(status, ids)?;
            check!(ids.split_whitespace().all(|id| id == WORKER_ID), "ids of a worker: {ids}");
        }
        check_eq!(parse::value(status, "Groups")?, "", "groups of a worker");
    }
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits"))?;
    let limit = |name: &str| -> Outcome<Vec<String>> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).doing(name)?;
        Ok(line.split_whitespace().take(2).map(str::to_owned).collect())
    };
    check_eq!(limit("Max data size")?, ["1073741824"; 2], "limit of memory");
    check_eq!(limit("Max core file size")?, ["0"; 2], "limit of core files");
    let lockable = limit("Max locked memory")? == ["unlimited"; 2];
    check!(lockable || of_ours(SYS_RESOURCE)? == 0, "the holder could raise RLIMIT_MEMLOCK and did not");
    check_stays_in_memory(worker, lockable)?;
    check_stays_mapped(worker)?;
    check_small_pages(worker)?;
    check_undumpable(worker)
}

/// Its private memory is locked where it may be, and the snapshots, which are far larger than all else, are not.
fn check_stays_in_memory(worker: Pid, lockable: bool) -> Outcome {
    let maps = std::fs::read_to_string(format!("/proc/{worker}/smaps"))?;
    let mut of = "";
    let mut heaps = 0;
    for line in maps.lines() {
        let Some(flags) = line.strip_prefix("VmFlags:") else {
            if line.split_once(' ').is_some_and(|(range, _)| range.contains('-')) {
                of = line;
            }
            continue;
        };
        let locked = flags.split_whitespace().any(|flag| flag == "lo");
        if of.ends_with("[heap]") {
            heaps += 1;
            check_eq!(locked, lockable, "a worker's heap stays in memory: {of}");
        }
        let (range, _) = of.split_once(' ').doing("a range")?;
        let (start, end) = range.split_once('-').doing("a range")?;
        let length = u64::from_str_radix(end, 16)? - u64::from_str_radix(start, 16)?;
        check!(!locked || length < 1 << 30, "a worker's snapshots are locked: {of}");
    }
    check!(heaps > 0, "no heap in smaps of {worker}");
    Ok(())
}

/// NUMA balancing leaves its pages alone: they have a policy, where the kernel knows of memory nodes.
fn check_stays_mapped(worker: Pid) -> Outcome {
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{worker}/numa_maps")) else {
        check!(!Path::new("/proc/self/numa_maps").exists(), "numa_maps of {worker} cannot be read");
        return Ok(());
    };
    check!(!maps.is_empty(), "numa_maps of {worker} is empty");
    for line in maps.lines() {
        check_eq!(line.split_whitespace().nth(1), Some("local"), "policy of memory: {line}");
    }
    Ok(())
}

/// The kernel makes no huge pages of its memory, where it could (a field since Linux 5.0).
fn check_small_pages(pid: Pid) -> Outcome {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let enabled = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    let kernel_has_them = Path::new("/sys/kernel/mm/transparent_hugepage").exists();
    check!(enabled.is_some() || !kernel_has_them, "no THP_enabled in the status of {pid}");
    check!(enabled.is_none_or(|value| value.trim() == "0"), "huge pages in {pid}: THP_enabled {enabled:?}");
    Ok(())
}

/// What belongs to a process that can be dumped belongs to its user.
fn check_undumpable(pid: Pid) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(format!("/proc/{pid}/mem"))?.uid();
    check_eq!(owner, 0, "owner of /proc/{pid}/mem");
    let mut other = Command::new("setpriv");
    other.args(["--reuid", WORKER_ID, "--regid", WORKER_ID, "--clear-groups", "cat"]);
    let output = output::run(other.arg(format!("/proc/{pid}/environ")))?;
    check!(output.code != 0, "a process of the worker's user reads the environment of {pid}");
    Ok(())
}

fn worker() -> Outcome {
    let daemon = Daemon::start(fresh_mount_point(&new_name()))?;
    check_worker(worker_of(&daemon)?, SYS_PTRACE | DAC_READ_SEARCH)?;
    daemon.stop()
}

fn worker_with_triggers() -> Outcome {
    let daemon = Daemon::start_with(fresh_mount_point(&new_name()), &["--psi-triggers"])?;
    check_worker(worker_of(&daemon)?, SYS_PTRACE | DAC_READ_SEARCH | DAC_OVERRIDE | SYS_RESOURCE)?;
    daemon.stop()
}

fn holder() -> Outcome {
    let daemon = Daemon::start(fresh_mount_point(&new_name()))?;
    let wanted =
        of_ours(SYS_PTRACE | DAC_READ_SEARCH | DAC_OVERRIDE | KILL | SETGID | SETUID | SETPCAP | SYS_ADMIN)?;
    let threads = threads(daemon.pid())?;
    check_eq!(threads.len(), 1, "threads of a holder");
    for status in &threads {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            check_eq!(number(status, set)?, wanted, "{set} of a holder");
        }
        for set in ["CapInh", "CapAmb"] {
            check_eq!(number(status, set)?, 0, "{set} of a holder");
        }
        check_eq!(parse::value(status, "NoNewPrivs")?, "1", "NoNewPrivs of a holder");
    }
    check_small_pages(daemon.pid())?;
    check_undumpable(daemon.pid())?;
    daemon.stop()
}

/// Also after a crash, when the holder has no more rights than it kept; and it still can end a worker that hangs.
fn every_worker() -> Outcome {
    let daemon = Daemon::start(fresh_mount_point(&new_name()))?;
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGSTOP] {
        let before = worker_of(&daemon)?;
        nix::sys::signal::kill(before, signal)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while worker_of(&daemon).is_ok_and(|now| now == before) {
            check!(Instant::now() < deadline, "no new worker after {signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::read(daemon.mount().join("proc/meminfo")).doing("a read after the change")?;
        check_worker(worker_of(&daemon)?, SYS_PTRACE | DAC_READ_SEARCH)?;
    }
    daemon.stop()
}

/// Its descriptors are the connection, the shared memory, sockets and events; regular files are open for reading alone.
fn descriptors() -> Outcome {
    let daemon = Daemon::start(fresh_mount_point(&new_name()))?;
    let mut shell = container_of(&daemon, &["-m", "64M"])?;
    for file in ["meminfo", "stat", "loadavg", "slabinfo", "diskstats", "pressure/cpu"] {
        shell.read(file)?;
    }
    let worker = worker_of(&daemon)?;
    for entry in std::fs::read_dir(format!("/proc/{worker}/fd"))? {
        let path = entry?.path();
        let Ok(target) = std::fs::read_link(&path) else { continue }; // closed meanwhile
        let number = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let info = std::fs::read_to_string(format!("/proc/{worker}/fdinfo/{number}")).unwrap_or_default();
        let Ok(flags) = parse::value(&info, "flags").map(str::to_owned) else { continue };
        let flags = i32::from_str_radix(&flags, 8)?;
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0;
        let target = target.to_string_lossy().into_owned();
        let known = target == "/dev/fuse"
            || target.starts_with("/memfd:ownproc")
            || ["socket:", "pipe:", "anon_inode:"].iter().any(|kind| target.starts_with(kind));
        let standard = ["0", "1", "2"].contains(&number.as_str());
        check!(!writable || known || standard, "descriptor {number} of a worker can write to {target}");
        check!(standard || flags & libc::O_CLOEXEC != 0, "descriptor {number}, {target}, outlives an exec");
    }
    drop(shell);
    daemon.stop()
}

/// A container of a daemon other than the shared one.
fn container_of(daemon: &Daemon, args: &[&str]) -> Outcome<Shell> {
    let name = new_name();
    let mut command = crate::shell::launch_named(&name, args)?;
    command.arg("sh").env("OWNPROC_MOUNT", daemon.mount());
    Shell::running(command, name)
}

/// Where the daemon of a mount point keeps its socket and its state.
fn state_of(daemon: &Daemon) -> PathBuf {
    let mount = daemon.mount().to_string_lossy();
    let escaped = mount.trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
    Path::new("/run/ownproc/at").join(escaped)
}

/// The registrations belong to the worker's user, all else there to root.
fn one_directory() -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let daemon = Daemon::start(fresh_mount_point(&new_name()))?;
    let shell = container_of(&daemon, &[])?;
    let state = state_of(&daemon);
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&state)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = std::fs::symlink_metadata(entry.path())?;
        let owner = if name == "containers" { WORKER_ID.parse()? } else { 0 };
        check_eq!(meta.uid(), owner, "owner of {name}");
        seen.push(name);
    }
    check!(seen.iter().any(|name| name == "containers"), "what is in {}: {seen:?}", state.display());
    check_eq!(std::fs::metadata(&state)?.permissions().mode() & 0o777, 0o700, "mode of {}", state.display());
    let record = state.join("containers").join(format!("{}.json", shell.name()));
    check_eq!(std::fs::metadata(&record)?.uid().to_string(), WORKER_ID, "owner of a registration");
    drop(shell);
    daemon.stop()
}

/// A daemon by `setpriv`, without some capabilities.
fn without(rights: &[&str]) -> Outcome<Daemon> {
    let list = rights.iter().map(|right| format!("-{right}")).collect::<Vec<_>>().join(",");
    let mut weak = Command::new("setpriv");
    weak.args(["--bounding-set", &list, "--inh-caps", &list]);
    Daemon::spawn(with_program(weak)?, fresh_mount_point(&new_name()), &[])
}

fn with_program(mut weak: Command) -> Outcome<Command> {
    weak.arg(programs::ownproc()?.get_program());
    Ok(weak)
}

/// What a container of docker with CAP_SYS_ADMIN has: no change of identity is possible for want of
/// CAP_DAC_READ_SEARCH, but the rest is given up all the same.
fn few_rights() -> Outcome {
    let daemon = without(&["dac_read_search", "sys_ptrace", "sys_resource"])?;
    for status in threads(worker_of(&daemon)?)? {
        check_eq!(number(&status, "CapPrm")?, DAC_OVERRIDE, "capabilities of a worker with few rights");
        check_eq!(parse::value(&status, "Seccomp")?, "2", "Seccomp");
    }
    daemon.stop()
}

/// No container can be registered: whose pid namespace it is cannot be seen.
fn without_sys_ptrace() -> Outcome {
    let daemon = without(&["sys_ptrace"])?;
    let mut command = launch(&[])?;
    let output = output::run(command.arg("true").env("OWNPROC_MOUNT", daemon.mount()))?;
    check!(
        output.code != 0 && output.stderr.contains("/ns/"),
        "a launch with a daemon that has no CAP_SYS_PTRACE: {} {}",
        output.code,
        output.stderr
    );
    daemon.stop()
}

/// A group that another user keeps to themselves, as one with delegated groups may, is not understood.
fn without_dac_read_search() -> Outcome {
    for (rights, understood) in [(&["sys_resource"][..], true), (&["dac_read_search", "dac_override"], false)]
    {
        let daemon = without(rights)?;
        let group = Group::create(&new_name())?;
        group.set_memory(64)?;
        for file in group.procs_files() {
            let dir = file.parent().doing("the group's directory")?;
            std::os::unix::fs::chown(dir, Some(1000), Some(1000)).doing(dir.display())?;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
        }
        let mut cat = Command::new("cat");
        cat.arg(daemon.mount().join("proc/meminfo"));
        in_group(&mut cat, &group)?;
        let output = output::run(&mut cat)?;
        let total = Meminfo::parse(&output.stdout).map(|meminfo| meminfo.get("MemTotal"));
        check_eq!(
            output.code == 0 && total.as_ref().is_ok_and(|total| *total == 65_536),
            understood,
            "MemTotal in a group of another user's, without {rights:?}: {total:?} {}",
            output.stderr
        );
        group.remove()?;
        daemon.stop()?;
    }
    Ok(())
}

/// A trigger on a daemon that has (or has not) a right: what the write was answered.
fn trigger(rights: &[&str], window: &str) -> Outcome<String> {
    let list = rights.iter().map(|right| format!("-{right}")).collect::<Vec<_>>().join(",");
    let mut weak = Command::new("setpriv");
    if !rights.is_empty() {
        weak.args(["--bounding-set", &list, "--inh-caps", &list]);
    }
    let daemon = Daemon::spawn(with_program(weak)?, fresh_mount_point(&new_name()), &["--psi-triggers"])?;
    let group = Group::create(&new_name())?;
    let mut watch = Command::new(programs::own()?);
    watch.args(["tool", "psi", "watch"]).arg(daemon.mount().join("proc/pressure/cpu")).args([window, "0"]);
    in_group(&mut watch, &group)?;
    let said = output::run(&mut watch)?.stdout;
    group.remove()?;
    daemon.stop()?;
    Ok(said)
}

/// A group's pressure file is root's, and nobody else writes to it.
fn without_dac_override() -> Outcome {
    let window = "some 1000000 2000000";
    check_eq!(trigger(&["sys_resource"], window)?, "armed\nquiet\n", "a trigger");
    let said = trigger(&["sys_resource", "dac_override"], window)?;
    check!(said.contains("errno"), "a trigger without CAP_DAC_OVERRIDE: {said:?}");
    Ok(())
}

/// A window of less than 2 s is for those alone who have CAP_SYS_RESOURCE, as this test has.
fn without_sys_resource() -> Outcome {
    let window = "some 100000 1000000";
    check_eq!(trigger(&[], window)?, "armed\nquiet\n", "a window of 1 s by one who may");
    let said = trigger(&["sys_resource"], window)?;
    check_eq!(said, format!("write errno {}\n", libc::EINVAL), "the same without CAP_SYS_RESOURCE");
    Ok(())
}
