//! In which time namespace a file is read.

use super::subject::Subject;
use crate::cgroup::walk::WalkLimits;
use crate::host::{Host, Process};
use crate::model::{HostPid, TimensOffset};

/// Whose clocks the reader of `uptime` and `stat` has. The kernel gives start times in `/proc/PID/stat` in the *reader's*
/// time namespace: field 1 of uptime and btime must be of the same one, or `ps` computes nonsense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReaderTime {
    /// Those of the container's init.
    #[default]
    Init,
    /// The host's, also where the init has others: `nsenter` without `--time`, an exec of a container engine.
    Host,
    /// Those of another namespace: of a process that made one for itself, or of an engine that makes one per exec.
    Other(TimensOffset),
}

/// Processes that are asked for the offsets of a namespace in which the reader itself does not give them: parents of the
/// reader, and tasks of its container.
const MOST_PARENTS: usize = 16;
const TASKS: WalkLimits = WalkLimits { directories: 16, threads: 64 };

impl ReaderTime {
    /// The reader's, whose thread waits for our answer. One readlink where it is the host's or that of the init; where
    /// the namespace cannot be found out, or its offsets, that of the init.
    #[must_use]
    pub fn of(reader: HostPid, subject: &Subject, host: &Host) -> Self {
        let Some(own) = host.namespace_of(reader, "time") else { return Self::Init };
        if Some(own) == host.own_timens() {
            return Self::Host;
        }
        if subject.timens.is_some_and(|known| known.inode == own) {
            return Self::Init;
        }
        offset_of(own, reader, subject, host).map_or(Self::Init, Self::Other)
    }

    /// The boottime offset of that namespace; `None` for the host's.
    #[must_use]
    pub fn offset(self, subject: &Subject) -> Option<TimensOffset> {
        match self {
            Self::Init => subject.timens.map(|known| known.boottime),
            Self::Host => None,
            Self::Other(offset) => Some(offset),
        }
    }
}

/// The offsets of the namespace `own`. A process gives those of the namespace of its *children*: the reader's own do only
/// where both are one, and between an unshare and the next exec or fork they are not. Then a process that lives in the
/// namespace is looked for where there should be one: up from the reader, and in its container.
fn offset_of(own: u64, reader: HostPid, subject: &Subject, host: &Host) -> Option<TimensOffset> {
    let given_by = |pid: HostPid| {
        let known = host.process(pid)?.timens(host)?;
        (known.inode == own).then_some(known.boottime)
    };
    let parent = |pid: &HostPid| {
        let ppid = host.process(*pid).as_ref().and_then(Process::stat)?.ppid;
        i32::try_from(ppid).ok().and_then(HostPid::new)
    };
    let family = std::iter::successors(Some(reader), parent).take(MOST_PARENTS);
    if let Some(offset) = family.chain(subject.init).find_map(given_by) {
        return Some(offset);
    }
    let mut tasks = Vec::new();
    subject.groups.threads(TASKS, &mut tasks);
    tasks.into_iter().find_map(given_by)
}

#[cfg(test)]
mod tests;
