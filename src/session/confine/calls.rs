//! The system calls of a worker: what it makes, class by class, and what ends it at once.
//!
//! The lists are facts: `strace -f -c` of the daemon under all end-to-end cases, and what its libraries fall back to
//! (an older C library, another architecture). SECURITY.md has a row for each class; a test holds it to this file.

use super::WorkerNeeds;
use crate::session::calls::notify;

/// A system call by its name and its number on this architecture.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    name: &'static str,
    /// Its number; `None` where this architecture has no such call.
    pub number: Option<u32>,
}

impl Call {
    /// Its name as in syscalls(2).
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.trim_start_matches("SYS_")
    }
}

/// System calls that serve one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// The purpose, as in SECURITY.md.
    pub name: &'static str,
    /// What an argument must be; with any other the call is refused.
    pub only: Only,
    /// The calls that every architecture has, and those that only x86-64 has.
    calls: [&'static [Call]; 2],
    /// Whether a worker with these needs has the class.
    pub needed: fn(&WorkerNeeds) -> bool,
}

impl Class {
    /// All calls of the class.
    pub fn calls(&self) -> impl Iterator<Item = &'static Call> {
        self.calls.into_iter().flatten()
    }
}

/// What an argument must be. Its low half alone is looked at: the kernel takes each of these for 32 bits wide, or looks
/// at no bit above.
#[derive(Clone, Copy, Debug)]
pub enum Only {
    /// Anything.
    Any,
    /// One of these values.
    OneOf {
        /// Which argument, from 0.
        argument: u8,
        /// The values.
        values: &'static [u32],
    },
    /// Some bits set and others not.
    Bits {
        /// Which argument, from 0.
        argument: u8,
        /// All of these.
        set: u32,
        /// None of these.
        clear: u32,
    },
    /// The id of the process that applied the filter.
    OwnPid {
        /// Which argument, from 0.
        argument: u8,
    },
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(Call { name: stringify!($name), number: Some(libc::$name as u32) }),*] };
}

/// Calls that x86-64 has and younger architectures do not.
macro_rules! old {
    ($($name:ident)*) => { &[$(Call {
        name: stringify!($name),
        #[cfg(target_arch = "x86_64")]
        number: Some(libc::$name as u32),
        #[cfg(not(target_arch = "x86_64"))]
        number: None,
    }),*] };
}

const ALWAYS: fn(&WorkerNeeds) -> bool = |_| true;

/// The last call of Linux 6.18, `file_setattr`. What came later is unknown here, and answered as by a kernel that does not
/// have it (ENOSYS), so that libraries fall back; calls have one number on all architectures since 424.
pub const LAST_KNOWN: u32 = 469;

/// Everything that a worker does.
pub const ALLOWED: &[Class] = &[
    Class {
        name: "descriptors",
        only: Only::Any,
        calls: [
            calls![SYS_read SYS_write SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_close SYS_close_range
                SYS_lseek SYS_fstat SYS_fstatfs SYS_fcntl SYS_dup SYS_dup3 SYS_ftruncate SYS_fallocate],
            old![SYS_dup2],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "files by name",
        only: Only::Any,
        calls: [
            calls![SYS_openat SYS_openat2 SYS_newfstatat SYS_statx SYS_readlinkat SYS_getdents64 SYS_faccessat
                SYS_faccessat2 SYS_getcwd],
            old![SYS_open SYS_stat SYS_lstat SYS_readlink SYS_access],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "registrations",
        only: Only::Any,
        calls: [
            calls![SYS_mkdirat SYS_renameat SYS_renameat2 SYS_unlinkat],
            old![SYS_mkdir SYS_rename SYS_unlink],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "control socket",
        only: Only::Any,
        calls: [
            calls![SYS_accept4 SYS_recvmsg SYS_sendmsg SYS_recvfrom SYS_sendto SYS_getsockopt SYS_getsockname
                SYS_getpeername SYS_shutdown],
            &[],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "pairs of sockets",
        only: Only::OneOf { argument: 0, values: &[libc::AF_UNIX as u32] },
        calls: [calls![SYS_socketpair], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "waiting",
        only: Only::Any,
        calls: [
            calls![SYS_ppoll SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
                SYS_signalfd4 SYS_pidfd_open SYS_pipe2 SYS_inotify_init1 SYS_inotify_add_watch
                SYS_inotify_rm_watch],
            old![SYS_poll SYS_epoll_wait],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "memory",
        only: Only::Any,
        calls: [calls![SYS_munmap SYS_mremap SYS_madvise SYS_munlock SYS_brk SYS_memfd_create], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "memory without code",
        only: Only::Bits { argument: 2, set: 0, clear: libc::PROT_EXEC as u32 },
        calls: [calls![SYS_mmap SYS_mprotect], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "threads",
        only: Only::Any,
        calls: [
            calls![SYS_futex SYS_set_robust_list SYS_rseq SYS_sched_yield SYS_sched_getaffinity SYS_gettid SYS_getpid
                SYS_getppid SYS_set_tid_address SYS_exit SYS_exit_group SYS_restart_syscall],
            &[],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "new threads, not processes",
        only: Only::Bits { argument: 0, set: libc::CLONE_THREAD as u32, clear: NEW_NAMESPACES },
        calls: [calls![SYS_clone], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "signals",
        only: Only::Any,
        calls: [
            calls![SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigtimedwait SYS_sigaltstack],
            &[],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "signals to itself",
        only: Only::OwnPid { argument: 0 },
        calls: [calls![SYS_tgkill SYS_kill], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "time and identity",
        only: Only::Any,
        calls: [
            calls![SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_getrandom
                SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_uname SYS_getrusage SYS_umask],
            &[],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "own weight",
        only: Only::OneOf { argument: 0, values: &[libc::PRIO_PROCESS] },
        calls: [calls![SYS_setpriority], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "own limits",
        only: Only::OneOf { argument: 0, values: &[0] },
        calls: [calls![SYS_prlimit64], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "names of threads",
        only: Only::OneOf {
            argument: 0,
            values: &[
                libc::PR_SET_NAME as u32,
                libc::PR_GET_NAME as u32,
                libc::PR_SET_PDEATHSIG as u32,
                libc::PR_GET_PDEATHSIG as u32,
                libc::PR_SET_VMA as u32, // the C library names its memory where it is told to
            ],
        },
        calls: [calls![SYS_prctl], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "terminal or not, pid in a namespace, calls of containers",
        only: Only::OneOf {
            argument: 1,
            values: &[
                libc::TCGETS as u32,
                libc::FIONBIO as u32,
                NS_GET_PID_FROM_PIDNS,
                notify::RECV,
                notify::SEND,
                notify::ID_VALID,
            ],
        },
        calls: [calls![SYS_ioctl], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "rights of a trigger's writer",
        only: Only::Any,
        calls: [calls![SYS_capget SYS_capset], &[]],
        needed: |needs| needs.psi_triggers,
    },
];

/// Everything that a scribe does (`session/calls/scribe.rs`).
pub const SCRIBE: &[Class] = &[
    Class {
        name: "orders",
        only: Only::Any,
        calls: [calls![SYS_recvmsg SYS_sendto SYS_close SYS_read SYS_write], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "memory of a caller",
        only: Only::Any,
        calls: [calls![SYS_openat SYS_pwrite64], old![SYS_open]],
        needed: ALWAYS,
    },
    Class {
        name: "answers",
        only: Only::OneOf { argument: 1, values: &[notify::SEND, notify::ID_VALID] },
        calls: [calls![SYS_ioctl], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "own memory",
        only: Only::Any,
        calls: [calls![SYS_munmap SYS_mremap SYS_madvise SYS_brk], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "own memory without code",
        only: Only::Bits { argument: 2, set: 0, clear: libc::PROT_EXEC as u32 },
        calls: [calls![SYS_mmap SYS_mprotect], &[]],
        needed: ALWAYS,
    },
    Class {
        name: "its own end",
        only: Only::Any,
        calls: [
            calls![SYS_exit SYS_exit_group SYS_rt_sigreturn SYS_rt_sigprocmask SYS_restart_syscall SYS_futex
                SYS_getpid SYS_gettid],
            &[],
        ],
        needed: ALWAYS,
    },
    Class {
        name: "signals to itself",
        only: Only::OwnPid { argument: 0 },
        calls: [calls![SYS_tgkill SYS_kill], &[]],
        needed: ALWAYS,
    },
];

/// linux/nsfs.h, `_IOR(0xb7, 0x6, int)`.
const NS_GET_PID_FROM_PIDNS: u32 = 0x8004_b706;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Answered with ENOSYS, as an old kernel would: its flags are in memory, which no filter can read, and libraries fall
/// back to `clone`.
pub const ABSENT: &[Call] = calls![SYS_clone3];

/// What no worker ever does and an intruder would try first: the process ends at once, by SIGSYS, and a new worker begins.
pub const DEADLY: &[(&str, [&[Call]; 2])] = &[
    ("programs", [calls![SYS_execve SYS_execveat], old![SYS_fork SYS_vfork]]),
    (
        "other processes",
        [
            calls![SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_process_mrelease
                SYS_pidfd_getfd SYS_pidfd_send_signal SYS_kcmp SYS_migrate_pages SYS_move_pages],
            &[],
        ],
    ),
    (
        "mounts",
        [
            calls![SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig
                SYS_fsmount SYS_fspick SYS_mount_setattr SYS_swapon SYS_swapoff SYS_quotactl SYS_quotactl_fd],
            &[],
        ],
    ),
    ("namespaces", [calls![SYS_setns SYS_unshare], &[]]),
    (
        "the kernel",
        [
            calls![SYS_bpf SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load
                SYS_reboot SYS_perf_event_open SYS_syslog SYS_acct SYS_settimeofday SYS_clock_settime SYS_adjtimex
                SYS_clock_adjtime SYS_sethostname SYS_setdomainname],
            old![SYS_iopl SYS_ioperm SYS_modify_ldt],
        ],
    ),
    (
        "ways around",
        [
            calls![SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_userfaultfd SYS_keyctl SYS_add_key
                SYS_request_key SYS_open_by_handle_at SYS_personality SYS_mknodat],
            old![SYS_mknod],
        ],
    ),
    (
        "identity",
        [
            calls![SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid
                SYS_setgroups],
            &[],
        ],
    ),
];

/// All calls of [`DEADLY`].
pub fn deadly() -> impl Iterator<Item = &'static Call> {
    DEADLY.iter().flat_map(|(_, calls)| calls.iter().copied().flatten())
}
