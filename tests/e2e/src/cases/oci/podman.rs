//! podman with `--runtime ownproc-run`.

use std::process::Command;

use super::engines::ONE_THREAD;
use crate::bundle::Bundle;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::{Output, run};
use crate::parse::Meminfo;

mod newcomers;
mod pods;

pub use newcomers::newcomers;
pub use pods::pods;

/// podman with storage of its own.
struct Podman {
    bundle: Bundle,
    runtime: String,
}

impl Podman {
    fn new(name: &str) -> Outcome<Self> {
        let bundle = Bundle::make(name)?;
        // limits of its own, since the defaults may be above what this machine allows
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(bundle.dir.join("containers.conf"), limits)?;
        let runtime = bundle.runtime()?;
        Ok(Self { bundle, runtime })
    }

    fn command(&self, words: &[&str]) -> Command {
        let dir = &self.bundle.dir;
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", dir.join("containers.conf")).envs(ONE_THREAD);
        command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", &self.runtime]).args(words);
        command
    }

    fn call(&self, words: &[&str]) -> Outcome<Output> {
        run(&mut self.command(words))
    }

    /// One that must succeed; what it printed.
    fn run(&self, words: &[&str]) -> Outcome<String> {
        self.call(words)?.ok().doing(format!("podman {}", words.join(" ")))
    }
}

pub fn podman() -> Outcome {
    let it = Podman::new("oci-podman")?;
    let bundle = &it.bundle;
    let name = format!("e2e-oci-{}", std::process::id());
    let podman = |words: &[&str]| it.call(words);
    let root = bundle.root().display().to_string();
    let common = ["--network", "none", "--cgroup-parent", &bundle.parent];
    let with = |before: &[&'static str], after: &[&'static str]| -> Vec<String> {
        let words = before.iter().copied().chain(common).map(str::to_owned);
        words
            .chain(["--rootfs".to_owned(), root.clone()])
            .chain(after.iter().map(|word| (*word).to_owned()))
            .collect()
    };
    let words = |list: &[String]| -> Vec<String> { list.to_vec() };
    let call = |list: Vec<String>| podman(&list.iter().map(String::as_str).collect::<Vec<_>>());

    let output = call(with(
        &["run", "--rm", "--memory", "96m", "--cpuset-cpus", "0"],
        &["sh", "-c", "head -n 1 /proc/meminfo; nproc; exit 7"],
    ))?;
    check_eq!(output.code, 7, "exit code of podman run ({})", output.stderr);
    check_eq!(output.stdout, "MemTotal:          98304 kB\n1\n", "what podman run printed");
    let output = call(with(&["run", "--rm"], &["no-such-program"]))?;
    check_eq!(output.code, 127, "exit code for a program that is not there ({})", output.stderr);

    let mut detached =
        words(&with(&["run", "--detach", "--memory", "96m"], &["sh", "-c", "echo hello; exec sleep 600"]));
    detached.splice(2..2, ["--name".to_owned(), name.clone()]);
    let work = || -> Outcome {
        call(detached)?.ok().doing("podman run --detach")?;
        let total = |kib: u64| -> Outcome {
            let text = podman(&["exec", &name, "cat", "/proc/meminfo"])?.ok().doing("podman exec")?;
            check_eq!(Meminfo::parse(&text)?.get("MemTotal"), kib, "MemTotal");
            Ok(())
        };
        total(96 << 10)?;
        check_eq!(podman(&["exec", &name, "sh", "-c", "exit 9"])?.code, 9, "exit code of podman exec");
        let tty = podman(&["exec", "--tty", &name, "tty"])?.ok().doing("podman exec --tty")?;
        check!(tty.starts_with("/dev/"), "tty of podman exec --tty: {tty:?}");
        podman(&["pause", &name])?.ok().doing("podman pause")?;
        podman(&["unpause", &name])?.ok().doing("podman unpause")?;
        podman(&["restart", "--time", "0", &name])?.ok().doing("podman restart")?;
        total(96 << 10)?;
        let logs = podman(&["logs", &name])?.ok().doing("podman logs")?;
        check_eq!(logs, "hello\nhello\n", "logs");
        podman(&["stop", "--time", "0", &name])?.ok().doing("podman stop")?;
        podman(&["start", &name])?.ok().doing("podman start")?;
        total(96 << 10)
    };
    let outcome = work();
    let removed = podman(&["rm", "--force", "--time", "0", &name])?;
    outcome?;
    removed.ok().doing("podman rm").map(drop)
}
