//! Containers of `launch` under the other commands.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::eventually;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::{Output, run};
use crate::parse::Meminfo;
use crate::programs::ownproc_run;
use crate::shell::new_name;

/// A place for states of its own, and a name.
struct Launched {
    states: PathBuf,
    name: String,
}

impl Launched {
    fn new() -> Outcome<Self> {
        let name = new_name();
        let states = PathBuf::from(format!("/run/ownproc-e2e-{name}"));
        std::fs::create_dir(&states).doing(states.display())?;
        Ok(Self { states, name })
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Outcome<Vec<&'a str>> {
        let root = self.states.to_str().doing("the directory's name")?;
        Ok([&["--root", root], words].concat())
    }

    fn output(&self, words: &[&str]) -> Outcome<Output> {
        run(ownproc_run()?.args(self.words(words)?).stdin(Stdio::null()))
    }

    fn run(&self, words: &[&str]) -> Outcome<String> {
        self.output(words)?.ok().doing(format!("ownproc-run {words:?}"))
    }

    /// `launch -d` with these flags.
    fn detach(&self, flags: &[&str], script: &str) -> Outcome {
        let words = [&["launch", "-d", "--name", &self.name], flags, &["--", "sh", "-c", script]].concat();
        check_eq!(self.run(&words)?, format!("{}\n", self.name), "what launch -d printed");
        Ok(())
    }

    fn exec(&self, script: &str) -> Outcome<String> {
        self.run(&["exec", &self.name, "sh", "-c", script])
    }

    fn status(&self) -> Outcome<String> {
        let state: Value = serde_json::from_str(&self.run(&["state", &self.name])?)?;
        Ok(state["status"].as_str().doing("status")?.to_owned())
    }

    /// Within a terminal, by script(1); what was seen there.
    fn in_terminal(&self, words: &[&str]) -> Outcome<String> {
        let program = ownproc_run()?.get_program().to_string_lossy().into_owned();
        let words: Vec<String> =
            self.words(words)?.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let line = format!("stty rows 33 cols 77; exec {program} {}", words.join(" "));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
        for (key, value) in ownproc_run()?.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        // ^@ is how script says that its own input ended
        Ok(run(&mut command)?.ok().doing(format!("script {line}"))?.replace('\r', "").replace("^@", ""))
    }

    fn nothing_is_left(&self) -> Outcome {
        let left: Vec<_> = std::fs::read_dir(&self.states)?.flatten().map(|it| it.file_name()).collect();
        check!(left.is_empty(), "left of states: {left:?}");
        let find = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &self.name]))?;
        check_eq!(find.stdout, "", "groups that are left");
        Ok(())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.output(&["delete", "--force", &self.name]);
        let _ = std::fs::remove_dir(&self.states);
    }
}

pub fn life() -> Outcome {
    let it = Launched::new()?;
    it.detach(
        &["-m", "128M", "--cpus", "1", "--cpuset-cpus", "0"],
        "trap 'exit 3' TERM; while :; do sleep 0.1; done",
    )?;
    check_eq!(it.status()?, "running", "status");
    check!(it.run(&["list", "--quiet"])?.lines().any(|line| line == it.name), "list shows it");
    check_eq!(it.exec("nproc")?, "1\n", "nproc of an exec");
    let total = |text: &str| Meminfo::parse(text).map(|meminfo| meminfo.get("MemTotal"));
    check_eq!(total(&it.exec("cat /proc/meminfo")?)?, 131_072, "MemTotal of an exec");
    let limit = (64 << 20).to_string();
    it.run(&["update", "--memory", &limit, "--memory-swap", &limit, &it.name])?;
    check_eq!(total(&it.exec("cat /proc/meminfo")?)?, 65_536, "MemTotal after update");
    // process 1 stands for nobody who looks from inside
    check_eq!(it.exec("readlink /proc/1/exe || echo refused")?, "refused\n", "process 1's program");
    let second = it.output(&["launch", "--name", &it.name, "--", "true"])?;
    check!(second.code == 125 && second.stderr.contains("there already"), "a second one: {second:?}");
    it.run(&["pause", &it.name])?;
    check_eq!(it.status()?, "paused", "status after pause");
    it.run(&["resume", &it.name])?;
    it.run(&["kill", &it.name, "TERM"])?;
    eventually("it has ended", || Ok(it.status()? == "stopped"))?;
    it.run(&["delete", &it.name])?;
    it.nothing_is_left()
}

pub fn goes_by_itself() -> Outcome {
    let it = Launched::new()?;
    it.detach(&["--rm"], "sleep 0.3")?;
    eventually("it is deleted", || Ok(!it.states.join(&it.name).exists()))?;
    it.nothing_is_left()?;
    let failed = it.output(&["launch", "-d", "--name", &it.name, "--", "no-such-command"])?;
    check_eq!(failed.code, 127, "exit code where there is no such command");
    it.nothing_is_left()
}

pub fn terminal() -> Outcome {
    let it = Launched::new()?;
    let script = "tty; stty size; ls -l /dev/console | cut -c1; exit 0";
    let seen = it.in_terminal(&["launch", "-it", "--name", &it.name, "--", "sh", "-c", script])?;
    check!(seen.ends_with("/dev/pts/0\n33 77\nc\n"), "launch -it: {seen:?}");
    let seen = it.in_terminal(&["launch", "--name", &it.name, "--", "tty"])?;
    check!(seen.ends_with("/dev/console\n"), "launch in a terminal: {seen:?}");
    it.detach(&[], "sleep 60")?;
    let seen = it.in_terminal(&["exec", "-it", &it.name, "sh", "-c", "tty; stty size"])?;
    check!(seen.ends_with("/dev/pts/0\n33 77\n"), "exec -t: {seen:?}");
    Ok(())
}

pub fn user_devices_tmpfs() -> Outcome {
    let it = Launched::new()?;
    let flags = ["--user", "nobody", "--device", "/dev/fuse:/dev/mine:rw", "--tmpfs", "/cache"];
    it.detach(&flags, "sleep 60")?;
    check_eq!(
        it.exec("id -un; grep CapEff /proc/self/status | cut -f2")?,
        "nobody\n0000000000000000\n",
        "user"
    );
    check_eq!(it.exec("grep -c ' /cache tmpfs ' /proc/mounts")?, "1\n", "--tmpfs");
    let as_root =
        |script: &str| it.run(&["exec", "--user", "0:0", "--cap", "CAP_MKNOD", &it.name, "sh", "-c", script]);
    check_eq!(as_root("stat -c %t:%T /dev/mine")?, "a:e5\n", "--device's node");
    check_eq!(as_root("head -c 0 </dev/mine && echo opened")?, "opened\n", "what --device allows");
    // a node of the host's memory can be made, and not be opened
    let memory = "mknod /cache/mem c 1 1; if head -c 0 /cache/mem 2>/dev/null; then echo opened; else echo refused; fi";
    check_eq!(as_root(memory)?, "refused\n", "a node of the host's memory");
    let io = it.output(&["launch", "--io-max", "/dev/null:rbps=1m", "--", "true"])?;
    check!(io.code == 125 && io.stderr.contains("is no block device"), "--io-max of no disk: {io:?}");
    let user = it.output(&["launch", "--user", "no-such-user", "--", "true"])?;
    check!(user.code == 125 && user.stderr.contains("--user no-such-user"), "--user of nobody: {user:?}");
    let states = std::fs::read_dir(&it.states)?.flatten().filter(|entry| entry.path().is_dir());
    let names: Vec<_> = states.map(|entry| entry.file_name()).collect();
    check_eq!(names, [it.name.as_str()], "states, where two launches failed");
    Ok(())
}
