//! End-to-end tests of ownproc on a real kernel.
//!
//! One list of cases ([`cases::all`]) runs on every machine: cgroup v1 or hybrid here, v2 in the machine of `tests/vm`.
//!
//! ```text
//! ownproc-e2e [--list] [--json-summary FILE] [FILTER]...   run the cases whose names contain a FILTER
//! ownproc-e2e one CASE                                     run one case in this process
//! ownproc-e2e compare HERE VM                              two summaries: did both machines execute the same list?
//! ownproc-e2e tool NAME ...                                the test programs that run inside containers
//! ```
//!
//! The programs under test stand beside this one, or in `OWNPROC_BIN_DIR`. Nothing is skipped for want of a program or
//! a right: the case fails. Only what `only-in-vm.tsv` lists stays out on a machine with too few CPUs or no swap.

mod case;
mod cases;
mod compare;
mod daemon;
mod groups;
mod harness;
mod output;
mod parse;
mod programs;
mod shell;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tool", rest @ ..] => tools::main(rest),
        ["one", name] => harness::run_here(name),
        ["compare", here, vm] => compare::main(here, vm),
        _ => harness::main(&words),
    }
}
