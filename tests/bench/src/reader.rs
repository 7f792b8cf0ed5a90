//! The reading process: sits in a group and a pid namespace like a container's, keeps a few pinned threads,
//! and does batches of reads as told line by line on its standard input.
//!
//! `reader` joins the groups and the pid namespace and starts `reader-inner` there, because a process never
//! moves into a pid namespace itself, only its children do.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result, doing, on};

/// How one read is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// open, one read of 64 KiB, close.
    Orc,
    /// open, fstat, reads of 128 KiB to the end of the file, close: what `cat` does.
    Cat,
    /// As [`Way::Orc`], each time by a thread that has never read before: what a short-lived program pays whose
    /// thread id no server can know yet. Starting the thread is not timed.
    Fresh,
}

impl Way {
    /// All, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Orc, Self::Cat, Self::Fresh];

    /// Its name in tables and on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orc => "orc",
            Self::Cat => "cat",
            Self::Fresh => "fresh",
        }
    }
}

const ORC_BYTES: usize = 64 * 1024;
const CAT_BYTES: usize = 128 * 1024;
/// The most readers at once.
pub const MAX_READERS: usize = 4;

fn read_once(path: &CString, way: Way, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match way {
        Way::Orc | Way::Fresh => rustix::io::read(&file, buffer.get_mut(..ORC_BYTES).unwrap_or_default()),
        Way::Cat => {
            rustix::fs::fstat(&file)?;
            let mut total: usize = 0;
            loop {
                match rustix::io::read(&file, &mut *buffer)? {
                    0 => return Ok(total),
                    bytes => total = total.saturating_add(bytes),
                }
            }
        }
    }
}

/// One thread's share of a batch.
struct Job {
    path: CString,
    way: Way,
    /// CPUs the thread may run on.
    cpus: Vec<usize>,
    warm: usize,
    timed: usize,
    start: Arc<Barrier>,
    answer: Sender<Share>,
}

struct Share {
    samples: Vec<u64>,
    begin: Instant,
    end: Instant,
    failure: Option<String>,
}

/// One timed read; the nanoseconds it took.
fn timed(job: &Job, buffer: &mut [u8], failure: &mut Option<String>) -> u64 {
    let mut once = || {
        let begin = Instant::now();
        let bytes = read_once(&job.path, job.way, buffer);
        let taken = begin.elapsed();
        match bytes {
            Ok(0) => *failure = Some("the file is empty".to_owned()),
            Ok(_) => {}
            Err(error) => *failure = Some(error.to_string()),
        }
        u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX)
    };
    if job.way != Way::Fresh {
        return once();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, once);
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or(0)
    })
}

fn pin(cpus: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn work(jobs: &Receiver<Job>) {
    let mut buffer = vec![1_u8; CAT_BYTES]; // touched, so that no page fault falls into a timed read
    let mut pinned = Vec::new();
    for job in jobs {
        let mut failure = None;
        let mut samples = Vec::with_capacity(job.timed);
        if pinned != job.cpus {
            match pin(&job.cpus) {
                Ok(()) => pinned.clone_from(&job.cpus),
                Err(error) => failure = Some(format!("cannot pin to {:?}: {error}", job.cpus)),
            }
        }
        (0..job.warm).for_each(|_| _ = timed(&job, &mut buffer, &mut failure));
        job.start.wait();
        let begin = Instant::now();
        samples.extend((0..job.timed).map(|_| timed(&job, &mut buffer, &mut failure)));
        let end = Instant::now();
        if job.answer.send(Share { samples, begin, end, failure }).is_err() {
            return;
        }
    }
}

/// One batch as it travels to the reader: `readers` threads, `timed` reads and `warm` untimed ones each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The file.
    pub path: PathBuf,
    /// How it is read.
    pub way: Way,
    /// Threads, 1 to [`MAX_READERS`].
    pub readers: usize,
    /// Thread i stays on CPU `cpus[i % len]`; without it, all of them may run on all of `cpus`.
    pub pinned: bool,
    /// The CPUs of the group.
    pub cpus: Vec<usize>,
    /// Untimed reads of each thread before the timed ones.
    pub warm: usize,
    /// Timed reads of each thread.
    pub timed: usize,
}

impl Batch {
    /// The line that asks for it.
    #[must_use]
    pub fn line(&self) -> String {
        let cpus = self.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let (way, readers, pinned) = (self.way.name(), self.readers, u8::from(self.pinned));
        format!(
            "batch {way} {readers} {pinned} {cpus} {} {} {}\n",
            self.warm,
            self.timed,
            self.path.display()
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("batch ")?.splitn(7, ' ');
        let way = words.next()?;
        Some(Self {
            way: Way::ALL.into_iter().find(|known| known.name() == way)?,
            readers: words.next()?.parse().ok().filter(|n| (1..=MAX_READERS).contains(n))?,
            pinned: words.next()? == "1",
            cpus: words.next()?.split(',').map(|cpu| cpu.parse().ok()).collect::<Option<_>>()?,
            warm: words.next()?.parse().ok()?,
            timed: words.next()?.parse().ok()?,
            path: PathBuf::from(words.next()?),
        })
    }
}

fn run_batch(batch: &Batch, workers: &[Sender<Job>]) -> std::result::Result<(u64, Vec<u64>), String> {
    let path = CString::new(batch.path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    let start = Arc::new(Barrier::new(batch.readers));
    let (answer, answers) = channel();
    for (worker, position) in workers.iter().take(batch.readers).zip(0_usize..) {
        let own = batch.cpus.get(position % batch.cpus.len().max(1)).copied();
        let cpus = if batch.pinned { own.into_iter().collect() } else { batch.cpus.clone() };
        let job = Job {
            path: path.clone(),
            way: batch.way,
            cpus,
            warm: batch.warm,
            timed: batch.timed,
            start: Arc::clone(&start),
            answer: answer.clone(),
        };
        worker.send(job).map_err(|_| "a reading thread has ended".to_owned())?;
    }
    drop(answer);
    let shares: Vec<Share> = answers.into_iter().collect();
    if let Some(failure) = shares.iter().find_map(|share| share.failure.clone()) {
        return Err(failure);
    }
    let begin = shares.iter().map(|share| share.begin).min();
    let end = shares.iter().map(|share| share.end).max();
    let wall =
        begin.zip(end).map_or(0, |(begin, end)| u64::try_from((end - begin).as_nanos()).unwrap_or(u64::MAX));
    Ok((wall, shares.into_iter().flat_map(|share| share.samples).collect()))
}

/// The body of `reader-inner`: serves batches until standard input ends.
///
/// # Errors
/// Standard input or output breaks.
pub fn inner() -> Result<()> {
    die_with_parent()?;
    let mut workers = Vec::new();
    for _ in 0..MAX_READERS {
        let (sender, receiver) = channel();
        std::thread::spawn(move || work(&receiver));
        workers.push(sender);
    }
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(doing("read standard input"))?;
        let answer = if let Some(path) = line.strip_prefix("dump ") {
            fs::read(path).map(hex).map_err(|error| error.to_string())
        } else if let Some(batch) = Batch::parse(&line) {
            run_batch(&batch, &workers).map(|(wall, samples)| {
                let mut text = wall.to_string();
                samples.iter().for_each(|sample| _ = write!(text, " {sample}"));
                text
            })
        } else {
            Err(format!("cannot understand {line:?}"))
        };
        let answer = answer.map_or_else(|error| format!("err {error}\n"), |text| format!("ok {text}\n"));
        out.write_all(answer.as_bytes()).and_then(|()| out.flush()).map_err(doing("answer"))?;
    }
    Ok(())
}

fn hex(bytes: Vec<u8>) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Asks the kernel to end this process when the one that started it ends, so that nothing is left behind.
///
/// # Errors
/// prctl fails.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(doing("set the parent death signal"))
}

/// The body of `reader`: joins the groups and the pid namespace, starts `reader-inner` and waits for it.
///
/// # Errors
/// A group or the namespace cannot be joined, or the inner reader fails.
pub fn outer(join: &[PathBuf], pid_namespace: Option<&PathBuf>) -> Result<()> {
    die_with_parent()?;
    for file in join {
        fs::write(file, "0").map_err(on("join group", file))?;
    }
    match pid_namespace {
        Some(path) => {
            let file = fs::File::open(path).map_err(on("open", path))?;
            setns(file.as_fd(), CloneFlags::CLONE_NEWPID).map_err(on("join", path))?;
        }
        None => unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP)
            .map_err(doing("make a pid and a cgroup namespace"))?,
    }
    let exe = std::env::current_exe().map_err(doing("find the bench's own binary"))?;
    let status: ExitStatus = Command::new(&exe).arg("reader-inner").status().map_err(on("start", &exe))?;
    if status.success() { Ok(()) } else { Err(Error::Peer(format!("the reader ended: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_the_wire() {
        let batch = Batch {
            path: PathBuf::from("/proc/some where"),
            way: Way::Cat,
            readers: 4,
            pinned: true,
            cpus: vec![0, 3],
            warm: 2,
            timed: 50,
        };
        assert_eq!(Batch::parse(batch.line().trim_end()), Some(batch));
        assert_eq!(Batch::parse("batch orc 9 1 0 1 1 /x"), None);
    }

    #[test]
    fn both_ways_read_a_file() {
        let mut buffer = vec![0; CAT_BYTES];
        let path = CString::new("/proc/meminfo").unwrap_or_default();
        let orc = read_once(&path, Way::Orc, &mut buffer);
        assert_eq!(orc, read_once(&path, Way::Cat, &mut buffer));
        assert!(orc.is_ok_and(|bytes| bytes > 500));
    }
}
