//! Many launches, and launchers that are killed: nothing of them may be left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Oci;
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::output::{Output, run};
use crate::soak::changes::Random;
use crate::{daemon, shell};

/// How many.
#[derive(Clone, Copy, Debug)]
pub struct Launches {
    /// One after the other.
    pub sequential: usize,
    /// All at once.
    pub parallel: usize,
}

/// Software emulation is ten times slower.
pub fn on_a_slow_machine() -> bool {
    Path::new("/run/vm").is_dir()
}

/// The case: some.
pub fn many() -> Outcome {
    let plan = if on_a_slow_machine() {
        Launches { sequential: 4, parallel: 10 }
    } else {
        Launches { sequential: 100, parallel: 40 }
    };
    launches(plan).map(drop)
}

/// By `launch` and by `run` of a bundle; how long they took.
pub fn launches(plan: Launches) -> Outcome<String> {
    let mut report = Vec::new();
    let launch = |_: usize| -> Outcome<Command> {
        let mut command = shell::launch(&[])?;
        command.arg("/bin/true");
        Ok(command)
    };
    report.push(road("launch", plan, &launch)?);
    let oci = Oci::new("many", "true")?;
    let ids = (0..plan.sequential.max(plan.parallel)).map(|n| oci.another(n)).collect::<Outcome<Vec<_>>>()?;
    let run = |number: usize| oci.command(&["run", "--bundle", &ids[number], &ids[number]]);
    report.push(road("run of a bundle", plan, &run)?);
    oci.nothing_is_left()?;
    Ok(report.join("\n"))
}

/// One way of launching; `command` for each number.
fn road(name: &str, plan: Launches, command: &(dyn Fn(usize) -> Outcome<Command> + Sync)) -> Outcome<String> {
    let one = |number: usize| -> Outcome<Duration> {
        let began = Instant::now();
        let output = run(&mut command(number)?)?;
        check!(output.code == 0 && output.stderr.is_empty(), "{name}, number {number}: {output:?}");
        Ok(began.elapsed())
    };
    let began = Instant::now();
    let sequential = (0..plan.sequential).map(one).collect::<Outcome<Vec<_>>>()?;
    let time = began.elapsed();
    nothing_left().doing(format!("{name}, one after the other"))?;
    let began = Instant::now();
    let parallel: Vec<Outcome<Duration>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.parallel).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let together = began.elapsed();
    let parallel = parallel.into_iter().collect::<Outcome<Vec<_>>>()?;
    check_eq!(parallel.len(), plan.parallel, "{name}: launches at once");
    nothing_left().doing(format!("{name}, {} at once", plan.parallel))?;
    Ok(format!(
        "{name}: {} one after the other in {:.1} s ({}), {} at once in {:.1} s ({}); nothing left",
        plan.sequential,
        time.as_secs_f64(),
        spread(sequential),
        plan.parallel,
        together.as_secs_f64(),
        spread(parallel),
    ))
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("median {:.0} ms, longest {:.0} ms", ms(times.get(times.len() / 2)), ms(times.last()))
}

/// Groups in any hierarchy, registrations, mounts, files of state and processes that bear the name of this case.
fn left() -> Outcome<Vec<String>> {
    let own = format!("e2e-{}-", std::process::id());
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        if line.contains(" - cgroup ") || line.contains(" - cgroup2 ") {
            named(Path::new(point), &own, 3, &mut found);
        } else if line.contains(&own) {
            found.push(line.to_owned());
        }
    }
    named(&daemon::shared("containers")?, &own, 0, &mut found);
    named(Path::new("/run/ownproc-run"), &own, 0, &mut found);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&own) {
            found.push(format!("process {}: {command}", entry.file_name().display()));
        }
    }
    Ok(found)
}

fn named(directory: &Path, name: &str, deeper: u32, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path().display().to_string());
        }
        if deeper > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            named(&entry.path(), name, deeper - 1, found);
        }
    }
}

fn nothing_left() -> Outcome {
    // what the kernel does with the last process of a namespace may take a moment longer than its end
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let found = left()?;
        if found.is_empty() {
            return Ok(());
        }
        check!(Instant::now() < until, "left behind: {}", found.join(", "));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whose launcher is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Launch,
    Create,
    Start,
    Run,
}

/// The case: some moments of each.
pub fn launchers_killed() -> Outcome {
    let count = if on_a_slow_machine() { 4 } else { 12 };
    launcher_kills(count, u64::from(std::process::id())).map(drop)
}

/// The launcher is killed at `count` random moments of each verb. The next launch of the same name, or `delete --force`, clears
/// what it has left; says how often that was anything.
pub fn launcher_kills(count: u64, seed: u64) -> Outcome<String> {
    let mut random = Random::new(seed);
    let oci = Oci::new("killed", "sleep 600")?;
    let mut report = Vec::new();
    for verb in [Verb::Launch, Verb::Create, Verb::Start, Verb::Run] {
        let name = if verb == Verb::Launch { shell::new_name() } else { oci.id.clone() };
        let mut times = Vec::new();
        for _ in 0..5 {
            prepare(&oci, verb)?;
            let began = Instant::now();
            let status = launcher(&oci, verb, &name)?.status()?;
            times.push(began.elapsed());
            check!(status.success(), "{verb:?} without a kill: {status}");
            clear(&oci, verb, &name)?;
        }
        times.sort();
        let median = times[2];
        let (mut killed, mut remains) = (0, 0);
        for _ in 0..count {
            prepare(&oci, verb)?;
            let moment = Duration::from_micros(random.below(u64::try_from(median.as_micros())?));
            let work = || -> Outcome<(bool, bool)> {
                let mut child = launcher(&oci, verb, &name)?.spawn()?;
                std::thread::sleep(moment);
                let _ = child.kill();
                let died = child.wait()?.code().is_none();
                let remained = verb != Verb::Start && !states(&oci, verb, &name).is_empty();
                clear(&oci, verb, &name)?;
                Ok((died, remained))
            };
            let (died, remained) = work().doing(format!("{verb:?} killed after {moment:?} (seed {seed})"))?;
            killed += u64::from(died);
            remains += u64::from(died && remained);
        }
        check!(
            killed > 0 && killed * 4 >= count,
            "{verb:?}: only {killed} of {count} were killed before their end"
        );
        report.push(format!(
            "{verb:?}: {killed} of {count} killed within {median:.1?}, {remains} left a state; all of it was cleared"
        ));
    }
    left_is_removed(&oci, &mut random, count)?;
    Ok(report.join("\n"))
}

/// What launchers leave that are killed early is gone after the next command, whatever that is.
fn left_is_removed(oci: &Oci, random: &mut Random, count: u64) -> Outcome {
    let states = oci.bundle.dir.join("left");
    let states = states.display().to_string();
    let launch = || -> Outcome<Command> {
        let mut command = crate::programs::ownproc_run()?;
        command.args(["--root", &states, "launch", "--name", &shell::new_name(), "--", "/bin/true"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    };
    let began = Instant::now();
    check!(launch()?.status()?.success(), "a launch without a kill");
    let whole = u64::try_from(began.elapsed().as_micros())?;
    let (mut children, mut left) = (Vec::new(), 0);
    for _ in 0..count {
        let mut child = launch()?.spawn()?;
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        let _ = child.kill();
        children.push(child.wait()?);
        left += std::fs::read_dir(&states).map_or(0, Iterator::count);
        super::eventually("its container has ended and the next command has cleared up", || {
            let listed =
                crate::output::run(crate::programs::ownproc_run()?.args(["--root", &states, "list"]))?;
            check!(listed.code == 0, "list: {listed:?}");
            Ok(std::fs::read_dir(&states)?.count() == 0)
        })?;
    }
    // of a few it may be none
    check!(left > 0 || count < 12, "no launcher of {count} left anything: {children:?}");
    Ok(())
}

fn launcher(oci: &Oci, verb: Verb, name: &str) -> Outcome<Command> {
    let mut command = match verb {
        Verb::Launch => {
            let mut command = shell::launch_named(name, &[])?;
            command.arg("/bin/true");
            command
        }
        Verb::Create => oci.command(&["create", name])?,
        Verb::Start => oci.command(&["start", name])?,
        Verb::Run => oci.command(&["run", "--detach", name])?,
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// What a verb needs to be there.
fn prepare(oci: &Oci, verb: Verb) -> Outcome {
    if verb == Verb::Start { oci.leave(&["create", &oci.id]) } else { Ok(()) }
}

/// Files and directories of state of that name.
fn states(oci: &Oci, verb: Verb, name: &str) -> Vec<PathBuf> {
    let directory =
        if verb == Verb::Launch { PathBuf::from("/run/ownproc-run") } else { oci.bundle.dir.join("states") };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(name)).collect()
}

fn clear(oci: &Oci, verb: Verb, name: &str) -> Outcome {
    if verb == Verb::Launch {
        let output: Output = run(launcher(oci, verb, name)?.stderr(Stdio::piped()))?;
        if output.code != 0 {
            fail!("the next launch of {name}: {output:?}");
        }
        return nothing_left();
    }
    oci.run(&["delete", "--force", name])?;
    oci.nothing_is_left()?;
    nothing_left()
}
