//! The list of cases, by theme.

mod attach;
mod cli;
pub mod clients;
mod clocks;
mod confine;
mod cpu;
mod doctor;
mod hostile;
mod hostless;
mod io;
mod lifecycle;
mod live;
mod load;
mod memory;
mod node;
pub mod oci;
mod pages;
mod policy;
mod pressure;
mod safety;
mod same_bytes;
mod steal;
mod stored;
mod survive;
mod sysinfo;
mod time;
mod tree;
mod truth;

use crate::case::Case;
pub use live::again;

/// All cases, in the order in which they run.
pub fn all() -> Vec<Case> {
    let themes = [
        memory::CASES,
        pages::CASES,
        truth::CASES,
        cpu::CASES,
        steal::CASES,
        io::CASES,
        pressure::CASES,
        time::CASES,
        clocks::CASES,
        node::CASES,
        live::CASES,
        policy::CASES,
        load::CASES,
        tree::CASES,
        same_bytes::CASES,
        hostless::CASES,
        safety::CASES,
        confine::CASES,
        hostile::CASES,
        lifecycle::CASES,
        attach::CASES,
        oci::CASES,
        sysinfo::CASES,
        survive::CASES,
        stored::CASES,
        doctor::CASES,
        cli::CASES,
        clients::CASES,
    ];
    let mut all = Vec::new();
    for theme in themes {
        all.extend(theme.iter().map(|&(name, needs, run)| Case { name, needs, run }));
    }
    all
}

/// A row of a theme: name, what the machine must have, the case.
type Row = (&'static str, crate::case::Needs, fn() -> crate::case::Outcome);
