//! Runs the cases: each in a process of its own, with a deadline, against one daemon that all of them share.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Case, Doing, Failure, Needs, Outcome, check, fail};
use crate::daemon::Daemon;
use crate::{cases, groups, programs};

/// A case that takes longer than this hangs; software emulation is about seven times slower than the machine.
const DEADLINE: Duration = Duration::from_secs(240);

struct Options {
    list: bool,
    summary: Option<String>,
    /// Which half of the cases that take turns; all where it is not said.
    half: Option<usize>,
    filters: Vec<String>,
}

fn options(words: &[&str]) -> Outcome<Options> {
    let mut options = Options { list: false, summary: None, half: None, filters: Vec::new() };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--list" => options.list = true,
            "--json-summary" => {
                options.summary = Some((*words.next().doing("--json-summary FILE")?).to_owned())
            }
            "--half" => {
                options.half = Some(match words.next() {
                    Some(&"0") => 0,
                    Some(&"1") => 1,
                    _ => fail!("--half 0|1"),
                })
            }
            _ if word.starts_with('-') => fail!("unknown option {word}"),
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Ok(options)
}

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
    let options = options(words)?;
    let all = cases::all();
    let chosen: Vec<&Case> = all
        .iter()
        .filter(|case| {
            options.filters.is_empty() || options.filters.iter().any(|f| case.name.contains(f.as_str()))
        })
        .collect();
    if options.list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(true);
    }
    check!(!chosen.is_empty(), "no case matches {:?}", options.filters);
    check!(nix::unistd::geteuid().is_root(), "must run as root: containers and cgroups are made");
    programs::require()?;
    let listed = crate::compare::listed(&all)?;
    let others = match options.half {
        Some(half) => crate::compare::of_the_other_half(&all, half)?,
        None => Default::default(),
    };

    own_mount_namespace()?;
    // The cases inherit the mount point; without the daemon nothing can be shown, so a failure here is an error.
    let daemon = Daemon::start_shared()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("OWNPROC_MOUNT", daemon.mount()) };
    let (mut passed, mut failed, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for case in chosen {
        if others.contains(case.name) {
            println!("left out {}: it is of the other half of in-turn.tsv", case.name);
            left_out.push(case.name);
            continue;
        }
        match lacking(case.needs)? {
            Some(what) if listed.contains_key(case.name) => {
                println!("left out {}: {what}", case.name);
                left_out.push(case.name);
                continue;
            }
            Some(what) => {
                println!("FAILED {}: {what}, and only-in-vm.tsv does not list it", case.name);
                failed.push(case.name);
                continue;
            }
            None => {}
        }
        let began = Instant::now();
        match run_apart(case.name) {
            Ok(()) => {
                println!("ok {} ({:.1} s)", case.name, began.elapsed().as_secs_f64());
                passed.push(case.name);
            }
            Err(why) => {
                println!("FAILED {}: {}", case.name, why.0.trim().replace('\n', "\n    "));
                failed.push(case.name);
            }
        }
        std::io::stdout().flush()?;
    }
    if let Err(why) = daemon.stop() {
        println!("FAILED shared_daemon_stops: {why}");
        failed.push("shared_daemon_stops");
    } else {
        println!("ok shared_daemon_stops");
        passed.push("shared_daemon_stops");
    }
    if let Some(file) = options.summary {
        let summary = serde_json::json!({ "passed": passed, "failed": failed, "left_out": left_out, "half": options.half });
        std::fs::write(&file, format!("{summary}\n")).doing(&file)?;
    }
    println!("{} passed, {} failed", passed.len(), failed.len());
    Ok(failed.is_empty())
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
        Needs::OwnMachine => (!std::path::Path::new("/run/vm").is_dir())
            .then(|| "needs a machine of the tests' own".to_owned()),
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
