//! `ownproc-bench`: what one read of a virtual file costs, next to the kernel's own file, a null FUSE server and
//! LXCFS, measured in one interleaved run. `tests/bench/run` builds everything and calls it.
//!
//! `stage` sets up servers, group and readers; `measure` runs the batches; `report` prints. `reader` and `null`
//! are the bodies of child processes.

mod crowd;
mod error;
mod group;
mod measure;
mod null;
mod process;
mod reader;
mod report;
mod settings;
mod stage;
mod startup;
mod stats;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Args, Parser, Subcommand};
use nix::sched::sched_getaffinity;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use error::{Error, Result, doing, on};
use measure::Placement::{Free, OneCpu, Pinned};
use measure::{Block, Placement, Plan};
use reader::{MAX_READERS, Way};
use report::Report;
use stage::Stage;

/// Files measured where nobody names others; those that a source lacks stay empty.
const FILES: &str = "proc/meminfo,proc/cpuinfo,proc/stat,proc/uptime,sys/devices/system/cpu/online";

#[derive(Parser)]
#[command(version, about = "Latency of one read: native /proc, null FUSE server, ownproc, LXCFS")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all sources and print one table
    Run(Run),
    /// Measure null servers with 1 to 4 threads, readers pinned and free: which default is best here
    Threads(Common),
    /// The cost of sampling the load of many containers, and the latency of loadavg meanwhile
    Crowd(crowd::Crowd),
    /// What starting a container takes, beside a bare floor, crun, runc and LXC
    Startup(startup::Startup),
    #[command(hide = true)]
    Member {
        #[arg(long)]
        join: Vec<PathBuf>,
        #[arg(long)]
        threads: u64,
        #[arg(long)]
        awake: bool,
        #[arg(long)]
        file: PathBuf,
    },
    #[command(hide = true)]
    Null {
        #[arg(long)]
        threads: usize,
        source: PathBuf,
        mountpoint: PathBuf,
    },
    #[command(hide = true)]
    Reader {
        #[arg(long)]
        join: Vec<PathBuf>,
        #[arg(long)]
        pid_namespace: Option<PathBuf>,
    },
    #[command(hide = true)]
    ReaderInner,
    /// Become COMMAND, which then ends together with the process that started us
    #[command(hide = true)]
    Tied {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct Common {
    /// Timed reads per cell of the table
    #[arg(short = 'n', long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..))]
    reads: u32,
    /// Timed reads per batch, all readers together
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Files relative to the root of each source
    #[arg(long, value_delimiter = ',', default_value = FILES)]
    files: Vec<String>,
    /// CPUs of the readers' group; reader i stays on the i-th of them [default: the first two allowed]
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Also write the numbers as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Directory with the binaries `ownproc` and `ownproc-run`; without it ownproc is not measured
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Leave out the column of a container launched by ownproc-run
    #[arg(long)]
    no_container: bool,
    /// The LXCFS binary
    #[arg(long, default_value = "lxcfs")]
    lxcfs: String,
    /// An option for LXCFS, such as --enable-cfs; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    lxcfs_arg: Vec<String>,
    /// Fail where LXCFS cannot be measured
    #[arg(long)]
    require_lxcfs: bool,
    /// Exit with 1 where a ratio misses the goal
    #[arg(long)]
    require_goal: bool,
    /// Threads of the null server [default: ownproc's default]
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::Threads(options) => threads(&options),
        Command::Crowd(options) => crowd::run(&options),
        Command::Startup(options) => startup::run(&options),
        Command::Member { join, threads, awake, file } => {
            crowd::member(&join, threads, awake, &file).map(|()| true)
        }
        Command::Null { threads, source, mountpoint } => {
            null::serve(&source, &mountpoint, threads).map(|()| true)
        }
        Command::Reader { join, pid_namespace } => {
            reader::outer(&join, pid_namespace.as_ref()).map(|()| true)
        }
        Command::ReaderInner => reader::inner().map(|()| true),
        Command::Tied { command } => tied(&command),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ownproc-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn tied(command: &[String]) -> Result<bool> {
    reader::die_with_parent()?;
    // The bench blocks SIGINT and SIGTERM for itself, and masks are inherited.
    SigSet::all().thread_unblock().map_err(doing("unblock signals"))?;
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::Usage("tied needs a command".to_owned()))?;
    Err(on("run", Path::new(program))(std::process::Command::new(program).args(arguments).exec()))
}

/// SIGINT and SIGTERM end the run between two batches, with everything cleaned up.
fn stop_on_signals() -> Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block().map_err(doing("block signals"))?;
    std::thread::spawn(move || {
        if set.wait().is_ok() {
            measure::STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// The CPUs that we may run on.
fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(doing("read the CPU affinity"))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// What to measure: the ways of reading at each of `places` (readers, placement).
fn plan(common: &Common, places: &[(usize, Placement)]) -> Result<Plan> {
    let server_cpus = allowed()?;
    let mut cpus = common.cpus.clone();
    if cpus.is_empty() {
        cpus = server_cpus.iter().copied().take(2).collect();
    }
    if let Some(cpu) = cpus.iter().find(|cpu| !server_cpus.contains(cpu)) {
        return Err(Error::Usage(format!("--cpus: CPU {cpu} is not there or not allowed to us")));
    }
    let ways = |&(readers, placement): &(usize, Placement)| {
        let fresh = placement == OneCpu; // where the price of resolving a new reader stands out best
        let ways = Way::ALL.into_iter().filter(move |way| fresh || *way != Way::Fresh);
        ways.map(move |way| Block { readers, placement, way })
    };
    Ok(Plan {
        files: common.files.clone(),
        reads: common.reads as usize,
        batch: common.batch as usize,
        blocks: places.iter().flat_map(ways).collect(),
        cpus,
        server_cpus,
    })
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim_end().to_owned()
}

/// Lines about the machine, and `more`.
fn machine(more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let mut lines = vec![
        ("kernel", stage::first_line(&["uname", "-srm"]).unwrap_or_default()),
        ("machine", format!("{}, CPUs {} online", model.map_or("", |(_, name)| name), online.trim())),
    ];
    lines.extend_from_slice(more);
    lines
}

fn head(plan: &Plan, threads: &str) -> Vec<(&'static str, String)> {
    let group = format!("{} memory, CPUs {:?}, quota {} CPUs", group::MEMORY, plan.cpus, plan.cpus.len());
    machine(&[
        ("group", format!("{group}; readers in a pid and a cgroup namespace of their own")),
        ("serving", format!("null and ownproc alike: {threads}")),
        ("plan", report::describe(plan)),
    ])
}

/// Starts LXCFS, or says loudly why its column is missing.
fn lxcfs(stage: &mut Stage, options: &Run) -> Result<()> {
    let failure = if stage::first_line(&[&options.lxcfs, "--version"]).is_none() {
        Error::Peer(format!("{} is not installed (apt-get install lxcfs)", options.lxcfs))
    } else {
        match stage.start_lxcfs(&options.lxcfs, &options.lxcfs_arg) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        }
    };
    if options.require_lxcfs {
        return Err(failure);
    }
    eprintln!("ownproc-bench: *** LXCFS IS NOT MEASURED: {failure} ***");
    Ok(())
}

fn run(options: &Run) -> Result<bool> {
    stage::enter()?;
    stop_on_signals()?;
    let plan = plan(&options.common, &[(1, OneCpu), (1, Pinned), (MAX_READERS, Pinned)])?;
    let threads = options.threads.unwrap_or_else(settings::default_threads);
    let mut stage = Stage::new(&plan.cpus)?;
    lxcfs(&mut stage, options)?;
    match &options.bin_dir {
        Some(directory) => {
            stage.start_ownproc(directory)?;
            if options.no_container {
                eprintln!("ownproc-bench: *** containers/NAME IS NOT MEASURED: --no-container ***");
            } else {
                stage.start_container(directory, &plan.cpus)?;
            }
        }
        None => eprintln!("ownproc-bench: *** OWNPROC IS NOT MEASURED: no --bin-dir ***"),
    }
    stage.check_views()?;
    // The null server's replies are as long as ownproc's; without ownproc as LXCFS's, without both as the kernel's.
    let column = |name| stage.sources.iter().position(|source| source.name == name);
    let model = column("ownproc").or_else(|| column("lxcfs")).unwrap_or(0);
    let copied = stage.sources.get(model).map_or("", |source| source.name);
    stage.start_null("null", model, &plan.files, threads)?;
    let order = ["native", "null", "ownproc", "ownproc/NAME", "lxcfs"];
    stage.sources.sort_by_key(|source| order.iter().position(|name| *name == source.name));
    let mut head = head(&plan, &settings::describe(&threads.to_string()));
    head.push(("replies", format!("the null server's are copies of what {copied} shows the reader")));
    measure_and_print(&mut stage, &plan, head, options.common.json.as_deref(), options.require_goal)
}

fn threads(common: &Common) -> Result<bool> {
    stage::enter()?;
    stop_on_signals()?;
    let plan =
        plan(common, &[(1, OneCpu), (1, Pinned), (1, Free), (MAX_READERS, Pinned), (MAX_READERS, Free)])?;
    let mut stage = Stage::new(&plan.cpus)?;
    for (name, threads) in [("null-1", 1), ("null-2", 2), ("null-3", 3), ("null-4", 4)] {
        stage.start_null(name, 0, &plan.files, threads)?;
    }
    let head = head(&plan, &settings::describe("1 to 4 (column's name)"));
    measure_and_print(&mut stage, &plan, head, common.json.as_deref(), false)
}

fn measure_and_print(
    stage: &mut Stage,
    plan: &Plan,
    mut head: Vec<(&'static str, String)>,
    json: Option<&Path>,
    require_goal: bool,
) -> Result<bool> {
    let before = load();
    let cells = measure::run(stage, plan)?;
    head.push(("load", format!("{before} before, {} after (the bench itself counts)", load())));
    let load_before = before.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
    let report = Report { plan, stage, cells: &cells, load_before, head };
    print!("{}", report.text());
    if let Some(path) = json {
        std::fs::write(path, format!("{:#}\n", report.json())).map_err(on("write", path))?;
    }
    Ok(!require_goal || report.goal().0)
}
