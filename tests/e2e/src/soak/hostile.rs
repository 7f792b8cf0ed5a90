//! `soak hostile [--minutes M] [--attack NAME]`: a victim's reads are timed while another container attacks the virtual
//! files, and while it does the same to the kernel's own: both runs have the same load of the same program, and what is
//! between them is the daemon's.

use std::time::Duration;

use crate::case::{Doing, Outcome, check};
use crate::groups;
use crate::hostile::{Held, Stage, Target};
use crate::tools::hostile::ATTACKS;
use crate::tools::latency::Times;

/// Each attack is run so often on either target, in turns, so that a disturbance of the machine hits both.
const TURNS: u32 = 3;

/// Runs all attacks, or one; the report.
pub fn by_hand(time: Duration, attack: Option<&str>) -> Outcome<String> {
    let mut attacks: Vec<&str> = ATTACKS.iter().map(|(name, _)| *name).chain(["all"]).collect();
    if let Some(one) = attack {
        attacks.retain(|name| *name == one);
        check!(!attacks.is_empty(), "no attack is named {one}");
    }
    crate::harness::own_mount_namespace()?;
    let report = run(time, &attacks);
    groups::remove_all_of(std::process::id());
    report
}

fn run(time: Duration, attacks: &[&str]) -> Outcome<String> {
    let mut stage = Stage::new("soak", &[])?;
    let piece = time / (2 * TURNS * u32::try_from(attacks.len())?);
    let (before, _) = stage.held();
    let idle = stage.victim_reads(piece.max(Duration::from_secs(2)))?;
    println!("{:>16} {:>10}  {}   {}   p50   p99", "attack", "operations", head("kernel's"), head("ours"));
    println!("{:>16} {:>10}  {:30}   {}", "none", "", "", row(&idle));
    let mut worst = (0.0_f64, 0.0_f64);
    let mut most = before;
    for attack in attacks {
        let (mut kernels, mut ours, mut operations) = (Times::default(), Times::default(), 0);
        for _ in 0..TURNS {
            kernels.add(&stage.reads_under(attack, Target::Kernels, piece).doing(attack)?.0);
            let (times, done) = stage.reads_under(attack, Target::Ours, piece).doing(attack)?;
            ours.add(&times);
            operations += done;
            stage.check_alive().doing(attack)?;
        }
        stage.check_views().doing(attack)?;
        let (_, peak) = stage.held();
        most = Held { rss: most.rss.max(peak.rss), fds: most.fds.max(peak.fds) };
        let ratio = |share| f64::from(ours.quantile(share)) / f64::from(kernels.quantile(share).max(1));
        let ratios = (ratio(0.5), ratio(0.99));
        worst = (worst.0.max(ratios.0), worst.1.max(ratios.1));
        println!(
            "{attack:>16} {operations:>10}  {}   {}  {:4.1}x {:4.1}x   {} MiB, {} fds",
            row(&kernels),
            row(&ours),
            ratios.0,
            ratios.1,
            peak.rss >> 10,
            peak.fds
        );
    }
    let (after, _) = stage.held();
    stage.end()?;
    Ok(format!(
        "the daemon lived on; RSS {} KiB before, {} at most, {} after; descriptors {}, {}, {}; worst ratio of the victim's \
         times {:.1} (p50), {:.1} (p99)",
        before.rss, most.rss, after.rss, before.fds, most.fds, after.fds, worst.0, worst.1
    ))
}

fn head(of: &str) -> String {
    format!("{:30}", format!("{of}: n, p50, p99, max (us)"))
}

fn row(times: &Times) -> String {
    format!(
        "{:>6} {:>6} {:>7} {:>8}",
        times.len(),
        times.quantile(0.5),
        times.quantile(0.99),
        times.quantile(1.0)
    )
}
