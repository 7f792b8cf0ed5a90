//! `soak crowd`: containers come and go by the hundred, and the daemon stays as large as it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::changes::Random;
use super::expect::Expect;
use super::reader::{Job, Way, read_until};
use super::tally::{Fault, Spread, Tally};
use super::workers::{Workers, memory_of};
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::daemon::{self, Daemon};
use crate::groups::Group;
use crate::programs::{OWN_INSIDE, own};
use crate::shell::{in_group, launch};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long.
    pub time: Duration,
    /// So many containers at a time.
    pub containers: usize,
    /// Of all that is random.
    pub seed: u64,
}

impl Plan {
    /// How many seconds a container lives: in a short run less, so that many come and go.
    fn lives(&self) -> Range<u64> {
        let longest = self.time.as_secs().clamp(10, 100);
        longest / 5..longest
    }
}

/// One of so many is registered; the others are groups that nobody has told of.
const REGISTERED: u64 = 4;

struct Visitor {
    child: Child,
    group: Option<Group>,
}

/// One look at the daemon.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    seconds: u64,
    worker_kib: u64,
    worker_private_kib: u64,
    holder_kib: u64,
    worker_files: u64,
    holder_files: u64,
    memory_kib: u64,
    slots: u64,
    records: u64,
}

/// Runs; what was seen.
pub fn run(daemon: &Daemon, plan: &Plan) -> Outcome<String> {
    let workers = Workers::of(daemon.pid(), daemon.mount())?;
    let (before, worker) = (workers.info()?, workers.serving());
    let (began, mut random) = (Instant::now(), Random::new(plan.seed));
    let (mut all, mut tally, mut looks) = (Vec::new(), Tally::default(), Vec::<Look>::new());
    let (mut come, mut numbers) = (0_u64, BTreeMap::new());
    let mut trouble = Vec::new();
    while began.elapsed() < plan.time || !all.is_empty() {
        let ending = began.elapsed() >= plan.time;
        // A few at a time, so that those that have gone are taken note of.
        for _ in 0..10 {
            if ending || all.len() >= plan.containers {
                break;
            }
            come += 1;
            all.push(visitor(come, plan.lives(), &mut random)?);
        }
        if ending {
            all.iter_mut().try_for_each(|visitor: &mut Visitor| visitor.leave())?;
        }
        let mut still = Vec::new();
        for mut visitor in all.drain(..) {
            match visitor.child.try_wait()? {
                None => still.push(visitor),
                Some(status) => match visitor.gone(status.success()) {
                    Ok(its) => {
                        *numbers.entry(its.all_snapshots().min(10)).or_insert(0_u64) += 1;
                        tally.add(its);
                    }
                    Err(why) => trouble.push(why.0),
                },
            }
        }
        all = still;
        check!(trouble.len() < 20, "{} containers ended badly: {}", trouble.len(), trouble.join("; "));
        if !ending && looks.last().is_none_or(|look| began.elapsed().as_secs() >= look.seconds + 10) {
            looks.push(look(daemon.pid(), workers.serving(), began)?);
        }
        std::thread::sleep(Duration::from_millis(100));
        check!(began.elapsed() < plan.time + Duration::from_secs(300), "{} containers do not end", all.len());
    }
    let after = workers.info()?;
    let table = table(&looks);
    let stalls = Spread::of(tally.stalls.iter().map(|(_, took)| *took));
    let report = format!(
        "{come} containers, one of {REGISTERED} registered, {} at a time for {} s (seed {}): {} texts, {} calls: {}\ncalls above 2 ms: {stalls}\n{table}",
        plan.containers,
        plan.time.as_secs(),
        plan.seed,
        tally.all_snapshots(),
        tally.calls,
        tally.faults()
    );
    let examples: Vec<_> = tally.examples.iter().map(|(_, what)| what.as_str()).take(10).collect();
    let said = format!("{report}\n{}\n{}", examples.join("\n"), trouble.join("\n"));
    check!(trouble.is_empty(), "containers that ended badly\n{said}");
    for fault in [Fault::Failed, Fault::Torn, Fault::Fell, Fault::Wrong] {
        check_eq!(tally.count(fault), 0, "{fault:?}\n{said}");
    }
    check_eq!(after.deaths, before.deaths, "deaths of workers\n{said}");
    check_eq!(workers.serving(), worker, "the worker\n{said}");
    flat(&looks, plan.time).doing(&said)?;
    Ok(report)
}

fn visitor(number: u64, lives: Range<u64>, random: &mut Random) -> Outcome<Visitor> {
    let mib = 64 + random.below(192);
    let life = lives.start + random.below(lives.end - lives.start);
    let cpus = std::thread::available_parallelism()?.get();
    let words = |dir: &Path| -> Vec<String> {
        let dir = dir.display().to_string();
        ["tool".to_owned(), "visit".to_owned(), dir, mib.to_string(), cpus.to_string(), life.to_string()]
            .into()
    };
    let (mut command, group) = if number.is_multiple_of(REGISTERED) {
        let mut command = launch(&["-m", &format!("{mib}M")])?;
        command.arg(OWN_INSIDE).args(words(Path::new("/proc")));
        (command, None)
    } else {
        let group = Group::create(&format!("crowd-{number}"))?;
        group.set_memory(mib)?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", &own()?]);
        command.args(words(&daemon::shared("proc")?));
        in_group(&mut command, &group)?;
        (command, Some(group))
    };
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(format!("{command:?}"))?;
    Ok(Visitor { child, group })
}

impl Visitor {
    /// Tells it to leave.
    fn leave(&mut self) -> Outcome {
        self.child.stdin = None;
        Ok(())
    }

    /// What it has seen.
    fn gone(mut self, well: bool) -> Outcome<Tally> {
        let mut text = String::new();
        self.child.stdout.take().doing("stdout")?.read_to_string(&mut text)?;
        if let Some(group) = &self.group {
            group.remove()?;
        }
        check!(well, "exit code of a container, which said {text:?}");
        Tally::from_line(text.trim()).doing(&text)
    }
}

/// `visit DIR MIB CPUS SECONDS`: reads all files in DIR once a second in one way or the other, until the time is over or the input
/// ends; then prints the tally in one line.
pub fn visit(words: &[&str]) -> Outcome {
    let [dir, mib, cpus, life] = words else { fail!("visit DIR MIB CPUS SECONDS") };
    let expect = Expect { mib: (mib.parse()?, mib.parse()?), cpus: cpus.parse()? };
    let life = Duration::from_secs(life.parse()?);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (dir, name): (PathBuf, _) = (dir.into(), "visitor".to_owned());
    let job = Job { dir, expect, limit: None, name, pause: Duration::from_millis(250) };
    let way = if life.as_secs().is_multiple_of(2) { Way::Pieces } else { Way::KeptPieces };
    let mut tally = std::thread::scope(|scope| -> Outcome<Tally> {
        let reader = scope.spawn(|| read_until(&stop, &job, way));
        let stdin = std::io::stdin();
        let mut fds = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&stdin),
            nix::poll::PollFlags::POLLIN | nix::poll::PollFlags::POLLHUP,
        )];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::try_from(life).doing("a life")?)?;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().ok().doing("the reader")
    })?;
    // It is read when this process has ended: the line must fit into a pipe.
    tally.stalls.truncate(500);
    tally.examples.truncate(10);
    println!("{}", tally.to_line());
    Ok(())
}

fn look(holder: Pid, worker: Pid, began: Instant) -> Outcome<Look> {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let status = |pid: Pid, key: &str| -> Outcome<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(crate::parse::value(&text, key)?.trim_end_matches(" kB").trim().parse()?)
    };
    let files =
        |pid: Pid| -> Outcome<u64> { Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64) };
    let memory = std::fs::File::open(memory_of(holder)?)?;
    // `store::layout`: words 4 and 5 of its header, 64 KiB from the start.
    let word = |number: u64| -> Outcome<u64> {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, 65536 + number * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    Ok(Look {
        seconds: began.elapsed().as_secs(),
        worker_kib: status(worker, "VmRSS")?,
        worker_private_kib: status(worker, "RssAnon")?,
        holder_kib: status(holder, "VmRSS")?,
        worker_files: files(worker)?,
        holder_files: files(holder)?,
        memory_kib: memory.metadata()?.blocks() / 2,
        slots: word(4)?,
        records: word(5)?,
    })
}

/// The first looks of each sixth of the time, and the last.
fn table(looks: &[Look]) -> String {
    let mut lines = vec!["  s | worker KiB | of it private | holder KiB | fds of worker | of holder | shared KiB | slots | records".to_owned()];
    let step = looks.len().div_ceil(6).max(1);
    let last = looks.len().saturating_sub(1);
    for (_, look) in looks.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last) {
        lines.push(format!(
            "{:>4} | {} | {} | {} | {} | {} | {} | {} | {}",
            look.seconds,
            look.worker_kib,
            look.worker_private_kib,
            look.holder_kib,
            look.worker_files,
            look.holder_files,
            look.memory_kib,
            look.slots,
            look.records
        ));
    }
    lines.join("\n")
}

/// A quarter of those that nobody registered, and sixteen, may have gone before their 17 descriptors each are given back. Growth from a
/// sixth of the time on (5 minutes of 30) to the end, each a mean over several looks: a tenth at most, and what
/// the number of those that just come and go may make. A short run on a slow machine is half over before there is a coming and
/// going: it is judged from two thirds of the time on.
fn flat(looks: &[Look], time: Duration) -> Outcome {
    let end = time.as_secs();
    let (settled, width) = if end >= 600 { (end / 6, 30) } else { (end / 3 * 2, 15) };
    let near = |second: u64| looks.iter().filter(move |look| look.seconds.abs_diff(second) <= width);
    for (what, slack, of) in [
        ("KiB of the worker", 2048, (|look| look.worker_kib) as fn(&Look) -> u64),
        ("private KiB of the worker", 2048, |look| look.worker_private_kib),
        ("KiB of the holder", 256, |look| look.holder_kib),
        ("fds of the worker", 400, |look| look.worker_files),
        ("fds of the holder", 2, |look| look.holder_files),
        ("KiB of the shared memory", 512, |look| look.memory_kib),
        ("slots", 64, |look| look.slots),
        ("records", 64, |look| look.records),
    ] {
        let mean = |second: u64| -> Outcome<u64> {
            let (count, sum) = near(second).fold((0, 0), |(count, sum), look| (count + 1, sum + of(look)));
            check!(count > 0, "no look near second {second}");
            Ok(sum / count)
        };
        let (first, last) = (mean(settled)?, mean(end)?);
        check!(last <= first + first / 10 + slack, "{what} grew from {first} to {last}");
    }
    Ok(())
}
