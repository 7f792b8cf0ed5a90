//! End-to-end tests of ownproc on a real kernel.
//!
//! One list of cases ([`cases::all`]) runs on every machine: cgroup v1 or hybrid here, v2 in the machine of `tests/vm`.
//!
//! ```text
//! ownproc-e2e [--list] [--only quick|cgroup [--others K/N]] [--except quick|cgroup] [--part K/N] [FILTER]...
//!                                                  run the cases whose names contain a FILTER: see select.rs
//! ownproc-e2e one CASE                             run one case in this process
//! ownproc-e2e clients RECORD...                    print CLIENTS.md from what both machines recorded
//! ownproc-e2e soak counters [--minutes M] [--seed N]       the long run of counters_never_go_down
//! ownproc-e2e soak hostile [--minutes M] [--attack NAME]   how long a hostile container's neighbour waits
//! ownproc-e2e soak launches|launcher-kills ...             many launches, and launchers that are killed: see soak.rs
//! ownproc-e2e soak kills|upgrades ...                      workers end while many read: see soak.rs
//! ownproc-e2e twin STEP ...                        a container and a machine of its size: see `tests/run twin`
//! ownproc-e2e systemd UNIT                         the service under a real systemd: see `tests/run systemd`
//! ownproc-e2e tool NAME ...                        the test programs that run inside containers
//! ```
//!
//! The programs under test stand beside this one, or in `OWNPROC_BIN_DIR`. A case fails where a program or a right is
//! missing. Only a case of `only-in-vm.tsv` may be left out, on a machine with too few CPUs or no swap; the closing line
//! counts it as skipped.

mod bundle;
mod case;
mod cases;
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
mod select;
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
