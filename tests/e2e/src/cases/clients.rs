//! Real programs in a container of known limits: what each prints, what it should print, and why some cannot be right.
//!
//! The rows are in tables ([`memory`], [`cpus`], [`runtimes`], [`devices`], [`monitors`], [`time`]), one case for each table and
//! container, since a container that runs many programs costs one launch. `CLIENTS.md` shows the rows.

mod cpus;
mod devices;
mod facts;
mod memory;
mod monitors;
pub mod page;
mod record;
mod run;
mod runtimes;
mod table;
mod take;
mod time;

use self::run::run;
use self::table::{Container, Program};
use super::Row;
use crate::case::Needs::{Cpus, Nothing};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("clients_memory", Nothing, || run(memory::PROGRAMS, Container::Quota)),
    ("clients_cpus_under_a_quota", Cpus(2), || run(cpus::PROGRAMS, Container::Quota)),
    ("clients_cpus_with_a_cpuset", Cpus(2), || run(cpus::PROGRAMS, Container::Cpuset)),
    ("clients_runtimes_under_a_quota", Cpus(2), || run(runtimes::PROGRAMS, Container::Quota)),
    ("clients_devices", Nothing, || run(devices::PROGRAMS, Container::Quota)),
];

/// All others.
pub const CASES: &[Row] = &[
    ("clients_runtimes_with_a_cpuset", Cpus(2), || run(runtimes::PROGRAMS, Container::Cpuset)),
    ("clients_monitors_under_a_quota", Cpus(2), || run(monitors::PROGRAMS, Container::Quota)),
    ("clients_monitors_with_a_cpuset", Cpus(2), || run(monitors::PROGRAMS, Container::Cpuset)),
    ("clients_monitors_with_cpus_numbered_from_0", Cpus(2), || run(monitors::PROGRAMS, Container::Compact)),
    ("clients_load_and_time", Nothing, time::run_beside_a_waiting_host),
];

/// All tables, in the order of the page.
const TABLES: &[(&str, &[Program])] = &[
    ("Memory", memory::PROGRAMS),
    ("CPUs", cpus::PROGRAMS),
    ("Language runtimes and libraries", runtimes::PROGRAMS),
    ("Swap areas, memory nodes, paging, interrupts, disks, pressure", devices::PROGRAMS),
    ("Monitors and exporters", monitors::PROGRAMS),
    ("Load and time", time::PROGRAMS),
];
