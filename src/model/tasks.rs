//! Counts of a container's tasks.

/// What `processes`, `procs_running` and `procs_blocked` of `/proc/stat` are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// The highest pid that was given out in the container's own pid namespace, as far as seen: the closest
    /// thing to its number of forks.
    pub last_pid: u64,
    /// Tasks in state R.
    pub running: u64,
    /// Tasks in state D.
    pub blocked: u64,
    /// All tasks (threads).
    pub total: u64,
}
