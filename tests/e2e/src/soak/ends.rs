//! How workers are brought to their end, and when.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::builds::Builds;
use super::changes::Random;
use super::tally::now_usec;
use super::workers::{Watched, Workers, signal};
use crate::case::{Doing, Failure, Outcome, check, fail};
use crate::groups::Group;
use crate::programs;
use crate::shell::in_group;

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// The worker is frozen with its group: nobody is told, and only its heartbeat is missed.
    Freeze,
    /// A panic in a handler; the program under test must have debug assertions.
    Panic,
    /// The kernel kills it for want of memory in its group.
    Memory,
    /// Another build takes its place.
    Upgrade,
}

impl std::str::FromStr for Mode {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<Self> {
        Ok(match text {
            "kill" => Self::Kill,
            "stop" => Self::Stop,
            "freeze" => Self::Freeze,
            "panic" => Self::Panic,
            "memory" => Self::Memory,
            _ => fail!("--mode kill|stop|freeze|panic|memory"),
        })
    }
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// When the worker was ended, in microseconds of the real-time clock.
    pub at: u64,
    /// And when the next one was told to take over.
    pub next: u64,
    /// It was within a few milliseconds of its start.
    pub starting: bool,
    /// Requests that it, or the one before it, had taken and not answered.
    pub in_flight: usize,
}

/// Ends workers.
pub struct Ends<'a> {
    mode: Mode,
    workers: &'a Workers,
    builds: Option<&'a mut Builds>,
    ballast: Option<Ballast>,
    ice: Option<Group>,
    /// The beat when the worker that serves was told to take over.
    beat: Option<u64>,
    /// Those so far.
    pub all: Vec<End>,
}

/// Of a hundred ends: how many come during the start of a worker.
const STARTING: u64 = 25;
/// How long after its first read a worker panics, in milliseconds: sooner, and the daemon would take five in a row for a
/// worker that cannot serve.
pub const PANIC_AFTER: u64 = 2100;

impl<'a> Ends<'a> {
    /// Of a daemon's workers; where memory is to become short: that of its group.
    pub fn of(
        mode: Mode,
        workers: &'a Workers,
        group: Option<&Group>,
        builds: Option<&'a mut Builds>,
    ) -> Outcome<Self> {
        let ballast = match (mode, group) {
            (Mode::Memory, Some(group)) => Some(Ballast::beside(group, workers.serving())?),
            _ => None,
        };
        Ok(Self { mode, workers, builds, ballast, ice: None, beat: None, all: Vec::new() })
    }

    /// The next one.
    pub fn one(&mut self, random: &mut Random) -> Outcome {
        let starting = matches!(self.mode, Mode::Kill | Mode::Stop) && random.below(100) < STARTING;
        let wait = match (starting, self.mode) {
            (true, _) => Duration::from_micros(random.below(5000)),
            (_, Mode::Panic) => Duration::ZERO,
            _ => Duration::from_micros(random.below(250_000)),
        };
        if let (false, Some(beat)) = (starting, self.beat) {
            self.workers.until_served(beat)?;
        }
        let since = Instant::now();
        let pid = self.workers.serving();
        // A sleep ends late: the last stretch is waited out.
        std::thread::sleep(wait.saturating_sub(Duration::from_micros(300)));
        while since.elapsed() < wait {
            std::hint::spin_loop();
        }
        let worker = Watched::open(pid)?;
        let mut at = now_usec();
        match self.mode {
            Mode::Kill => {
                check!(signal(pid, Signal::SIGKILL)?, "the worker (pid {pid}) was gone before it was killed")
            }
            Mode::Stop => {
                check!(signal(pid, Signal::SIGSTOP)?, "the worker (pid {pid}) was gone before it was stopped")
            }
            Mode::Freeze => self.freeze(pid)?,
            Mode::Panic => {
                worker.ended(Duration::from_secs(60))?;
                at = now_usec();
            }
            Mode::Memory => {
                let ballast = self.ballast.as_mut().doing("a group for the daemon")?;
                ballast.until(|| worker.ended(Duration::ZERO).is_ok())?;
                at = now_usec();
            }
            Mode::Upgrade => self.builds.as_mut().doing("two builds")?.exchange()?,
        }
        let next = self.workers.after(pid).doing(format!("after {} ends", self.all.len()))?;
        self.beat = Some(self.workers.beat());
        let in_flight = self.workers.marked();
        if let Some(ballast) = &mut self.ballast {
            ballast.free()?;
        }
        if let Some(builds) = &self.builds {
            builds.runs(next)?;
        }
        self.all.push(End { at, next: now_usec(), starting, in_flight });
        Ok(())
    }

    fn freeze(&mut self, pid: Pid) -> Outcome {
        // A frozen group that was killed in is not used again.
        if let Some(ice) = self.ice.take() {
            ice.remove()?;
        }
        let ice = Group::create(&format!("ice-{}", self.all.len()))?;
        ice.freeze(pid)?;
        self.ice = Some(ice);
        Ok(())
    }

    /// Programs that cannot take over leave the one that runs serving.
    pub fn broken(&mut self) -> Outcome<String> {
        let Some(builds) = &mut self.builds else { return Ok(String::new()) };
        let pid = self.workers.serving();
        let mut said = Vec::new();
        for kind in super::builds::BROKEN {
            let before = self.workers.failed_upgrades();
            let since = Instant::now();
            builds.put_broken(kind)?;
            while self.workers.failed_upgrades() == before {
                check!(since.elapsed() < Duration::from_secs(60), "{kind:?}: not given up after 60 s");
                std::thread::sleep(Duration::from_millis(10));
            }
            said.push(format!("{kind:?} given up after {} ms", since.elapsed().as_millis()));
            check!(self.workers.serving() == pid, "{kind:?}: the worker that ran is gone");
        }
        Ok(format!("\nbroken programs, the one before serving on: {}", said.join(", ")))
    }
}

/// Memory beside the daemon's, in its group.
struct Ballast {
    group: Group,
    /// Where the memory killer looks at it: behind the worker, and before the holder.
    score: i32,
    living: Option<Living>,
    taken: u64,
}

struct Living {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

/// Steps of the ballast that suffice to fill the group.
const MOST: u64 = 400;

impl Ballast {
    fn beside(group: &Group, worker: Pid) -> Outcome<Self> {
        let score: i32 = std::fs::read_to_string(format!("/proc/{worker}/oom_score_adj"))?.trim().parse()?;
        let mut ballast = Self { group: group.clone(), score: score - 100, living: None, taken: 0 };
        ballast.say("free")?;
        // So tight that a few MiB more are too much.
        group.set_memory((group.memory_used()? >> 20) + 8)?;
        group.set_no_swap()?;
        Ok(ballast)
    }

    /// It is killed too at times: where no worker is there.
    fn say(&mut self, word: &str) -> Outcome {
        if let Some(living) = &mut self.living
            && living.say(word).is_ok()
        {
            return Ok(());
        }
        self.taken = 0;
        self.living = None;
        let mut command = Command::new(programs::own()?);
        command.args(["tool", "ballast", &self.score.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        in_group(&mut command, &self.group)?;
        let mut child = command.spawn()?;
        let said = BufReader::new(child.stdout.take().doing("stdout of the ballast")?);
        self.living = Some(Living { child, said });
        Ok(())
    }

    /// Takes more until something is so.
    fn until(&mut self, done: impl Fn() -> bool) -> Outcome {
        let since = Instant::now();
        while !done() {
            check!(self.taken < MOST, "{MOST} steps of memory did not end the worker");
            check!(
                since.elapsed() < Duration::from_secs(60),
                "want of memory did not end the worker in 60 s"
            );
            self.say("grow")?;
            self.taken += 1;
        }
        Ok(())
    }

    fn free(&mut self) -> Outcome {
        self.taken = 0;
        self.say("free")
    }
}

impl Living {
    fn say(&mut self, word: &str) -> Outcome {
        writeln!(self.child.stdin.as_mut().doing("stdin of the ballast")?, "{word}")?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        check!(line.trim() == "ok", "the ballast said {line:?}");
        Ok(())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
