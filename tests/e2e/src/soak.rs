//! Long runs: `ownproc-e2e soak NAME ...`. `hostile [--minutes M] [--attack NAME]`: see [`hostile`].
//!
//! `kills [--count N] [--mode kill|stop|freeze|panic|memory] [--seed N] [--no-resend] [--pause-usec U]`: workers end while many read:
//! see [`kills`]. `upgrades [--count N] [--seed N] [--no-resend]`: another build takes their place. `panic` needs a program with debug assertions.
//! `crowd [--minutes M] [--containers N] [--seed N]`: containers come and go, see [`crowd`].
//!
//! `launches [--sequential N] [--parallel N]`: containers by `launch` and by `run` of a bundle, of which nothing is left.
//! `launcher-kills [--count N] [--seed N]`: launchers are killed at N random moments of each verb, and what they leave is cleared.
//!
//! `counters [--minutes M] [--seed N]`:
//!
//! Limits, CPU set and quota of a busy container change at random while four readers read all its files
//! over and over; each snapshot must hold together, and no counter may go down from one to the next.

mod builds;
pub mod changes;
pub mod crowd;
pub mod ends;
mod expect;
mod hostile;
pub mod injected;
pub mod kills;
pub mod reader;
mod tally;
mod verdict;
mod watch;
pub mod workers;

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::case::{Doing, Outcome, check, fail};
use crate::cases::oci::many;
use crate::daemon::{self, Daemon};
use crate::groups::{self, Group};
use crate::programs::OWN_INSIDE;
use crate::shell::Shell;

/// `soak ...`; the words after it.
pub fn main(words: &[&str]) -> ExitCode {
    match by_hand(words) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("ownproc-e2e soak: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Options of the form `--KEY VALUE`.
struct Options<'a>(&'a [&'a str]);

impl Options<'_> {
    fn get<T: std::str::FromStr>(&self, key: &str) -> Outcome<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        match self.0.iter().position(|word| *word == key) {
            Some(at) => Ok(Some(self.0.get(at + 1).doing(key)?.parse().doing(key)?)),
            None => Ok(None),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }
}

fn by_hand(words: &[&str]) -> Outcome<String> {
    let options = Options(words);
    let seed = options.get("--seed")?.unwrap_or_else(|| u64::from(std::process::id()));
    crate::harness::own_mount_namespace()?;
    match words.first() {
        Some(&"counters") => {
            let minutes: f64 = options.get("--minutes")?.unwrap_or(10.0);
            with_daemon(&[], |_| counters(Duration::from_secs_f64(minutes * 60.0), seed))
        }
        Some(&"kills") => {
            let plan = kills::Plan {
                count: options.get("--count")?.unwrap_or(500),
                mode: options.get("--mode")?.unwrap_or(ends::Mode::Kill),
                seed,
                no_resend: options.has("--no-resend"),
                pause: Duration::from_micros(options.get("--pause-usec")?.unwrap_or(0)),
            };
            survive(&plan, None)
        }
        Some(&"upgrades") => {
            let count = options.get("--count")?.unwrap_or(100);
            let no_resend = options.has("--no-resend");
            survive(
                &kills::Plan { count, mode: ends::Mode::Upgrade, seed, no_resend, ..kills::Plan::default() },
                None,
            )
        }
        Some(&"hostile") => {
            let minutes: f64 = options.get("--minutes")?.unwrap_or(10.0);
            let attack: Option<String> = options.get("--attack")?;
            hostile::by_hand(Duration::from_secs_f64(minutes * 60.0), attack.as_deref())
        }
        Some(&"crowd") => {
            let minutes: f64 = options.get("--minutes")?.unwrap_or(30.0);
            let time = Duration::from_secs_f64(minutes * 60.0);
            let containers = options.get("--containers")?.unwrap_or(200);
            with_daemon(&[], |daemon| crowd::run(daemon, &crowd::Plan { time, containers, seed }))
        }
        Some(&"launches") => {
            let sequential = options.get("--sequential")?.unwrap_or(1000);
            let parallel = options.get("--parallel")?.unwrap_or(200);
            with_daemon(&[], |_| many::launches(many::Launches { sequential, parallel }))
        }
        Some(&"launcher-kills") => {
            let count = options.get("--count")?.unwrap_or(100);
            with_daemon(&[], |_| many::launcher_kills(count, seed))
        }
        _ => fail!(
            "soak counters|kills|upgrades|crowd|hostile|launches|launcher-kills, see the head of soak.rs"
        ),
    }
}

fn with_daemon(args: &[&str], run: impl FnOnce(&Daemon) -> Outcome<String>) -> Outcome<String> {
    let daemon = Daemon::start_shared_with(args)?;
    serve_for(daemon, run)
}

/// Runs with a daemon of its own, which ends with it.
pub fn serve_for(daemon: Daemon, run: impl FnOnce(&Daemon) -> Outcome<String>) -> Outcome<String> {
    // SAFETY: no other thread runs yet that reads the environment.
    unsafe { std::env::set_var("OWNPROC_MOUNT", daemon.mount()) };
    let report = run(&daemon);
    groups::remove_all_of(std::process::id());
    daemon.stop()?;
    report
}

/// A crowd that comes and goes, with a daemon of its own.
pub fn crowd_of(plan: &crowd::Plan) -> Outcome {
    let daemon = Daemon::start(daemon::fresh_mount_point("crowd"))?;
    serve_for(daemon, |daemon| crowd::run(daemon, plan)).map(|_| ())
}

/// A daemon whose workers end as planned, read by many.
pub fn survive(plan: &kills::Plan, mount: Option<PathBuf>) -> Outcome<String> {
    let mount = mount.unwrap_or_else(|| daemon::fresh_mount_point("survive"));
    let mut builds = (plan.mode == ends::Mode::Upgrade).then(builds::Builds::new).transpose()?;
    let mut command = match &builds {
        Some(builds) => std::process::Command::new(builds.program()),
        None => crate::programs::ownproc()?,
    };
    let group = (plan.mode == ends::Mode::Memory).then(|| Group::create("daemon")).transpose()?;
    if let Some(group) = &group {
        crate::shell::in_group(&mut command, group)?;
    }
    let rules = injected::Rules::new()?;
    if plan.mode == ends::Mode::Panic {
        rules.set(&format!("panic after {}", ends::PANIC_AFTER))?;
    }
    rules.give(&mut command);
    let args: &[&str] = if plan.no_resend { &["--no-resend"] } else { &[] };
    let daemon = Daemon::spawn(command, mount, args)?;
    serve_for(daemon, |daemon| {
        let report = kills::run(daemon, plan, group.as_ref(), builds.as_mut());
        // What is left in groups of the tests is ended: the daemon is to end by itself.
        if let Some(group) = &group {
            let root = Group::existing("/")?;
            group.pids()?.into_iter().try_for_each(|pid| root.enter(pid))?;
        }
        report
    })
}

/// How a reader reads.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Opens each time.
    Open,
    /// Keeps the files open and reads again from the start.
    Kept,
    /// Opens each time and reads in pieces of 100 bytes.
    Pieces,
}

/// Runs for `time`; says what was read and changed.
pub fn counters(time: Duration, seed: u64) -> Outcome<String> {
    let cpus = std::thread::available_parallelism()?.get();
    let mut shell = Shell::launch(&["-m", "400M", "--cpus", "1.5", "--cpuset-cpus", "0-1"])?;
    let group = Group::of_container(shell.name())?;
    shell.run(&format!(
        "{OWN_INSIDE} tool burn --threads 3 --seconds 100000 --cpu-ms 100000000 >/dev/null 2>&1 & \
         {OWN_INSIDE} tool burn --seconds 100000 --cpu-ms 100000000 --burst-us 300 --pause-us 2000 >/dev/null 2>&1 & \
         (while :; do head -c 20000000 /dev/zero >/tmp/file; cat /tmp/file >/dev/null; done) >/dev/null 2>&1 & echo"
    ))?;
    let top = daemon::shared("containers")?.join(shell.name());
    let mut files = Vec::new();
    files_below(&top.join("proc"), &mut files)?;
    files.push(top.join("sys/devices/system/cpu/online"));
    let (stop, snapshots) = (AtomicBool::new(false), AtomicU64::new(0));
    let (files, stop, snapshots) = (&files, &stop, &snapshots);
    let changed = std::thread::scope(|scope| -> Outcome<u64> {
        let readers: Vec<_> = [Way::Open, Way::Kept, Way::Pieces, Way::Open]
            .into_iter()
            .map(|way| {
                scope.spawn(move || {
                    let result = read_until(stop, way, files, snapshots);
                    stop.store(true, Ordering::Relaxed); // one that found something ends the run
                    result
                })
            })
            .collect();
        let end = Instant::now() + time;
        let mut random = changes::Random::new(seed);
        let mut changed = 0;
        let mut changing = Ok(());
        while Instant::now() < end && !stop.load(Ordering::Relaxed) && changing.is_ok() {
            changing = changes::change(&mut random, &group, shell.name(), cpus);
            changed += 1;
            std::thread::sleep(Duration::from_millis(random.below(400)));
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            match reader.join() {
                Ok(result) => result.doing(format!("seed {seed}"))?,
                Err(_) => fail!("a reader panicked"),
            }
        }
        changing?;
        Ok(changed)
    })?;
    let read = snapshots.load(Ordering::Relaxed);
    check!(read > 100 && changed > 5, "only {read} snapshots and {changed} changes");
    Ok(format!(
        "{read} snapshots of {} files by 4 readers over {changed} changes in {:.0} s (seed {seed}): no counter fell",
        files.len(),
        time.as_secs_f64()
    ))
}

fn read_until(stop: &AtomicBool, way: Way, files: &[PathBuf], snapshots: &AtomicU64) -> Outcome {
    let mut watch = watch::Watch::default();
    let kept = match way {
        Way::Kept => files
            .iter()
            .map(|path| Ok(Some(std::fs::File::open(path).doing(path.display())?)))
            .collect::<Outcome<Vec<_>>>()?,
        Way::Open | Way::Pieces => files.iter().map(|_| None).collect(),
    };
    while !stop.load(Ordering::Relaxed) {
        for (path, kept) in files.iter().zip(&kept) {
            let bytes = match kept {
                Some(file) => pieces(65536, |offset, piece| file.read_at(piece, offset)),
                None => {
                    let mut file = std::fs::File::open(path).doing(path.display())?;
                    let size = if matches!(way, Way::Pieces) { 100 } else { 65536 };
                    pieces(size, |_, piece| file.read(piece))
                }
            };
            let text = String::from_utf8(bytes.doing(path.display())?).doing(path.display())?;
            watch.look(path, &text).doing(format!("{} ({way:?})", path.display()))?;
            snapshots.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn pieces(
    size: usize,
    mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<usize>,
) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = vec![0; size];
    loop {
        match read(all.len() as u64, &mut piece)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&piece[..n]),
        }
    }
}

fn files_below(dir: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    for entry in std::fs::read_dir(dir).doing(dir.display())? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}
