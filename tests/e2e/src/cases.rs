//! The list of cases, by theme.

mod cli;
mod cpu;
mod lifecycle;
mod live;
mod memory;
mod programs;
mod safety;
mod same_bytes;
mod steal;
mod time;
mod tree;

use crate::case::Case;

/// All cases, in the order in which they run.
pub fn all() -> Vec<Case> {
    let themes = [
        memory::CASES,
        cpu::CASES,
        steal::CASES,
        time::CASES,
        live::CASES,
        tree::CASES,
        same_bytes::CASES,
        programs::CASES,
        safety::CASES,
        lifecycle::CASES,
        cli::CASES,
    ];
    let mut all = Vec::new();
    for theme in themes {
        all.extend(theme.iter().map(|&(name, needs, run)| Case { name, needs, run }));
    }
    all
}

/// A row of a theme: name, what the machine must have, the case.
type Row = (&'static str, crate::case::Needs, fn() -> crate::case::Outcome);
