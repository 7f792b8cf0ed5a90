//! A reader that knows what it must read: in a container (`ownproc-e2e tool survive`), or beside the killer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::expect::{Expect, Seen};
use super::tally::{Fault, Tally, now_usec};
use crate::case::{Doing, Outcome, check, fail};

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Opens each time, reads in one piece, closes.
    Open,
    /// Keeps the files open and reads again from the start, in one piece.
    Kept,
    /// Opens each time and reads in pieces of 100 bytes; then the same pieces again, from the last to the second.
    Pieces,
    /// Keeps the files open and reads them in pieces, with pauses, and again backwards.
    KeptPieces,
}

/// All of them.
pub const WAYS: [Way; 4] = [Way::Open, Way::Kept, Way::Pieces, Way::KeptPieces];

impl Way {
    fn keeps(self) -> bool {
        matches!(self, Self::Kept | Self::KeptPieces)
    }

    /// Bytes per read: files shorter than 100 bytes are cut all the same.
    fn piece(self, name: &str) -> usize {
        match (self, name) {
            (Self::Open | Self::Kept, _) => 65536,
            (_, "uptime") => 5,
            _ => 100,
        }
    }
}

/// What the limit of memory was when, in MiB, where it is changed all the time.
#[derive(Debug, Default)]
pub struct Limit {
    /// The number of the change that has begun last, and of the one that was made last.
    pub begun: AtomicU64,
    pub made: AtomicU64,
}

/// Which files, and what must stand in them.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The directory that has the files of /proc.
    pub dir: PathBuf,
    /// What must be read there.
    pub expect: Expect,
    /// Where somebody changes the limit meanwhile: how far that is.
    pub limit: Option<&'a Limit>,
    /// The reader's name.
    pub name: String,
    /// Between two texts.
    pub pause: Duration,
}

/// The files that are read; all of them say of which moment they are.
pub const FILES: [&str; 4] = ["stat", "meminfo", "uptime", "cpuinfo"];

struct Reader<'a> {
    job: &'a Job<'a>,
    way: Way,
    seen: Seen,
    tally: Tally,
}

/// Reads until `stop`.
pub fn read_until(stop: &AtomicBool, job: &Job<'_>, way: Way) -> Tally {
    let mut reader = Reader { job, way, seen: Seen::default(), tally: Tally::default() };
    let mut kept = BTreeMap::new();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        for name in FILES {
            let path = job.dir.join(name);
            let known = kept.remove(name);
            let Some(file) = known.or_else(|| reader.open(&path)) else { continue };
            if reader.text(&file, &path, name) {
                count += 1;
            }
            // Also after a failure: it is the same file that must go on.
            if way.keeps() {
                kept.insert(name, file);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if !job.pause.is_zero() {
                std::thread::sleep(job.pause);
            }
        }
    }
    reader.tally.snapshots.insert(format!("{} {way:?}", job.name), count);
    reader.tally
}

impl Reader<'_> {
    fn timed<T>(&mut self, path: &Path, what: &str, call: impl FnOnce() -> std::io::Result<T>) -> Option<T> {
        let (began, clock) = (now_usec(), Instant::now());
        let result = call();
        let (took, name, way) = (clock.elapsed(), &self.job.name, self.way);
        self.tally.timed(began, took, || format!("{name} {way:?}: {what} {}", path.display()));
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let text = || format!("{} {:?}: {what} {}: {error}", self.job.name, self.way, path.display());
                let text = text();
                self.tally.fault(Fault::Failed, error.raw_os_error().unwrap_or(-1), || text);
                None
            }
        }
    }

    fn open(&mut self, path: &Path) -> Option<File> {
        self.timed(path, "open", || File::open(path))
    }

    /// One text; whether it was read to the end.
    fn text(&mut self, file: &File, path: &Path, name: &str) -> bool {
        let size = self.way.piece(name);
        let mut text = Vec::new();
        let mut piece = vec![0; size];
        let mut moment = self.before();
        loop {
            let at = text.len() as u64;
            let what = if at == 0 { "read at 0 of" } else { "read on in" };
            let Some(n) = self.timed(path, what, || file.read_at(&mut piece, at)) else { return false };
            if at == 0 {
                moment.after = Some((boot_time(), self.changes(|limit| &limit.begun)));
            }
            if n == 0 {
                break;
            }
            text.extend_from_slice(&piece[..n]);
            if self.way == Way::KeptPieces && at.is_multiple_of(500) {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        if size < 65536 {
            // The same snapshot once more: reads beyond offset 0 must not look again.
            let mut at = text.len() / size * size;
            while at > 0 {
                let Some(n) = self.timed(path, "read again in", || file.read_at(&mut piece, at as u64))
                else {
                    return false;
                };
                let end = text.len().min(at + size);
                if text.get(at..end) != piece.get(..n) {
                    let what = format!(
                        "{} {:?}: {name}: other bytes at {at} when read again",
                        self.job.name, self.way
                    );
                    self.tally.fault(Fault::Torn, 0, || what);
                }
                at -= size;
            }
        }
        for (fault, what) in self.seen.look(&self.job.expect, name, &text, &moment) {
            let what = format!("{} {:?}: {name}: {what}", self.job.name, self.way);
            self.tally.fault(fault, 0, || what);
        }
        true
    }

    fn changes(&self, which: impl Fn(&Limit) -> &AtomicU64) -> Option<u64> {
        self.job.limit.map(|limit| which(limit).load(Ordering::SeqCst))
    }

    fn before(&self) -> Moment {
        Moment { before: (boot_time(), self.changes(|limit| &limit.made)), after: None }
    }
}

/// Between which moments a text was made: seconds of CLOCK_BOOTTIME, and changes of the limit.
#[derive(Debug)]
pub struct Moment {
    /// The latest that was over before.
    pub before: (f64, Option<u64>),
    /// The earliest after the read at offset 0.
    pub after: Option<(f64, Option<u64>)>,
}

fn boot_time() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// `survive DIR NAME MIB CPUS PAUSE-USEC WAY...`: reads until a line comes, then prints the tally in one line.
pub fn main(words: &[&str]) -> Outcome {
    let [dir, name, mib, cpus, pause, ways @ ..] = words else {
        fail!("survive DIR NAME MIB CPUS PAUSE-USEC WAY...")
    };
    let expect = Expect { mib: (mib.parse()?, mib.parse()?), cpus: cpus.parse()? };
    let pause = Duration::from_micros(pause.parse()?);
    let job = Job { dir: dir.into(), expect, limit: None, name: (*name).to_owned(), pause };
    let ways: Vec<Way> =
        WAYS.into_iter().filter(|way| ways.iter().any(|word| *word == format!("{way:?}"))).collect();
    check!(!ways.is_empty(), "no way of reading among {words:?}");
    let (stop, all) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    std::thread::scope(|scope| -> Outcome {
        for way in &ways {
            scope.spawn(|| {
                let tally = read_until(&stop, &job, *way);
                if let Ok(mut all) = all.lock() {
                    all.add(tally);
                }
            });
        }
        println!("ready");
        std::io::stdout().flush()?;
        std::io::stdin().lock().read_line(&mut String::new())?;
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let all = all.into_inner().ok().doing("the readers' tallies")?;
    println!("{}", all.to_line());
    Ok(())
}
