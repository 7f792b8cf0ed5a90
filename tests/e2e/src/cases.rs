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
pub mod kept;
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

/// Themes whose subject depends on the cgroup version: limits, usage, pressure, cgroup files, and who is in which cgroup.
const OF_CGROUPS: &[&[Row]] = &[
    memory::CASES,
    pages::CASES,
    truth::CASES,
    cpu::CASES,
    steal::CASES,
    io::CASES,
    pressure::CASES,
    node::CASES,
    live::CASES,
    load::CASES,
    policy::OF_CGROUPS,
    time::OF_CGROUPS,
    tree::OF_CGROUPS,
    safety::OF_CGROUPS,
    hostile::OF_CGROUPS,
    lifecycle::OF_CGROUPS,
    attach::OF_CGROUPS,
    oci::OF_CGROUPS,
    sysinfo::OF_CGROUPS,
    kept::OF_CGROUPS,
    cli::OF_CGROUPS,
    clients::OF_CGROUPS,
];

/// All other themes: the life of the daemon, FUSE, mounts, namespaces, rights, time.
const OTHERS: &[&[Row]] = &[
    policy::CASES,
    time::CASES,
    clocks::CASES,
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
    kept::CASES,
    doctor::CASES,
    cli::CASES,
    clients::CASES,
];

/// All cases, in the order in which they run.
pub fn all() -> Vec<Case> {
    let case = |on_cgroups| move |&(name, needs, run): &Row| Case { name, on_cgroups, needs, run };
    let of = |themes: &'static [&[Row]]| themes.iter().copied().flatten();
    of(OF_CGROUPS).map(case(true)).chain(of(OTHERS).map(case(false))).collect()
}

/// A row of a theme: name, what the machine must have, the case.
type Row = (&'static str, crate::case::Needs, fn() -> crate::case::Outcome);

#[cfg(test)]
mod tests {
    use super::*;

    /// What README's table of runtimes says of ours is shown by tests of these names.
    #[test]
    fn readme_names_tests_that_there_are() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
        let (readme, launch) = (read("README.md"), read("container-glue/tests/launch.rs"));
        let section = readme.split("## What the runtimes can do").nth(1).expect("the section");
        let section = section.split("\n## ").next().expect("its end");
        let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| | "));
        let cases: Vec<&str> = all().iter().map(|case| case.name).collect();
        let mut names = 0;
        for row in rows {
            let ours = row.split('|').nth(2).expect("a second column");
            let named: Vec<&str> = ours.split('`').skip(1).step_by(2).collect();
            let says_why = ["none yet", "all cases run on hybrid and v2"].contains(&ours.trim());
            assert!(!named.is_empty() || says_why, "no test is named: {row}");
            for name in named {
                let known =
                    cases.contains(&name) || launch.contains(&format!("fn {name}()")) || name == "systemd";
                assert!(known, "no test is named {name}");
                names += 1;
            }
        }
        assert!(names > 40, "{names}");
    }
}
