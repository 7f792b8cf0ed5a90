//! The mounted tree: whose view, who may open what, inodes, groups that vanish.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Row;
use super::cpu::shown;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::daemon::{self, Daemon};
use crate::groups::Group;
use crate::parse::Meminfo;
use crate::programs;
use crate::shell::{Shell, new_name};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("tree_other_container_is_refused", Nothing, other_container),
    ("tree_nested_container_sees_its_own_limits", Nothing, nested),
    ("tree_group_removed_between_open_and_read", Nothing, removed_group),
    ("tree_container_gone_between_open_and_read", Nothing, gone_container),
];

/// All others.
pub const CASES: &[Row] = &[
    ("tree_registered_view_is_readable_from_the_host", Nothing, readable_from_the_host),
    ("tree_host_reader_sees_the_host", Nothing, host_reader),
    ("tree_reader_without_rights", Nothing, reader_without_rights),
    ("tree_reader_with_more_rights_than_the_daemon", Nothing, reader_with_more_rights),
    ("tree_lookup_does_not_depend_on_the_reader", Nothing, lookup),
    ("tree_inodes_survive_a_restart", Nothing, inodes),
    ("tree_attributes", Nothing, attributes),
    ("tree_writes_are_refused", Nothing, writes),
];

/// All files below a directory of the mount, sorted.
fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).doing(dir.display())? {
        let path = entry?.path();
        if path.symlink_metadata().doing(path.display())?.is_dir() {
            all.extend(files(&path)?);
        }
        all.push(path);
    }
    all.sort();
    Ok(all)
}

fn readable_from_the_host() -> Outcome {
    let mut shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let dir = daemon::shared("containers")?.join(shell.name());
    let seen = Meminfo::parse(&fs::read_to_string(dir.join("proc/meminfo")).doing("read from the host")?)?;
    check_eq!(seen.get("MemTotal"), 102_400, "MemTotal read from the host");
    check_eq!(shell.meminfo()?.get("MemTotal"), 102_400, "MemTotal read inside");
    for file in files(&dir)? {
        // Some files of the kernel's own fail to be read, such as power/autosuspend_delay_ms: so do theirs.
        let own = Path::new("/").join(file.strip_prefix(&dir)?);
        if file.is_file() && fs::read(&own).is_ok() {
            fs::read(&file).doing(file.display())?;
        }
    }
    Ok(())
}

fn host_reader() -> Outcome {
    let root = Group::existing("/")?;
    let mut command = std::process::Command::new("cat");
    command.arg(daemon::shared("proc/meminfo")?);
    crate::shell::in_group(&mut command, &root)?;
    let meminfo = Meminfo::parse(&crate::output::run(&mut command)?.ok()?)?;
    check_eq!(
        meminfo.get("MemTotal"),
        crate::parse::host_meminfo()?.get("MemTotal"),
        "MemTotal for a reader in the root group"
    );
    Ok(())
}

/// An ordinary user in a container sees the container, as root does.
/// The daemon may not look at the namespaces of a reader that has rights which it has not; its groups are enough.
fn reader_with_more_rights() -> Outcome {
    let mut weak = std::process::Command::new("setpriv");
    weak.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]);
    weak.arg(programs::ownproc()?.get_program());
    let daemon = Daemon::start_by(weak, daemon::fresh_mount_point("weak"))?;
    let group = Group::create("strong")?;
    group.set_memory(64)?;
    let file = daemon.mount().join("proc/meminfo");
    let meminfo = Shell::in_group(&group)?.run(&format!("cat {}", file.display()))?;
    check_eq!(Meminfo::parse(&meminfo)?.get("MemTotal"), 65_536, "MemTotal for a reader with more rights");
    daemon.stop()
}

fn reader_without_rights() -> Outcome {
    let mut shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let user = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    let meminfo = shell.run(&format!("{user} cat /proc/meminfo"))?;
    check_eq!(Meminfo::parse(&meminfo)?.get("MemTotal"), 102_400, "MemTotal for an ordinary user");
    let cpus = shell.run(&format!("{user} getconf _NPROCESSORS_ONLN"))?;
    check_eq!(cpus, "1\n", "getconf _NPROCESSORS_ONLN for an ordinary user");
    let group = Group::create("user")?;
    group.set_memory(64)?;
    let path = daemon::shared("proc/meminfo")?;
    let by_reader = Shell::in_pid_namespace(&group, &[])?.run(&format!("{user} cat {}", path.display()))?;
    check_eq!(Meminfo::parse(&by_reader)?.get("MemTotal"), 65_536, "MemTotal by reader for an ordinary user");
    Ok(())
}

fn other_container() -> Outcome {
    let volume = format!("{}:/tree:ro", daemon::shared_mount()?.display());
    let mut own = Shell::launch(&["-m", "100M", "-v", &volume])?;
    let other = Shell::launch(&["-m", "120M"])?;
    let own_name = own.name().to_owned();
    let text = own.run(&format!("cat /tree/containers/{own_name}/proc/meminfo"))?;
    check_eq!(Meminfo::parse(&text)?.get("MemTotal"), 102_400, "MemTotal of the own entry");
    for file in ["proc/meminfo", "proc/stat", "sys/devices/system/cpu/online"] {
        let (code, said) = own.status(&format!("cat /tree/containers/{}/{file}", other.name()))?;
        check!(
            code != 0 && said.contains("Permission denied"),
            "another container's {file}: code {code}, {said:?}"
        );
    }
    let listed = own.run("ls /tree/containers")?;
    check!(
        listed.contains(&own_name) && listed.contains(other.name()),
        "the listing is the same for all: {listed:?}"
    );
    Ok(())
}

/// A limited container inside a launched one: own group below, own pid and cgroup namespace.
fn nested() -> Outcome {
    let mut outer = Shell::launch(&["-m", "200M", "--cpus", "2"])?;
    let group = Group::of_container(outer.name())?;
    group.move_own_processes_down("main")?;
    let inner = group.child("inner")?;
    inner.set_memory(80)?;
    inner.set_quota(100)?;
    let mut reader = Shell::in_pid_namespace(&inner, &[])?;
    check_eq!(reader.meminfo()?.get("MemTotal"), 81_920, "MemTotal of the inner container");
    check_eq!(shown(&mut reader)?.len(), 1, "CPUs of the inner container");
    check_eq!(
        outer.meminfo()?.get("MemTotal"),
        204_800,
        "MemTotal of the outer container, whose processes are in a sub-group now"
    );
    check_eq!(shown(&mut outer)?.len(), 2, "CPUs of the outer container");
    drop(reader);
    inner.remove()?;
    check_eq!(outer.finish()?, 0, "exit code of the outer container");
    Ok(())
}

/// What stat(1) says of every file, and of a CPU that the reader's listing does not hold.
fn lookup() -> Outcome {
    let group = Group::create("small")?;
    group.set_quota(100)?;
    group.set_memory(64)?;
    let root = daemon::shared_mount()?;
    let mut paths: Vec<String> = Vec::new();
    for dir in ["proc", "sys"] {
        paths.extend(files(&root.join(dir))?.iter().map(|path| path.display().to_string()));
    }
    check!(paths.iter().any(|path| path.ends_with("/cpu1")), "the host's listing holds cpu1: {paths:?}");
    let command = format!("stat -c '%n %i %s %B %o %a %F %u %g' {}", paths.join(" "));
    let from_host = crate::output::run(std::process::Command::new("sh").args(["-c", &command]))?.ok()?;
    let mut readers = [Shell::in_group(&group)?, Shell::in_pid_namespace(&group, &[])?];
    for reader in &mut readers {
        check_eq!(reader.listed_cpus()?.len(), 1, "cpuN listed under a quota of 1 CPU");
        check_eq!(reader.run(&command)?, from_host, "stat of {} files", paths.len());
    }
    Ok(())
}

fn inodes() -> Outcome {
    let numbers = |mount: &Path| -> Outcome<Vec<(PathBuf, u64)>> {
        let mut all = Vec::new();
        for path in files(mount)? {
            all.push((path.clone(), path.symlink_metadata()?.ino()));
        }
        Ok(all)
    };
    let mount = daemon::fresh_mount_point("restart");
    let first = Daemon::start(mount.clone())?;
    let before = numbers(&mount)?;
    check!(before.len() > 6, "files in a new mount: {before:?}");
    first.stop()?;
    let second = Daemon::start(mount.clone())?;
    check_eq!(numbers(&mount)?, before, "inode numbers after a restart");
    second.stop()?;
    daemon::clean(&mount);
    Ok(())
}

/// The sizes that make sendfile fall back to read(2), see DESIGN of the tree in ARCHITECTURE.md.
fn attributes() -> Outcome {
    for file in ["proc/meminfo", "proc/cpuinfo", "proc/stat", "proc/uptime", "sys/devices/system/cpu/online"]
    {
        let path = daemon::shared(file)?;
        let (data, length) = (path.metadata()?, fs::read(&path)?.len() as u64);
        check!(data.is_file(), "{file} is a regular file");
        check_eq!(data.mode() & 0o7777, 0o444, "mode of {file}");
        check!(
            data.size() >= length && data.size() % 4096 == 0,
            "size {} of {file} with {length} bytes",
            data.size()
        );
        check!(
            data.blksize() > data.size(),
            "block size {} of {file} with size {}",
            data.blksize(),
            data.size()
        );
    }
    Ok(())
}

fn writes() -> Outcome {
    for file in ["proc/meminfo", "proc/stat", "sys/devices/system/cpu/online"] {
        let path = daemon::shared(file)?;
        match fs::OpenOptions::new().write(true).open(&path) {
            Ok(_) => fail!("{file} opened for writing"),
            Err(e) => {
                check!(matches!(e.raw_os_error(), Some(libc::EACCES | libc::EROFS)), "open for writing: {e}")
            }
        }
    }
    Ok(())
}

/// What was opened in a group that is gone by the time of the read: whole text or an error, and the daemon goes on.
fn removed_group() -> Outcome {
    let root = Group::existing("/")?;
    for file in ["meminfo", "stat", "cpuinfo", "uptime"] {
        let group = Group::create(&format!("vanishing-{file}"))?;
        group.set_memory(64)?;
        let mut shell = Shell::in_group(&group)?;
        shell.send(&format!(
            "exec {} tool open-move-read {}",
            programs::own()?,
            daemon::shared("proc")?.join(file).display()
        ))?;
        while shell.line()? != "open\n" {}
        root.enter(shell.pid())?;
        group.remove()?;
        shell.send("now")?;
        let first = shell.line()?;
        let whole = match file {
            // The reader has moved to the root groups, and 64 MiB are nobody's any more.
            "meminfo" => first.starts_with("MemTotal:") && !first.contains(" 65536 kB"),
            "stat" => first.starts_with("cpu "),
            "cpuinfo" => first.starts_with("processor") || first.starts_with("Processor"),
            _ => first.split(' ').count() == 2,
        };
        check!(whole, "{file} after its group was removed: {first:?}");
        check_eq!(shell.wait()?, 0, "exit code of the reader of {file}");
        fs::read(daemon::shared("proc")?.join(file)).doing("a read afterwards")?;
    }
    Ok(())
}

fn gone_container() -> Outcome {
    use std::io::Read;
    let shell = Shell::launch(&["-m", "64M"])?;
    let path = daemon::shared("containers")?.join(shell.name()).join("proc/meminfo");
    let mut kept = fs::File::open(&path)?;
    check_eq!(shell.finish()?, 0, "exit code of the container");
    let mut text = String::new();
    match kept.read_to_string(&mut text) {
        Ok(_) => fail!("text of a container that is gone: {text:?}"),
        Err(e) => check!(e.raw_os_error() == Some(libc::ENOENT), "read of a container that is gone: {e}"),
    }
    let error = fs::read(&path).err().map(|e| e.raw_os_error());
    check_eq!(error, Some(Some(libc::ENOENT)), "open of a container that is gone");
    let missing = daemon::shared("containers")?.join(new_name());
    check!(!missing.exists(), "a name that nobody registered is there");
    Ok(())
}
