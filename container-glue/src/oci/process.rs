//! From the container's set-up to its process: limits, user, rights, labels.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags};

use super::OciError;
use super::config::process::{Process, Rights, Scheduling};
use crate::reaper::close_range;
use crate::rootfs::{SetupError, Step};

/// What is opened of the host's /proc while that is there: a container's own may be anything.
#[derive(Debug, Default)]
pub struct Labels {
    apparmor: Option<(OwnedFd, String)>,
    selinux: Option<(OwnedFd, String)>,
}

impl Labels {
    /// Opens what the process's labels are written to.
    pub fn open(process: &Process) -> Result<Self, SetupError> {
        let open = |files: &[&str], kind: &str| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let mut last = Err(rustix::io::Errno::NOENT);
            for file in files {
                last = rustix::fs::openat(CWD, *file, flags, Mode::empty());
                if last.is_ok() {
                    break;
                }
            }
            last.step(|| format!("cannot set the {kind} of the configuration: this kernel does not run it"))
        };
        let apparmor = process.apparmor.as_ref().map(|profile| {
            let files = ["/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"];
            Ok((open(&files, "AppArmor profile")?, format!("exec {profile}")))
        });
        let selinux = process
            .selinux
            .as_ref()
            .map(|label| Ok((open(&["/proc/thread-self/attr/exec"], "SELinux label")?, label.clone())));
        Ok(Self { apparmor: apparmor.transpose()?, selinux: selinux.transpose()? })
    }

    /// Their numbers.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        [&self.apparmor, &self.selinux].into_iter().flatten().map(|(fd, _)| fd.as_raw_fd())
    }

    fn apply(&self) -> Result<(), SetupError> {
        for (fd, text) in [&self.apparmor, &self.selinux].into_iter().flatten() {
            // the kernel takes a label whole or not at all
            rustix::io::write(fd, text.as_bytes())
                .step(|| format!("cannot take the label {text}; is it loaded?"))?;
        }
        Ok(())
    }
}

/// Settings that the kernel keeps per process; set from outside, while rights are there.
pub fn limit(pid: i32, process: &Process) -> Result<(), SetupError> {
    for limit in &process.limits {
        let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: prlimit64 reads the struct, which outlives the call; a null pointer for the old value is allowed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_prlimit64,
                pid,
                limit.resource,
                &raw const value,
                std::ptr::null_mut::<libc::rlimit64>(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).step(|| {
                format!("cannot set process.rlimits {} to {}:{}", limit.resource, limit.soft, limit.hard)
            });
        }
    }
    if let Some(score) = process.oom_score_adj {
        let file = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&file, score.to_string())
            .step(|| format!("cannot set process.oomScoreAdj to {score}"))?;
    }
    Ok(())
}

/// Takes on the process's user, rights and settings. Afterwards this process, and every child of
/// it, may do no more than the program may. It keeps no descriptor of `labels`, and nobody without
/// CAP_SYS_PTRACE may look into its memory, whatever fs.suid_dumpable says.
///
/// `seccomp` is called here where no_new_privs is not set: installing a filter needs CAP_SYS_ADMIN
/// then, which may be among what is dropped. Otherwise the caller installs the filter as late as it
/// can.
pub fn drop_rights(
    process: &Process,
    labels: Labels,
    seccomp: impl FnOnce() -> Result<(), SetupError>,
) -> Result<(), SetupError> {
    if let Some(priority) = process.io_priority {
        const WHO_PROCESS: i32 = 1; // linux/ioprio.h
        // SAFETY: integers only.
        let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
        check(result).step(|| "cannot set process.ioPriority".to_owned())?;
    }
    labels.apply()?;
    drop(labels);
    if !process.no_new_privileges {
        seccomp()?;
    }
    rights(process).step(|| "cannot take on process.user and process.capabilities".to_owned())?;
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(|| "cannot set no_new_privs".to_owned())?;
    }
    hide_memory()
}

/// Nobody may look into the memory of this process, which has that of the runtime (CVE-2016-9962).
/// A change of user sets this to fs.suid_dumpable.
pub fn hide_memory() -> Result<(), SetupError> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step(|| "cannot hide this process's memory".to_owned())
}

/// Process 1 beside the command: root of the container with the command's rights at most, and no way to more.
pub fn confine_init(process: &Process) -> io::Result<()> {
    let mut init = process.clone();
    (init.uid, init.gid, init.groups) = (0, 0, Vec::new());
    if let Some(sets) = &mut init.rights {
        // to signal a command of another user it needs what that user's own processes may not have
        (sets.effective, sets.permitted) = (sets.bounding, sets.bounding);
    }
    rights(&init)?;
    rustix::thread::set_no_new_privs(true)?;
    hide_memory().map_err(io::Error::other)
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets `process.scheduler` of another process, or of this one (0). A process under SCHED_DEADLINE
/// cannot fork, so it comes after the last fork.
pub fn schedule(pid: i32, process: &Process) -> Result<(), SetupError> {
    let Some(wanted) = process.scheduler else { return Ok(()) };
    set_scheduler(pid, wanted).step(|| "cannot set process.scheduler".to_owned())
}

fn set_scheduler(pid: i32, wanted: Scheduling) -> io::Result<()> {
    /// `struct sched_attr` (sched_setattr(2)), version 0.
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attr = Attr {
        size: u32::try_from(size_of::<Attr>()).unwrap_or(48),
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: attr is of the size that it says, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) })
}

/// Bounding set, user and groups, and the other sets, in the order in which each step still may.
fn rights(process: &Process) -> io::Result<()> {
    let rights = process.rights.unwrap_or_default();
    for number in 0..64u32 {
        if rights.bounding >> number & 1 == 1 {
            continue;
        }
        // SAFETY: an integer argument only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } != 0 {
            match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINVAL) => break, // beyond the kernel's last
                error => return Err(error),
            }
        }
    }
    // SAFETY: integer arguments. The C library's wrappers tell other threads, of which there are none.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        let groups = libc::syscall(libc::SYS_setgroups, process.groups.len(), process.groups.as_ptr());
        match check(groups) {
            // a user namespace whose setgroups file says deny: there is nothing to drop then
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && process.groups.is_empty() => {}
            other => other?,
        }
        check(libc::syscall(libc::SYS_setresgid, process.gid, process.gid, process.gid))?;
        check(libc::syscall(libc::SYS_setresuid, process.uid, process.uid, process.uid))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0).into())?;
    }
    set(rights)
}

/// capset(2) with the three sets, then the ambient one.
fn set(rights: Rights) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522; // linux/capability.h
    let half = |bits: u64, high: bool| (if high { bits >> 32 } else { bits }) as u32;
    let data = |high| Data {
        effective: half(rights.effective, high),
        permitted: half(rights.permitted, high),
        inheritable: half(rights.inheritable, high),
    };
    let (header, data) = (Header { version: VERSION_3, pid: 0 }, [data(false), data(true)]);
    // SAFETY: header and data are as capset(2) describes version 3, and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    // SAFETY: integer arguments.
    unsafe {
        check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0).into())?;
    }
    for number in (0..64u32).filter(|number| rights.ambient >> number & 1 == 1) {
        let number = libc::c_ulong::from(number);
        // SAFETY: integer arguments.
        let raised = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        match check(raised.into()) {
            // not both permitted and inheritable: runc leaves it out, too
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Enters the working directory; one that lies outside the container's root is refused (CVE-2024-21626).
pub fn enter_cwd(process: &Process) -> Result<(), SetupError> {
    let what = || {
        format!(
            "cannot start in the container's directory {} (process.cwd, --workdir)",
            process.cwd.to_string_lossy()
        )
    };
    nix::unistd::chdir(process.cwd.as_c_str()).step(what)?;
    let now = rustix::process::getcwd(Vec::new()).step(what)?;
    if now.to_bytes().first() != Some(&b'/') {
        return Err(io::Error::other("it lies outside the container")).step(what);
    }
    Ok(())
}

/// Checks that the caller has passed the descriptors from 3 on which it says it has: the numbers of
/// others are given to what this program opens, and would be passed on. To be called before
/// anything is opened. `asked` is the flag or variable.
pub fn check_passed(asked: &str, first: u32, count: u32) -> Result<(), OciError> {
    for number in first..first.saturating_add(count) {
        // SAFETY: integers only.
        if unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) } < 0 {
            return Err(OciError::Setup(format!(
                "{asked}: descriptor {number} is not open: the caller has to pass all from 3 on"
            )));
        }
    }
    Ok(())
}

/// Closes everything but the first three, `preserved` more, and what is `kept`. Marked as close-on-exec it would still be there
/// while the kernel looks for the program and its interpreter: a script's first line could lead through a directory of the
/// host (CVE-2024-21626).
pub fn close_all_but(preserved: u32, kept: &[RawFd]) {
    close_from_but(preserved.saturating_add(3), kept);
}

/// Closes every descriptor from `first` on but those that are kept.
pub fn close_from_but(mut first: u32, kept: &[RawFd]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    kept.dedup();
    for fd in kept {
        if fd < first {
            continue;
        }
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

/// In a child, closes its copy of the maker's end of a channel: otherwise it would never hear that the maker is gone, and go on
/// holding the maker's locks.
pub fn let_go(end: &impl AsRawFd) {
    if let Ok(number) = u32::try_from(end.as_raw_fd()) {
        close_range(number, number);
    }
}

/// A session keyring of its own: the caller's is reachable by its number otherwise.
pub fn new_keyring() {
    // SAFETY: no pointers but a null one, which stands for a new anonymous keyring. Kernels without keyrings refuse it.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING), 0usize) };
}
