//! `soak kills`: workers end at random moments while many read, and nobody may notice.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::builds::Builds;
use super::changes::Random;
use super::ends::{Ends, Mode};
use super::expect::Expect;
use super::reader::{Job, Limit, WAYS, Way, read_until};
use super::tally::{Tally, now_usec};
use super::workers::Workers;
use crate::case::{Doing, Outcome, check};
use crate::daemon::{self, Daemon};
use crate::groups::Group;
use crate::programs::{OWN_INSIDE, own};
use crate::shell::Shell;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Ends of workers.
    pub count: u64,
    /// By what.
    pub mode: Mode,
    /// Of all that is random.
    pub seed: u64,
    /// The daemon behaves as on a kernel without RESEND.
    pub no_resend: bool,
    /// Between two texts of a reader.
    pub pause: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { count: 500, mode: Mode::Kill, seed: 1, no_resend: false, pause: Duration::ZERO }
    }
}

/// A container, and the readers in it.
struct Inside {
    shell: Shell,
}

impl Inside {
    fn begin(
        mut shell: Shell,
        program: &str,
        dir: &str,
        expect: Expect,
        plan: &Plan,
        ways: &[Way],
    ) -> Outcome<Self> {
        let ways: Vec<String> = ways.iter().map(|way| format!("{way:?}")).collect();
        let name = shell.name().to_owned();
        shell.send(&format!(
            "{program} tool survive {dir} {name} {} {} {} {}",
            expect.mib.0,
            expect.cpus,
            plan.pause.as_micros(),
            ways.join(" ")
        ))?;
        let line = shell.line()?;
        check!(line.trim() == "ready", "the readers of {name} said {line:?}");
        Ok(Self { shell })
    }

    fn end(mut self) -> Outcome<Tally> {
        self.shell.send("stop")?;
        let line = self.shell.line()?;
        Tally::from_line(&line).doing(format!("what the readers of {} said", self.shell.name()))
    }
}

/// The numbers of the containers: a limit in MiB, and CPUs.
const FIRST: Expect = Expect { mib: (200, 200), cpus: 1 };
const SECOND: Expect = Expect { mib: (300, 300), cpus: 2 };
const MOVED: Expect = Expect { mib: (200, 399), cpus: 2 };
const OTHER: Expect = Expect { mib: (150, 150), cpus: 2 };

/// Runs; what was seen.
pub fn run(
    daemon: &Daemon,
    plan: &Plan,
    group_of_daemon: Option<&Group>,
    mut builds: Option<&mut Builds>,
) -> Outcome<String> {
    if let Some(builds) = &mut builds {
        builds.of(daemon.pid());
    }
    let workers = Workers::of(daemon.pid(), daemon.mount())?;
    // What a program that cannot take over does has nothing to do with RESEND: once is enough.
    let broken_too = !plan.no_resend;
    // A kernel before 6.9 sends nothing again.
    let plan = &Plan { no_resend: plan.no_resend || !workers.info()?.resend, ..*plan };
    // Their readers are to wait for the daemon, and not behind others for a CPU.
    // Those that were registered, with all ways of reading: the files are bound over the container's own.
    let kept = plan.no_resend && plan.mode != Mode::Upgrade;
    let ways = |all: &[Way]| -> Vec<Way> {
        // Only the requests of kept files are counted exactly: nobody waits for the answer to a RELEASE.
        all.iter().copied().filter(|way| !kept || matches!(way, Way::Kept)).collect()
    };
    let first = Shell::launch(&["-m", "200M", "--cpuset-cpus", "0", "--cpu-weight", "10000"])?;
    let second = Shell::launch(&["-m", "300M", "--cpuset-cpus", "0-1", "--cpu-weight", "10000"])?;
    let moved = Shell::launch(&["-m", "399M", "--cpuset-cpus", "0-1"])?;
    // One that nobody registered, as another launcher's: the files are bound in its own mount namespace.
    let group = Group::create("survive")?;
    group.set_memory(OTHER.mib.0)?;
    group.set_cpuset("0-1")?;
    group.set_most_cpu()?;
    let mut other = Shell::in_pid_namespace(&group, &[])?;
    for file in super::reader::FILES {
        other.run(&format!("mount --bind {} /proc/{file}", daemon::shared("proc")?.join(file).display()))?;
    }
    let moved_group = Group::of_container(moved.name())?;
    let outside = daemon::shared("containers")?.join(moved.name()).join("proc");
    let inside = [
        Inside::begin(first, OWN_INSIDE, "/proc", FIRST, plan, &ways(&WAYS))?,
        Inside::begin(second, OWN_INSIDE, "/proc", SECOND, plan, &ways(&WAYS))?,
        Inside::begin(other, &own()?, "/proc", OTHER, plan, &ways(&WAYS))?,
    ];
    let limit = Limit::default();
    let outside: Vec<(PathBuf, Way)> = ways(&WAYS).into_iter().map(|way| (outside.clone(), way)).collect();
    let readers = inside.len() * ways(&WAYS).len() + outside.len();
    let (stop, all) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    let before = workers.info()?;
    let (began, ended, broken) = std::thread::scope(|scope| -> Outcome<_> {
        let limit = &limit;
        for (dir, way) in outside {
            let job =
                Job { dir, expect: MOVED, limit: Some(limit), name: "outside".to_owned(), pause: plan.pause };
            let (stop, all) = (&stop, &all);
            scope.spawn(move || {
                let tally = read_until(stop, &job, way);
                if let Ok(mut all) = all.lock() {
                    all.add(tally);
                }
            });
        }
        let stop = &stop;
        let moving = scope.spawn(move || move_limit(stop, limit, &moved_group));
        let work = || -> Outcome<_> {
            // How long reads take in this crowd when nobody dies.
            std::thread::sleep(CALM);
            let began = now_usec();
            let mut ends = Ends::of(plan.mode, &workers, group_of_daemon, builds)?;
            let mut random = Random::new(plan.seed);
            for _ in 0..plan.count {
                ends.one(&mut random).doing(format!("seed {}", plan.seed))?;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            let broken = if broken_too { ends.broken()? } else { String::new() };
            std::thread::sleep(Duration::from_millis(1500));
            Ok((began, ends, broken))
        };
        let result = work();
        stop.store(true, Ordering::Relaxed);
        if let Ok(moved) = moving.join() {
            moved.doing("changing the limit")?;
        }
        result
    })?;
    let mut tally = all.into_inner().ok().doing("tallies")?;
    for inside in inside {
        tally.add(inside.end()?);
    }
    let after = workers.info()?;
    moved_done(moved)?;
    group.remove()?;
    let report = super::verdict::of(plan, readers, began, &ended, (&before, &after), tally)?;
    Ok(format!("{report}{broken}"))
}

/// The time before the first kill.
const CALM: Duration = Duration::from_secs(3);

fn moved_done(shell: Shell) -> Outcome {
    check!(shell.finish()? == 0, "the container whose limit was changed ended badly");
    Ok(())
}

/// Sets one limit after the other.
fn move_limit(stop: &AtomicBool, limit: &Limit, group: &Group) -> Outcome {
    let (least, most) = MOVED.mib;
    let mut change = limit.made.load(Ordering::SeqCst);
    while !stop.load(Ordering::Relaxed) {
        change += 1;
        limit.begun.store(change, Ordering::SeqCst);
        group.set_memory(least + change % (most - least + 1))?;
        limit.made.store(change, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}
