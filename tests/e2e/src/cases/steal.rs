//! Time taken away by a quota is steal, as a VM on a busy hypervisor shows it; idle is what is left.

use std::time::Duration;

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_in};
use crate::daemon;
use crate::groups::Group;
use crate::parse::{CpuLine, Stat};
use crate::programs::{self, OWN_INSIDE};
use crate::shell::Shell;

pub const CASES: &[Row] = &[
    ("steal_two_burners_under_one_and_a_half_cpus", Nothing, two_burners),
    ("steal_ends_with_the_load", Nothing, ends_with_the_load),
    ("steal_is_not_shown_for_a_siblings_throttling", Nothing, sibling),
    ("steal_below_an_ancestors_quota", Nothing, ancestor),
    ("steal_none_while_idle", Nothing, idle),
];

/// The change of the `cpu` line over some seconds.
fn over(shell: &mut Shell, seconds: u64) -> Outcome<CpuLine> {
    let before = shell.stat()?.total;
    std::thread::sleep(Duration::from_secs(seconds));
    shell.stat()?.total.since(&before)
}

fn two_burners() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1.5"])?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 12 >/dev/null 2>&1 & sleep 1"))?;
    let samples = top_samples(&shell.run("top -b -d 2 -n 4")?)?;
    check!(samples.len() == 4, "four samples of top, got {samples:?}");
    // The first sample of top is the average since the start.
    for sample in &samples[1..] {
        check_in!(sample.used, 65.0..=80.0, "used % of two burners under 1.5 CPUs ({sample:?})");
        check_in!(sample.steal, 18.0..=33.0, "steal % of two burners under 1.5 CPUs ({sample:?})");
        check_in!(sample.idle, 0.0..=6.0, "idle % of two burners under 1.5 CPUs ({sample:?})");
    }
    Ok(())
}

#[derive(Debug)]
struct TopSample {
    used: f64,
    idle: f64,
    steal: f64,
}

fn top_samples(text: &str) -> Outcome<Vec<TopSample>> {
    let mut samples = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("%Cpu(s):")) {
        let share = |name: &str| -> Outcome<f64> {
            let part = line.split(',').find_map(|part| part.trim().strip_suffix(name));
            Ok(part.doing(format!("{name} in {line:?}"))?.trim().parse()?)
        };
        let used = share("us")? + share("sy")? + share("ni")?;
        samples.push(TopSample { used, idle: share("id")?, steal: share("st")? });
    }
    Ok(samples)
}

fn ends_with_the_load() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1.5"])?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 4 --seconds 4 >/dev/null"))?;
    std::thread::sleep(Duration::from_secs(1));
    let (used, idle, steal) = over(&mut shell, 2)?.percent();
    check_in!(idle, 94.0..=100.0, "idle % a second after the load (used {used}, steal {steal})");
    check_in!(steal, 0.0..=1.0, "steal % a second after the load");
    // What throttling piled up must not come out later either.
    let (_, idle, steal) = over(&mut shell, 3)?.percent();
    check_in!(idle, 94.0..=100.0, "idle % some seconds after the load (steal {steal})");
    Ok(())
}

/// Read from outside, through the container's own tree: a reader inside would wait for the quota that the sibling
/// has used up, and that wait is the container's own steal.
fn sibling() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_quota(50)?;
    let idle = Shell::launch(&["--cgroup-parent", &parent.path()])?;
    let mut burner = Shell::in_group(&parent.child("other")?)?;
    let file = daemon::shared(&format!("containers/{}/proc/stat", idle.name()))?;
    let sample = || -> Outcome<CpuLine> {
        Ok(Stat::parse(&std::fs::read_to_string(&file).doing(file.display())?)?.total)
    };
    burner.run(&format!("{} tool burn --threads 2 --seconds 8 >/dev/null 2>&1 &", programs::own()?))?;
    std::thread::sleep(Duration::from_secs(1));
    let before = sample()?;
    std::thread::sleep(Duration::from_secs(4));
    let (used, idle, steal) = sample()?.since(&before)?.percent();
    check_in!(steal, 0.0..=1.0, "steal % of a container whose sibling burns (used {used}, idle {idle})");
    check_in!(idle, 98.0..=100.0, "idle % of a container whose sibling burns (used {used}, steal {steal})");
    Ok(())
}

fn ancestor() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_quota(50)?;
    let leaf = parent.child("leaf")?;
    let mut reader = Shell::in_group(&leaf)?;
    reader.stat()?;
    reader.run(&format!("{} tool burn --threads 1 --seconds 8 >/dev/null 2>&1 &", programs::own()?))?;
    let (used, idle, steal) = over(&mut reader, 4)?.percent();
    check_in!(used, 40.0..=60.0, "used % of a burner below half a CPU (idle {idle}, steal {steal})");
    check_in!(steal, 38.0..=60.0, "steal % of a burner below half a CPU (idle {idle})");
    Ok(())
}

fn idle() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1"])?;
    let (used, idle, steal) = over(&mut shell, 2)?.percent();
    check_in!(idle, 92.0..=100.0, "idle % of an idle container (used {used}, steal {steal})");
    check_in!(steal, 0.0..=2.0, "steal % of an idle container");
    Ok(())
}
