//! What a run has shown.

use ownproc::control::WorkerInfo;

use super::ends::{Ends, Mode};
use super::kills::Plan;
use super::tally::{Fault, Spread, Tally};
use crate::case::{Outcome, check, check_eq};

/// A stall that overlaps the time from a kill to so long after the next worker was told to take over is put down to it.
const AFTERMATH: u64 = 60_000;

/// Fails where anything was noticed; else tells the figures.
pub fn of(
    plan: &Plan,
    readers: usize,
    began: u64,
    ends: &Ends<'_>,
    (before, after): (&WorkerInfo, &WorkerInfo),
    tally: Tally,
) -> Outcome<String> {
    let all = &ends.all;
    let with_requests = all.iter().filter(|end| end.in_flight > 0).count();
    let starting = all.iter().filter(|end| end.starting).count();
    let in_kill =
        |(at, took): &&(u64, u64)| all.iter().any(|end| *at <= end.next + AFTERMATH && at + took >= end.at);
    let calm = Spread::of(tally.stalls.iter().filter(|(at, took)| at + took < began).map(|(_, took)| *took));
    let stalls =
        Spread::of(tally.stalls.iter().filter(|(at, took)| at + took >= began).map(|(_, took)| *took));
    let (near, far): (Vec<_>, Vec<_>) =
        tally.stalls.iter().filter(|(at, took)| at + took >= began).partition(in_kill);
    let each = Spread::of(all.iter().map(|end| {
        let over = |(at, took): &&(u64, u64)| *at <= end.next + 1000 && at + took >= end.at;
        tally.stalls.iter().filter(over).map(|(_, took)| *took).max().unwrap_or(0)
    }));
    let gaps = Spread::of(all.iter().map(|end| end.next - end.at));
    let report = format!(
        "{} ends by {:?} (seed {}, {starting} of them in the first 5 ms of a worker), {readers} readers, {} texts, {} calls: {}\n\
         in flight: {with_requests} of {} ends with a request taken and not answered; the daemon counted {} requests in flight at {} deaths, \
         {} sent again by the kernel and seen by a new worker, {} interrupted, {} answered plainly\n\
         calls above 2 ms before the first end: {calm}\n\
         calls above 2 ms since: {stalls}; of these around an end: {}; else: {}\n\
         longest call over each end: {each}\n\
         from the end of one worker to the order to the next: {gaps}{}",
        all.len(),
        plan.mode,
        plan.seed,
        tally.all_snapshots(),
        tally.calls,
        tally.faults(),
        all.len(),
        after.in_flight_at_deaths - before.in_flight_at_deaths,
        after.deaths - before.deaths,
        after.resent - before.resent,
        after.interrupted - before.interrupted,
        after.plain_answers - before.plain_answers,
        Spread::of(near.iter().map(|(_, took)| *took)),
        Spread::of(far.iter().map(|(_, took)| *took)),
        if plan.no_resend { "\nno request is sent again here" } else { "" },
    );
    let examples: Vec<String> = tally
        .examples
        .iter()
        .map(|(at, what)| {
            let since = all.iter().rev().find(|end| end.at <= *at);
            let since =
                since.map_or_else(|| "before any".to_owned(), |end| format!("{} us after an", at - end.at));
            format!("  {since} end: {}", what.chars().take(240).collect::<String>())
        })
        .collect();
    let said = format!("{report}\n{}", examples.join("\n"));
    for (reader, count) in &tally.snapshots {
        // Emulated machines read slowly; that nobody was stuck shows.
        check!(*count >= all.len() as u64 / 10, "{reader} has read {count} texts only\n{said}");
    }
    check!(!after.degraded, "the host's files are served at the end\n{said}");
    let (deaths, ended) = (after.deaths - before.deaths, all.len() as u64);
    match plan.mode {
        Mode::Upgrade => {
            check_eq!(deaths, 0, "deaths that the daemon counted\n{said}");
            check_eq!(after.upgrades - before.upgrades, ended, "upgrades\n{said}");
        }
        _ => {
            // One that starts while memory is short is killed again; panics go on until the daemon ends.
            let more = matches!(plan.mode, Mode::Memory | Mode::Panic) && deaths > ended;
            check!(deaths == ended || more, "{deaths} deaths that the daemon counted\n{said}");
            check!(with_requests * 2 >= all.len(), "fewer than half with a request in flight\n{said}");
        }
    }
    for fault in [Fault::Torn, Fault::Fell, Fault::Wrong] {
        check_eq!(tally.count(fault), 0, "{fault:?}\n{said}");
    }
    // One that is replaced answers what it has read before it goes.
    if plan.no_resend && plan.mode != Mode::Upgrade {
        let interrupted = after.interrupted - before.interrupted;
        check_eq!(
            tally.count(Fault::Failed),
            tally.failed_with(libc::EINTR),
            "reads that failed, of these with EINTR\n{said}"
        );
        // A worker may be killed between telling a request and counting it, and the test program's own open may be tried again.
        let failed = tally.count(Fault::Failed);
        check!(
            failed.abs_diff(interrupted) <= 2,
            "{failed} reads that failed, and {interrupted} requests in flight that were interrupted\n{said}"
        );
    } else {
        check_eq!(tally.count(Fault::Failed), 0, "reads that failed\n{said}");
        // Of few ends each may have come between an answer and the worker's note that it was given; a panic never does.
        let expected = plan.mode == Mode::Panic || (plan.mode != Mode::Upgrade && all.len() >= 10);
        check!(!expected || after.resent > before.resent, "no request was sent again\n{said}");
    }
    Ok(said)
}
