//! sysinfo(2) of containers says what their files say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ownproc::control::Paths;
use serde_json::{Value, json};

use super::Row;
use super::oci::{Oci, eventually};
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon::{self, Daemon, shared_mount};
use crate::output::run;
use crate::parse::{Meminfo, host_meminfo, uptime};
use crate::soak::serve_for;
use crate::soak::workers::{Workers, signal};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("sysinfo_is_what_the_files_say", Nothing, as_the_files),
    ("sysinfo_changed_limits_show", Nothing, changed_limits),
    ("sysinfo_of_runc", Nothing, runc),
];

/// All others.
pub const CASES: &[Row] = &[
    ("sysinfo_busybox", Nothing, busybox),
    ("sysinfo_of_exec", Nothing, exec),
    ("sysinfo_left_to_the_kernel", Nothing, left_to_the_kernel),
    ("sysinfo_profiles", Nothing, profiles),
    ("sysinfo_pointers", Nothing, pointers),
    ("sysinfo_crowd_and_neighbour", Nothing, crowd),
    ("sysinfo_survives_workers", Nothing, survives),
    ("sysinfo_ends_with_its_container", Nothing, ends),
    ("sysinfo_after_the_daemon", Nothing, after_the_daemon),
];

const MIB: u64 = 96;
const KIB: u64 = MIB << 10;

/// A container with a limit, in which the test programs run; `sh -c SCRIPT` is its process.
fn container(name: &str, script: &str) -> Outcome<Oci> {
    let oci = Oci::new(name, script)?;
    oci.change(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": MIB << 20 });
        test_programs(config);
    })?;
    Ok(oci)
}

/// This program and the libraries that it needs.
fn test_programs(config: &mut Value) {
    let own = std::env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(std::path::Path::new("/")).display().to_string();
    let mut add = |from: &str, to: &str| {
        if let Some(all) = config["mounts"].as_array_mut() {
            let options = json!(["bind", "ro"]);
            all.push(json!({ "destination": to, "source": from, "type": "bind", "options": options }));
        }
    };
    add(&dir, "/e2e");
    for (from, to) in [("/usr/lib", "/lib"), ("/usr/lib64", "/lib64"), ("/usr/lib", "/usr/lib")] {
        if std::path::Path::new(from).is_dir() {
            add(from, to);
        }
    }
}

const TOOL: &str = "/e2e/ownproc-e2e tool sysinfo";

fn number(line: &str, key: &str) -> Outcome<u64> {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.doing(format!("{key} in {line:?}"))?.parse().doing(key)
}

fn busybox() -> Outcome {
    let oci =
        container("busybox", "busybox free; busybox uptime; sleep 2.2; busybox uptime; cat /proc/uptime")?;
    let text = oci.run(&["run", &oci.id])?;
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).doing(format!("{key} in {text}"));
    let memory: Vec<u64> =
        line("Mem:")?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    let [total, used, free, ..] = memory[..] else { crate::case::fail!("free said {text}") };
    check_eq!(total, KIB, "total of free");
    check!(used < KIB && free <= KIB && free > KIB / 2, "used {used}, free {free}");
    check!(
        line("Swap:")?.split_whitespace().nth(1) == Some("0") || host_meminfo()?.get("SwapTotal") > 0,
        "{text}"
    );
    check!(text.matches(" up 0 min").count() == 2, "uptime of a new container: {text}");
    oci.nothing_is_left()
}

/// One moment of all of them: the tool reads, then the files are read.
fn as_the_files() -> Outcome {
    let script = format!(
        "sleep 1.5; {TOOL}; cat /proc/meminfo; echo ==; cat /proc/uptime; echo ==; cat /proc/loadavg"
    );
    let oci = container("files", &script)?;
    let text = oci.run(&["run", &oci.id])?;
    let (line, files) = text.split_once('\n').doing(&text)?;
    let parts: Vec<&str> = files.split("==\n").collect();
    check_eq!(parts.len(), 3, "parts of {files:?}");
    let meminfo = Meminfo::parse(parts[0])?;
    for (field, key) in [("total", "MemTotal"), ("swap", "SwapTotal"), ("buffers", "Buffers")] {
        check_eq!(number(line, field)?, meminfo.get(key), "{field} and {key}");
    }
    for (field, key) in [("free", "MemFree"), ("shared", "Shmem"), ("swapfree", "SwapFree")] {
        check_in!(number(line, field)?.abs_diff(meminfo.get(key)), 0..=2048, "{field} and {key} in KiB");
    }
    let (up, _) = uptime(parts[1])?;
    let told = number(line, "uptime")? as f64;
    check_in!(told - up, -0.5..=1.0, "uptime is {told} and the file says {up}");
    check_in!(up, 1.0..60.0, "uptime of a new container");
    check_in!(number(line, "procs")?, 1..=5, "tasks");
    check_eq!(number(line, "high")?, 0, "high memory");
    let load: f64 = parts[2].split(' ').next().doing("loadavg")?.parse()?;
    check_in!((number(line, "load")? as f64 / 65536.0 - load).abs(), 0.0..=0.02, "load {load}");
    oci.nothing_is_left()
}

fn changed_limits() -> Outcome {
    let oci = container("limits", "sleep 600")?;
    let id = oci.id.clone();
    oci.leave(&["run", "--detach", &id])?;
    for mib in [64_u64, 128] {
        oci.run(&["update", "--memory", &(mib << 20).to_string(), &id])?;
        let line = oci.run(&["exec", &id, "sh", "-c", TOOL])?;
        check_eq!(number(&line, "total")?, mib << 10, "total after the update");
    }
    Ok(())
}

fn exec() -> Outcome {
    let oci = container("exec", "sleep 600")?;
    let id = oci.id.clone();
    oci.leave(&["create", &id])?;
    check_eq!(number(&oci.run(&["exec", &id, "sh", "-c", TOOL])?, "total")?, KIB, "of one that was created");
    oci.run(&["start", &id])?;
    check_eq!(number(&oci.run(&["exec", &id, "sh", "-c", TOOL])?, "total")?, KIB, "of one that runs");
    let user = oci.run(&["exec", "--user", "1000:1001", &id, "sh", "-c", TOOL])?;
    check_eq!(number(&user, "total")?, KIB, "for another user");
    let output = oci.output(&["exec", &id, "no-such-program"])?;
    check!(output.code != 0 && output.stderr.contains("executable file not found"), "{output:?}");
    check_eq!(oci.output(&["exec", &id, "sh", "-c", "exit 9"])?.code, 9, "exit code");
    oci.leave(&["exec", "--detach", &id, "sleep", "600"])?;
    Ok(())
}

fn left_to_the_kernel() -> Outcome {
    let oci = container("kernel", TOOL)?;
    oci.change(|config| config["annotations"] = json!({ "io.ownproc.sysinfo": "kernel" }))?;
    let seen = number(&oci.run(&["run", &oci.id])?, "total")?;
    check_eq!(seen, host_meminfo()?.get("MemTotal"), "total by the kernel");
    oci.change(|config| config["annotations"] = json!({ "io.ownproc.sysinfo": "none" }))?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.code != 0 && output.stderr.contains("neither view nor kernel"), "{output:?}");
    Ok(())
}

fn profiles() -> Outcome {
    let oci = container("profiles", &format!("{TOOL}; mkdir /tmp/x; echo $?"))?;
    let with = |action: &str| {
        oci.change(|config| {
            config["root"]["readonly"] = json!(false);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
                    { "names": ["sysinfo"], "action": action },
                ],
            });
        })?;
        oci.output(&["run", &oci.id])
    };
    let output = with("SCMP_ACT_ALLOW")?;
    check_eq!(number(&output.stdout, "total")?, KIB, "total where the profile allows it");
    check!(output.stderr.contains("not supported"), "the rest of the profile: {output:?}");
    let output = with("SCMP_ACT_ERRNO")?;
    check!(output.stderr.contains("Operation not permitted"), "a profile that refuses it: {output:?}");
    let output = with("SCMP_ACT_LOG")?;
    check_eq!(number(&output.stdout, "total")?, host_meminfo()?.get("MemTotal"), "where the profile logs it");
    Ok(())
}

fn pointers() -> Outcome {
    let oci = container("pointers", &format!("{TOOL} pointers"))?;
    let text = oci.run(&["run", &oci.id])?;
    let fault = libc::EFAULT.to_string();
    let wanted = [&fault, &fault, &fault, &fault, &fault, "0"];
    check_eq!(text.lines().collect::<Vec<_>>(), wanted, "error numbers");
    let output = run(Command::new(std::env::current_exe()?).args(["tool", "sysinfo", "pointers"]))?;
    check_eq!(output.ok()?, text, "what the kernel says");
    Ok(())
}

/// A test program in a container, spoken to.
struct Inside {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Inside {
    fn start(oci: &Oci) -> Outcome<Self> {
        let mut command = oci.command(&["run", &oci.id])?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().doing("its output")?);
        let mut inside = Self { child, lines };
        check_eq!(inside.line()?, "begun", "its first word");
        Ok(inside)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Closes its input; its last word.
    fn end(mut self) -> Outcome<String> {
        drop(self.child.stdin.take());
        let line = self.line()?;
        let status = self.child.wait()?;
        check!(status.success(), "it ended with {status}, its last word: {line}");
        Ok(line)
    }
}

/// 200 threads of one container; another one must be answered all the same.
fn crowd() -> Outcome {
    let hostile = container("crowd", &format!("{TOOL} crowd 200 6"))?;
    let neighbour = container("neighbour", &format!("{TOOL} worst {KIB} 3"))?;
    let quiet = neighbour.run(&["run", &neighbour.id])?;
    let crowd = Inside::start(&hostile)?;
    let beside = neighbour.run(&["run", &neighbour.id])?;
    let calls: u64 = crowd.end()?.parse()?;
    let both = |text: &str| -> Outcome<(u64, u64)> {
        let (calls, worst) = text.trim().split_once(' ').doing(text)?;
        Ok((calls.parse()?, worst.parse()?))
    };
    let ((alone, worst_alone), (asked, worst)) = (both(&quiet)?, both(&beside)?);
    println!(
        "crowd: {calls} calls; neighbour: {alone} calls alone, the longest {worst_alone} us; {asked} beside, {worst} us"
    );
    // a machine in software emulation makes some hundred
    check!(calls > 100, "the crowd made {calls} calls");
    check!(asked > 20, "the neighbour made {asked} calls");
    // Its turn comes after one call of the crowd's; the rest is the machine's.
    check!(worst < 1_000_000, "the neighbour waited for {worst} us");
    Ok(())
}

/// Listeners that a process has open.
fn listeners(pid: Pid) -> Outcome<usize> {
    let dir = format!("/proc/{pid}/fd");
    let links =
        std::fs::read_dir(&dir).doing(dir)?.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    Ok(links.filter(|link| link.as_os_str() == "anon_inode:seccomp notify").count())
}

/// Workers end in the midst of calls, and new ones take over from living ones: no call fails, hangs, or sees the host.
fn survives() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("sysinfo"))?;
    serve_for(daemon, |daemon| {
        let workers = Workers::of(daemon.pid(), daemon.mount())?;
        let oci = container("survives", &format!("{TOOL} until-eof {KIB}"))?;
        let inside = Inside::start(&oci)?;
        for round in 0..50_u64 {
            let (worker, beat) = (workers.serving(), workers.beat());
            check!(signal(worker, Signal::SIGKILL)?, "round {round}: the worker {worker} was gone");
            workers.after(worker)?;
            workers.until_served(beat)?;
            // at another place of a call each time
            std::thread::sleep(Duration::from_micros(20_000 + 137 * round));
        }
        for _ in 0..3 {
            let worker = workers.serving();
            daemon.signal(Signal::SIGHUP)?;
            workers.after(worker)?;
            eventually("the next worker has the listener", || Ok(listeners(workers.serving())? == 1))?;
        }
        let info = workers.info()?;
        check!(info.deaths >= 50 && info.upgrades >= 3, "{info:?}");
        let calls: u64 = inside.end()?.parse()?;
        println!("{calls} calls over {} workers", info.deaths + info.upgrades + 1);
        // the next kill comes before a slow machine has answered anything: then one call outlives many workers
        check!(calls > 5, "{calls} calls");
        drop(oci);
        eventually("no listener is left", || {
            Ok(listeners(daemon.pid())? == 0 && listeners(workers.serving())? == 0)
        })?;
        Ok(String::new())
    })
    .map(drop)
}

fn ends() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("sysinfo-ends"))?;
    serve_for(daemon, |daemon| {
        let workers = Workers::of(daemon.pid(), daemon.mount())?;
        let counts = || -> Outcome<_> { Ok((listeners(daemon.pid())?, listeners(workers.serving())?)) };
        let all: Vec<Oci> =
            (0..4).map(|at| container(&format!("ends{at}"), "sleep 600")).collect::<Outcome<_>>()?;
        for oci in &all {
            oci.leave(&["run", "--detach", &oci.id])?;
            oci.leave(&["exec", "--detach", &oci.id, "sleep", "600"])?;
            oci.run(&["exec", &oci.id, "true"])?;
        }
        let wanted = (8, 8);
        eventually("one listener for each process that was started", || Ok(counts()? == wanted))?;
        drop(all);
        eventually("none is left", || Ok(counts()? == (0, 0)))?;
        Ok(String::new())
    })
    .map(drop)
}

/// A container of another runtime, which hands the listener in by the specification's way.
fn runc() -> Outcome {
    let oci = container("runc", TOOL)?;
    let inbox = Paths::new(&shared_mount()?).seccomp;
    check!(std::fs::metadata(&inbox)?.file_type().is_socket(), "{} is a socket", inbox.display());
    oci.change(|config| {
        config["ociVersion"] = json!("1.0.2");
        config["process"]["rlimits"] = json!([]);
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.retain(|one| one["type"] != "time"); // runc 1.1 has none
        }
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": inbox,
            "syscalls": [{ "names": ["sysinfo"], "action": "SCMP_ACT_NOTIFY" }],
        });
    })?;
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(oci.bundle.dir.join("runc")).args(["run", &oci.id]).current_dir(&oci.bundle.dir);
    let text = run(&mut runc)?.ok().doing("runc run")?;
    check_eq!(number(&text, "total")?, KIB, "total in runc's container");
    check_in!(number(&text, "uptime")?, 0..60, "its uptime");
    Ok(())
}

/// With the daemon the listeners go, and the kernel says ENOSYS: as SECURITY.md has it.
fn after_the_daemon() -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("sysinfo-after"))?;
    let mount = daemon.mount().to_owned();
    // SAFETY: no other thread runs yet that reads the environment.
    unsafe { std::env::set_var("OWNPROC_MOUNT", &mount) };
    let oci = container("after", &format!("echo begun; read word; {TOOL}"))?;
    let mut inside = Inside::start(&oci)?;
    daemon.crash()?;
    let began = Instant::now();
    if let Some(input) = &mut inside.child.stdin {
        writeln!(input, "go on")?;
    }
    let status = inside.child.wait()?;
    check!(!status.success() && inside.line()?.is_empty(), "sysinfo without a daemon: {status}");
    check!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    drop(oci);
    daemon::clean(&mount);
    Ok(())
}
