//! What it takes to start a container: from the birth of the launcher to its end, for a container whose program ends at once,
//! beside a floor that is nothing but the kernel's work, and beside other launchers, all in one interleaved run.

mod bundle;
mod floor;
mod spawn;
mod table;

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use crate::error::{Error, Result, doing, on};
use crate::group::{Point, points};
use crate::process::Tied;
use crate::stage;
use bundle::{CODE, PROGRAM};
use floor::{Floor, Limits};
use spawn::{Program, Sample};
use table::{Row, Table};

/// Controllers that the floor has groups for: those of its limits.
const LIMITED: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];

/// The group that LXC leaves behind.
const LXC_PIVOT: &str = "lxc.pivot";

/// How much is measured.
#[derive(Args)]
pub struct Startup {
    /// Directory with the binaries `ownproc` and `ownproc-run`
    #[arg(long)]
    bin_dir: PathBuf,
    /// Starts of each launcher, back to back
    #[arg(short = 'n', long, default_value_t = 100)]
    rounds: u32,
    /// Starts of each launcher after a pause
    #[arg(long, default_value_t = 15)]
    cold_rounds: u32,
    /// Milliseconds of that pause
    #[arg(long, default_value_t = 400)]
    pause: u64,
    /// CPUs of everything [default: the first two allowed]
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Only rows whose names hold one of these words; the floor is always there
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Fail where one of the other launchers is not installed
    #[arg(long)]
    require_others: bool,
    /// Exit with 1 where a goal is missed
    #[arg(long)]
    require_goal: bool,
    /// Also write the numbers as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a row starts.
enum Start {
    Floor(Floor),
    Program(Program),
}

struct Contender {
    name: &'static str,
    start: Start,
    expected: i32,
}

impl Contender {
    fn once(&self, log: &Path) -> Result<Sample> {
        match &self.start {
            Start::Floor(floor) => {
                let program = CString::new(PROGRAM).map_err(|e| Error::Usage(e.to_string()))?;
                floor.run(&program, self.expected)
            }
            Start::Program(program) => program.run(log, self.expected),
        }
        .map_err(|error| Error::Peer(format!("{}: {error}; its output is in {}", self.name, log.display())))
    }
}

/// Where things are while it runs.
struct Place {
    dir: PathBuf,
    root: PathBuf,
    limits: Limits,
    points: Vec<Point>,
    group: String,
    /// LXC's own group was there before.
    pivot: bool,
}

/// Measures and prints.
///
/// # Errors
/// Something cannot be made or started.
pub fn run(options: &Startup) -> Result<bool> {
    stage::enter()?;
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGINT);
    stop.add(Signal::SIGTERM);
    stop.thread_block().map_err(doing("block signals"))?;
    let mut cpus = options.cpus.clone();
    if cpus.is_empty() {
        cpus = crate::allowed()?.into_iter().take(2).collect();
    }
    let mut set = CpuSet::new();
    cpus.iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(doing("stay on the CPUs chosen"))?;

    let dir = stage::made("startup")?;
    let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let quota = 100_000 * cpus.len() as u64;
    let place = Place {
        root: bundle::root(&dir)?,
        limits: Limits { memory: 64 << 20, cpus: list, quota, pids: 64 },
        points: points()?,
        group: format!("ownproc-startup-{}", std::process::id()),
        pivot: points()?.iter().any(|point| point.mount.join(LXC_PIVOT).exists()),
        dir,
    };
    let mount = place.dir.join("ownproc");
    fs::create_dir(&mount).map_err(on("create", &mount))?;
    let serve = options.bin_dir.join("ownproc").display().to_string();
    let mut daemon = Tied::start(
        "ownproc",
        &[&serve, "serve", &mount.display().to_string()],
        &[],
        &place.dir.join("daemon.log"),
    )?;
    daemon.until("its mount", || mount.join("proc/meminfo").exists())?;

    let mut contenders = own(options, &place, &mount)?;
    others(options, &place, &mut contenders)?;
    let wanted = |name: &str| {
        options.only.is_empty() || name == table::FLOOR || options.only.iter().any(|word| name.contains(word))
    };
    contenders.retain(|contender| wanted(contender.name));

    let before = crate::load();
    let result = measure(options, &place, &contenders);
    tidy(&place);
    let rows = result?;
    drop(daemon);
    let head = crate::machine(&[
        (
            "plan",
            format!(
                "{} warm and {} cold rounds, each launcher once in each",
                options.rounds, options.cold_rounds
            ),
        ),
        ("load", format!("{before} before, {} after (the bench itself counts)", crate::load())),
        ("CPUs", format!("{cpus:?} for everything")),
    ]);
    let table = Table { rows, head };
    print!("{}", table.text());
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", table.json())).map_err(on("write", path))?;
    }
    Ok(!options.require_goal || table.goal())
}

fn own(options: &Startup, place: &Place, mount: &Path) -> Result<Vec<Contender>> {
    let floor = |name, all: bool, made: [bool; 2]| -> Result<Contender> {
        let of_use = |point: &&Point| {
            let limited = point.controllers.iter().any(|name| LIMITED.contains(&name.as_str()));
            let named = point.controllers.iter().any(|option| option.starts_with("name="));
            point.v2 || limited || (all && !named)
        };
        let points: Vec<&Point> = place.points.iter().filter(of_use).collect();
        let start = Floor::new(&points, &format!("{}-floor", place.group), &place.root, &place.limits, made)?;
        Ok(Contender { name, start: Start::Floor(start), expected: CODE })
    };
    let program = place.root.join(PROGRAM.trim_start_matches('/')).display().to_string();
    let mut found = vec![
        Contender {
            name: "a static program alone",
            start: Start::Program(Program::new(&[&program], &[], None)?),
            expected: CODE,
        },
        floor(table::FLOOR, false, [false, false])?,
        floor("floor, user namespace", false, [true, false])?,
        floor("floor, time namespace", false, [false, true])?,
        floor("floor, every hierarchy", true, [false, false])?,
    ];
    let binary = options.bin_dir.join("ownproc-run").display().to_string();
    let environment = format!("OWNPROC_MOUNT={}", mount.display());
    for (name, full) in [(table::OWN, false), ("ownproc-run run, full", true)] {
        let group = format!("/{}-own", place.group);
        let bundle = bundle::make(&place.dir, name, &place.root, &place.limits, &group, full)?;
        let arguments = [&binary, "run", "--bundle", &bundle.display().to_string(), "startup-own"];
        let start = Start::Program(Program::new(&arguments, &[&environment], None)?);
        found.push(Contender { name, start, expected: CODE });
    }
    let cpus = (place.limits.quota / 100_000).to_string();
    let (root, pids) = (place.root.display().to_string(), place.limits.pids.to_string());
    let memory = place.limits.memory.to_string();
    #[rustfmt::skip]
    let arguments = [
        &binary, "launch", "--rootfs", &root, "-m", &memory, "--cpus", &cpus, "--cpuset-cpus", &place.limits.cpus,
        "--pids-limit", &pids, "--", PROGRAM,
    ];
    let start = Start::Program(Program::new(&arguments, &[&environment], None)?);
    found.push(Contender { name: "ownproc-run launch", start, expected: CODE });
    Ok(found)
}

/// crun refuses a hybrid host whose v2 hierarchy has a controller: it is started where that mount is not to be seen.
fn without_v2(place: &Place) -> Result<Option<OwnedFd>> {
    let hybrid = place.points.iter().any(|point| !point.v2);
    match place.points.iter().find(|point| point.v2 && hybrid && !point.controllers.is_empty()) {
        Some(point) => spawn::namespace_without(&point.mount).map(Some),
        None => Ok(None),
    }
}

fn others(options: &Startup, place: &Place, found: &mut Vec<Contender>) -> Result<()> {
    let path = |program: &str| {
        let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
        dirs.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists())
    };
    let missing = |program: &str| {
        if options.require_others {
            return Err(Error::Usage(format!("{program} is not installed: apt-get install crun runc lxc")));
        }
        eprintln!("ownproc-bench: *** {program} IS NOT MEASURED: not installed ***");
        Ok(())
    };
    for (program, rows) in [
        ("crun", [(table::CRUN, false), ("crun run, full", true)]),
        ("runc", [("runc run", false), ("runc run, full", true)]),
    ] {
        let Some(binary) = path(program) else {
            missing(program)?;
            continue;
        };
        for (name, full) in rows {
            let group = format!("/{}-{program}", place.group);
            let bundle = bundle::make(&place.dir, name, &place.root, &place.limits, &group, full)?;
            let id = format!("startup-{program}");
            let (binary, bundle) = (binary.display().to_string(), bundle.display().to_string());
            let arguments = [&binary, "run", "--bundle", &bundle, &id];
            let namespace = if program == "crun" { without_v2(place)? } else { None };
            let start = Start::Program(Program::new(&arguments, &["PATH=/usr/sbin:/usr/bin"], namespace)?);
            found.push(Contender { name, start, expected: CODE });
        }
    }
    let Some(binary) = path("lxc-start") else { return missing("lxc-start") };
    let v2 = place.points.iter().all(|point| point.v2);
    let name = format!("{}-lxc", place.group);
    let config = bundle::lxc(&place.dir, &name, &place.root, &place.limits, v2)?;
    let (binary, config) = (binary.display().to_string(), config.display().to_string());
    let arguments = [&binary, "-F", "-P", &config, "-n", &name];
    let start = Start::Program(Program::new(&arguments, &["PATH=/usr/sbin:/usr/bin"], None)?);
    // it ends with 0 whatever the program does
    found.push(Contender { name: "lxc-start -F", start, expected: 0 });
    Ok(())
}

fn measure(options: &Startup, place: &Place, contenders: &[Contender]) -> Result<Vec<Row>> {
    let log = place.dir.join("log");
    let mut rows: Vec<Row> = contenders.iter().map(|contender| Row::new(contender.name)).collect();
    let interrupted = || {
        let path = Path::new("/proc/self/status");
        let status = fs::read_to_string(path).unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        pending.is_some_and(|mask| mask.trim().bytes().any(|digit| digit != b'0'))
    };
    let mut round = |number: usize, pause: Option<Duration>, keep: bool| -> Result<()> {
        // another one begins each time, so that none always comes after the same other
        for at in (0..contenders.len()).map(|at| (at + number) % contenders.len()) {
            if interrupted() {
                return Err(Error::Interrupted);
            }
            let (Some(contender), Some(row)) = (contenders.get(at), rows.get_mut(at)) else { continue };
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
            let sample = contender.once(&log).inspect_err(|_| {
                eprint!("{}", fs::read_to_string(&log).unwrap_or_default());
            })?;
            if keep {
                row.add(sample, pause.is_some());
            }
        }
        Ok(())
    };
    (0..2).try_for_each(|number| round(number, None, false))?; // files are in memory afterwards, and all is seen to work
    (0..options.rounds as usize).try_for_each(|number| round(number, None, true))?;
    let pause = Duration::from_millis(options.pause);
    (0..options.cold_rounds as usize).try_for_each(|number| round(number, Some(pause), true))?;
    Ok(rows)
}

/// Groups that a launcher has left: LXC does.
fn tidy(place: &Place) {
    for point in &place.points {
        for entry in fs::read_dir(&point.mount).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pivot = name == LXC_PIVOT && !place.pivot;
            if pivot || name.to_str().is_some_and(|name| name.contains(&place.group)) {
                _ = fs::remove_dir(entry.path());
            }
        }
    }
}
