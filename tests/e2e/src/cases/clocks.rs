//! Uptime and boot time: programs that compute one from the other agree, for every way into a container.

use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;

use super::Row;
use crate::case::Needs::{Nothing, OwnMachine};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::groups::Group;
use crate::parse::{Stat, uptime};
use crate::shell::{Shell, in_group};

pub const CASES: &[Row] = &[
    ("time_programs_agree", Nothing, programs_agree),
    ("time_programs_agree_for_who_joined", Nothing, joined),
    ("time_who_joined_without_time_namespace", Nothing, joined_without),
    ("time_who_made_a_namespace_of_its_own", Nothing, own_namespace),
    ("time_restored_containers_go_on", Nothing, restored),
    ("time_view_from_outside_is_the_containers", Nothing, from_outside),
    ("time_steps_of_the_clock", OwnMachine, steps),
];

/// Prints the moment of boot, in seconds since 1970, as each way of asking gives it; the first four go by files, the last
/// by the kernel's sysinfo(2). Then `lstart` and the age of process $1 as `ps` has it, and the time now.
const ASK: &str = "
/usr/bin/python3 - \"$1\" <<'END'
import ctypes, psutil, subprocess, sys, time
def run(*words): return subprocess.run(words, capture_output=True, text=True, env={'LC_ALL': 'C', 'PATH': '/usr/bin:/bin'}).stdout.strip()
def date(text): return int(run('date', '-d', text, '+%s'))
now = time.time()
print(now - float(open('/proc/uptime').read().split()[0]))
print([line for line in open('/proc/stat') if line.startswith('btime')][0].split()[1])
print(psutil.boot_time())
print(date(run('uptime', '-s')))
info = (ctypes.c_long * 64)()
ctypes.CDLL(None).sysinfo(info)
print(time.time() - info[0])
fields = run('ps', '-o', 'lstart=,etimes=', '-p', sys.argv[1]).split()
print(date(' '.join(fields[:5])))
print(fields[5])
print(time.time())
END
";

/// What [`ASK`] printed.
struct Answers {
    /// By uptime, btime, psutil, `uptime -s`, sysinfo.
    boots: Vec<f64>,
    lstart: f64,
    etimes: f64,
    now: f64,
}

impl Answers {
    fn parse(text: &str) -> Outcome<Self> {
        let numbers: Vec<f64> = text
            .lines()
            .map(|line| line.trim().parse().doing(format!("{line:?} in {text:?}")))
            .collect::<Outcome<_>>()?;
        let [boots @ .., lstart, etimes, now] = &numbers[..] else {
            crate::case::fail!("answers: {text:?}");
        };
        check_eq!(boots.len(), 5, "moments of boot");
        Ok(Self { boots: boots.to_vec(), lstart: *lstart, etimes: *etimes, now: *now })
    }

    fn agree(&self) -> Outcome {
        let (low, high) =
            self.boots.iter().fold((f64::MAX, f64::MIN), |(low, high), &at| (low.min(at), high.max(at)));
        check!(high - low <= 2.0, "boot by uptime, btime, psutil, uptime -s, sysinfo: {:?}", self.boots);
        check_in!(
            self.now - self.etimes,
            (self.lstart - 2.0)..=(self.lstart + 3.5),
            "start by etimes against lstart"
        );
        Ok(())
    }
}

/// Asks in the namespaces of a process that nsenter joins with `flags`.
fn ask_joined(init: Pid, flags: &[&str], pid: &str) -> Outcome<Answers> {
    let mut command = Command::new("nsenter");
    command.args(["--target", &init.to_string(), "--mount", "--pid"]).args(flags);
    command.args(["sh", "-c", ASK, "sh", pid]);
    Answers::parse(&crate::output::run(&mut command)?.ok()?)
}

/// The init of a container that was launched, as seen from the host.
fn init_of(shell: &Shell) -> Outcome<Pid> {
    for pid in Group::of_container(shell.name())?.pids()? {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).doing("NSpid")?;
        if ids.split_whitespace().nth(1) == Some("1") {
            return Ok(pid);
        }
    }
    crate::case::fail!("no init in {}", shell.name())
}

/// When a process started, by the kernel's own files on the host.
fn started(pid: Pid) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().nth(19).doing("field 22")?.parse()?;
    Ok(host_btime()? + ticks / 100.0)
}

fn host_btime() -> Outcome<f64> {
    let stat = Stat::parse(&std::fs::read_to_string("/proc/stat")?)?;
    Ok(*stat.single.get("btime").doing("btime")? as f64)
}

fn ask_inside(shell: &mut Shell) -> Outcome<Answers> {
    Answers::parse(&shell.run(&format!("set -- 1; {ASK}"))?)
}

fn programs_agree() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    std::thread::sleep(Duration::from_secs(3));
    let answers = ask_inside(&mut shell)?;
    answers.agree()?;
    let kernels = started(init_of(&shell)?)?;
    check_in!(
        answers.lstart,
        (kernels - 2.0)..=(kernels + 2.0),
        "lstart of init inside against the kernel's outside"
    );
    check_in!(answers.boots[0], (kernels - 2.0)..=(kernels + 2.0), "boot against the start of init");
    Ok(())
}

fn joined() -> Outcome {
    let shell = Shell::launch(&[])?;
    std::thread::sleep(Duration::from_secs(3));
    let init = init_of(&shell)?;
    let answers = ask_joined(init, &["--time"], "1")?;
    answers.agree()?;
    let kernels = started(init)?;
    check_in!(
        answers.lstart,
        (kernels - 2.0)..=(kernels + 2.0),
        "lstart of init inside against the kernel's outside"
    );
    Ok(())
}

/// In the host's time namespace: what `ps` computes from btime is right, uptime is the container's age.
fn joined_without() -> Outcome {
    let shell = Shell::launch(&[])?;
    std::thread::sleep(Duration::from_secs(3));
    let init = init_of(&shell)?;
    let answers = ask_joined(init, &[], "1")?;
    let kernels = started(init)?;
    check_in!(
        answers.lstart,
        (kernels - 2.0)..=(kernels + 2.0),
        "lstart of init against the kernel's outside"
    );
    check_eq!(answers.boots[1], host_btime()?, "btime in the host's time namespace");
    check_in!(answers.boots[0], (kernels - 2.0)..=(kernels + 2.0), "boot by uptime: the start of init");
    Ok(())
}

/// The files against sysinfo(2) of a process that gave itself other clocks, in a container.
fn own_namespace() -> Outcome {
    let shell = Shell::launch(&[])?;
    let init = init_of(&shell)?;
    for offset in ["500000", "-1"] {
        let unshare = ["unshare", "--time", "--boottime", offset, "--fork", "--"];
        let answers = ask_joined(init, &unshare, "1")?;
        answers.agree().doing(format!("an offset of {offset}"))?;
        let kernels = started(init)?;
        check_in!(answers.lstart, (kernels - 2.0)..=(kernels + 2.0), "lstart with an offset of {offset}");
    }
    Ok(())
}

/// What a restored container has: an offset that continues the clock of another machine, longer or shorter up than this.
fn restored() -> Outcome {
    let up = uptime(&std::fs::read_to_string("/proc/uptime")?)?.0;
    for (name, offset) in [("older", 5_000_000), ("younger", -((up - 5.0) as i64))] {
        let group = Group::create(name)?;
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--fork",
            "--cgroup",
            "--mount",
            "--mount-proc",
            "--kill-child",
            "--time",
            "--boottime",
        ]);
        command.arg(offset.to_string()).arg("sh");
        in_group(&mut command, &group)?;
        let mut shell = Shell::running_at(command, crate::daemon::shared("proc")?, group.path())?;
        let ours = uptime(&shell.read("uptime")?)?.0;
        let kernels = uptime(&shell.run("cat /proc/uptime")?)?.0;
        check_in!(kernels - ours, -2.0..=2.0, "uptime with an offset of {offset} against the kernel's own");
        check_in!(
            ours,
            (up + offset as f64 - 2.0)..=(up + offset as f64 + 60.0),
            "uptime with an offset of {offset}"
        );
        let btime =
            |text: String| -> Outcome<u64> { Ok(*Stat::parse(&text)?.single.get("btime").doing("btime")?) };
        check_eq!(
            btime(shell.read("stat")?)?,
            btime(shell.run("cat /proc/stat")?)?,
            "btime with an offset of {offset}"
        );
        let idle = shell.stat()?.total.idle();
        check!(idle < 100 * 60 * 16, "idle {idle} of a container that has just begun");
    }
    Ok(())
}

/// A sysadmin is shown what the container sees.
fn from_outside() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    std::thread::sleep(Duration::from_secs(2));
    let dir = crate::daemon::shared("containers")?.join(shell.name()).join("proc");
    let outside = Stat::parse(&std::fs::read_to_string(dir.join("stat"))?)?;
    check_eq!(
        outside.single.get("btime"),
        shell.stat()?.single.get("btime"),
        "btime from outside and inside"
    );
    let from_here = uptime(&std::fs::read_to_string(dir.join("uptime"))?)?.0;
    let inside = uptime(&shell.read("uptime")?)?.0;
    check_in!(inside - from_here, -0.1..=5.0, "uptime inside, a moment after that from outside");
    Ok(())
}

/// Sets the clock of this machine an hour forward and back again.
fn steps() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1"])?;
    let init = init_of(&shell)?;
    let mut last = (std::time::Instant::now(), uptime(&shell.read("uptime")?)?, shell.stat()?);
    for step in [3600_i64, -3600] {
        let now = crate::output::run(Command::new("date").arg("+%s"))?.ok()?.trim().parse::<i64>()?;
        crate::output::run(Command::new("date").args(["-s", &format!("@{}", now + step)]))?.ok()?;
        std::thread::sleep(Duration::from_secs(2));
        let next = (std::time::Instant::now(), uptime(&shell.read("uptime")?)?, shell.stat()?);
        let passed = next.0.duration_since(last.0).as_secs_f64();
        let around = (passed - 1.0)..=(passed + 1.0);
        check_in!(
            next.1.0 - last.1.0,
            around.clone(),
            "growth of uptime in {passed} s over a step of {step} s"
        );
        check_in!(
            next.1.1 - last.1.1,
            -0.01..=(passed + 1.0),
            "growth of idle in {passed} s over a step of {step} s"
        );
        let delta = next.2.total.since(&last.2.total)?;
        let all: u64 = delta.fields.iter().sum();
        check_in!(all as f64 / 100.0, 0.0..=(passed + 1.0), "CPU time in {passed} s over a step of {step} s");
        let btime = |stat: &Stat| stat.single.get("btime").copied().unwrap_or(0).cast_signed();
        check_in!(btime(&next.2) - btime(&last.2) - step, -1..=1, "btime over a step of {step} s");
        let answers = ask_inside(&mut shell)?;
        answers.agree().doing(format!("after a step of {step} s"))?;
        let kernels = started(init)?;
        check_in!(
            answers.lstart,
            (kernels - 2.0)..=(kernels + 2.0),
            "lstart inside against the kernel's outside"
        );
        last = next;
    }
    Ok(())
}
