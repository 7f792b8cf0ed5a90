//! containerd and dockerd with `ownproc-run`, each with directories and sockets of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;
use crate::bundle::Bundle;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::{Output, run};

/// Programs written in Go, on the one thread that runs all CPUs of software emulation: a fifth faster so.
pub const ONE_THREAD: [(&str, &str); 2] = [("GOMAXPROCS", "1"), ("GOGC", "400")];

/// A daemon, which ends with this.
struct Engine(Child);

impl Engine {
    /// Starts it; it is there when it answers `question`.
    fn start(mut command: Command, log: &Path, question: impl Fn() -> Outcome<Output>) -> Outcome<Self> {
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).envs(ONE_THREAD);
        let mut engine = Self(command.spawn().doing(format!("{command:?}"))?);
        let answers = || Ok(question()?.code == 0);
        eventually("an answer", answers).doing(format!("{command:?}"))?;
        check!(engine.0.try_wait()?.is_none(), "{command:?} ended: {}", std::fs::read_to_string(log)?);
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX)), Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where shims have their sockets, whatever containerd is told.
const RUN: &str = "/run/containerd";

/// containerd below a bundle's directory; everything else of it is there, too.
struct Containerd {
    engine: Engine,
    bundle: Bundle,
    runtime: String,
}

impl Containerd {
    fn start(name: &str) -> Outcome<Self> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).doing("a mount namespace")?;
        let none = None::<&str>;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none).doing("private mounts")?;
        let bundle = Bundle::make(name)?;
        bundle.add_program("free")?;
        let runtime = bundle.runtime()?;
        let run_dir = bundle.dir.join("run");
        std::fs::create_dir_all(&run_dir)?;
        std::fs::create_dir_all(RUN)?;
        nix::mount::mount(Some(&run_dir), RUN, none, nix::mount::MsFlags::MS_BIND, none).doing(RUN)?;
        let mut command = Command::new("containerd");
        let dir = &bundle.dir;
        command.arg("--root").arg(dir.join("lib")).arg("--state").arg(dir.join("state"));
        command.arg("--address").arg(dir.join("c.sock"));
        let engine = Engine::start(command, &dir.join("containerd.log"), || run(ctr(dir).arg("version")))?;
        Ok(Self { engine, bundle, runtime })
    }

    fn call(&self, words: &[&str]) -> Outcome<Output> {
        run(ctr(&self.bundle.dir).args(words))
    }

    fn run(&self, words: &[&str]) -> Outcome<String> {
        self.call(words)?.ok().doing(format!("ctr {}", words.join(" ")))
    }

    /// Ends it and takes off what it has mounted.
    fn end(self) {
        drop(self.engine);
        let _ = nix::mount::umount2(RUN, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn ctr(dir: &Path) -> Command {
    let mut command = Command::new("ctr");
    command.envs(ONE_THREAD);
    command.arg("--address").arg(dir.join("c.sock"));
    command
}

/// Makes an image of the bundle's root, as `docker save` writes it.
const IMAGE: &str = r#"
import hashlib, io, json, sys, tarfile
root, to, name = sys.argv[1:]
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.add(root, arcname=".")
layer = layer.getvalue()
config = json.dumps({
    "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}, "history": [],
}).encode()
file = hashlib.sha256(config).hexdigest() + ".json"
manifest = json.dumps([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
with tarfile.open(to, "w") as tar:
    for name, data in ((file, config), ("layer.tar", layer), ("manifest.json", manifest)):
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
"#;

const NAME: &str = "localhost/e2e:latest";

/// The total of `free -m`; that of procps, since busybox's asks sysinfo(2).
fn total(free: &str) -> Option<&str> {
    free.lines().nth(1).and_then(|line| line.split_whitespace().nth(1))
}

/// ctr: run, exec, pause, resume, kill, delete.
pub fn containerd() -> Outcome {
    let it = Containerd::start("oci-containerd")?;
    let outcome = with_ctr(&it);
    let _ = it.call(&["task", "kill", "--signal", "SIGKILL", "one"]);
    let _ = it.call(&["task", "delete", "--force", "one"]);
    it.end();
    outcome
}

fn with_ctr(it: &Containerd) -> Outcome {
    let archive = it.bundle.dir.join("image.tar");
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", IMAGE]).arg(it.bundle.root()).arg(&archive).arg(NAME);
    run(&mut python)?.ok().doing("an image")?;
    it.run(&["images", "import", "--snapshotter", "native", "--no-unpack", &archive.display().to_string()])?;
    let parent = |name: &str| format!("{}/{name}", it.bundle.parent);
    let create = |before: &[&str], name: &str, after: &[&str]| -> Outcome<Output> {
        let group = parent(name);
        let mut words = vec!["run", "--snapshotter", "native", "--runtime", "io.containerd.runc.v2"];
        words.extend(["--runc-binary", &it.runtime, "--memory-limit", "100663296", "--cgroup", &group]);
        words.extend(before);
        words.extend([NAME, name]);
        words.extend(after);
        it.call(&words)
    };
    let output = create(
        &["--rm", "--cpus", "1"],
        "first",
        &["sh", "-c", "/bin/free -m; grep -c ^processor /proc/cpuinfo; exit 5"],
    )?;
    check_eq!(output.code, 5, "exit code of ctr run ({})", output.stderr);
    check_eq!(total(&output.stdout), Some("96"), "total of free -m: {}", output.stdout);
    check!(output.stdout.ends_with("\n1\n"), "CPUs: {}", output.stdout);

    create(&["--detach"], "one", &["sleep", "600"])?.ok().doing("ctr run --detach")?;
    let exec = |words: &[&str]| -> Outcome<Output> {
        let mut all = vec!["task", "exec", "--exec-id", "e", "one"];
        all.extend(words);
        it.call(&all)
    };
    check_eq!(total(&exec(&["free", "-m"])?.ok()?), Some("96"), "total of free -m in exec");
    check_eq!(exec(&["sh", "-c", "exit 9"])?.code, 9, "exit code of exec");
    let status = |wanted: &str| -> Outcome {
        let list = it.run(&["task", "list"])?;
        let row = list.lines().find(|line| line.starts_with("one ")).doing("a row of task list")?;
        check!(row.ends_with(wanted), "{row}, not {wanted}");
        Ok(())
    };
    status("RUNNING")?;
    it.run(&["task", "pause", "one"])?;
    status("PAUSED")?;
    it.run(&["task", "resume", "one"])?;
    status("RUNNING")?;
    check!(
        it.run(&["task", "metrics", "one"])?.contains("memory"),
        "metrics, which the shim reads from the groups"
    );
    check!(it.run(&["task", "ps", "one"])?.lines().count() >= 2, "ps");
    it.run(&["task", "kill", "--signal", "SIGKILL", "one"])?;
    eventually("stopped", || Ok(status("STOPPED").is_ok()))?;
    it.call(&["task", "delete", "one"])?;
    it.run(&["container", "delete", "one"])?;
    check_eq!(it.run(&["container", "list", "--quiet"])?, "", "containers that are left");
    Ok(())
}

/// docker: run, exec, stop, restart, logs, pause, update, rm.
pub fn docker() -> Outcome {
    let it = Containerd::start("oci-docker")?;
    let dir = &it.bundle.dir;
    let docker = |words: &[&str]| {
        let mut command = Command::new("/usr/bin/docker");
        command.envs(ONE_THREAD);
        command.arg("--host").arg(format!("unix://{}", dir.join("d.sock").display())).args(words);
        run(&mut command)
    };
    let mut command = Command::new("dockerd");
    command.args(["--add-runtime", &format!("ownproc={}", it.runtime), "--default-runtime", "ownproc"]);
    command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "vfs"]);
    command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--host").arg(format!("unix://{}", dir.join("d.sock").display()));
    command.arg("--pidfile").arg(dir.join("d.pid")).arg("--containerd").arg(dir.join("c.sock"));
    command.args(["--cgroup-parent", &it.bundle.parent, "--exec-opt", "native.cgroupdriver=cgroupfs"]);
    let started = Engine::start(command, &dir.join("dockerd.log"), || docker(&["version"]));
    let outcome = started.and_then(|engine| {
        let outcome = with_docker(&it.bundle, &docker);
        let _ = docker(&["rm", "--force", "web"]);
        drop(engine);
        outcome
    });
    it.end();
    outcome
}

fn with_docker(bundle: &Bundle, call: &dyn Fn(&[&str]) -> Outcome<Output>) -> Outcome {
    let docker = |words: &[&str]| call(words)?.ok().doing(format!("docker {}", words.join(" ")));
    let archive = bundle.dir.join("root.tar");
    let tar = Command::new("tar").arg("-C").arg(bundle.root()).arg("-cf").arg(&archive).arg(".").status()?;
    check!(tar.success(), "tar: {tar}");
    docker(&["import", &archive.display().to_string(), "e2e"])?;
    let limits = ["--network", "none", "--memory", "256m", "--cpus", "1", "--cpuset-cpus", "0", "e2e"];
    let with = |before: &[&'static str], after: &[&'static str]| [before, &limits, after].concat();
    let output = call(&with(&["run", "--rm"], &["sh", "-c", "/bin/free -m; nproc; exit 7"]))?;
    check_eq!(output.code, 7, "exit code of docker run ({})", output.stderr);
    check_eq!(total(&output.stdout), Some("256"), "total of free -m: {}", output.stdout);
    check!(output.stdout.ends_with("\n1\n"), "nproc: {}", output.stdout);
    let missing = call(&with(&["run", "--rm"], &["no-such-program"]))?;
    check_eq!(missing.code, 127, "exit code for a program that is not there ({})", missing.stderr);

    docker(&with(&["run", "--detach", "--name", "web"], &["sh", "-c", "echo hello; exec sleep 600"]))?;
    let seen = |mib: &str| -> Outcome {
        let free = docker(&["exec", "web", "free", "-m"])?;
        check_eq!(total(&free), Some(mib), "total of free -m: {free}");
        Ok(())
    };
    seen("256")?;
    check_eq!(call(&["exec", "web", "sh", "-c", "exit 9"])?.code, 9, "exit code of docker exec");
    let tty = docker(&["exec", "--tty", "web", "tty"])?;
    check!(tty.starts_with("/dev/"), "tty of docker exec --tty: {tty:?}");
    docker(&["pause", "web"])?;
    let state = || docker(&["inspect", "--format", "{{.State.Status}}", "web"]);
    check_eq!(state()?.trim(), "paused", "status after pause");
    docker(&["unpause", "web"])?;
    docker(&["update", "--memory", "128m", "--memory-swap", "256m", "web"])?;
    seen("128")?;
    docker(&["restart", "--time", "0", "web"])?;
    seen("128")?;
    check_eq!(docker(&["logs", "web"])?, "hello\nhello\n", "logs");
    check!(docker(&["top", "web"])?.contains("sleep 600"), "top");
    docker(&["stop", "--time", "0", "web"])?;
    check_eq!(state()?.trim(), "exited", "status after stop");
    docker(&["start", "web"])?;
    seen("128")?;
    docker(&["rm", "--force", "web"])?;
    check_eq!(docker(&["ps", "--all", "--quiet"])?, "", "containers that are left");
    Ok(())
}
