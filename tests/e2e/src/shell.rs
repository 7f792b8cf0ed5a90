//! A shell that runs for a while: in a container, or in a group of the tests, and is told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Doing, Outcome, check_eq, fail};
use crate::groups::Group;
use crate::parse::{Meminfo, Stat};
use crate::{daemon, programs};

const ANSWER: Duration = Duration::from_secs(100);

/// A running shell.
pub struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Where this shell reads the virtual files: `/proc` in a container, the shared mount's in a group.
    proc: PathBuf,
    name: String,
}

/// A container name of this case, new at every call.
pub fn new_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `ownproc-run launch` with a name of this case, a volume with this program, and `args`; the command still to be added.
pub fn launch(args: &[&str]) -> Outcome<Command> {
    launch_named(&new_name(), args)
}

/// [`launch`] under a given name.
pub fn launch_named(name: &str, args: &[&str]) -> Outcome<Command> {
    let mut command = programs::ownproc_run()?;
    command.args(["launch", "--name", name, "-v", &programs::own_volume()?]).args(args).arg("--");
    Ok(command)
}

/// Runs `launch ARGS -- sh -c SCRIPT` to its end; standard output of a success.
pub fn launched(args: &[&str], script: &str) -> Outcome<String> {
    crate::output::run(launch(args)?.args(["sh", "-c", script]))?
        .ok()
        .doing(format!("launch {args:?} -- {script}"))
}

/// Makes a command start in a group.
pub fn in_group(command: &mut Command, group: &Group) -> Outcome {
    let mut files = Vec::new();
    for path in group.procs_files() {
        files.push(std::fs::OpenOptions::new().write(true).open(&path).doing(path.display())?);
    }
    // SAFETY: between fork and exec only write(2) is called, on files that were opened before.
    unsafe {
        command.pre_exec(move || files.iter().try_for_each(|mut file| file.write_all(b"0")));
    }
    Ok(())
}

impl Shell {
    /// A shell in a new container.
    pub fn launch(args: &[&str]) -> Outcome<Self> {
        let name = new_name();
        let mut command = launch_named(&name, args)?;
        command.arg("sh");
        Self::start(command, PathBuf::from("/proc"), name)
    }

    /// A shell in a container that `command` launches under `name`.
    pub fn running(command: Command, name: String) -> Outcome<Self> {
        Self::start(command, PathBuf::from("/proc"), name)
    }

    /// A shell that `command` starts, which reads the virtual files below `proc`.
    pub fn running_at(command: Command, proc: PathBuf, name: String) -> Outcome<Self> {
        Self::start(command, proc, name)
    }

    /// A shell in a group, in the host's namespaces: it reads the shared mount, whose view goes by who reads.
    pub fn in_group(group: &Group) -> Outcome<Self> {
        let mut command = Command::new("sh");
        in_group(&mut command, group)?;
        Self::start(command, daemon::shared("proc")?, group.path())
    }

    /// A shell as process of a new pid namespace in a group, as a container of another launcher has it.
    pub fn in_pid_namespace(group: &Group, init: &[&str]) -> Outcome<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--cgroup", "--mount", "--mount-proc", "--kill-child"])
            .args(init)
            .arg("sh");
        in_group(&mut command, group)?;
        Self::start(command, daemon::shared("proc")?, group.path())
    }

    fn start(mut command: Command, proc: PathBuf, name: String) -> Outcome<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(format!("{command:?}"))?;
        let stdout = child.stdout.take().doing("stdout of a shell")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                let _ = send.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
        let stdin = child.stdin.take();
        let mut shell = Self { child, stdin, lines, proc, name };
        shell.run(":").doing("the shell's first answer")?;
        Ok(shell)
    }

    /// The container's name, or the group's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a line without waiting for its end.
    pub fn send(&mut self, line: &str) -> Outcome {
        let stdin = self.stdin.as_mut().doing("stdin of the shell")?;
        writeln!(stdin, "{line}").doing("to the shell")
    }

    /// The next line of output, with its line end.
    pub fn line(&mut self) -> Outcome<String> {
        match self.lines.recv_timeout(ANSWER) {
            Ok(line) => Ok(line),
            Err(_) => fail!("{}: no answer ({:?})", self.name, self.child.try_wait()?),
        }
    }

    /// Runs a command; its exit code and output.
    pub fn status(&mut self, command: &str) -> Outcome<(i32, String)> {
        // The mark starts on a line of its own whatever the output ends with.
        self.send(&format!("{{ {command}\n}} 2>&1; printf '\\n==end %s==\\n' $?"))?;
        let mut text = String::new();
        loop {
            let line = self.line()?;
            if let Some(code) = line.strip_prefix("==end ").and_then(|rest| rest.strip_suffix("==\n")) {
                text.pop();
                return Ok((code.parse()?, text));
            }
            text += &line;
        }
    }

    /// Runs a command that must succeed; its output.
    pub fn run(&mut self, command: &str) -> Outcome<String> {
        let (code, text) = self.status(command)?;
        check_eq!(code, 0, "exit code of `{command}` in {}, which said {:?}", self.name, text.trim());
        Ok(text)
    }

    /// A file below proc, as this shell reads it.
    pub fn read(&mut self, file: &str) -> Outcome<String> {
        let path = self.proc.join(file);
        self.run(&format!("cat {}", path.display()))
    }

    /// A file below sys/devices/system/cpu.
    pub fn read_cpu(&mut self, file: &str) -> Outcome<String> {
        let path = self.proc.join("../sys/devices/system/cpu").join(file);
        self.run(&format!("cat {}", path.display()))
    }

    /// The cpuN that a listing of sys/devices/system/cpu holds.
    pub fn listed_cpus(&mut self) -> Outcome<Vec<usize>> {
        let names = self.run(&format!("ls {}", self.proc.join("../sys/devices/system/cpu").display()))?;
        let mut numbers: Vec<usize> = names
            .lines()
            .filter_map(|name| name.strip_prefix("cpu"))
            .filter_map(|number| number.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// meminfo, with its invariants checked.
    pub fn meminfo(&mut self) -> Outcome<Meminfo> {
        let meminfo = Meminfo::parse(&self.read("meminfo")?)?;
        meminfo.check_invariants()?;
        Ok(meminfo)
    }

    /// MemTotal in KiB; the rest of the file may be anybody's.
    pub fn meminfo_total(&mut self) -> Outcome<u64> {
        Ok(Meminfo::parse(&self.read("meminfo")?)?.get("MemTotal"))
    }

    /// stat.
    pub fn stat(&mut self) -> Outcome<Stat> {
        Stat::parse(&self.read("stat")?)
    }

    /// The process that was started (the launcher, or the shell itself).
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Ends the shell by the end of its input; the exit code.
    pub fn finish(mut self) -> Outcome<i32> {
        self.stdin = None;
        self.wait()
    }

    /// Waits for the end; the exit code (128 + signal).
    pub fn wait(&mut self) -> Outcome<i32> {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        fail!("{} does not end", self.name)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stdin = None;
        for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
            if let Some(signal) = signal {
                let _ = kill(self.pid(), signal);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
