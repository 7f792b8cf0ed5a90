//! What sampling the load of many containers costs, and whether reads of loadavg wait for it: a crowd of groups, each with
//! one process of many sleeping threads, all of which read their loadavg; then the sampler's CPU time and the latency of
//! reads in one of them, beside those of uptime, which has nothing to do with it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::{Error, Result, doing, on};
use crate::process::Tied;
use crate::reader::die_with_parent;

/// Process ids that are left to all others on the machine.
const MARGIN: u64 = 5000;
const PREFIX: &str = "ownproc-crowd-";

/// How large a crowd, and for how long.
#[derive(Args)]
pub struct Crowd {
    /// Directory with the binary `ownproc`
    #[arg(long)]
    bin_dir: PathBuf,
    /// Groups; fewer are made where the machine has not enough process ids
    #[arg(long, default_value_t = 500)]
    groups: u64,
    /// Threads in each
    #[arg(long, default_value_t = 50)]
    threads: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Threads of one more group, to see that it does not hold up the others
    #[arg(long, default_value_t = 0)]
    giant: u64,
    /// All threads sleep all the time; else one per group wakes up each second, so that every group has to be looked at
    #[arg(long)]
    asleep: bool,
}

/// The body of one member: joins its group, starts its threads, and reads loadavg as often as it is told to.
///
/// # Errors
/// The group, the threads or the file.
pub fn member(join: &[PathBuf], threads: u64, awake: bool, file: &Path) -> Result<()> {
    die_with_parent()?;
    for path in join {
        fs::write(path, "0").map_err(on("join", path))?;
    }
    for number in 1..threads {
        let wakes = awake && number == 1;
        let sleep = move || loop {
            std::thread::sleep(if wakes { Duration::from_secs(1) } else { Duration::from_secs(86_400) });
        };
        let thread = std::thread::Builder::new().stack_size(16 * 1024).spawn(sleep);
        thread.map_err(doing("start a thread"))?;
    }
    println!("ready");
    let mut text = [0; 256];
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(doing("read the order"))?;
        let mut words = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
        let (count, pause) = (words.next().unwrap_or(1), words.next().unwrap_or(0));
        let paths = [file, &file.with_file_name("uptime")];
        let opened = paths.map(|path| fs::File::open(path).map_err(on("open", path)));
        let opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
        let mut times = Vec::new();
        for _ in 0..count {
            // One after the other, so that both meet the same machine.
            for (opened, path) in opened.iter().zip(paths) {
                let began = Instant::now();
                let length = opened.read_at(&mut text, 0).map_err(on("read", path))?;
                times.push(began.elapsed().as_nanos().to_string());
                if length == 0 {
                    return Err(Error::Peer(format!("{} is empty", path.display())));
                }
                std::thread::sleep(Duration::from_micros(pause / 2));
            }
        }
        println!("{}", times.join(" "));
    }
    Ok(())
}

/// Group directories of one member, removed when dropped.
struct Group(Vec<PathBuf>);

impl Group {
    fn make(points: &[PathBuf], name: &str) -> Result<Self> {
        let mut group = Self(Vec::new());
        for point in points {
            let dir = point.join(name);
            fs::create_dir(&dir).map_err(on("create group", &dir))?;
            group.0.push(dir);
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.0 {
            let removed = (0..200).any(|_| {
                fs::remove_dir(dir).is_ok() || {
                    std::thread::sleep(Duration::from_millis(20));
                    false
                }
            });
            if !removed {
                eprintln!("ownproc-bench: group {} could not be removed", dir.display());
            }
        }
    }
}

/// A running member; ended, by its pid, when dropped, before its group goes.
struct Member {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    _group: Group,
}

impl Member {
    fn start(points: &[PathBuf], name: &str, threads: u64, awake: bool, file: &Path) -> Result<Self> {
        let group = Group::make(points, name)?;
        let exe = std::env::current_exe().map_err(doing("find the bench's own binary"))?;
        let mut command = Command::new(&exe);
        command.arg("member").arg("--threads").arg(threads.to_string()).arg("--file").arg(file);
        for dir in &group.0 {
            command.arg("--join").arg(dir.join("cgroup.procs"));
        }
        if awake {
            command.arg("--awake");
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(on("start", &exe))?;
        let output = child.stdout.take().ok_or_else(|| Error::Peer("no pipe".to_owned()))?;
        let mut member = Self { child, output: BufReader::new(output), _group: group };
        member.line()?;
        Ok(member)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line).map_err(doing("read from a member"))? {
            0 => Err(Error::Peer("a member ended early".to_owned())),
            _ => Ok(line),
        }
    }

    /// Reads so many times with a pause in microseconds between; the latencies of loadavg and of uptime in nanoseconds, sorted.
    fn read(&mut self, count: u64, pause: u64) -> Result<[Vec<u64>; 2]> {
        let input = self.child.stdin.as_mut().ok_or_else(|| Error::Peer("no pipe".to_owned()))?;
        writeln!(input, "{count} {pause}").map_err(doing("write to a member"))?;
        let times: Vec<u64> = self.line()?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Ok([0, 1].map(|first| {
            let mut times: Vec<u64> = times.iter().skip(first).step_by(2).copied().collect();
            times.sort_unstable();
            times
        }))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// What the sampler's thread has used: nanoseconds of CPU time, and read system calls, one per task that it looked at.
fn sampler(daemon: u32) -> Result<(u64, u64)> {
    let tasks = PathBuf::from(format!("/proc/{daemon}/task"));
    let of = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    for task in fs::read_dir(&tasks).map_err(on("list", &tasks))?.flatten() {
        if of(task.path().join("comm")).trim() == "load-sampler" {
            let used = of(task.path().join("schedstat"));
            let io = of(task.path().join("io"));
            let reads = io.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse().ok());
            let used = used.split(' ').next().and_then(|word| word.parse().ok());
            return Ok((used.unwrap_or(0), reads.unwrap_or(0)));
        }
    }
    Err(Error::Peer("the daemon has no thread load-sampler".to_owned()))
}

fn number(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// Hierarchies in which the daemon counts CPU time and tasks: v1 mount points, or the one of v2.
fn mount_points() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let v1: Vec<PathBuf> =
        ["cpu", "cpuacct", "pids"].iter().map(|name| top.join(name)).filter(|dir| dir.is_dir()).collect();
    if v1.is_empty() { vec![top.to_owned()] } else { v1 }
}

fn microseconds(times: &[u64], share: f64) -> f64 {
    let index = ((times.len().saturating_sub(1)) as f64 * share).round() as usize;
    times.get(index).copied().unwrap_or(0) as f64 / 1000.0
}

/// Measures and prints.
///
/// # Errors
/// A daemon, a group or a process cannot be had.
pub fn run(crowd: &Crowd) -> Result<bool> {
    let free = number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max"));
    let others: u64 = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(['/', ' ']).nth(4)?.parse().ok())
        .unwrap_or(0);
    let room = free.saturating_sub(others + MARGIN + crowd.giant) / crowd.threads.max(1);
    let groups = crowd.groups.min(room);
    if groups < crowd.groups {
        println!("only {groups} groups: {free} process ids, {others} in use, {MARGIN} left to others");
    }
    let work = PathBuf::from(format!("/run/{PREFIX}{}", std::process::id()));
    fs::create_dir(&work).map_err(on("create", &work))?;
    let mount = work.join("mount");
    let result = measured(crowd, groups, &work, &mount);
    _ = fs::remove_dir_all(&work);
    result
}

fn measured(crowd: &Crowd, groups: u64, work: &Path, mount: &Path) -> Result<bool> {
    fs::create_dir(mount).map_err(on("create", mount))?;
    let binary = crowd.bin_dir.join("ownproc").display().to_string();
    let command = [binary.as_str(), "serve", &mount.display().to_string()];
    let mut daemon = Tied::start("ownproc", &command, &[], &work.join("log"))?;
    let file = mount.join("proc/loadavg");
    daemon.until("its mount", || file.exists())?;
    let pid = daemon.pid().as_raw().unsigned_abs();
    let points = mount_points();
    let name = |number: u64| format!("{PREFIX}{}-{number}", std::process::id());

    let mut one = Member::start(&points, &name(0), crowd.threads, !crowd.asleep, &file)?;
    let reads = crowd.seconds * 100;
    one.read(50, 10_000)?;
    print_reads("alone", &one.read(reads, 10_000)?);

    let mut members = Vec::new();
    for number in 1..groups {
        members.push(Member::start(&points, &name(number), crowd.threads, !crowd.asleep, &file)?);
    }
    if crowd.giant > 0 {
        members.push(Member::start(&points, &name(groups), crowd.giant, !crowd.asleep, &file)?);
    }
    println!("{} groups, {} threads", members.len() + 1, groups * crowd.threads + crowd.giant);
    for member in &mut members {
        member.read(1, 0)?;
    }
    // The first minute after all were read at once is not a steady state.
    std::thread::sleep(Duration::from_secs(15));
    let (began, before) = (Instant::now(), sampler(pid)?);
    let times = one.read(reads, 10_000)?;
    let (elapsed, after) = (began.elapsed().as_secs_f64(), sampler(pid)?);
    print_reads("in the crowd", &times);
    let share = (after.0 - before.0) as f64 / 1e9 / elapsed * 100.0;
    let looks = (after.1 - before.1) as f64 / elapsed;
    println!(
        "sampler: {share:.2} % of one CPU, {looks:.0} reads of files a second over {elapsed:.0} s ({:.1} us each)",
        share * 1e4 / looks.max(1.0)
    );
    println!("daemon: {} kB resident", daemon.size().0);

    drop(members);
    std::thread::sleep(Duration::from_secs(20));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_err(doing("list descriptors"))?.count();
    let before = sampler(pid)?;
    std::thread::sleep(Duration::from_secs(10));
    let after = sampler(pid)?;
    println!(
        "after their end: sampler {:.3} % of one CPU; the daemon has {open} descriptors open",
        (after.0 - before.0) as f64 / 1e8
    );
    drop(one);
    let mut log = String::new();
    fs::File::open(work.join("log")).and_then(|mut log_file| log_file.read_to_string(&mut log)).ok();
    print!("{log}");
    Ok(share <= 2.5)
}

fn print_reads(what: &str, times: &[Vec<u64>; 2]) {
    for (file, times) in ["loadavg", "uptime"].into_iter().zip(times) {
        println!(
            "{what}, reads of {file} in one group: p50 {:.0} us, p99 {:.0} us, longest {:.0} us (n = {})",
            microseconds(times, 0.5),
            microseconds(times, 0.99),
            microseconds(times, 1.0),
            times.len()
        );
    }
}
