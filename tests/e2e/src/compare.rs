//! Whether two machines executed the same list of cases, beyond what `only-in-vm.tsv` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use crate::case::{Case, Doing, Outcome, check};
use crate::cases;

/// Cases that need more than every test machine has, each with the reason.
const ONLY_IN_VM: &str = include_str!("../only-in-vm.tsv");

/// The lines of `only-in-vm.tsv`: case and reason. Every line must name a case and give a reason.
pub fn listed(all: &[Case]) -> Outcome<BTreeMap<&'static str, &'static str>> {
    let mut listed = BTreeMap::new();
    for line in ONLY_IN_VM.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, reason) = line.split_once('\t').doing(format!("only-in-vm.tsv: no reason in {line:?}"))?;
        check!(all.iter().any(|case| case.name == name), "only-in-vm.tsv: no case is named {name}");
        check!(!reason.trim().is_empty(), "only-in-vm.tsv: no reason for {name}");
        listed.insert(name, reason);
    }
    Ok(listed)
}

/// Long cases of which the virtual machine runs one half for each commit.
const IN_TURN: &str = include_str!("../in-turn.tsv");

/// The cases that a half leaves out.
pub fn of_the_other_half(all: &[Case], half: usize) -> Outcome<BTreeSet<&'static str>> {
    let names = IN_TURN.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let others: BTreeSet<_> =
        names.enumerate().filter(|(place, _)| place % 2 != half).map(|(_, name)| name).collect();
    for name in &others {
        check!(all.iter().any(|case| case.name == *name), "in-turn.tsv: no case is named {name}");
    }
    Ok(others)
}

/// The names under a key of a summary.
fn names(summary: &serde_json::Value, key: &str) -> Outcome<BTreeSet<String>> {
    let names = summary.get(key).and_then(serde_json::Value::as_array).doing(key)?;
    Ok(names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
}

fn summary(file: &str) -> Outcome<serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(file).doing(file)?).doing(file)
}

/// The names that were executed according to a summary.
fn executed(summary: &serde_json::Value) -> Outcome<BTreeSet<String>> {
    Ok(names(summary, "passed")?.union(&names(summary, "failed")?).cloned().collect())
}

fn compare(here: &str, vm: &str) -> Outcome<Vec<String>> {
    let all = cases::all();
    let listed = listed(&all)?;
    let (here, vm) = (summary(here)?, summary(vm)?);
    let others = match vm.get("half").and_then(serde_json::Value::as_u64) {
        Some(half) => of_the_other_half(&all, usize::try_from(half)?)?,
        None => BTreeSet::new(),
    };
    let (here, vm) = (executed(&here)?, executed(&vm)?);
    let mut wrong = Vec::new();
    // The whole list runs in the virtual machine, but for one half of those that take turns; a case that ran nowhere shows nothing.
    for case in &all {
        if !vm.contains(case.name) && !others.contains(case.name) {
            wrong.push(format!("{} was not executed in the virtual machine", case.name));
        }
        if !here.contains(case.name) && !listed.contains_key(case.name) {
            wrong.push(format!(
                "{} was not executed on this machine, and only-in-vm.tsv does not list it",
                case.name
            ));
        }
    }
    println!("executed here {}, in the virtual machine {}", here.len(), vm.len());
    if !others.is_empty() {
        println!(
            "here only: {} cases that are run there with every second commit (in-turn.tsv)",
            others.len()
        );
    }
    for name in vm.difference(&here) {
        println!(
            "in the virtual machine only: {name}: {}",
            listed.get(name.as_str()).unwrap_or(&"not listed")
        );
    }
    Ok(wrong)
}

/// Compares two summaries; prints what differs and a closing line.
pub fn main(here: &str, vm: &str) -> ExitCode {
    match compare(here, vm) {
        Ok(wrong) => {
            wrong.iter().for_each(|what| println!("FAILED {what}"));
            println!("{} passed, {} failed", u8::from(wrong.is_empty()), wrong.len());
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            println!("FAILED {failure}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_are_all_and_each_is_run_here() {
        let all = cases::all();
        let halves = [0, 1].map(|half| of_the_other_half(&all, half).unwrap());
        assert!(halves[0].is_disjoint(&halves[1]));
        let lines = IN_TURN.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        assert_eq!(halves[0].len() + halves[1].len(), lines);
        // What runs in the virtual machine alone would run nowhere.
        let only_there = listed(&all).unwrap();
        for name in halves.iter().flatten() {
            assert!(!only_there.contains_key(name), "{name}");
        }
    }
}
