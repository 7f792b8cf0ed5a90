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

/// The names under a key of a summary.
fn names(summary: &serde_json::Value, key: &str) -> Outcome<BTreeSet<String>> {
    let names = summary.get(key).and_then(serde_json::Value::as_array).doing(key)?;
    Ok(names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
}

/// The names that were executed according to a summary file.
fn executed(file: &str) -> Outcome<BTreeSet<String>> {
    let text = std::fs::read_to_string(file).doing(file)?;
    let summary: serde_json::Value = serde_json::from_str(&text).doing(file)?;
    Ok(names(&summary, "passed")?.union(&names(&summary, "failed")?).cloned().collect())
}

fn compare(here: &str, vm: &str) -> Outcome<Vec<String>> {
    let all = cases::all();
    let listed = listed(&all)?;
    let (here, vm) = (executed(here)?, executed(vm)?);
    let mut wrong = Vec::new();
    // The whole list runs in the virtual machine; a case that ran nowhere shows nothing.
    for case in &all {
        if !vm.contains(case.name) {
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
