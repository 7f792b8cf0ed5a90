//! Exit codes, signals, orphans, what is left behind; the daemon's start, end, crash and `umount`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon::{self, Daemon, is_mounted, ownproc_at};
use crate::output::{run, run_within};
use crate::programs;
use crate::shell::{Shell, launch, launch_named, launched, new_name};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("run_what_is_left_of_it_ends_with_the_command", Nothing, leftovers_end),
    ("run_launcher_killed_leaves_no_container", Nothing, launcher_killed),
    ("run_weight_and_nodes_reach_the_group", Nothing, weight_and_nodes),
    ("run_cgroup_parent", Nothing, cgroup_parent),
];

/// All others.
pub const CASES: &[Row] = &[
    ("run_exit_codes", Nothing, exit_codes),
    ("run_killed_command", Nothing, killed_command),
    ("run_signals_are_forwarded", Nothing, signals),
    ("run_orphans_are_reaped", Nothing, orphans),
    ("run_options_reach_the_command", Nothing, options),
    ("run_rootfs", Nothing, rootfs),
    ("run_name_taken", Nothing, name_taken),
    ("daemon_second_serve_exits_2", Nothing, second_serve),
    ("daemon_dead_mount_is_replaced", Nothing, dead_mount),
    ("daemon_umount_is_refused_while_in_use", Nothing, umount_in_use),
    ("daemon_sigterm_while_in_use_keeps_serving", Nothing, sigterm_in_use),
    ("daemon_is_started_and_ends_by_itself", Nothing, by_itself),
];

fn exit_codes() -> Outcome {
    for code in [0, 1, 7, 124, 255] {
        let output = run(launch(&[])?.args(["sh", "-c", &format!("exit {code}")]))?;
        check_eq!(output.code, code, "exit code of `exit {code}` ({})", output.stderr);
    }
    let missing = run(launch(&[])?.arg("no-such-program"))?;
    check_eq!(missing.code, 127, "exit code of a program that is not there");
    check_eq!(missing.stderr.lines().count(), 1, "lines said about it: {}", missing.stderr);
    let output = run(launch(&[])?.arg("/etc/passwd"))?;
    check_eq!(output.code, 126, "exit code of a file that is not executable ({})", output.stderr);
    let output = run(launch(&["--no-such-flag"])?.arg("true"))?;
    check_eq!(output.code, 125, "exit code of a launch that fails ({})", output.stderr);
    Ok(())
}

fn killed_command() -> Outcome {
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("HUP", 129)] {
        let output = run(launch(&[])?.args(["sh", "-c", &format!("kill -{signal} $$; sleep 5")]))?;
        check_eq!(output.code, code, "exit code of a command killed by {signal} ({})", output.stderr);
    }
    Ok(())
}

fn signals() -> Outcome {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let number = signal as i32;
        let mut shell = Shell::launch(&[])?;
        shell.run(&format!("trap 'echo got {number}; exit {number}' {number}"))?;
        shell.send("while :; do sleep 0.1; done")?;
        std::thread::sleep(Duration::from_millis(300));
        kill(shell.pid(), signal)?;
        check_eq!(shell.line()?, format!("got {number}\n"), "what the command did on {signal}");
        check_eq!(shell.wait()?, number, "exit code after {signal}");
    }
    Ok(())
}

fn orphans() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    // Each inner shell ends at once; its child is left to the init, which must collect it when it ends.
    shell.run("for i in 1 2 3 4 5; do sh -c 'sleep 0.3 & :'; done; sleep 1.5")?;
    let states =
        shell.run("cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1 | sort | uniq -c")?;
    check!(!states.contains('Z'), "zombies in the container: {states:?}");
    Ok(())
}

fn leftovers_end() -> Outcome {
    let (began, name) = (Instant::now(), new_name());
    let output =
        run(launch_named(&name, &[])?.args(["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & exit 3"]))?;
    check_eq!(output.code, 3, "exit code");
    check!(
        began.elapsed() < Duration::from_secs(60),
        "launch waited for what the command left: {:?}",
        began.elapsed()
    );
    Ok(()) // the group and the rest are looked for after every case
}

/// SIGKILL of the launcher: the container must not run on without it, and its name can be used again.
fn launcher_killed() -> Outcome {
    let mut shell = Shell::launch(&["-m", "64M"])?;
    let name = shell.name().to_owned();
    kill(shell.pid(), Signal::SIGKILL)?;
    check_eq!(shell.wait()?, 137, "exit code of the killed launcher");
    let deadline = Instant::now() + Duration::from_secs(20);
    while daemon::shared("containers")?.join(&name).exists() {
        check!(Instant::now() < deadline, "{name} is still registered 20 s after its launcher was killed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = run(launch_named(&name, &["-m", "64M"])?.arg("true"))?;
    check_eq!(output.code, 0, "exit code of a launch under the name of a crashed one ({})", output.stderr);
    Ok(())
}

fn options() -> Outcome {
    let dir = format!("/var/tmp/ownproc-e2e-volume-{}", std::process::id());
    std::fs::create_dir_all(&dir)?;
    std::fs::write(format!("{dir}/file"), "inside\n")?;
    let (writable, read_only) = (format!("{dir}:/w"), format!("{dir}:/r:ro"));
    let args = [
        "-v",
        &writable,
        "-v",
        &read_only,
        "--env",
        "COLOUR=blue",
        "--workdir",
        "/w",
        "--hostname",
        "box",
        "--rm",
    ];
    let text = launched(
        &args,
        "pwd; echo $COLOUR; hostname; cat /r/file; echo back >/w/out; echo no >/r/out || echo refused",
    );
    let back = std::fs::read_to_string(format!("{dir}/out"));
    std::fs::remove_dir_all(&dir)?;
    let text = text?;
    let lines: Vec<&str> = text.lines().collect();
    check_eq!(
        lines,
        ["/w", "blue", "box", "inside", "refused"],
        "workdir, environment, host name, volume, :ro"
    );
    check_eq!(back.doing("what was written in a volume")?, "back\n", "what was written in a volume");
    let hostname = launched(&[], "hostname")?;
    check!(hostname.starts_with("e2e-"), "the host name is the container's name by default: {hostname:?}");
    Ok(())
}

fn weight_and_nodes() -> Outcome {
    let script = "cat /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null; \
        cat /sys/fs/cgroup/cpuset.mems /sys/fs/cgroup/cpuset/cpuset.mems 2>/dev/null; true";
    let [usual, heavy] = [&["--cpuset-mems", "0"][..], &["--cpuset-mems", "0", "--cpu-weight", "300"][..]]
        .map(|args| launched(args, script));
    let (usual, heavy) = (usual?, heavy?);
    let weight = |text: &str| -> Outcome<u64> { Ok(text.lines().next().unwrap_or_default().parse()?) };
    check!(
        weight(&heavy)? > 2 * weight(&usual)?,
        "weight without and with --cpu-weight 300: {usual:?}, {heavy:?}"
    );
    check_eq!(heavy.lines().next_back(), Some("0"), "cpuset.mems with --cpuset-mems 0");
    Ok(())
}

/// A root of its own: busybox alone.
fn rootfs() -> Outcome {
    let dir = format!("/var/tmp/ownproc-e2e-rootfs-{}", std::process::id());
    // With its libraries, where it is not a static one.
    let make = format!(
        "mkdir -p {dir}/bin {dir}/proc {dir}/sys {dir}/dev {dir}/tmp && cd {dir} && b=$(command -v busybox) && \
        cp $b bin/busybox && ln -s busybox bin/sh && for l in $(ldd $b | grep -o '/[^ ]*'); do cp -L --parents $l .; done"
    );
    run(Command::new("sh").args(["-c", &make]))?.ok()?;
    let script = "/bin/busybox head -n 1 /proc/meminfo; /bin/busybox ls /; /bin/busybox touch /new";
    let args =
        ["launch", "--name", &new_name(), "-m", "64M", "--rootfs", &dir, "--", "/bin/sh", "-c", script];
    let output = run(programs::ownproc_run()?.args(args));
    let written = Path::new(&dir).join("new").exists();
    std::fs::remove_dir_all(&dir)?;
    let text = output?.ok()?;
    check!(
        text.lines().next().is_some_and(|line| line.ends_with("65536 kB")),
        "meminfo in a root of its own: {text:?}"
    );
    check!(!text.contains("etc\n"), "the host's /etc shows in a root of its own: {text:?}");
    check!(written, "a write in --rootfs DIR goes to DIR");
    Ok(())
}

fn name_taken() -> Outcome {
    let mut shell = Shell::launch(&["-m", "80M"])?;
    let output = run(launch_named(shell.name(), &[])?.arg("true"))?;
    check_eq!(output.code, 125, "exit code of a launch under a taken name");
    check_eq!(output.stderr.lines().count(), 1, "lines said about it: {}", output.stderr);
    check_eq!(shell.meminfo()?.get("MemTotal"), 81_920, "MemTotal of the first one afterwards");
    Ok(())
}

/// An ancestor's tighter limit holds and is reported.
fn cgroup_parent() -> Outcome {
    let parent = crate::groups::Group::create("parent")?;
    parent.set_memory(100)?;
    let output = run(launch(&["-m", "300M", "--cgroup-parent", &parent.path()])?.args([
        "head",
        "-n",
        "1",
        "/proc/meminfo",
    ]))?;
    check_eq!(output.code, 0, "exit code ({})", output.stderr);
    check!(output.stdout.ends_with("102400 kB\n"), "MemTotal below a parent of 100 MiB: {:?}", output.stdout);
    check!(!output.stderr.trim().is_empty(), "launch says nothing about the ancestor's tighter limit");
    Ok(())
}

fn second_serve() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("second"))?;
    let output = ownproc_at(daemon.mount(), &["serve", &daemon.mount().display().to_string()])?;
    check_eq!(output.code, 2, "exit code of a second serve");
    check_eq!(output.stderr.lines().count(), 1, "lines said by a second serve: {}", output.stderr);
    std::fs::read(daemon.mount().join("proc/meminfo")).doing("the first one, afterwards")?;
    daemon.stop()
}

fn dead_mount() -> Outcome {
    let mount = daemon::fresh_mount_point("dead");
    Daemon::start(mount.clone())?.crash()?;
    let error = std::fs::read(mount.join("proc/meminfo")).err().map(|e| e.raw_os_error());
    check_eq!(error, Some(Some(libc::ENOTCONN)), "read through a dead mount");
    let again = Daemon::start(mount.clone())?;
    again.stop()?;
    daemon::clean(&mount);
    Ok(())
}

/// A container on a daemon of the case's own.
fn container_at(mount: &Path) -> Outcome<Shell> {
    let name = new_name();
    let mut command = launch_named(&name, &["-m", "64M"])?;
    command.env("OWNPROC_MOUNT", mount).arg("sh");
    Shell::running(command, name)
}

fn umount_in_use() -> Outcome {
    let mut daemon = Daemon::start(daemon::fresh_mount_point("in-use"))?;
    let mount = daemon.mount().to_owned();
    let mut shell = container_at(&mount)?;
    let output = ownproc_at(&mount, &["umount", &mount.display().to_string()])?;
    check!(output.code != 0, "umount succeeded with a container running");
    check!(
        output.stderr.lines().count() == 1 && output.stderr.contains('1'),
        "how many containers hold files: {:?}",
        output.stderr
    );
    check_eq!(shell.meminfo()?.get("MemTotal"), 65_536, "MemTotal after a refused umount");
    check_eq!(shell.finish()?, 0, "exit code");
    let output = ownproc_at(&mount, &["umount", &mount.display().to_string()])?;
    check_eq!(output.code, 0, "umount with nothing in use ({})", output.stderr);
    check!(!is_mounted(&mount)?, "still mounted after umount");
    check_eq!(daemon.wait(Duration::from_secs(20))?, 0, "exit code of serve after umount");
    Ok(())
}

fn sigterm_in_use() -> Outcome {
    let mut daemon = Daemon::start(daemon::fresh_mount_point("sigterm"))?;
    let mut shell = container_at(daemon.mount())?;
    daemon.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_secs(1));
    check!(daemon.runs()?, "serve ended on SIGTERM with a container running");
    check_eq!(shell.meminfo()?.get("MemTotal"), 65_536, "MemTotal after SIGTERM to serve");
    check_eq!(shell.finish()?, 0, "exit code");
    daemon.stop()
}

/// Seconds without a container after which the daemon ends here; a minute in a release.
const IDLE_EXIT: u64 = 6;

/// No daemon: launch starts one, `$(...)` returns, the next one uses it, and it ends when it was idle for long enough.
fn by_itself() -> Outcome {
    let mount = daemon::fresh_mount_point("auto");
    std::fs::create_dir_all(mount.parent().doing("parent of a mount point")?)?;
    let script = format!(
        "x=$({} launch --name {} -m 64M -- head -n 1 /proc/meminfo) || exit; echo \"$x\"",
        programs::bin_dir()?.join("ownproc-run").display(),
        new_name()
    );
    let output = run_within(
        Command::new("sh")
            .args(["-c", &script])
            .env("OWNPROC_MOUNT", &mount)
            .env("OWNPROC_TEST_IDLE_EXIT", IDLE_EXIT.to_string()),
        Duration::from_secs(45),
    )
    .doing("x=$(ownproc-run launch ...)")?;
    check_eq!(output.code, 0, "exit code ({})", output.stderr);
    check!(output.stdout.ends_with("65536 kB\n"), "what $(...) got: {:?}", output.stdout);
    check!(is_mounted(&mount)?, "the daemon that launch started serves later containers too");
    let mut shell = container_at(&mount)?;
    check_eq!(shell.meminfo()?.get("MemTotal"), 65_536, "MemTotal of the next one");
    check_eq!(shell.finish()?, 0, "exit code");
    let ended = Instant::now();
    while is_mounted(&mount)? {
        check!(ended.elapsed() < Duration::from_secs(100), "still mounted 100 s after the last container");
        std::thread::sleep(Duration::from_millis(200));
    }
    check_in!(ended.elapsed().as_secs(), IDLE_EXIT / 2..=60, "seconds until the daemon ended");
    daemon::clean(&mount);
    // Nothing to keep the caller's files open: the launcher's own output ended above.
    let required =
        run(launch(&["--daemon", "require"])?.arg("true").env("OWNPROC_MOUNT", &mount).stdin(Stdio::null()))?;
    check_eq!(required.code, 125, "launch --daemon require without a daemon");
    check!(!is_mounted(&mount)?, "launch --daemon require started one");
    Ok(())
}
