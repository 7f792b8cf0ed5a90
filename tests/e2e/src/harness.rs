//! Runs the cases: each in a process of its own, with a deadline, against one daemon that all of them share.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Case, Doing, Failure, Needs, Outcome, check};
use crate::daemon::Daemon;
use crate::select::{self, Options};
use crate::{cases, groups, programs};

/// A case that takes longer than this hangs; software emulation is about seven times slower than the machine.
const DEADLINE: Duration = Duration::from_secs(240);
/// How many of the slowest cases are named at the end.
const SLOWEST: usize = 10;

/// Runs the selected cases and prints one line for each and a closing line.
pub fn main(words: &[&str]) -> ExitCode {
    match select_and_run(words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("ownproc-e2e: {failure}");
            ExitCode::from(2)
        }
    }
}

fn select_and_run(words: &[&str]) -> Outcome<bool> {
    let options = Options::parse(words)?;
    let all = cases::all();
    let chosen = options.choose(&all)?;
    if options.list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(true);
    }
    check!(!chosen.is_empty(), "no case is chosen by {words:?}");
    check!(nix::unistd::geteuid().is_root(), "must run as root: containers and cgroups are made");
    programs::require()?;
    own_mount_namespace()?;
    // The cases inherit the mount point; without the daemon nothing can be shown, so a failure here is an error.
    let daemon = Daemon::start_shared()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("OWNPROC_MOUNT", daemon.mount()) };
    let mut results = Results::default();
    for case in chosen {
        results.run(case)?;
    }
    results.count("shared_daemon_stops", Duration::ZERO, daemon.stop())?;
    Ok(results.close())
}

/// What the cases of a run came to.
#[derive(Default)]
struct Results {
    passed: usize,
    failed: usize,
    left_out: usize,
    times: Vec<(Duration, &'static str)>,
}

impl Results {
    /// Runs one case, or says why this machine cannot.
    fn run(&mut self, case: &Case) -> Outcome {
        let began = Instant::now();
        let outcome = match lacking(case.needs)? {
            None => run_apart(case.name),
            Some(what) if select::may_be_left_out(case.name).is_some() && !in_test_machine() => {
                println!("left out {}: {what}", case.name);
                self.left_out += 1;
                return Ok(());
            }
            Some(what) => Err(Failure(format!("{what}, and nothing allows it to be left out here"))),
        };
        self.count(case.name, began.elapsed(), outcome)
    }

    /// Prints one line and counts the outcome.
    fn count(&mut self, name: &'static str, time: Duration, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) => {
                println!("ok {name} ({:.1} s)", time.as_secs_f64());
                self.passed += 1;
            }
            Err(why) => {
                println!("FAILED {name}: {}", why.0.trim().replace('\n', "\n    "));
                self.failed += 1;
            }
        }
        self.times.push((time, name));
        Ok(std::io::stdout().flush()?)
    }

    /// Prints the slowest cases and the closing line; whether none failed.
    fn close(mut self) -> bool {
        self.times.sort_unstable_by(|a, b| b.cmp(a));
        println!("the slowest cases:");
        for (time, name) in self.times.iter().take(SLOWEST) {
            println!("{:8.1} s  {name}", time.as_secs_f64());
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.left_out);
        self.failed == 0
    }
}

/// Whether this is the virtual machine of `tests/vm`, which has everything that a case may need.
fn in_test_machine() -> bool {
    std::path::Path::new("/run/vm").is_dir()
}

/// Moves this process and all cases to a mount namespace of their own: what they mount stays among them, and namespaces
/// that others on this machine make meanwhile do not hold our mounts (the daemon would count them as users). Mounts are
/// shared among the namespaces made from here, as systemd has it.
pub fn own_mount_namespace() -> Outcome {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).doing("a mount namespace")?;
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, propagation | MsFlags::MS_REC, None::<&str>)
            .doing("propagation of mounts")?;
    }
    Ok(())
}

/// What the machine lacks of what a case needs.
fn lacking(needs: Needs) -> Outcome<Option<String>> {
    Ok(match needs {
        Needs::Nothing => None,
        Needs::Cpus(wanted) => {
            let have = std::thread::available_parallelism()?.get();
            (have < wanted).then(|| format!("needs {wanted} CPUs, this machine has {have}"))
        }
        Needs::Nodes(wanted) => {
            let have = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
            let have = crate::parse::cpu_list(&have)?.len();
            (have < wanted).then(|| format!("needs {wanted} NUMA nodes, this machine has {have}"))
        }
        Needs::OwnMachine => (!in_test_machine()).then(|| "needs a machine of the tests' own".to_owned()),
        Needs::Swap => (crate::parse::host_meminfo()?.get("SwapTotal") == 0).then(|| "needs swap".to_owned()),
        Needs::V2 => (!groups::Hierarchies::find()?.is_pure_v2()).then(|| "needs cgroup v2 alone".to_owned()),
    })
}

/// Runs one case in a process of its own.
fn run_apart(name: &str) -> Outcome {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["one", name])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut stderr = child.stderr.take().doing("stderr of a case")?;
    // Read beside the wait: a full pipe would hang the case. What outlives the case may keep the pipe open: not waited for.
    let (send, text) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stderr.read(&mut buffer) {
            let _ = send.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
    });
    let code = wait_until(&mut child, Instant::now() + DEADLINE)?;
    let text = || {
        let mut all = String::new();
        while let Ok(piece) = text.recv_timeout(Duration::from_millis(200)) {
            all.push_str(&piece);
        }
        all
    };
    if code.is_none() {
        groups::remove_all_of(child.id());
    }
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure(match text() {
            said if said.trim().is_empty() => format!("exit code {code}, nothing said"),
            said => said,
        })),
        None => Err(Failure(format!("no end within {} s\n{}", DEADLINE.as_secs(), text()))),
    }
}

/// The exit code (128 + signal), or `None` after the deadline, when the case's process group has been killed.
fn wait_until(child: &mut Child, deadline: Instant) -> Outcome<Option<i32>> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))));
        }
        if Instant::now() > deadline {
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs one case here; says why it failed on stderr.
pub fn run_here(name: &str) -> ExitCode {
    let Some(case) = cases::all().into_iter().find(|case| case.name == name) else {
        eprintln!("no case is named {name}");
        return ExitCode::from(2);
    };
    let outcome = (case.run)();
    // Looked at even after a failure: what is left would spoil the next case.
    let outcome = match (outcome, groups::nothing_left()) {
        (Ok(()), left) => left,
        (Err(why), Ok(())) => Err(why),
        (Err(why), Err(left)) => Err(Failure(format!("{why}\n{left}"))),
    };
    groups::remove_all_of(std::process::id());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
