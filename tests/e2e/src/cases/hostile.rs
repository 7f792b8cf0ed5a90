//! Containers that mean harm: the daemon lives on, holds no more than it says, and shows everybody their own.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon::{Daemon, fresh_mount_point};
use crate::hostile::{Stage, Target};
use crate::programs::{self, OWN_INSIDE};
use crate::soak::injected::Rules;
use crate::tools::hostile::{ATTACKS, OF_GROUPS};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[("hostile_groups_leave_descriptors_for_others", Nothing, groups)];

/// All others.
pub const CASES: &[Row] = &[
    ("hostile_attacks_one_by_one", Nothing, one_by_one),
    ("hostile_attacks_all_at_once", Nothing, all_at_once),
    ("hostile_open_files_are_bounded", Nothing, open_files),
    ("hostile_container_of_the_launcher", Nothing, launched),
    ("hostile_writer_where_triggers_are_on", Nothing, writer),
    ("hostile_slow_reads_hold_up_nobody_else", Nothing, slow_reads),
];

/// Open files that one container may have (`src/fs/tree.rs`).
const MOST_OPEN: u64 = 4096;
/// A daemon's memory under attacks other than hoarding stays within this of what it was before, in KiB.
const MORE_RSS: u64 = 32 << 10;
/// And its descriptors within this.
const MORE_FDS: u64 = 600;
/// Groups that nobody registered and that came and went: up to 1024 are remembered (`VIEWS` of `src/containers/resolve.rs`),
/// each with its descriptors in every hierarchy.
const GROUPS_FDS: u64 = 1024 * 40;
/// What is remembered of them, in KiB.
const GROUPS_RSS: u64 = 64 << 10;

fn one_by_one() -> Outcome {
    let mut stage = Stage::new("one-by-one", &[])?;
    let (before, _) = stage.held();
    // Those of groups stand last: what they leave is not the others'.
    for (attack, _) in ATTACKS.iter().filter(|(name, _)| *name != "hoard") {
        stage.attack(attack, Target::Ours, Duration::from_millis(700))?;
        stage.check_alive().doing(attack)?;
        stage.check_views().doing(attack)?;
        let (_, peak) = stage.held();
        let (rss, fds) =
            if OF_GROUPS.contains(attack) { (GROUPS_RSS, GROUPS_FDS) } else { (MORE_RSS, MORE_FDS) };
        check_in!(peak.rss, 0..=before.rss + rss, "RSS in KiB under {attack}, {before:?} before");
        check_in!(peak.fds, 0..=before.fds + fds, "descriptors under {attack}, {before:?} before");
    }
    stage.end()
}

fn all_at_once() -> Outcome {
    let mut stage = Stage::new("at-once", &[])?;
    let (before, _) = stage.held();
    let (times, _) = stage.reads_under("all", Target::Ours, Duration::from_secs(6))?;
    check!(times.len() > 20, "the victim read only {} files in 6 s", times.len());
    stage.check_alive()?;
    stage.check_views()?;
    let (_, peak) = stage.held();
    let hoarded = MOST_OPEN * LONGEST_KIB;
    check_in!(peak.rss, 0..=before.rss + GROUPS_RSS + hoarded, "RSS in KiB, {before:?} before");
    check_in!(peak.fds, 0..=before.fds + GROUPS_FDS, "descriptors, {before:?} before");
    stage.end()
}

/// The most that one open file costs, in KiB: its text (on this many CPUs zoneinfo is the longest) and what goes with it.
const LONGEST_KIB: u64 = 32;

fn open_files() -> Outcome {
    let mut stage = Stage::new("open-files", &[])?;
    let (before, _) = stage.held();
    let (asked, said) = stage.attack("hoard-once", Target::Ours, Duration::from_secs(90))?;
    let open: u64 = said.strip_prefix("open at once: ").doing(&said)?.parse().doing(&said)?;
    check_eq!(open, MOST_OPEN, "files open at once ({asked} asked for)");
    check!(asked > MOST_OPEN, "only {asked} opens were tried");
    stage.check_alive()?;
    stage.check_views()?;
    let (_, peak) = stage.held();
    check_in!(peak.rss, 0..=before.rss + MORE_RSS + MOST_OPEN * LONGEST_KIB, "RSS in KiB, {before:?} before");
    check_in!(peak.fds, 0..=before.fds + MORE_FDS, "descriptors, {before:?} before");
    // What was hoarded is given back.
    let (mut after, _) = stage.held();
    for _ in 0..50 {
        if after.rss <= before.rss + MORE_RSS {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        after = stage.held().0;
    }
    check_in!(after.rss, 0..=before.rss + MORE_RSS, "RSS in KiB after all were closed, {before:?} before");
    stage.end()
}

/// Groups that come and go hold no more than half of the descriptors that the daemon can have, here few: nobody's reads fail.
fn groups() -> Outcome {
    const DESCRIPTORS: u64 = 1500;
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")).arg(programs::ownproc()?.get_program());
    let mut stage = Stage::by(limited, "groups", &[])?;
    // Each of a hundred cgroups holds some forty descriptors. An emulated machine takes 20 s to make them.
    let (mut operations, mut reads) = (0, 0);
    for _ in 0..10 {
        let (times, done) = stage.reads_under("delete-group", Target::Ours, Duration::from_secs(3))?;
        operations += done;
        reads += times.len();
        if operations > 400 && reads > 20 {
            break;
        }
    }
    check!(operations > 400 && reads > 20, "{operations} operations, {reads} reads of the victim");
    stage.check_alive()?;
    stage.check_views()?;
    stage.end()
}

/// The same from inside a container of the launcher's: fewer rights, and the files are binds over its own /proc.
fn launched() -> Outcome {
    let mut stage = Stage::new("launched", &[])?;
    let mut hostile = Stage::launched(stage.mount(), &["-m", "300M", "--cpus", "1"])?;
    for (attack, _) in ATTACKS.iter().filter(|(name, _)| !OF_GROUPS.contains(name)) {
        hostile.run(&format!("{OWN_INSIDE} tool hostile {attack} /proc 0.4"))?;
        stage.check_alive().doing(attack)?;
    }
    check_eq!(hostile.meminfo()?.get("MemTotal"), 300 << 10, "the hostile container's MemTotal");
    check_eq!(hostile.finish()?, 0, "exit code of the hostile container");
    stage.check_views()?;
    stage.end()
}

/// Where files can be written to, more of the calls reach the daemon: times, modes, truncation, names.
fn writer() -> Outcome {
    let mut stage = Stage::new("writer", &["--psi-triggers"])?;
    for attack in ["write", "ioctl", "poll-storm", "o-path", "splice", "names"] {
        stage.attack(attack, Target::Ours, Duration::from_secs(1))?;
        stage.check_alive().doing(attack)?;
    }
    stage.check_views()?;
    stage.end()
}

/// How long each read of one file takes, on purpose; none that the attacks read.
const SLOW: Duration = Duration::from_millis(100);
const SLOW_FILE: &str = "proc/locks";

/// Sixteen readers of one container, each of whose reads takes a tenth of a second, half of them on one descriptor: another container
/// reads as ever.
fn slow_reads() -> Outcome {
    let mount = fresh_mount_point("slow-reads");
    let before = Daemon::start(mount.clone())?;
    let ino = std::fs::metadata(mount.join(SLOW_FILE)).doing(SLOW_FILE)?.ino();
    before.stop()?;
    let rules = Rules::new()?;
    rules.set(&format!("slow read {ino} {}", SLOW.as_millis()))?;
    let mut command = programs::ownproc()?;
    rules.give(&mut command);
    let mut stage = Stage::by(command, "slow-reads", &[])?;
    let time = Duration::from_secs(2);
    let idle = stage.victim_reads(time)?;
    let slow = mount.join(SLOW_FILE);
    let slow = slow.display();
    let began = Instant::now();
    stage.hostile().run(&format!("cat {slow}"))?;
    check!(began.elapsed() >= SLOW, "the fault is not there: a build without debug assertions?");
    stage.hostile().run(&format!(
        "exec 9< {slow}; for i in 1 2 3 4 5 6 7 8; do (cat {slow} {slow} {slow}) & (cat <&9; cat <&9; cat <&9) & done"
    ))?;
    let times = stage.victim_reads(time)?;
    stage.hostile().run("wait")?;
    let (most, was) = (times.quantile(0.99), idle.quantile(0.99));
    println!("p99 {most} us under slow reads, {was} us idle");
    let limit = was.saturating_mul(2).saturating_add(u32::try_from(SLOW.as_micros())? / 4);
    check_in!(most, 0..=limit, "the victim's p99 in microseconds (idle: {was}), of {} reads", times.len());
    stage.check_alive()?;
    stage.end()
}
