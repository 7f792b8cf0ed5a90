//! Containers that do not want to be attached to, or that harm whoever tries.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Foreign, check, check_eq, check_in, fail, host_is_untouched, init_in, kib, ours};
use crate::case::{Doing, Outcome};
use crate::daemon::{self, Daemon, ownproc};
use crate::groups::Group;
use crate::output::{Output, run_within};
use crate::programs;
use crate::shell::{Shell, in_group};

/// A hanging container is given up after 2 s. The rest is for a machine of the tests that is short of CPU, or emulated.
const LONGEST: Duration = Duration::from_secs(15);

/// `attach` of a container in which it must not do anything: exit code 1, `word` is said, nothing is mounted.
fn refused(foreign: &Foreign, word: &str) -> Outcome<Output> {
    let began = Instant::now();
    let output = ownproc(&["attach", &foreign.target()])?;
    check_eq!(output.code, 1, "exit code ({})", output.stderr);
    check!(output.stderr.contains(word), "{word:?} is not said: {}", output.stderr);
    check_in!(began.elapsed(), Duration::ZERO..=LONGEST, "time taken");
    let over_proc: Vec<String> = foreign.mounts()?.into_iter().filter(|at| at.starts_with("/proc")).collect();
    check!(over_proc.is_empty(), "mounted all the same: {over_proc:?}");
    host_is_untouched()?;
    Ok(output)
}

/// The container's root is a tmpfs with the host's programs, its /proc a link to a procfs elsewhere in it.
pub fn link() -> Outcome {
    let dir = PathBuf::from(format!("/var/tmp/ownproc-e2e-{}-link", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let script = format!(
        "D={} && mount -t tmpfs none $D && mkdir $D/usr $D/real $D/dev && mount --rbind /usr $D/usr && \
         mount --rbind /dev $D/dev && for l in bin sbin lib lib64; do ln -s usr/$l $D/$l; done && \
         mount -t proc none $D/real && ln -s real $D/proc && exec chroot $D sh",
        dir.display()
    );
    let check = || -> Outcome {
        let mut foreign = Foreign::start("link", 100, &["--", "sh", "-c", &script])?;
        refused(&foreign, "symbolic link")?;
        check!(foreign.shell.run("cat /proc/uptime")?.contains('.'), "its own link still leads to a procfs");
        // With a directory in its place the same container can be attached to: its root is none of a mount namespace.
        foreign.shell.run("rm /proc && mkdir /proc && mount -t proc none /proc")?;
        let output = ownproc(&["attach", &foreign.target()])?;
        check_eq!(output.code, 0, "exit code with a procfs in a chroot ({})", output.stderr);
        check_eq!(foreign.total()?, kib(100), "MemTotal in a chroot");
        host_is_untouched()
    };
    let outcome = check();
    std::fs::remove_dir(&dir)?;
    outcome
}

pub fn tmpfs() -> Outcome {
    let mut foreign = Foreign::plain("tmpfs", 100)?;
    foreign.shell.run("mount -t tmpfs none /proc && echo mine >/proc/meminfo")?;
    refused(&foreign, "tmpfs")?;
    check_eq!(foreign.shell.read("meminfo")?, "mine\n", "its own file");
    foreign.shell.run("umount /proc && umount -l /proc")?;
    foreign.shell.run("cd / && umount -l /proc 2>/dev/null; true")?;
    Ok(())
}

/// A directory of a procfs is no /proc, whatever its files are called.
pub fn part() -> Outcome {
    let mut foreign = Foreign::plain("part", 100)?;
    foreign.shell.run("mount --bind /proc/sys /proc")?;
    refused(&foreign, "not the root of a procfs")?;
    foreign.shell.run("umount /proc && mount --bind /proc/1 /proc")?;
    refused(&foreign, "not the root of a procfs").map(drop)
}

fn children(pid: Pid) -> Outcome<Vec<Pid>> {
    let output = run_within(Command::new("pgrep").args(["-P", &pid.to_string()]), Duration::from_secs(5))?;
    Ok(output.stdout.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
}

/// A daemon that is stopped stands for a file system that never answers.
pub fn hang() -> Outcome {
    let other = Daemon::start(daemon::fresh_mount_point("hang"))?;
    let mount = other.mount().display().to_string();
    let mut covered = Foreign::plain("hang-covered", 100)?;
    covered.shell.run(&format!("mount --rbind {mount} /proc"))?;
    let mut file = Foreign::plain("hang-file", 100)?;
    file.shell.run(&format!("mount --bind {mount}/proc/meminfo /proc/meminfo"))?;
    let root = format!(
        "import os, sys\nos.chroot('{mount}/containers')\nprint(flush=True)\nfor line in sys.stdin:\n    print('\\n==end 0==', flush=True)"
    );
    let rooted = Foreign::start("hang-root", 100, &["--mount-proc", "--", "/usr/bin/python3", "-c", &root])?;
    // The process that would notice that the other one hangs first.
    other.signal(Signal::SIGSTOP)?;
    let workers = children(other.pid())?;
    workers.iter().try_for_each(|worker| kill(*worker, Signal::SIGSTOP))?;
    let check = || -> Outcome {
        // Its root is known without a question.
        let began = Instant::now();
        refused(&covered, "fuse.ownproc")?;
        check_in!(
            began.elapsed(),
            Duration::ZERO..=Duration::from_millis(1500),
            "a hanging /proc: time taken"
        );
        // Looking up a name in it is one.
        refused(&rooted, "did not answer within 2 s")?;
        // Whether a mount of our type is dead can only be asked. The other files are attached all the same.
        let began = Instant::now();
        let output = ownproc(&["attach", &file.target()])?;
        check_eq!(output.code, 1, "exit code with a hanging file ({})", output.stderr);
        check!(
            output
                .stderr
                .contains("/proc/meminfo: the file of another ownproc daemon, which does not answer"),
            "said: {}",
            output.stderr
        );
        check!(
            file.mounts()?.contains(&"/proc/stat".to_owned()),
            "the files beside it: {:?}",
            file.mounts()?
        );
        let output = ownproc(&["attach", "--repair", &file.target()])?;
        check_eq!(output.code, 1, "exit code of repair with a hanging file ({})", output.stderr);
        check!(output.stderr.contains("does not answer, but is not gone"), "said: {}", output.stderr);
        check_in!(began.elapsed(), Duration::ZERO..=2 * LONGEST, "time taken by both");
        // No child is left behind, and none hangs.
        let left =
            run_within(Command::new("pgrep").args(["-P", "1", "-x", "ownproc"]), Duration::from_secs(5))?;
        for pid in left.stdout.split_whitespace() {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            check!(!line.contains("attach"), "process {pid} is left: {line:?}");
        }
        Ok(())
    };
    let outcome = check();
    workers.iter().try_for_each(|worker| kill(*worker, Signal::SIGCONT))?;
    other.signal(Signal::SIGCONT)?;
    outcome?;
    let output = ownproc(&["attach", "--replace", &file.target()])?;
    check_eq!(output.code, 0, "exit code once it answers ({})", output.stderr);
    check_eq!(file.total()?, kib(100), "MemTotal then");
    drop((covered, file, rooted));
    other.stop()
}

/// A container that mounts and unmounts under our hands harms at most itself.
pub fn swapped() -> Outcome {
    let mut foreign = Foreign::plain("swapped", 100)?;
    foreign.shell.run("mount -t tmpfs none /mnt && echo 'MemTotal: 7 kB' >/mnt/meminfo")?;
    foreign.shell.send(
        "while :; do mount -t tmpfs none /proc; umount /proc; mount --bind /mnt/meminfo /proc/meminfo; umount /proc/meminfo; done 2>/dev/null",
    )?;
    let (mut codes, end) = ([0usize; 2], Instant::now() + Duration::from_secs(8));
    while Instant::now() < end || codes[0] + codes[1] < 10 {
        for action in ["attach", "detach"] {
            let output = ownproc(&[action, &foreign.target()])?;
            match output.code {
                code @ 0..=1 => codes[usize::try_from(code)?] += 1,
                code => fail!("exit code {code} of {action}: {}", output.stderr),
            }
            check!(!output.stderr.contains("panicked"), "{}", output.stderr);
        }
        host_is_untouched()?;
    }
    // Its loop would not end with its input.
    kill(foreign.init, Signal::SIGKILL).doing("the init")
}

/// A process that is given the number of one that ended: a group's name leads to the group only.
pub fn pid_reused() -> Outcome {
    let mut reused = 0;
    for round in 0..12 {
        let first = Foreign::plain(&format!("first-{round}"), 100)?;
        let number = first.init;
        let target = format!("group:{}", first.group.path());
        let mut attach = programs::ownproc()?
            .args(["attach", &target])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_micros(400 * round));
        kill(number, Signal::SIGKILL).doing("the first init")?;
        drop(first);
        // The next process of this machine gets the number, if nobody else comes first.
        let group = Group::create(&format!("second-{round}"))?;
        let mut command = Command::new("sh");
        let script = format!(
            "for i in 1 2 3 4 5; do echo {} >/proc/sys/kernel/ns_last_pid; unshare --pid --fork --mount --mount-proc --kill-child sleep 3; done",
            number.as_raw() - 2
        );
        command.args(["-c", &script]).stdin(Stdio::null());
        in_group(&mut command, &group)?;
        let mut second = command.spawn()?;
        attach.wait()?;
        std::thread::sleep(Duration::from_millis(150));
        let init = init_in(&group)?;
        reused += usize::from(init == number);
        let mounts = ours(init);
        let _ = second.kill();
        second.wait()?;
        for pid in group.pids()? {
            let _ = kill(pid, Signal::SIGKILL);
        }
        check_eq!(mounts?.len(), 0, "mounts in the container that has the number now");
        group.remove()?;
    }
    check!(reused > 0, "no number was given again in 12 rounds");
    Ok(())
}

/// Mounts in this container would be made on the host too.
pub fn shared_with_the_host() -> Outcome {
    let foreign = Foreign::start("shared", 100, &["--propagation", "unchanged"])?;
    let output = refused(&foreign, "shared with the host")?;
    check!(output.stderr.contains("make-rprivate"), "what to do is not said: {}", output.stderr);
    let output = ownproc(&["attach", "--replace", &foreign.target()])?;
    check_eq!(output.code, 1, "exit code with --replace ({})", output.stderr);
    host_is_untouched()?;
    // Cut off as it says, it goes.
    let mut foreign = foreign;
    foreign.shell.run("mount --make-rprivate /proc && mount --make-rprivate /sys")?;
    let output = ownproc(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code once it is cut off ({})", output.stderr);
    check!(!foreign.mounts()?.is_empty(), "nothing is mounted once it is cut off");
    host_is_untouched()?;
    // A mount that follows the host's takes from it and gives nothing.
    let slave = Foreign::start("slave", 100, &["--propagation", "slave"])?;
    let output = ownproc(&["attach", &slave.target()])?;
    check_eq!(output.code, 0, "exit code of a slave ({})", output.stderr);
    host_is_untouched()
}

/// systemd in a container makes all mounts shared among the services it starts there: they are the container's own.
pub fn shared_inside() -> Outcome {
    let mut foreign = Foreign::plain("rshared", 100)?;
    foreign.shell.run("mount --make-rshared /")?;
    foreign.shell.run("unshare --mount --propagation unchanged --fork --kill-child sleep 600 & sleep 0.5")?;
    let output = ownproc(&["attach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code ({})", output.stderr);
    check_eq!(foreign.total()?, kib(100), "MemTotal");
    let service = foreign
        .group
        .pids()?
        .into_iter()
        .find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        })
        .doing("the service")?;
    check!(!ours(service)?.is_empty(), "the service has none of the files");
    let output = ownproc(&["detach", &foreign.target()])?;
    check_eq!(output.code, 0, "exit code of detach ({})", output.stderr);
    check_eq!((foreign.mounts()?.len(), ours(service)?.len()), (0, 0), "mounts after detach");
    host_is_untouched()?;
    // The same among two containers that do not belong together.
    let mut first = Foreign::plain("peer", 100)?;
    first.shell.run("mount --make-rshared /")?;
    let group = Group::create("other-peer")?;
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &first.init.to_string(), "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--propagation", "unchanged", "--kill-child", "sh"]);
    in_group(&mut command, &group)?;
    let _other = Shell::running_at(command, PathBuf::from("/proc"), group.path())?;
    refused(&first, "shared with the mount namespace of process").map(drop)
}

/// What shares the mounts of the host is refused.
pub fn host() -> Outcome {
    let group = Group::create("host")?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sh"]);
    in_group(&mut command, &group)?;
    let _shell = Shell::running_at(command, PathBuf::from("/proc"), group.path())?;
    let init: Pid = init_in(&group)?;
    for target in
        [format!("pid:{init}"), format!("group:{}", group.path()), "pid:1".to_owned(), "pid:2".to_owned()]
    {
        for action in ["attach", "detach"] {
            let output = ownproc(&[action, &target])?;
            check_eq!(output.code, 1, "exit code of {action} {target} ({})", output.stderr);
            check!(output.stderr.contains("host"), "{action} {target}: {}", output.stderr);
        }
        host_is_untouched()?;
    }
    Ok(())
}
