//! The child that enters a container, and its parent's patience with it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::inside;
use super::kernel::Own;
use super::report::{Action, Report, Said};
use super::subject::{AttachError, Subject};
use crate::model::{ContainerName, HostPid};

/// How long a container may keep the child waiting for one step: a file.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// For all steps together, however small they are; and how long the daemon may take, which may have to wait for a CPU.
const IN_ALL: Duration = Duration::from_secs(10);
/// How often a child that is out of time but has not slept is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a child that was killed is waited for: one that sleeps in a file system that has taken its request and does
/// not answer cannot be ended, by anyone.
const BURIAL: Duration = Duration::from_millis(200);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub action: Action,
    /// The mount point of the daemon whose files are bound.
    pub mount: PathBuf,
    /// `MAJ:MIN` of its mount, where it lives.
    pub device: Option<String>,
    /// The daemon, where it lives: its mount namespace is the host's.
    pub daemon: Option<HostPid>,
    /// The name under which the container is registered: its files are those of `containers/NAME`. Else those by reader.
    pub name: Option<ContainerName>,
}

/// Does it, in a child of this process, which must have a single thread. Ends whatever the container does: [`DEADLINE`] after
/// the last step there, and 10 s after the first.
pub fn carry_out(order: &Order, subject: &Subject) -> Result<Report, AttachError> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).map_err(AttachError::Fork)?;
    if threads != 1 {
        return Err(AttachError::Threads(threads));
    }
    let own = Own::open().map_err(AttachError::Fork)?;
    let began = Instant::now();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| AttachError::Fork(errno.into()))?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has one thread, so that the child finds no lock held by a thread that it has not.
    match unsafe { fork() }.map_err(|errno| AttachError::Fork(errno.into()))? {
        ForkResult::Child => {
            drop(read);
            run(order, subject, write, parent);
            // SAFETY: _exit ends this process at once; what the parent would do at its own end is not the child's to do.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut report = listen(read, &own, child);
            bury(child);
            report.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            if report.failure.is_none() && subject.has_ended() {
                report.failure = Some("it has ended meanwhile".to_owned());
            }
            Ok(report)
        }
    }
}

fn run(order: &Order, subject: &Subject, to: OwnedFd, parent: Pid) {
    let mut to = std::fs::File::from(to);
    // A parent that does not listen any more has killed us, or is about to.
    let mut say = |said: Said| {
        if let Ok(mut line) = serde_json::to_vec(&said) {
            line.push(b'\n');
            let _ = to.write_all(&line);
        }
    };
    let last = match alone(parent).and_then(|()| inside::work(order, subject, &mut say)) {
        Ok(()) => Said::Done,
        Err(failure) => Said::Failed(failure),
    };
    say(last);
}

/// Out of the container's reach (it may share our pid namespace), and not outliving the command.
fn alone(parent: Pid) -> Result<(), String> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior, set_parent_process_death_signal};
    let failed = |what: &str, errno: rustix::io::Errno| format!("{what}: {errno}");
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|errno| failed("PR_SET_DUMPABLE", errno))?;
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|errno| failed("PR_SET_PDEATHSIG", errno))?;
    // A container can keep this process for as long as it likes: a pipe that reads the command's output must not wait for it.
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| format!("/dev/null: {error}"))?;
    nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .map_err(|errno| format!("dup2: {errno}"))?;
    rustix::thread::set_no_new_privs(true).map_err(|errno| failed("PR_SET_NO_NEW_PRIVS", errno))?;
    match nix::unistd::getppid() == parent {
        true => Ok(()),
        false => Err("the command has ended".to_owned()),
    }
}

/// What the child is waiting for, and since when.
struct Patience {
    /// Whether it waits for the container; else for the daemon.
    inside: bool,
    since: Instant,
    step: Instant,
}

impl Patience {
    fn start() -> Self {
        let now = Instant::now();
        Self { inside: false, since: now, step: now }
    }

    /// It has got on.
    fn step(&mut self, said: &Said) {
        self.step = Instant::now();
        if matches!(said, Said::Ready | Said::Reading) {
            self.inside = matches!(said, Said::Ready);
            self.since = self.step;
        }
    }

    /// What is left. A child that wants to run, on a machine that is short of CPU, waits for nobody.
    fn left(&self, own: &Own, child: Pid) -> Duration {
        let in_all = IN_ALL.saturating_sub(self.since.elapsed());
        if !self.inside {
            return in_all;
        }
        let left = DEADLINE.saturating_sub(self.step.elapsed());
        let left = if left.is_zero() && own.is_busy(child.as_raw()) { LOOK } else { left };
        left.min(in_all)
    }
}

/// Takes down what the child says until it is done or its time is over.
fn listen(from: OwnedFd, own: &Own, child: Pid) -> Report {
    let mut report = Report::default();
    let (mut text, mut done, mut patience) = (Vec::new(), false, Patience::start());
    let mut file = std::fs::File::from(from);
    // Not until the end of the pipe: a child of the child that cannot be ended may have it open.
    let late = loop {
        let left = patience.left(own, child);
        if left.is_zero() {
            break true;
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(0) => continue,
            Ok(_) => {}
            Err(_) => break false,
        }
        let mut piece = [0; 4096];
        match file.read(&mut piece) {
            Ok(0) | Err(_) => break false,
            Ok(n) => text.extend_from_slice(piece.get(..n).unwrap_or_default()),
        }
        while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Ok(said) = serde_json::from_slice(&line) else { continue };
            patience.step(&said);
            match said {
                Said::Ready | Said::Reading => {}
                Said::File(file) => report.files.push(file),
                Said::Read(kib) => report.read_back_kib = Some(kib),
                Said::Failed(why) => report.failure = Some(why),
                Said::Done => done = true,
            }
        }
        if done || report.failure.is_some() {
            break false;
        }
    };
    if !done && report.failure.is_none() {
        report.failure = Some(match (late, patience.inside) {
            (true, false) => {
                format!("the daemon did not answer within {} s; look at its log", IN_ALL.as_secs())
            }
            (true, true) => format!(
                "a file system in the container did not answer within {} s; given up after {} file(s)",
                DEADLINE.as_secs(),
                report.files.len()
            ),
            (false, _) => "the process that did the work has ended early".to_owned(),
        });
    }
    report
}

fn bury(child: Pid) {
    let end = Instant::now() + BURIAL;
    let _ = kill(child, Signal::SIGKILL);
    while Instant::now() < end {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
            _ => return,
        }
    }
}
