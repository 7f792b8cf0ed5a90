//! End-to-end tests of ownproc on a real kernel.
//!
//! One list of cases ([`cases::all`]) runs on every machine: cgroup v1 or hybrid here, v2 in the machine of `tests/vm`.
//!
//! ```text
//! ownproc-e2e [--list] [--json-summary FILE] [--half 0|1] [FILTER]...
//!                                                          run the cases whose names contain a FILTER
//! ownproc-e2e one CASE                                     run one case in this process
//! ownproc-e2e compare HERE VM                              two summaries: did both machines execute the same list?
//! ownproc-e2e clients RECORD...                            prints CLIENTS.md from what was recorded on both machines
//! ownproc-e2e soak counters [--minutes M] [--seed N]       the long run of counters_never_go_down
//! ownproc-e2e soak hostile [--minutes M] [--attack NAME]   a hostile container's neighbour: how long its reads take
//! ownproc-e2e soak launches|launcher-kills ...          many launches, and launchers that are killed: see soak.rs
//! ownproc-e2e soak kills|upgrades ...                      workers end while many read: see soak.rs
//! ownproc-e2e twin STEP ...                               a container and a machine of its size: see `tests/run twin`
//! ownproc-e2e systemd UNIT                                 the service under a real systemd: see `tests/run vm`
//! ownproc-e2e tool NAME ...                                the test programs that run inside containers
//! ```
//!
//! The programs under test stand beside this one, or in `OWNPROC_BIN_DIR`. Nothing is skipped for want of a program or
//! a right: the case fails. Only what `only-in-vm.tsv` lists stays out on a machine with too few CPUs or no swap, and with
//! `--half` every second one of `in-turn.tsv`.

mod bundle;
mod case;
mod cases;
mod compare;
mod daemon;
mod groups;
mod harness;
mod hostile;
mod hostless;
mod manager;
mod output;
mod parse;
mod programs;
mod readers;
mod shell;
mod soak;
mod systemd;
mod tools;
mod twin;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tool", rest @ ..] => tools::main(rest),
        ["one", name] => harness::run_here(name),
        ["soak", rest @ ..] => soak::main(rest),
        ["compare", here, vm] => compare::main(here, vm),
        ["twin", rest @ ..] => twin::main(rest),
        ["systemd", unit] => systemd::main(unit),
        ["clients", records @ ..] => cases::clients::page::main(records),
        // Put into the program's place by `soak upgrades`, and run as a worker: one that never gets ready.
        ["serve", ..] => loop {
            std::thread::park();
        },
        _ => harness::main(&words),
    }
}
