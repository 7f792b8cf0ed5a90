//! Whatever ends a worker, nobody who reads notices: a twentieth of each of the long runs (`soak kills`, `soak upgrades`).

use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Row;
use crate::case::Needs::{Nothing, OwnMachine};
use crate::case::{Outcome, check, check_eq, check_in};
use crate::daemon::{self, Daemon};
use crate::parse::{Meminfo, host_meminfo};
use crate::programs;
use crate::shell::Shell;
use crate::soak::crowd;
use crate::soak::ends::Mode;
use crate::soak::injected::Rules;
use crate::soak::kills::Plan;
use crate::soak::workers::{Workers, signal};
use crate::soak::{crowd_of, serve_for, survive};

pub const CASES: &[Row] = &[
    ("survive_kills", Nothing, kills),
    ("survive_kills_where_nothing_is_sent_again", Nothing, without_resend),
    ("survive_stops", Nothing, stops),
    ("survive_hangs", Nothing, hangs),
    ("survive_panics", Nothing, panics),
    ("survive_want_of_memory", OwnMachine, memory),
    ("survive_upgrades", Nothing, upgrades),
    ("survive_upgrades_where_nothing_is_sent_again", Nothing, upgrades_without_resend),
    ("survive_crowd", Nothing, a_crowd),
    ("survive_poison", Nothing, poison),
    ("survive_hanging_poison", Nothing, hanging_poison),
    ("survive_workers_that_keep_dying", Nothing, degraded),
];

fn plan(count: u64, mode: Mode) -> Outcome {
    let seed = u64::from(std::process::id());
    survive(&Plan { count, mode, seed, ..Plan::default() }, None).map(|_| ())
}

fn kills() -> Outcome {
    plan(25, Mode::Kill)
}

fn without_resend() -> Outcome {
    let plan = Plan { count: 25, no_resend: true, ..Plan::default() };
    survive(&plan, None).map(|_| ())
}

fn stops() -> Outcome {
    plan(25, Mode::Stop)
}

fn hangs() -> Outcome {
    plan(2, Mode::Freeze)
}

fn panics() -> Outcome {
    plan(3, Mode::Panic)
}

fn memory() -> Outcome {
    plan(25, Mode::Memory)
}

fn upgrades() -> Outcome {
    plan(3, Mode::Upgrade)
}

fn upgrades_without_resend() -> Outcome {
    let plan = Plan { count: 5, mode: Mode::Upgrade, no_resend: true, ..Plan::default() };
    survive(&plan, None).map(|_| ())
}

fn a_crowd() -> Outcome {
    let (time, seed) = (Duration::from_secs(45), u64::from(std::process::id()));
    crowd_of(&crowd::Plan { time, containers: 20, seed })
}

/// A daemon with faults on purpose, a container of which one file is poison, and a neighbour.
struct Poisoned<'a> {
    daemon: &'a Daemon,
    rules: &'a Rules,
    workers: Workers,
    container: Shell,
    neighbour: Shell,
}

const FILE: &str = "swaps";
const NEIGHBOUR_KIB: u64 = 100 << 10;

fn with_poison(run: impl FnOnce(&mut Poisoned<'_>) -> Outcome) -> Outcome {
    check!(cfg!(debug_assertions), "faults on purpose are only in builds with debug assertions");
    let rules = Rules::new()?;
    let mut command = programs::ownproc()?;
    rules.give(&mut command);
    let daemon = Daemon::spawn(command, daemon::fresh_mount_point("poison"), &[])?;
    serve_for(daemon, |daemon| {
        let workers = Workers::of(daemon.pid(), daemon.mount())?;
        let container = Shell::launch(&["-m", "64M"])?;
        let neighbour = Shell::launch(&["-m", &format!("{NEIGHBOUR_KIB}k")])?;
        let mut poisoned = Poisoned { daemon, rules: &rules, workers, container, neighbour };
        run(&mut poisoned)?;
        Ok(String::new())
    })
    .map(|_| ())
}

impl Poisoned<'_> {
    fn path(&self) -> std::path::PathBuf {
        self.daemon.mount().join("containers").join(self.container.name()).join("proc").join(FILE)
    }

    /// From the next worker on; the one that serves is ended.
    fn rule(&self, what: &str) -> Outcome {
        let ino = std::fs::metadata(self.path())?.ino();
        self.rules.set(&format!("{what} read {ino}"))?;
        let (worker, beat) = (self.workers.serving(), self.workers.beat());
        check!(signal(worker, Signal::SIGKILL)?, "the worker (pid {worker}) was gone");
        self.workers.after(worker)?;
        self.workers.until_served(beat)
    }

    /// One read of the poison, by the container itself: `dd` reads once.
    fn taste(&mut self) -> Outcome<String> {
        self.container.run(&format!("dd if=/proc/{FILE} bs=64k count=1 2>/dev/null"))
    }

    fn neighbour_kib(&mut self) -> Outcome<u64> {
        Ok(Meminfo::parse(&self.neighbour.read("meminfo")?)?.get("MemTotal"))
    }
}

/// A request that ends two workers gets the fallback answer of the third, and nobody else is harmed.
fn twice_and_no_more(what: &str) -> Outcome {
    with_poison(|it| {
        it.rule(what)?;
        let before = it.workers.info()?;
        let kept = std::fs::File::open(
            it.daemon.mount().join("containers").join(it.neighbour.name()).join("proc/meminfo"),
        )?;
        let mut first = [0; 100];
        kept.read_exact_at(&mut first, 0)?;
        let mut rest = vec![0; 65536];
        let n = kept.read_at(&mut rest, 100)?;
        let text = it.taste()?;
        check!(text.starts_with("Filename"), "the poison read as {text:?}");
        let after = it.workers.info()?;
        if !after.resend {
            // Before Linux 6.9 every try of the reader is a new request. Then the limit of crashes in a row ends it.
            check_in!(after.deaths - before.deaths, 3..=6, "deaths by one request ({after:?})");
            check!(after.degraded, "the fallback worker answers ({after:?})");
            return Ok(());
        }
        check_eq!(after.deaths - before.deaths, 2, "deaths by one request ({after:?})");
        check_eq!(after.plain_answers - before.plain_answers, 1, "plain answers ({after:?})");
        check!(!after.degraded, "two crashes are no reason to serve the host's files");
        let mut again = vec![0; 65536];
        let m = kept.read_at(&mut again, 100)?;
        check!(rest.get(..n) == again.get(..m), "the neighbour's snapshot changed");
        check_eq!(it.neighbour_kib()?, NEIGHBOUR_KIB, "MemTotal of the neighbour");
        Ok(())
    })
}

fn poison() -> Outcome {
    twice_and_no_more("panic")
}

fn hanging_poison() -> Outcome {
    twice_and_no_more("hang")
}

/// Five crashes in a row, and the host's files are served until the poison is gone.
fn degraded() -> Outcome {
    with_poison(|it| {
        it.rule("panic")?;
        let since = Instant::now();
        while !it.workers.degraded() {
            it.taste()?;
            check!(since.elapsed() < Duration::from_secs(60), "not degraded: {:?}", it.workers.info()?);
        }
        let info = it.workers.info()?;
        check!(info.degraded && info.deaths >= 5, "{info:?}");
        let host = host_meminfo()?.get("MemTotal");
        if it.workers.degraded() {
            let seen = it.neighbour_kib()?;
            check!([host, NEIGHBOUR_KIB].contains(&seen), "MemTotal {seen} of the neighbour");
        }
        it.rules.set("")?;
        let since = Instant::now();
        while it.workers.degraded() {
            check!(since.elapsed() < Duration::from_secs(100), "still degraded: {:?}", it.workers.info()?);
            it.neighbour_kib()?; // whoever reads meanwhile is answered
            std::thread::sleep(Duration::from_millis(20));
        }
        check_eq!(it.neighbour_kib()?, NEIGHBOUR_KIB, "MemTotal of the neighbour after it");
        check_eq!(it.container.meminfo()?.get("MemTotal"), 65_536, "MemTotal of the container after it");
        check!(!it.workers.info()?.degraded, "the status");
        Ok(())
    })
}
