//! `linux.resources` of an OCI configuration as writes of cgroup files, on cgroup v1, hybrid and v2.
//!
//! [`plan`] is pure: which files get which values, in which order. [`apply()`] does the writing. The `launch` command
//! has its own few limits in `groups::limits`.
//!
//! Controllers go by their names on v2, as in `ownproc::cgroup::Controller`: `io` is what v1 calls `blkio`. Those that
//! exist on v1 only are `net_cls` and `net_prio`; `cgroup` is the core of v2, there wherever v2 is mounted.
//!
//! Numbers as the specification has them: -1 is no limit, 0 or absent leaves what is there. Where 0 itself is a
//! limit, or means something else, the field's function says so.
//!
//! Not planned here: `devices`, which is no file on v2 (see [`devices`]).

pub mod apply;
pub mod cpu;
pub mod devices;
pub mod io;
pub mod memory;
pub mod others;
pub mod planner;
#[cfg(test)]
mod tests;
pub mod unified;

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use ownproc::cgroup::Version;

pub use apply::apply;
use planner::Planner;

/// What is to be written, and what is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they must be written.
    pub writes: Vec<Write>,
    /// Fields that have no counterpart on this host's side and change nothing: one sentence each, for the log.
    pub notes: Vec<String>,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The field that asks for it, by its path in the configuration: `linux.resources.memory.limit`.
    pub field: String,
    /// Which of the container's groups: by the controller's name on v2.
    pub controller: String,
    /// The file's name in the group: never with a slash.
    pub file: String,
    /// One line without its end.
    pub value: String,
    /// What if the group has no such file.
    pub missing: Missing,
    /// The kernel may refuse this (EINVAL) because of a value that a later write changes: then it is no error yet,
    /// and tried again after the next write that has this unset.
    pub again: bool,
    /// Refuse `value`, a number, when it is below the number in this file.
    pub not_below: Option<&'static str>,
    /// The kernel takes any of its words here and writes behind it why that does not hold: `root invalid (REASON)`.
    pub may_be_invalid: bool,
}

/// What if a group has no file of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The field cannot be honoured.
    Error,
    /// Nothing is lost: the value is what holds without the file.
    Ignore,
    /// The same under another name.
    Else(Box<Write>),
}

/// Why resources cannot be as they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// A value that no kernel takes.
    #[error("{field}: {value:?} {reason}")]
    Value {
        /// By its path in the configuration.
        field: String,
        /// As it is there.
        value: String,
        /// What it should be.
        reason: String,
    },
    /// No hierarchy offers the controller.
    #[error("{field} needs the cgroup controller {controller}, which this host does not offer")]
    NoController {
        /// By its path in the configuration.
        field: String,
        /// By its name on v2.
        controller: String,
    },
    /// The controller is on the other side.
    #[error("{field} needs {needs}, and this host has the controller {controller} on {has}")]
    Side {
        /// By its path in the configuration.
        field: String,
        /// By its name on v2.
        controller: String,
        /// "cgroup v2".
        needs: &'static str,
        /// "cgroup v1".
        has: &'static str,
    },
    /// `checkBeforeUpdate`.
    #[error("{field}: {value} is below what is in use: {used} in {}", path.display())]
    BelowUse {
        /// By its path in the configuration.
        field: String,
        /// Bytes, as asked for.
        value: String,
        /// Bytes in use.
        used: u64,
        /// The file that says so.
        path: PathBuf,
    },
    /// The kernel has written down why not.
    #[error("{field}: {value} does not hold: {reason} ({})", path.display())]
    Invalid {
        /// By its path in the configuration.
        field: String,
        /// As asked for.
        value: String,
        /// The kernel's words.
        reason: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// A file of cgroupfs.
    #[error("{field}: cannot {action} {}: {source}", path.display())]
    Io {
        /// By its path in the configuration.
        field: String,
        /// "read", or "write 5 to".
        action: String,
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
}

/// Turns resources into writes. `on` says on which side of this host a controller is, `None` where it is not offered.
///
/// An update of a running container takes the whole of its resources, not only what changes: several fields share a
/// file, and what is absent here may be the kernel's default there.
pub fn plan(resources: &LinuxResources, on: &dyn Fn(&str) -> Option<Version>) -> Result<Plan, ResourceError> {
    let mut planner = Planner::new(on);
    if let Some(memory) = resources.memory() {
        memory::plan(memory, &mut planner)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::plan(cpu, &mut planner)?;
    }
    if let Some(pids) = resources.pids() {
        others::pids(*pids, &mut planner)?;
    }
    if let Some(block_io) = resources.block_io() {
        io::plan(block_io, &mut planner)?;
    }
    if let Some(limits) = resources.hugepage_limits() {
        others::hugepages(limits, &mut planner)?;
    }
    if let Some(network) = resources.network() {
        others::network(network, &mut planner)?;
    }
    if let Some(rdma) = resources.rdma() {
        others::rdma(rdma, &mut planner)?;
    }
    // last: who names a file wins over who names what it is for
    if let Some(unified) = resources.unified() {
        unified::plan(unified, &mut planner)?;
    }
    Ok(planner.plan)
}
