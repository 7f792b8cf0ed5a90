//! A stage for hostile containers: a daemon of its own, watched for what it holds; one container that attacks, and another
//! whose reads are timed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::daemon::{Daemon, fresh_mount_point};
use crate::groups::Group;
use crate::programs::{self, OWN_INSIDE};
use crate::shell::{Shell, in_group, launch_named, new_name};
use crate::tools::latency::Times;

/// The victim's memory limit.
const VICTIM_KIB: u64 = 64 << 10;
/// CPUs that the hostile container may use, in hundredths.
const HOSTILE_PERCENT: u64 = 100;

/// What a daemon holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Resident memory of all its processes, in KiB.
    pub rss: u64,
    /// Descriptors of all its processes.
    pub fds: u64,
}

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The virtual files.
    Ours,
    /// The kernel's own files: the same work without the daemon.
    Kernels,
}

/// The stage.
pub struct Stage {
    daemon: Daemon,
    /// The daemon's holder and worker, as they were at the start.
    processes: Vec<u32>,
    group: Group,
    /// The group that the hostile container calls its root; limits stand above it.
    home: Group,
    hostile: Shell,
    victim: Shell,
    watch: Watch,
}

/// A daemon's process and those below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        next += 1;
        // Children stand with the thread that made them.
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// The holder and the workers of a daemon. The opener, which helps it to start, comes and goes.
fn holder_and_workers(pid: u32) -> Vec<u32> {
    let works = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ownproc-worker")
    };
    family(pid).into_iter().filter(|process| *process == pid || works(process)).collect()
}

/// What the processes hold now.
fn held(pids: &[u32]) -> Held {
    let mut sum = Held { rss: 0, fds: 0 };
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = crate::parse::value(&status, "VmRSS").unwrap_or("0");
        sum.rss += rss.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        sum.fds += std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
    }
    sum
}

/// A thread that looks at a daemon all the time.
struct Watch {
    peak: Arc<(AtomicU64, AtomicU64)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(pids: Vec<u32>) -> Self {
        let (peak, stop) = (Arc::<(AtomicU64, AtomicU64)>::default(), Arc::<AtomicBool>::default());
        let (of_thread, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let held = held(&pids);
                of_thread.0.fetch_max(held.rss, Ordering::Relaxed);
                of_thread.1.fetch_max(held.fds, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stage {
    /// A daemon with `args`, a victim that the launcher made, and a hostile container of another launcher: in a pid and
    /// cgroup namespace of its own, with all rights over its own groups.
    pub fn new(name: &str, args: &[&str]) -> Outcome<Self> {
        Self::by(programs::ownproc()?, name, args)
    }

    /// The same with a daemon of this command.
    pub fn by(ownproc: Command, name: &str, args: &[&str]) -> Outcome<Self> {
        let daemon = Daemon::spawn(ownproc, fresh_mount_point(name), args)?;
        let mount = daemon.mount().to_owned();
        let pid = u32::try_from(daemon.pid().as_raw())?;
        let victim = Self::launched(&mount, &["-m", "64M"])?;
        let group = Group::create(name)?;
        group.set_memory(512)?;
        group.set_quota(HOSTILE_PERCENT)?;
        let home = group.child("home")?;
        let mut command = Command::new("unshare");
        let flags = ["--pid", "--fork", "--cgroup", "--mount", "--mount-proc", "--kill-child", "sh"];
        command.args(flags);
        in_group(&mut command, &home)?;
        let hostile = Shell::running_at(command, mount.join("proc"), group.path())?;
        let processes = holder_and_workers(pid);
        check_eq!(processes.len(), 2, "processes of a daemon that serves");
        let watch = Watch::start(processes.clone());
        let mut stage = Self { daemon, processes, group, home, hostile, victim, watch };
        // Both containers are known, and the daemon has made what it makes at the first read.
        stage.victim_reads(Duration::from_millis(300))?;
        stage.attack("many-descriptors", Target::Ours, Duration::from_millis(300))?;
        Ok(stage)
    }

    /// A container of our launcher's over the daemon at `mount`.
    pub fn launched(mount: &Path, args: &[&str]) -> Outcome<Shell> {
        let name = new_name();
        let mut command = launch_named(&name, args)?;
        command.arg("sh").env("OWNPROC_MOUNT", mount);
        Shell::running(command, name)
    }

    /// A shell in the hostile container.
    pub fn hostile(&mut self) -> &mut Shell {
        &mut self.hostile
    }

    /// The daemon's mount point.
    pub fn mount(&self) -> &Path {
        self.daemon.mount()
    }

    /// Where the hostile container may make groups: below its own root, since a v2 hierarchy with nsdelegate takes no
    /// process out of it (cgroup-v2.rst, "Delegation Containment").
    fn groups(&self) -> Vec<PathBuf> {
        let files = self.home.procs_files();
        files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect()
    }

    /// The command line of an attack in the hostile container.
    fn attack_line(&self, attack: &str, target: Target, time: Duration) -> Outcome<String> {
        let files = match target {
            Target::Ours => self.mount().join("proc"),
            Target::Kernels => PathBuf::from("/proc"),
        };
        let mut line =
            format!("{} tool hostile {attack} {} {}", programs::own()?, files.display(), time.as_secs_f64());
        for group in self.groups() {
            line += &format!(" {}", group.display());
        }
        Ok(line)
    }

    /// Runs an attack to its end; how many operations it was, and what it said beside.
    pub fn attack(&mut self, attack: &str, target: Target, time: Duration) -> Outcome<(u64, String)> {
        let line = self.attack_line(attack, target, time)?;
        operations(&self.hostile.run(&line)?)
    }

    /// Times the victim's reads.
    pub fn victim_reads(&mut self, time: Duration) -> Outcome<Times> {
        Times::parse(&self.victim.run(&victim_line(time))?)
    }

    /// Times the victim's reads while an attack runs; with the number of its operations.
    pub fn reads_under(&mut self, attack: &str, target: Target, time: Duration) -> Outcome<(Times, u64)> {
        // The attack begins before the reads and ends after them.
        let longer = time + Duration::from_millis(600);
        let line = self.attack_line(attack, target, longer)?;
        let hostile = &mut self.hostile;
        let victim = &mut self.victim;
        std::thread::scope(|scope| {
            let attacking = scope.spawn(move || operations(&hostile.run(&line)?));
            std::thread::sleep(Duration::from_millis(300));
            let times = victim.run(&victim_line(time)).and_then(|text| Times::parse(&text));
            let (done, _) = attacking.join().ok().doing("the attacking thread")??;
            Ok((times?, done))
        })
    }

    /// What the daemon holds now, and the most that it held since the last call.
    pub fn held(&self) -> (Held, Held) {
        let now = held(&self.processes);
        let (rss, fds) = &*self.watch.peak;
        let peak = Held {
            rss: rss.swap(now.rss, Ordering::Relaxed).max(now.rss),
            fds: fds.swap(now.fds, Ordering::Relaxed).max(now.fds),
        };
        (now, peak)
    }

    /// Fails unless the daemon's processes are those of the start.
    pub fn check_alive(&mut self) -> Outcome {
        check!(self.daemon.runs()?, "the daemon has ended");
        let now = holder_and_workers(u32::try_from(self.daemon.pid().as_raw())?);
        check_eq!(now, self.processes, "the daemon's processes");
        Ok(())
    }

    /// Both containers see their own memory, and no file of theirs is open any more.
    pub fn check_views(&mut self) -> Outcome {
        check_eq!(self.hostile.meminfo()?.get("MemTotal"), 512 << 10, "the hostile container's MemTotal");
        check_eq!(self.victim.meminfo()?.get("MemTotal"), VICTIM_KIB, "the victim's MemTotal");
        Ok(())
    }

    /// Ends all of it; the daemon by SIGTERM, as it should.
    pub fn end(self) -> Outcome {
        let Self { daemon, hostile, victim, watch, group, .. } = self;
        drop(watch);
        drop(hostile);
        check_eq!(victim.finish()?, 0, "the victim's exit code");
        group.remove()?;
        daemon.stop()
    }
}

fn victim_line(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    format!("{OWN_INSIDE} tool latency {seconds} 500 {VICTIM_KIB} /proc/meminfo /proc/stat")
}

/// From what an attack printed: the last line is its number, what is before it was said on stderr.
fn operations(text: &str) -> Outcome<(u64, String)> {
    let text = text.trim();
    let (said, number) = text.rsplit_once('\n').unwrap_or(("", text));
    match number.parse() {
        Ok(done @ 1..) => Ok((done, said.to_owned())),
        _ => fail!("an attack that did nothing: {text:?}"),
    }
}
