//! The service under a real systemd: `ownproc-e2e systemd UNIT`, in the virtual machine only, since it installs the program
//! and the unit. One story, told step by step, with readers who must not notice.

mod scopes;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::case::{Doing, Outcome, check, check_eq};
use crate::daemon::is_mounted;
use crate::manager::eventually;
use crate::output::{Output, run};
use crate::programs;
use crate::readers::{Container, Readers, whole};

const MOUNT: &str = "/var/lib/ownproc";
const PROGRAM: &str = "/usr/bin/ownproc";

/// `systemctl ARG...`
fn systemctl(args: &[&str]) -> Outcome<Output> {
    run(Command::new("systemctl").arg("--no-pager").args(args))
}

/// A property of the service.
fn property(name: &str) -> Outcome<String> {
    let text = systemctl(&["show", "ownproc.service", "--value", "-p", name])?.ok()?;
    Ok(text.trim().to_owned())
}

fn main_pid() -> Outcome<i32> {
    Ok(property("MainPID")?.parse()?)
}

/// The worker of a holder: its child that is no opener.
fn worker_of(holder: i32) -> Outcome<i32> {
    let children = std::fs::read_to_string(format!("/proc/{holder}/task/{holder}/children"))?;
    for pid in children.split_whitespace() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == b"worker") {
            return Ok(pid.parse()?);
        }
    }
    crate::case::fail!("holder {holder} has no worker among {children:?}")
}

/// Waits until a holder has its shared files open. Who kills it before may leave the opener waiting for an answer, which is not to be
/// killed, and systemd waits for it with its TimeoutStopSec= (SECURITY.md, "What is not done").
fn opener_has_gone(holder: i32) -> Outcome {
    let path = format!("/proc/{holder}/task/{holder}/children");
    eventually("the shared files are held open", || {
        let children = std::fs::read_to_string(&path).doing(&path)?;
        let is_opener = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"opener")
        };
        Ok(!children.split_whitespace().any(is_opener))
    })
}

/// Waits for another main process that is ready.
fn another_main(before: i32) -> Outcome<i32> {
    eventually("another main process is active", || {
        Ok(!matches!(main_pid()?, 0 | 1) && main_pid()? != before && property("ActiveState")? == "active")
    })?;
    main_pid()
}

/// What the readers notice of a step: nothing but a pause. The mount must be the same, and so must the container's files.
struct Story {
    readers: Readers,
    container: Container,
    device: u64,
}

impl Story {
    fn check(&mut self) -> Outcome {
        self.readers.go_on()?;
        self.container.check()?;
        check_eq!(device()?, self.device, "device number of the mount");
        eventually("systemd keeps two descriptors", || Ok(property("NFileDescriptorStore")? == "2"))
    }
}

fn device() -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(MOUNT).doing(MOUNT)?.dev())
}

/// Runs the story and prints what `tests/run` reads.
pub fn main(unit: &str) -> ExitCode {
    let mut done = 0;
    match story(Path::new(unit), &mut |step| {
        done += 1;
        println!("ok systemd_{step}");
    }) {
        Ok(()) => {
            println!("{done} passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED systemd, after {done} steps: {why}");
            for command in [
                "journalctl --no-pager -n 60 -u ownproc.service",
                "systemctl --no-pager --lines=0 status ownproc.service",
                "dmesg | grep ownproc.service | tail -n 30",
                "cd /sys/fs/cgroup/system.slice/ownproc.service && for pid in $(cat cgroup.procs); do grep -H . /proc/$pid/task/*/{stat,wchan,stack}; done",
            ] {
                let log = run(Command::new("bash").args(["-c", command]));
                println!(
                    "{command}\n{}",
                    log.map_or_else(|why| why.to_string(), |log| log.stdout + &log.stderr)
                );
            }
            println!("{done} passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn story(unit: &Path, ok: &mut dyn FnMut(&str)) -> Outcome {
    check!(
        Path::new("/run/vm").is_dir(),
        "this installs the program and a unit: only in the machine of tests/vm"
    );
    std::fs::copy(programs::bin_dir()?.join("ownproc"), PROGRAM).doing(PROGRAM)?;
    std::fs::copy(unit, "/run/systemd/system/ownproc.service").doing(unit.display())?;
    systemctl(&["daemon-reload"])?.ok()?;
    let unknown =
        run(Command::new("systemd-analyze").args(["verify", "/run/systemd/system/ownproc.service"]))?;
    println!("{}", systemctl(&["--version"])?.ok()?.lines().next().unwrap_or_default());
    println!("{}", unknown.stderr.trim());

    systemctl(&["start", "ownproc.service"])?.ok()?;
    eventually("systemd keeps two descriptors", || Ok(property("NFileDescriptorStore")? == "2"))?;
    whole(&PathBuf::from(MOUNT).join("proc/meminfo"))?;
    ok("start");

    let mount = Path::new(MOUNT);
    let mut story =
        Story { container: Container::launch(mount)?, readers: Readers::start(mount)?, device: device()? };
    story.check()?;
    let holder = main_pid()?;
    let worker = worker_of(holder)?;
    systemctl(&["reload", "ownproc.service"])?.ok()?;
    eventually("another worker of the same holder", || {
        Ok(main_pid()? == holder && worker_of(holder).is_ok_and(|now| now != worker))
    })?;
    story.check()?;
    ok("reload");

    let worker = worker_of(holder)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL)?;
    eventually("another worker after a kill", || Ok(worker_of(holder).is_ok_and(|now| now != worker)))?;
    check_eq!(main_pid()?, holder, "the holder after its worker was killed");
    story.check()?;
    ok("worker_killed");

    for round in 0..2 {
        let before = main_pid()?;
        systemctl(&["restart", "ownproc.service"])?.ok()?;
        check!(another_main(before)? != before, "restart left the holder");
        check_eq!(property("Result")?, "success", "result of restart {round}");
        story.check()?;
    }
    ok("restart");

    let before = main_pid()?;
    opener_has_gone(before)?;
    systemctl(&["kill", "-s", "KILL", "--kill-who=main", "ownproc.service"])?.ok()?;
    another_main(before)?;
    story.check()?;
    ok("holder_killed");

    // Somebody who does not ask systemd: it must not take this for an end.
    let before = main_pid()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(before), nix::sys::signal::Signal::SIGTERM)?;
    another_main(before)?;
    story.check()?;
    ok("sigterm_by_hand");

    // A new program, as a package brings it: another file at the same place.
    let before = main_pid()?;
    let new = format!("{PROGRAM}.new");
    std::fs::copy(PROGRAM, &new)?;
    std::fs::rename(&new, PROGRAM)?;
    systemctl(&["restart", "ownproc.service"])?.ok()?;
    let now = another_main(before)?;
    let runs = std::fs::read_link(format!("/proc/{now}/exe"))?;
    check_eq!(runs, Path::new(PROGRAM), "what the holder runs after an upgrade of the program");
    story.check()?;
    ok("restart_of_a_new_program");

    let reads = story.readers.end()?;
    println!("{reads} reads, none failed");
    story.container.end()?;
    systemctl(&["stop", "ownproc.service"])?.ok()?;
    check!(!is_mounted(mount)?, "still mounted after a stop while not in use");
    check_eq!(property("NFileDescriptorStore")?, "0", "descriptors in the store after the stop");
    check_eq!(property("Result")?, "success", "result of the stop");
    ok("stop_while_not_in_use");

    // A stop is a stop: systemd closes what it kept, and who still holds files is told so at once.
    systemctl(&["start", "ownproc.service"])?.ok()?;
    let mut container = Container::launch(mount)?;
    container.check()?;
    systemctl(&["stop", "ownproc.service"])?.ok()?;
    check_eq!(property("NFileDescriptorStore")?, "0", "descriptors in the store after a stop in use");
    check!(container.check().is_err(), "files of a daemon that was stopped still answer");
    systemctl(&["start", "ownproc.service"])?.ok()?;
    whole(&mount.join("proc/meminfo"))?;
    drop(container);
    std::thread::sleep(Duration::from_millis(100));
    systemctl(&["stop", "ownproc.service"])?.ok()?;
    check!(!is_mounted(mount)?, "still mounted at the end");
    ok("stop_in_use_and_start");

    scopes::bundle()?;
    ok("scope_of_a_bundle");
    scopes::podman()?;
    ok("scope_of_podman");
    Ok(())
}
