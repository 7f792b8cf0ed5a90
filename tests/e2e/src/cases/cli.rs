//! Commands for sysadmins, and what is said about bad input.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::daemon::{self, ownproc, ownproc_at};
use crate::groups::Group;
use crate::output::run;
use crate::parse::Meminfo;
use crate::programs;
use crate::shell::{Shell, launch, launch_named, new_name};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("cli_ls_lists_containers", Nothing, ls),
    ("cli_ls_without_a_daemon", Nothing, ls_without_daemon),
    ("cli_limits_name_the_group_file", Nothing, limits),
    ("cli_targets", Nothing, targets),
];

/// All others.
pub const CASES: &[Row] = &[
    ("cli_show_gives_the_bytes_of_the_target", Nothing, show),
    ("cli_json_has_a_version", Nothing, json),
    ("input_bad_launch_flags", Nothing, bad_launch_flags),
    ("input_bad_rootfs", Nothing, bad_rootfs),
    ("input_mount_point_is_a_file", Nothing, bad_mount_point),
    ("input_not_root", Nothing, not_root),
    ("input_no_fuse_device", Nothing, no_fuse_device),
    ("input_bad_commands", Nothing, bad_commands),
];

/// The row of `ls` that starts with a name.
fn row<'a>(text: &'a str, name: &str) -> Outcome<Vec<&'a str>> {
    let row = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    Ok(row.doing(format!("row of {name} in {text:?}"))?.split_whitespace().collect())
}

fn ls() -> Outcome {
    let shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let text = ownproc(&["ls"])?.ok()?;
    let head: Vec<&str> = text.lines().next().unwrap_or_default().split_whitespace().collect();
    check_eq!(head, ["NAME", "SOURCE", "PID", "CPUS", "MEMORY", "GROUP", "VIEW"], "head of ls");
    let columns = row(&text, shell.name())?;
    check_eq!(columns.len(), 7, "columns of {columns:?}");
    let pid: i32 = columns[2].parse().doing("PID column")?;
    check!(PathBuf::from(format!("/proc/{pid}")).exists(), "PID {pid} of ls runs");
    check_eq!(columns[6], "bound", "VIEW of a launched container");
    check!(columns[5].contains(shell.name()), "GROUP of a launched container: {columns:?}");
    let bare = ownproc(&["ls", "--no-headers"])?.ok()?;
    check!(!bare.contains("SOURCE"), "ls --no-headers prints a head: {bare:?}");
    let bytes = ownproc(&["ls", "--bytes"])?.ok()?;
    check!(row(&bytes, shell.name())?.contains(&"104857600"), "ls --bytes: {bytes:?}");
    Ok(())
}

/// Other launchers' containers show too: every init of a pid namespace.
fn ls_without_daemon() -> Outcome {
    let group = Group::create("foreign")?;
    let mut foreign = Shell::in_pid_namespace(&group, &[])?;
    let inside = foreign.run("readlink /proc/self/ns/pid")?;
    let mount = daemon::fresh_mount_point("none");
    let text = ownproc_at(&mount, &["ls", "--no-headers"])?.ok()?;
    let pids =
        text.lines().filter_map(|line| line.split_whitespace().find_map(|word| word.parse::<i32>().ok()));
    let found = pids
        .map(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")))
        .any(|link| link.is_ok_and(|link| link.display().to_string() == inside.trim()));
    check!(found, "no row for the init of {} in {text:?}", inside.trim());
    Ok(())
}

fn limits() -> Outcome {
    let shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let text = ownproc(&["limits", shell.name()])?.ok()?;
    let file =
        if crate::groups::Hierarchies::find()?.is_pure_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    let line = text
        .lines()
        .find(|line| line.to_lowercase().starts_with("memory"))
        .doing(format!("memory in {text:?}"))?;
    check!(
        line.contains("100") && line.contains(shell.name()) && line.contains(file),
        "memory row of limits: {line:?}"
    );
    // An ancestor that binds is named instead of the group itself.
    let parent = Group::create("parent")?;
    parent.set_memory(50)?;
    let leaf = parent.child("leaf")?;
    leaf.set_memory(80)?;
    let text = ownproc(&["limits", &format!("group:{}", leaf.path()), "--bytes"])?.ok()?;
    let line = text
        .lines()
        .find(|line| line.to_lowercase().starts_with("memory"))
        .doing(format!("memory in {text:?}"))?;
    check!(
        line.contains("52428800") && !line.contains("/leaf/"),
        "memory row below a tighter parent: {line:?}"
    );
    Ok(())
}

fn show() -> Outcome {
    let mut shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let inside = shell.read("cpuinfo")?;
    for file in ["cpuinfo", "/proc/cpuinfo"] {
        let shown = ownproc(&["show", file, shell.name()])?.ok()?;
        let steady = |text: &str| {
            text.lines().filter(|line| !line.contains("MHz")).map(str::to_owned).collect::<Vec<_>>()
        };
        check_eq!(steady(&shown), steady(&inside), "show {file}");
    }
    let shown = Meminfo::parse(&ownproc(&["show", "meminfo", shell.name()])?.ok()?)?;
    check_eq!(shown.get("MemTotal"), 102_400, "MemTotal of show");
    shown.check_invariants()?;
    // Without a daemon it computes, and says so.
    let pid = row(&ownproc(&["ls"])?.ok()?, shell.name())?[2].to_owned();
    let output = ownproc_at(&daemon::fresh_mount_point("none"), &["show", "meminfo", &pid])?;
    check_eq!(output.code, 0, "show without a daemon ({})", output.stderr);
    check!(!output.stderr.trim().is_empty(), "show without a daemon does not say so");
    check_eq!(Meminfo::parse(&output.stdout)?.get("MemTotal"), 102_400, "MemTotal of show without a daemon");
    Ok(())
}

fn targets() -> Outcome {
    let base = new_name();
    let names = [format!("{base}x-one"), format!("{base}x-two")];
    let mut shells = Vec::new();
    for name in &names {
        let mut command = launch_named(name, &["-m", "100M"])?;
        command.arg("sh");
        shells.push(Shell::running(command, name.clone())?);
    }
    let ambiguous = ownproc(&["limits", &format!("{base}x")])?;
    check_eq!(ambiguous.code, 2, "exit code of an ambiguous target");
    check!(names.iter().all(|name| ambiguous.stderr.contains(name)), "the matches: {:?}", ambiguous.stderr);
    let pid = row(&ownproc(&["ls"])?.ok()?, &names[0])?[2].to_owned();
    let group = format!("group:/ownproc/{}", names[0]);
    for target in
        [&names[0], &format!("{base}x-o"), &format!("name:{}", names[0]), &pid, &format!("pid:{pid}"), &group]
    {
        let text = ownproc(&["show", "meminfo", target])?.ok().doing(target)?;
        check_eq!(Meminfo::parse(&text)?.get("MemTotal"), 102_400, "MemTotal of {target}");
    }
    for target in ["no-such-container", "name:no-such", "pid:4194304", "group:/no/such/group"] {
        let output = ownproc(&["limits", target])?;
        check_eq!(output.code, 3, "exit code for {target} ({})", output.stderr);
        check_eq!(output.stderr.lines().count(), 1, "lines said about {target}: {}", output.stderr);
    }
    Ok(())
}

fn json() -> Outcome {
    let shell = Shell::launch(&["-m", "100M"])?;
    for args in [
        vec!["ls", "--json"],
        vec!["limits", shell.name(), "--json"],
        vec!["show", "meminfo", shell.name(), "--json"],
    ] {
        let text = ownproc(&args)?.ok()?;
        let value: Value = serde_json::from_str(&text).doing(format!("{args:?}: {text:?}"))?;
        check!(value.get("version").is_some_and(Value::is_u64), "{args:?}: no version in {text:?}");
        check!(text.contains(shell.name()) || args[0] == "show", "{args:?}: no {} in {text:?}", shell.name());
    }
    Ok(())
}

/// One line on stderr that holds a word, and no panic.
fn one_line(output: &crate::output::Output, what: &str, word: &str) -> Outcome {
    check_eq!(output.stderr.trim_end().lines().count(), 1, "{what}: lines said: {:?}", output.stderr);
    check!(!output.stderr.contains("panicked"), "{what}: {:?}", output.stderr);
    check!(output.stderr.contains(word), "{what}: {:?} does not name {word:?}", output.stderr);
    check!(output.stdout.is_empty(), "{what}: on stdout: {:?}", output.stdout);
    Ok(())
}

fn bad_launch_flags() -> Outcome {
    let cases: [(&[&str], &str); 15] = [
        (&["-m", "4X"], "4X"),
        (&["-m", "-5M"], "-5M"),
        (&["-m", "4"], "6M"),
        (&["-m", "99999999999999999999"], "99999999999999999999"),
        (&["-m", "100M", "--memory-swap", "50M"], "--memory-swap"),
        (&["--cpus", "0"], "0"),
        (&["--cpus", "nan"], "nan"),
        (&["--cpus", "-1"], "-1"),
        (&["--cpus", "9999"], "9999"),
        (&["--cpuset-cpus", "9999"], "9999"),
        (&["--cpuset-cpus", "3-1"], "3-1"),
        (&["--cpuset-mems", "77"], "77"),
        (&["--net", "bridge"], "bridge"),
        (&["-v", "/no/such/source:/x"], "/no/such/source"),
        (&["--pids-limit", "some"], "some"),
    ];
    for (args, word) in cases {
        let output = run(launch(args)?.arg("true"))?;
        check_eq!(output.code, 125, "exit code of launch {args:?} ({})", output.stderr);
        one_line(&output, &format!("launch {args:?}"), word)?;
    }
    for name in ["123", "../x", "-x", "a b", ""] {
        let output = run(programs::ownproc_run()?.args(["launch", &format!("--name={name}"), "--", "true"]))?;
        check_eq!(output.code, 125, "exit code of launch --name={name}");
        one_line(&output, &format!("launch --name={name}"), name)?;
    }
    Ok(())
}

fn bad_rootfs() -> Outcome {
    let dir = format!("/var/tmp/ownproc-e2e-empty-{}", std::process::id());
    std::fs::create_dir_all(&dir)?;
    let file = format!("{dir}/file");
    std::fs::write(&file, "")?;
    let check = || -> Outcome {
        for (rootfs, word) in
            [("/no/such/root", "/no/such/root"), (dir.as_str(), "proc"), (file.as_str(), "file")]
        {
            let output = run(launch(&["--rootfs", rootfs])?.arg("true"))?;
            check_eq!(output.code, 125, "exit code of launch --rootfs {rootfs} ({})", output.stderr);
            one_line(&output, &format!("launch --rootfs {rootfs}"), word)?;
        }
        let left: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.file_name()).collect();
        check_eq!(left, ["file"], "files in a root that was refused");
        Ok(())
    };
    let outcome = check();
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn bad_mount_point() -> Outcome {
    let file = format!("/var/tmp/ownproc-e2e-file-{}", std::process::id());
    std::fs::write(&file, "")?;
    let output = run(programs::ownproc()?.args(["serve", &file]).env_remove("OWNPROC_MOUNT"));
    std::fs::remove_file(&file)?;
    let output = output?;
    check_eq!(output.code, 2, "exit code of serve on a file ({})", output.stderr);
    one_line(&output, "serve on a file", &file)
}

fn not_root() -> Outcome {
    // Copies that anyone may run: the build's folder may be closed to others.
    let dir = format!("/var/tmp/ownproc-e2e-anyone-{}", std::process::id());
    let copy = format!(
        "mkdir -m 755 {dir} && cp {0}/ownproc {0}/ownproc-run {dir}/",
        programs::bin_dir()?.display()
    );
    run(Command::new("sh").args(["-c", &copy]))?.ok()?;
    let check = || -> Outcome {
        let as_nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        let mut launch = Command::new("setpriv");
        let output = run(launch.args(as_nobody).arg(format!("{dir}/ownproc-run")).args([
            "launch",
            "--name",
            &new_name(),
            "--",
            "true",
        ]))?;
        check_eq!(output.code, 125, "exit code of launch by nobody ({})", output.stderr);
        one_line(&output, "launch by nobody", "root")?;
        let mount = format!("{dir}/mount");
        let output = run(Command::new("setpriv")
            .args(as_nobody)
            .arg(format!("{dir}/ownproc"))
            .args(["serve", &mount]))?;
        check_eq!(output.code, 2, "exit code of serve by nobody ({})", output.stderr);
        one_line(&output, "serve by nobody", "root")
    };
    let outcome = check();
    std::fs::remove_dir_all(&dir)?;
    outcome
}

/// A missing device is found before anything is made.
fn no_fuse_device() -> Outcome {
    let mount = daemon::fresh_mount_point("no-device");
    let command = |program: &str, rest: &str| -> Outcome<Command> {
        let mut command = Command::new("unshare");
        let dev = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3";
        let script = format!("{dev} && exec {}/{program} {rest}", programs::bin_dir()?.display());
        command.args(["--mount", "sh", "-c", &script]).env("OWNPROC_MOUNT", &mount);
        Ok(command)
    };
    let output = run(&mut command("ownproc", &format!("serve {}", mount.display()))?)?;
    check_eq!(output.code, 2, "exit code of serve without /dev/fuse ({})", output.stderr);
    one_line(&output, "serve without /dev/fuse", "/dev/fuse")?;
    let output = run(&mut command("ownproc-run", &format!("launch --name {} -- true", new_name()))?)?;
    check_eq!(output.code, 125, "exit code of launch without /dev/fuse ({})", output.stderr);
    one_line(&output, "launch without /dev/fuse", "/dev/fuse")?;
    daemon::clean(&mount);
    Ok(())
}

fn bad_commands() -> Outcome {
    let shell = Shell::launch(&[])?;
    for (args, word) in [
        (vec!["show", "no-such-file", shell.name()], "no-such-file"),
        (vec!["show", "meminfo", "group:relative/../path"], "relative"),
        (vec!["umount", "/no/such/mount"], "/no/such/mount"),
    ] {
        let output = ownproc(&args)?;
        check!(
            output.code == 2 || output.code == 3,
            "exit code {} of {args:?} ({})",
            output.code,
            output.stderr
        );
        one_line(&output, &format!("{args:?}"), word)?;
    }
    Ok(())
}
