//! What a process may use, and who may look into it.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getrlimit, set_dumpable_behavior, setrlimit,
};

use super::{ConfineError, Step};

/// Private memory that a worker may have, in bytes (RLIMIT_DATA: heap, stacks, read buffers; not what it shares with the
/// holder). One allocation more fails, which ends it, and a new worker begins.
pub const WORKER_MEMORY: u64 = 1 << 30;

/// Where the kernel's memory killer looks at a holder that nobody has placed: as systemd's unit places it.
const HOLDER_OOM_SCORE_ADJ: i32 = -900;
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Lowers both halves of a limit; one that is lower already stays.
fn lower(resource: Resource, most: u64) -> Result<(), ConfineError> {
    let now = getrlimit(resource);
    let at_most = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    let limit = Rlimit { current: at_most(now.current), maximum: at_most(now.maximum) };
    setrlimit(resource, limit).step("setrlimit")
}

/// The limits of a worker.
pub(super) fn of_worker() -> Result<(), ConfineError> {
    lower(Resource::Data, WORKER_MEMORY)?;
    no_core_dumps()
}

/// A core of several hundred megabytes takes seconds, in which readers wait; and it holds what containers do.
pub(super) fn no_core_dumps() -> Result<(), ConfineError> {
    lower(Resource::Core, 0)
}

/// `/proc/PID` belongs to root from now on, and nobody without CAP_SYS_PTRACE looks into the memory or the descriptors.
pub(super) fn not_dumpable() -> Result<(), ConfineError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("PR_SET_DUMPABLE")
}

/// A holder is the last to go, unless somebody placed it already.
pub(super) fn spare_holder() {
    if oom_score_adj() == Some(0) {
        set_oom_score_adj(HOLDER_OOM_SCORE_ADJ);
    }
}

fn oom_score_adj() -> Option<i32> {
    fs::read_to_string(OOM_SCORE_ADJ).ok()?.trim().parse().ok()
}

fn set_oom_score_adj(score: i32) {
    // EACCES without CAP_SYS_RESOURCE
    if let Err(error) = fs::write(OOM_SCORE_ADJ, format!("{score}\n")) {
        log::debug!("{OOM_SCORE_ADJ}: {error}");
    }
}

/// Lets a holder and the workers that it starts lock their memory, of whatever size. To be called while it may raise limits.
pub(super) fn may_lock() {
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(errno) = setrlimit(Resource::Memlock, unlimited) {
        log::debug!("RLIMIT_MEMLOCK: {errno}"); // EPERM without CAP_SYS_RESOURCE
    }
}

/// Keeps a worker's private memory in RAM from the moment that it is used: for a process that is being killed the kernel
/// brings in no page, and a request that was to be copied there would end in EIO. [`WORKER_MEMORY`] bounds it. Only where
/// the limit allows for all that will be mapped: with less, mappings would fail. What is shared with the holder is taken out
/// again, [`crate::store`].
pub(super) fn stay_in_memory_once_used() {
    if getrlimit(Resource::Memlock).current.is_some() {
        log::debug!("RLIMIT_MEMLOCK: the worker's memory may be swapped out");
        return;
    }
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(errno) = mlockall(all) {
        log::debug!("mlockall: {errno}");
    }
}

/// linux/mempolicy.h: memory of the node that the thread runs on, as without a policy.
const MPOL_LOCAL: libc::c_int = 4;

/// Keeps a worker's pages mapped on machines of several memory nodes. There the kernel unmaps pages now and then to learn
/// which node uses them (NUMA balancing, `task_numa_work`), and for a process that is being killed it maps none again: a
/// request that was to be copied there would end in EIO. It leaves those alone that have a policy of their own, even
/// one that says what holds without (`vma_policy_mof`). Threads inherit it.
pub(super) fn no_numa_hints() {
    let no_nodes = std::ptr::null::<libc::c_ulong>();
    // SAFETY: the policy takes no set of nodes, so that none is read; memory keeps its contents under any policy.
    if unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_LOCAL, no_nodes, 0_usize) } != 0 {
        log::debug!("set_mempolicy: {}", std::io::Error::last_os_error()); // ENOSYS: built for one node
    }
}

/// Keeps what holder and worker use to the pages that they touched. Where huge pages are not only for those who ask for them
/// (`transparent_hugepage/enabled` is `always`, as Debian builds it), the kernel replaces the one page that a thread has used
/// of its memory by one of 2 MiB; and while it does, the page is unmapped, which a worker that is being killed
/// must not meet (see [`no_numa_hints`]). Processes that they start inherit it, prctl(2).
pub(super) fn no_huge_pages() {
    if let Err(errno) = rustix::thread::disable_transparent_huge_pages(true) {
        log::debug!("PR_SET_THP_DISABLE: {errno}"); // EINVAL: built without
    }
}

/// Keeps a holder's memory in RAM: one that has to be read back from a full disk cannot start a worker. What is mapped
/// now is brought in; call it before large mappings are made.
pub(super) fn stay_in_memory() {
    if let Err(errno) = mlockall(MlockAllFlags::CURRENT) {
        log::debug!("mlockall: {errno}");
    }
}

/// Gives the directory of the registrations to the user that workers run as. Once it is theirs its files are not looked
/// at any more: what an intruder put there is not given away.
pub(super) fn give(directory: &Path, user: u32) -> Result<(), ConfineError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(CWD, directory, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other.step("opening the directory of registrations")?,
    };
    if rustix::fs::fstat(&dir).step("fstat")?.st_uid == user {
        return Ok(());
    }
    let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    let doing = "giving the registrations to the worker's user";
    for entry in rustix::fs::Dir::read_from(&dir).step(doing)? {
        let entry = entry.step(doing)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            rustix::fs::chownat(&dir, entry.file_name(), user, group, AtFlags::SYMLINK_NOFOLLOW)
                .step(doing)?;
        }
    }
    rustix::fs::fchown(&dir, user, group).step(doing)
}
