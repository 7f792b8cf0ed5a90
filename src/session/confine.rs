//! Least power: what a worker and a holder give up before anything that others control reaches them. SECURITY.md says
//! what each right that is left is for.

pub mod calls;
mod filter;
mod limits;
pub mod rights;
#[cfg(test)]
mod tests;

use std::path::Path;

use rustix::process::{
    Pid, Signal, getpid, getppid, parent_process_death_signal, set_parent_process_death_signal,
};
use rustix::thread::CapabilitySet;

pub use limits::WORKER_MEMORY;

/// What a worker has to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerNeeds {
    /// Take triggers on pressure files, which opens the groups' files for writing.
    pub psi_triggers: bool,
}

/// Why a process could not be confined. It must not go on: it would serve with rights that it should not have.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// It has other threads, which would keep their rights.
    #[error("cannot give up rights: {0} threads run already, and each has its own")]
    Threads(u64),
    /// A system call.
    #[error("cannot give up rights: {what}: {source}")]
    Call {
        /// Which.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The parent ended meanwhile, and its end would not have been told any more.
    #[error("the holder ended while its worker started")]
    Orphaned,
}

/// Names the step that failed.
trait Step<T> {
    fn step(self, what: &'static str) -> Result<T, ConfineError>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: &'static str) -> Result<T, ConfineError> {
        self.map_err(|error| ConfineError::Call { what, source: error.into() })
    }
}

/// Confines a worker: to be called in its main thread, before it starts another, and before it opens anything. From then
/// on it is another user's process ([`rights::WORKER_ID`]), with the capabilities and system calls that `needs` takes, and
/// [`WORKER_MEMORY`]. The signal at the parent's death is kept. What root was not given, or the kernel does not have, is no
/// error.
pub fn worker(needs: &WorkerNeeds) -> Result<(), ConfineError> {
    confine(|permitted| rights::of_worker(needs, permitted), |pid| filter::program(needs, pid))
}

/// Confines a scribe (`session/calls`), likewise. It ends with its worker.
pub fn scribe(worker: Pid) -> Result<(), ConfineError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("PR_SET_PDEATHSIG")?;
    if getppid() != Some(worker) {
        return Err(ConfineError::Orphaned);
    }
    confine(rights::of_scribe, filter::scribe)
}

fn confine(
    rights: impl FnOnce(CapabilitySet) -> CapabilitySet,
    program: impl FnOnce(u32) -> Vec<seccompiler::sock_filter>,
) -> Result<(), ConfineError> {
    alone()?;
    let parent = getppid();
    // The kernel forgets it when the identity changes (prctl(2)).
    let death_signal = parent_process_death_signal().step("PR_GET_PDEATHSIG")?;
    limits::of_worker()?;
    limits::stay_in_memory_once_used();
    limits::no_numa_hints();
    limits::no_huge_pages();
    let permitted = rights::permitted()?;
    rights::leave_root(permitted)?;
    rights::reduce(rights(permitted))?;
    limits::not_dumpable()?;
    if let Some(signal) = death_signal {
        set_parent_process_death_signal(Some(signal)).step("PR_SET_PDEATHSIG")?;
        if getppid() != parent {
            return Err(ConfineError::Orphaned);
        }
    }
    rustix::thread::set_no_new_privs(true).step("PR_SET_NO_NEW_PRIVS")?;
    let pid = getpid().as_raw_nonzero().get().cast_unsigned();
    seccompiler::apply_filter(&program(pid))
        .map_err(std::io::Error::other)
        .step("seccomp (a kernel without CONFIG_SECCOMP_FILTER?)")
}

/// Confines a holder: to be called once its mount is up, before the first worker is started, and before the shared memory
/// is mapped whole. It keeps the rights that its workers begin with, and its own few. `registrations` is the directory that
/// they write to.
pub fn holder(needs: &WorkerNeeds, registrations: &Path) -> Result<(), ConfineError> {
    alone()?;
    let permitted = rights::permitted()?;
    limits::give(registrations, rights::future_user(permitted))?;
    limits::spare_holder();
    limits::may_lock();
    limits::no_huge_pages();
    limits::stay_in_memory();
    limits::no_core_dumps()?;
    rights::reduce(rights::of_holder(needs, permitted))?;
    limits::not_dumpable()?;
    rustix::thread::set_no_new_privs(true).step("PR_SET_NO_NEW_PRIVS")
}

/// Capabilities and filters are each thread's own.
fn alone() -> Result<(), ConfineError> {
    use std::os::unix::fs::MetadataExt;
    let threads = std::fs::metadata("/proc/self/task").step("/proc/self/task")?.nlink().saturating_sub(2);
    if threads == 1 { Ok(()) } else { Err(ConfineError::Threads(threads)) }
}
