//! The system calls that a container may make: `linux.seccomp` of its configuration as a classic BPF program.
//!
//! The meaning is that of runc with libseccomp:
//!
//! - The first entry of `syscalls` that names the call and whose conditions hold decides; entries whose action is
//!   the default action count as not there; where none matches the default action applies. (libseccomp differs in
//!   one point: there an entry without conditions takes the place of all with conditions, wherever it stands.)
//! - The conditions of one entry must all hold. If two of them are on the same argument, each is a rule of its own,
//!   so that one is enough.
//! - An architecture has 64-bit or 32-bit arguments; of a value for 32 bits only the low half counts, and that is
//!   all that is compared. x32 has 32 bits.
//! - Names that an architecture does not have are skipped there.
//! - Calls of an architecture that is not listed end the thread (SCMP_ACT_KILL), x32 calls included. The machine's
//!   own architecture is always listed. Those that can have no process on this kernel are skipped.
//! - `errnoRet` is read for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only; EPERM where it is absent.
//!
//! **Newer calls.** If the default action is neither SCMP_ACT_ALLOW nor LOG nor TRACE, numbers above the largest that
//! the profile names on an architecture fail with ENOSYS: a program that tries a call from after the profile's time
//! falls back to an older one, as on an older kernel. runc does the same (its "ENOSYS stub", `patchbpf`). ARM's
//! private numbers (`set_tls` and others) do not count as the largest. s390x's call 0 stands for numbers that the
//! kernel does not know and gets ENOSYS too.
//!
//! **socketcall and ipc.** Where these exist (x86, s390x, PowerPC), an entry without conditions for `socket` or `shmget`
//! also matches the way through them, by their first argument. An entry with conditions matches the direct call
//! only: the arguments are in memory there, which a filter cannot read.

mod abi;
mod assemble;
mod install;
mod rules;
mod sysinfo;
#[cfg(test)]
mod tests;

pub use sysinfo::with_sysinfo;

use std::path::PathBuf;

use libc::c_ulong;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use seccompiler::sock_filter;

/// BPF_MAXINSNS of linux/bpf_common.h: the kernel takes no longer program.
const LONGEST: usize = 4096;

/// What is wrong with a seccomp profile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeccompError {
    /// An architecture of this kernel's family whose numbers are not known here.
    #[error("seccomp: the system calls of architecture {0} are not known")]
    NoTable(Arch),
    /// A machine for which no filters can be made.
    #[error("seccomp: filters for this machine's architecture are not supported")]
    NoHost,
    /// More instructions than the kernel takes.
    #[error("seccomp: the rules need {0} instructions, more than the kernel's {LONGEST}")]
    TooLong(usize),
    /// A name in `names` that is the empty string.
    #[error("seccomp: a rule names a system call with no name")]
    EmptyName,
    /// A condition on an argument that no system call has.
    #[error("seccomp: rule for {call}: no argument {index}, the last is 5")]
    Argument {
        /// The first name of the rule.
        call: String,
        /// What the rule has as `index`.
        index: usize,
    },
    /// An error number, or a value for the tracer, that is too large.
    #[error("seccomp: {at}: errnoRet {value} of {action} is more than {most}")]
    Errno {
        /// The first name of the rule, or "default action".
        at: String,
        /// The action with the number.
        action: LinuxSeccompAction,
        /// What the profile says.
        value: u32,
        /// What the kernel can pass on.
        most: u32,
    },
    /// The descriptor for the agent is handed over by writing, which would itself wait for the agent.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for write")]
    NotifyWrite,
    /// As [`SeccompError::NotifyWrite`]: the default action can mean write.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be the default action")]
    NotifyDefault,
}

/// A program for the kernel, and how it is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The classic BPF program: at least one instruction, at most 4096.
    pub program: Vec<sock_filter>,
    /// SECCOMP_FILTER_FLAG_* for seccomp(2), those for the listener included.
    pub flags: c_ulong,
    /// Whether some calls wait for an agent, so that [`Filter::install`] gives a descriptor.
    pub notify: bool,
    /// The agent's socket.
    pub listener_path: Option<PathBuf>,
    /// What the agent is told with the descriptor, unread by us.
    pub listener_metadata: Option<String>,
}

/// The filter for a profile on this machine. No I/O.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    compile_for(seccomp, abi::host().ok_or(SeccompError::NoHost)?)
}

/// As [`compile`], for a machine whose own architecture is `host`.
fn compile_for(seccomp: &LinuxSeccomp, host: Arch) -> Result<Filter, SeccompError> {
    let profile = rules::Profile::new(seccomp)?;
    let listed = seccomp.architectures().as_deref().unwrap_or_default();
    let kinds = rules::by_kernel_arch(&profile, &abi::listed(listed, host)?);
    let program = assemble::program(&kinds);
    if program.len() > LONGEST {
        return Err(SeccompError::TooLong(program.len()));
    }
    let notify = profile.notify;
    Ok(Filter {
        program,
        flags: flags(seccomp.flags().as_deref().unwrap_or_default(), notify),
        notify,
        listener_path: seccomp.listener_path().clone(),
        listener_metadata: seccomp.listener_metadata().clone(),
    })
}

/// The flags for seccomp(2). WAIT_KILLABLE_RECV is left out where nobody listens: it would change nothing, and the
/// kernel refuses it there.
fn flags(listed: &[LinuxSeccompFilterFlag], notify: bool) -> c_ulong {
    let has = |flag| listed.contains(&flag);
    let mut flags = 0;
    if has(LinuxSeccompFilterFlag::SeccompFilterFlagLog) {
        flags |= libc::SECCOMP_FILTER_FLAG_LOG;
    }
    if has(LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow) {
        flags |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    }
    if notify {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        if has(LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv) {
            flags |= libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        }
    }
    if has(LinuxSeccompFilterFlag::SeccompFilterFlagTsync) {
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC;
        if notify {
            // both results are positive numbers, a thread's or a descriptor's: the kernel wants to be told that the
            // thread's is not needed
            flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        }
    }
    flags
}
