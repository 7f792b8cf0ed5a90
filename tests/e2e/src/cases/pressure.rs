//! Pressure stall information: a container's own, and triggers on it.

use std::time::Duration;

use super::Row;
use super::io::Folder;
use crate::case::Needs::{Nothing, V2};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon::{self, Daemon, fresh_mount_point};
use crate::programs::{self, OWN_INSIDE};
use crate::shell::{Shell, launch_named, new_name};

pub const CASES: &[Row] = &[
    ("pressure_files_have_the_kernels_lines", Nothing, lines),
    ("pressure_cpu_is_the_burners_not_its_neighbours", Nothing, cpu),
    ("pressure_io_is_the_waiters_not_its_neighbours", V2, io),
    ("pressure_writes_are_refused_by_default", Nothing, refused_by_default),
    ("pressure_trigger_fires_under_a_quota", Nothing, trigger_fires),
    ("pressure_trigger_on_io", V2, trigger_on_io),
    ("pressure_trigger_errors_are_the_kernels", Nothing, trigger_errors),
    ("pressure_trigger_breaks_with_its_container", Nothing, trigger_breaks),
    ("pressure_triggers_leave_the_rest_read_only", Nothing, rest_is_read_only),
];

/// Microseconds of stall in the `some` line.
fn total(text: &str) -> Outcome<u64> {
    let line = text.lines().find(|line| line.starts_with("some ")).doing("the `some` line")?;
    let value = line.split(' ').find_map(|word| word.strip_prefix("total="));
    Ok(value.doing(line)?.parse()?)
}

/// What a container's file says, read from outside: a reader inside would itself wait.
fn outside(shell: &Shell, resource: &str) -> Outcome<u64> {
    let file = daemon::shared(&format!("containers/{}/proc/pressure/{resource}", shell.name()))?;
    total(&std::fs::read_to_string(&file).doing(file.display())?)
}

fn lines() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let keys = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().map(|word| word.split('=').next().unwrap_or(""));
        words.map(str::to_owned).collect()
    };
    for entry in std::fs::read_dir("/proc/pressure")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let own = std::fs::read_to_string(format!("/proc/pressure/{name}"))?;
        check_eq!(keys(&shell.read(&format!("pressure/{name}"))?), keys(&own), "lines and keys of {name}");
    }
    Ok(())
}

fn cpu() -> Outcome {
    let mut burner = Shell::launch(&["--cpus", "0.3"])?;
    let neighbour = Shell::launch(&["--cpus", "0.3"])?;
    let before = (outside(&burner, "cpu")?, outside(&neighbour, "cpu")?);
    burner.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 4 >/dev/null"))?;
    let waited = outside(&burner, "cpu")?.saturating_sub(before.0);
    check_in!(waited, 1_500_000..=20_000_000, "us that two burners waited under 0.3 CPUs within 4 s");
    let waited = outside(&neighbour, "cpu")?.saturating_sub(before.1);
    check_in!(waited, 0..=200_000, "us that an idle neighbour waited");
    Ok(())
}

/// `MAJ:MIN wbps=N` for a container's group.
fn limit_writes(shell: &Shell, folder: &Folder, bytes: u64) -> Outcome {
    let file = format!("/sys/fs/cgroup/ownproc/{}/io.max", shell.name());
    std::fs::write(&file, format!("{} wbps={bytes}", folder.numbers)).doing(file)
}

fn io() -> Outcome {
    let folder = Folder::new()?;
    let volume = folder.volume();
    let mut writer = Shell::launch(&["-v", &volume])?;
    let neighbour = Shell::launch(&["-v", &volume])?;
    limit_writes(&writer, &folder, 2 << 20)?;
    let before = (outside(&writer, "io")?, outside(&neighbour, "io")?);
    writer.run("dd if=/dev/zero of=/io/file bs=1M count=8 oflag=direct 2>/dev/null")?;
    let waited = outside(&writer, "io")?.saturating_sub(before.0);
    check_in!(waited, 1_500_000..=20_000_000, "us that 8 MiB waited at 2 MiB/s");
    let waited = outside(&neighbour, "io")?.saturating_sub(before.1);
    check_in!(waited, 0..=200_000, "us that a neighbour waited, which wrote nothing");
    Ok(())
}

/// Without the option a pressure file is as any other: not for writing, and always ready for poll(2).
fn refused_by_default() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    for file in ["cpu", "memory", "io"] {
        let said =
            shell.run(&format!("{OWN_INSIDE} tool psi watch /proc/pressure/{file} 'some 1 2000000' 1"))?;
        check!(
            [libc::EACCES, libc::EROFS].iter().any(|errno| said == format!("open errno {errno}\n")),
            "opening {file} for a trigger: {said:?}"
        );
    }
    for file in ["meminfo", "stat", "pressure/cpu", "diskstats"] {
        let said = shell.run(&format!("{OWN_INSIDE} tool psi ready /proc/{file}"))?;
        check_eq!(said, "poll readable writable\nepoll readable writable\n", "poll of {file}");
    }
    Ok(())
}

/// A daemon that takes triggers, and a container that it serves.
fn with_triggers(args: &[&str]) -> Outcome<(Daemon, Shell)> {
    let daemon = Daemon::start_with(fresh_mount_point(&new_name()), &["--psi-triggers"])?;
    let shell = container_of(&daemon, args)?;
    Ok((daemon, shell))
}

fn container_of(daemon: &Daemon, args: &[&str]) -> Outcome<Shell> {
    let name = new_name();
    let mut command = launch_named(&name, args)?;
    command.arg("sh").env("OWNPROC_MOUNT", daemon.mount());
    Shell::running(command, name)
}

/// Half of the time: two burners below 0.3 CPUs wait for much more, and a process that is started on a busy machine for
/// much less.
fn trigger_fires() -> Outcome {
    let (daemon, mut shell) = with_triggers(&["--cpus", "0.3"])?;
    let mut neighbour = container_of(&daemon, &[])?;
    let watch = format!("{OWN_INSIDE} tool psi watch /proc/pressure/cpu 'some 1000000 2000000'");
    check_eq!(shell.run(&format!("{watch} 3"))?, "armed\nquiet\n", "an idle container");
    // a window that would cost the kernel a thread: not for those without CAP_SYS_RESOURCE
    let short =
        shell.run(&format!("{OWN_INSIDE} tool psi watch /proc/pressure/cpu 'some 100000 1000000' 0"))?;
    check_eq!(short, format!("write errno {}\n", libc::EINVAL), "a window of 1 s without CAP_SYS_RESOURCE");

    shell.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 40 >/dev/null 2>&1 & sleep 1"))?;
    for way in ["", " --epoll"] {
        check_eq!(
            shell.run(&format!("{watch} 20{way}"))?,
            "armed\nfired\n",
            "two burners below 0.3 CPUs{way}"
        );
    }
    let python = "import os, select; f = os.open('/proc/pressure/cpu', os.O_RDWR | os.O_NONBLOCK); \
        os.write(f, b'some 1000000 2000000'); p = select.poll(); p.register(f, select.POLLPRI); \
        print([event == select.POLLPRI for _, event in p.poll(20000)])";
    check_eq!(shell.run(&format!("/usr/bin/python3 -c \"{python}\""))?, "[True]\n", "Python's poll");
    check_eq!(neighbour.run(&format!("{watch} 3"))?, "armed\nquiet\n", "an idle neighbour of two burners");
    drop((shell, neighbour));
    daemon.stop()
}

fn trigger_on_io() -> Outcome {
    let folder = Folder::new()?;
    let volume = folder.volume();
    let (daemon, mut shell) = with_triggers(&["-v", &volume])?;
    limit_writes(&shell, &folder, 1 << 20)?;
    let watch = format!("{OWN_INSIDE} tool psi watch /proc/pressure/io 'some 200000 2000000'");
    check_eq!(shell.run(&format!("{watch} 3"))?, "armed\nquiet\n", "nothing is written");
    shell.run("dd if=/dev/zero of=/io/file bs=256K count=60 oflag=direct >/dev/null 2>&1 &")?;
    check_eq!(shell.run(&format!("{watch} 15"))?, "armed\nfired\n", "writing at 1 MiB/s");
    drop(shell);
    daemon.stop()
}

fn trigger_errors() -> Outcome {
    let (daemon, mut shell) = with_triggers(&[])?;
    let said = shell.run(&format!("{OWN_INSIDE} tool psi errors /proc/pressure/memory"))?;
    let want = format!(
        "nonsense {inval}\nwindow {inval}\nfirst 0\nsecond {busy}\nread some\nunarmed readable writable pri err\n\
        most 64 {nospc}\n",
        inval = libc::EINVAL,
        busy = libc::EBUSY,
        nospc = libc::ENOSPC
    );
    check_eq!(said, want, "what triggers are answered");
    drop(shell);
    daemon.stop()
}

/// A watcher outside, on the container's file: when the container ends, it is told.
fn trigger_breaks() -> Outcome {
    let (daemon, shell) = with_triggers(&[])?;
    let file = daemon.mount().join(format!("containers/{}/proc/pressure/cpu", shell.name()));
    let watcher = std::process::Command::new(programs::own()?)
        .args(["tool", "psi", "watch"])
        .arg(&file)
        .args(["some 1900000 2000000", "30"])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    check_eq!(shell.finish()?, 0, "exit code of the container");
    let output = watcher.wait_with_output()?;
    check_eq!(
        String::from_utf8_lossy(&output.stdout),
        "armed\nbroken\n",
        "the watcher of a container that ended"
    );
    daemon.stop()
}

fn rest_is_read_only() -> Outcome {
    let (daemon, mut shell) = with_triggers(&[])?;
    check_eq!(shell.run("stat -c %a /proc/pressure/io /proc/meminfo")?, "666\n444\n", "modes");
    shell.run(": >/proc/pressure/cpu")?;
    let refused = |command: &str| format!("{command} 2>&1 | grep -q 'Permission denied'");
    for command in
        ["(: >/proc/meminfo)", "(echo 1 >>/proc/stat)", "chmod 600 /proc/meminfo", "touch /proc/uptime"]
    {
        shell.run(&refused(command)).doing(command)?;
    }
    let tree = daemon.mount().display();
    for command in [
        format!("mkdir {tree}/proc/x"),
        format!("(: >{tree}/proc/x)"),
        format!("rm -f {tree}/proc/meminfo"),
        format!("ln -s x {tree}/x"),
        format!("mv {tree}/proc/stat {tree}/proc/pressure/stat"),
        format!("chmod 777 {tree}/proc/pressure/cpu"),
    ] {
        let mut sh = std::process::Command::new("sh");
        crate::output::run(sh.args(["-c", &refused(&command)]))?.ok().doing(command)?;
    }
    drop(shell);
    daemon.stop()
}
