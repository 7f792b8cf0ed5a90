//! The twin test: a container of a size, and a virtual machine that really has it, compared file by file.
//!
//! `tests/run twin` does the steps: `twin container` in a machine of 4 CPUs, `tool collect` in one of 2, `twin compare` over
//! what both left. Which files are compared is what the container was served; what may differ is in [`rules`].

pub mod collect;
mod compare;
mod rules;
mod table;
mod text;

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::case::{Doing, Failure, Outcome, check};
use crate::programs;
use collect::{Collected, DISK};

/// `ownproc-e2e twin STEP ...`
pub fn main(words: &[&str]) -> ExitCode {
    let done = match words {
        ["container", file] => container(file),
        ["roots", file] => roots(file),
        ["compare", container, machine, page] => verdict(container, machine, page),
        _ => Err(Failure(format!("unknown step {words:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ownproc-e2e twin: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// `twin container FILE`: on the large machine, starts the container and collects inside.
fn container(file: &str) -> Outcome {
    let dir = Path::new(file).parent().doing(file)?.display().to_string();
    let launch = || -> Outcome<crate::output::Output> {
        let mut command: Command = programs::ownproc_run()?;
        command.args(["launch", "--name", "twin", "-m", "1G", "--memory-swap", "1536M", "--cpus", "2"]);
        command.args(["--cpuset-cpus", "0-1", "--cpuset-mems", "0", "-v", &programs::own_volume()?]);
        command.args(["-v", &format!("{DISK}:{DISK}"), "-v", &format!("{dir}:{dir}"), "--"]);
        command.args([programs::OWN_INSIDE, "tool", "collect", file]);
        crate::output::run(&mut command)
    };
    let mut done = launch()?;
    for _ in 0..2 {
        // The launcher and the daemon give each other a second, which an emulated machine may lose under load.
        if done.code == 125 {
            eprintln!("again: {}", done.stderr.trim());
            done = launch()?;
        }
    }
    done.ok().doing("the container")?;
    Ok(())
}

/// `twin roots FILE`: the roots that the other side has to collect.
fn roots(file: &str) -> Outcome {
    let collected = Collected::parse(&std::fs::read_to_string(file).doing(file)?)?;
    println!("{}", collected.roots().join("\n"));
    Ok(())
}

/// `twin compare CONTAINER MACHINE PAGE`: the verdict over two collections, and the table of PAGE held to it. With
/// `OWNPROC_UPDATE_GOLDEN` set the table is written.
fn verdict(container: &str, machine: &str, page: &str) -> Outcome {
    let read =
        |file: &str| -> Outcome<Collected> { Collected::parse(&std::fs::read_to_string(file).doing(file)?) };
    let (container, machine) = (read(container)?, read(machine)?);
    let mut failed: Vec<String> = Vec::new();
    if container.kernel != machine.kernel {
        failed.push(format!("two kernels: {} and {}", container.kernel, machine.kernel));
    }
    let report = compare::compare(&machine, &container, rules::RULES);
    failed.extend(report.problems.iter().cloned());
    let now = table::render(&report, rules::RULES, &machine.kernel);
    let text = std::fs::read_to_string(page).doing(page)?;
    let known = table::in_page(&text).doing(format!("the marks of the twin table in {page}"))?;
    // A rule for lines that another kernel does not have is no stale one.
    let same_kernel = known.lines().next() == now.lines().next();
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    if same_kernel || update {
        failed.extend(report.stale.iter().map(|rule| format!("stale rule: {rule}")));
    }
    if update {
        std::fs::write(page, table::replace(&text, &now).doing(page)?).doing(page)?;
    } else {
        let differences = table::differences(known, &now);
        if !differences.is_empty() {
            failed.push(format!("the table in {page} is another (OWNPROC_UPDATE_GOLDEN=1 writes it):"));
            failed.extend(differences);
        }
    }
    report.unserved.iter().for_each(|rule| println!("no such file is served: {rule}"));
    for row in report.rows.keys() {
        println!("ok {row}");
    }
    failed.iter().for_each(|problem| println!("FAILED {problem}"));
    println!("{} passed, {} failed", report.rows.len(), failed.len());
    check!(failed.is_empty(), "{} differences", failed.len());
    Ok(())
}
