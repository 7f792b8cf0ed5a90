//! Child processes that end with the bench: start, wait until they serve, what they cost, stop by pid.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::error::{Error, Result, doing, on};
use crate::reader::Batch;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Polls `ready` every 10 ms until it says yes or patience ends.
fn wait_for(mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A running child that is ended, by its pid, when dropped.
#[derive(Debug)]
pub struct Tied {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Tied {
    /// Starts `command` with its output in `log`, tied to our life by way of our own `tied` command.
    ///
    /// # Errors
    /// The log cannot be made or the process cannot be started.
    pub fn start(name: &str, command: &[&str], environment: &[(&str, &str)], log: &Path) -> Result<Self> {
        let file = fs::File::create(log).map_err(on("create", log))?;
        let error = file.try_clone().map_err(on("use", log))?;
        let exe = std::env::current_exe().map_err(doing("find the bench's own binary"))?;
        let child = Command::new(&exe)
            .arg("tied")
            .arg("--")
            .args(command)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(error)
            .process_group(0) // Ctrl-C is for the bench alone: it ends its children in the right order
            .spawn()
            .map_err(on("start", &exe))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Its process id; the program started is this process itself.
    #[must_use]
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Waits until `ready`, for at most 10 s.
    ///
    /// # Errors
    /// It ended before, or did not get ready in time; with the end of its log.
    pub fn until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut ended = None;
        let child = &mut self.child;
        let ok = wait_for(|| {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        if ok && ended.is_none() {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join(" | ");
        let how =
            ended.map_or_else(|| "is not ready after 10 s".to_owned(), |status| format!("ended ({status})"));
        Err(Error::Peer(format!("{}: {how} while waiting for {what}: {tail}", self.name)))
    }

    /// CPU time in nanoseconds (user + system) of the process and of its present children: a daemon may keep a
    /// worker.
    #[must_use]
    pub fn cpu_nanos(&self) -> u64 {
        self.family().into_iter().map(cpu_nanos).fold(0, u64::saturating_add)
    }

    /// (resident memory in kB, threads), summed over the process and its children.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let mut sum = (0_u64, 0_u64);
        for pid in self.family() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            sum.0 = sum.0.saturating_add(status_number(&status, "VmRSS"));
            sum.1 = sum.1.saturating_add(status_number(&status, "Threads"));
        }
        sum
    }

    /// Lets all threads of the process and of its children run on `cpus` only.
    ///
    /// # Errors
    /// The kernel refuses the CPUs.
    pub fn move_to(&self, cpus: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        cpus.iter().try_for_each(|cpu| set.set(*cpu)).map_err(doing("name a CPU"))?;
        for pid in self.family() {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            let tasks = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
            for task in tasks.map(Pid::from_raw) {
                match sched_setaffinity(task, &set) {
                    Ok(()) | Err(Errno::ESRCH) => {} // a thread may end at any time
                    Err(error) => return Err(doing("move a server to its CPUs")(error)),
                }
            }
        }
        Ok(())
    }

    fn family(&self) -> Vec<Pid> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut family = vec![pid];
        family.extend(children.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw));
        family
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let pid = self.pid();
        let child = &mut self.child;
        _ = kill(pid, Signal::SIGTERM);
        if !wait_for(|| child.try_wait().is_ok_and(|status| status.is_some())) {
            eprintln!("ownproc-bench: {} (pid {pid}) ignored SIGTERM for 10 s, killed", self.name);
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn cpu_nanos(pid: Pid) -> u64 {
    let now = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now);
    now.map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

fn status_number(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The host's pid of the init of the container that `launcher` (a pid) runs: its descendant that is pid 1 in
/// another pid namespace.
#[must_use]
pub fn container_init(launcher: Pid) -> Option<Pid> {
    let mut open = vec![launcher];
    while let Some(pid) = open.pop() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(
                children.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw),
            );
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let mut pids = inner.unwrap_or_default().split_whitespace();
        if pids.next().is_some() && pids.next_back() == Some("1") {
            return Some(pid);
        }
    }
    None
}

/// A reading process (`reader.rs`), spoken to line by line; it ends when its standard input is closed.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Reader {
    /// Starts one that joins the groups behind `join` (their cgroup.procs) and a pid namespace: the one behind
    /// the given path, else a new one.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(join: &[PathBuf], pid_namespace: Option<&Path>) -> Result<Self> {
        let exe = std::env::current_exe().map_err(doing("find the bench's own binary"))?;
        let mut command = Command::new(&exe);
        command.arg("reader");
        join.iter().for_each(|file| _ = command.arg("--join").arg(file));
        pid_namespace.iter().for_each(|path| _ = command.arg("--pid-namespace").arg(path));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(on("start", &exe))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| Error::Peer("the reader has no pipes".to_owned()))?;
        Ok(Self { child, input: Some(input), output: BufReader::new(output) })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        if let Some(input) = &mut self.input {
            input.write_all(line.as_bytes()).map_err(doing("ask the reader"))?;
        }
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(doing("hear the reader"))?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", text)) => Ok(text.to_owned()),
            Some(("err", text)) => Err(Error::Peer(format!("reading failed ({}): {text}", line.trim_end()))),
            _ => Err(Error::Peer("the reader ended".to_owned())),
        }
    }

    /// Does one batch: (wall nanoseconds, nanoseconds of each timed read).
    ///
    /// # Errors
    /// A read failed or the file was empty, or the reader ended.
    pub fn batch(&mut self, batch: &Batch) -> Result<(u64, Vec<u64>)> {
        let answer = self.ask(&batch.line())?;
        let numbers: Option<Vec<u64>> = answer.split(' ').map(|number| number.parse().ok()).collect();
        let (wall, samples) =
            numbers.as_deref().and_then(<[u64]>::split_first).map_or((0, vec![]), |(w, s)| (*w, s.to_vec()));
        if samples.len() == batch.readers.saturating_mul(batch.timed) {
            Ok((wall, samples))
        } else {
            Err(Error::Peer(format!("the reader answered {} times of {:?}", samples.len(), batch)))
        }
    }

    /// The bytes that the reader sees in `path`.
    ///
    /// # Errors
    /// The file cannot be read there.
    pub fn dump(&mut self, path: &Path) -> Result<Vec<u8>> {
        let text = self.ask(&format!("dump {}\n", path.display()))?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes = text.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>();
        bytes.ok_or_else(|| Error::Peer(format!("the reader garbled {}", path.display())))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.input.take());
        let child = &mut self.child;
        if !wait_for(|| child.try_wait().is_ok_and(|status| status.is_some())) {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_keys_are_matched_whole() {
        let status = "VmRSSX:\t7 kB\nVmRSS:\t  1234 kB\nThreads:\t3\n";
        assert_eq!((status_number(status, "VmRSS"), status_number(status, "Threads")), (1234, 3));
    }

    #[test]
    fn own_cpu_clock_runs() {
        let pid = Pid::this();
        let before = cpu_nanos(pid);
        (0..2_000_000_u64).for_each(|n| _ = std::hint::black_box(n));
        assert!(cpu_nanos(pid) > before);
    }
}
