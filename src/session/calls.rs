//! sysinfo(2) of containers: their filters send it here (seccomp_unotify(2)), and it is answered with the numbers of their files.
//!
//! A container whose listener is lost gets ENOSYS for ever, and one whose listener nobody reads from hangs. So listeners lie with
//! the holder, as the connection does ([`listeners`]); each worker gets them all ([`answers`]); what a worker had taken when it
//! died stands in the shared memory ([`table`]), and the next one answers it. The answer is written into the caller's memory by
//! a process of its own ([`scribe`]), since memory may be a container's file system that never answers.

pub mod answers;
pub mod inbox;
pub mod listeners;
pub mod notify;
pub mod scribe;
pub mod table;

/// Listeners that one daemon has at most.
pub const MOST: usize = 4096;
