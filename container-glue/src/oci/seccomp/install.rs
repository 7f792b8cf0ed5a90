//! Giving a filter to the kernel.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::Filter;

impl Filter {
    /// Installs the filter for this thread and what it starts; for all threads of the process with the TSYNC flag.
    /// Gives the descriptor on which an agent gets the calls that wait for it (SCMP_ACT_NOTIFY), closed on exec.
    /// The caller needs no_new_privs or CAP_SYS_ADMIN. Allocates only for an error, so it may follow a fork.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        let len =
            u16::try_from(self.program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let program = libc::sock_fprog { len, filter: self.program.as_ptr().cast_mut().cast() };
        // SAFETY: seccompiler's sock_filter is repr(C) with the fields of the kernel's, `len` of them are there for
        // the time of the call, and the kernel only reads them.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program)
        };
        if result < 0 {
            return Err(explained(io::Error::last_os_error()));
        }
        if self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
            let number = RawFd::try_from(result).map_err(io::Error::other)?;
            // SAFETY: the call made this descriptor for us, nothing else has it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }));
        }
        if result > 0 {
            return Err(other_thread(&format!("thread {result}")));
        }
        Ok(None)
    }
}

/// The kernel's refusal in words, its kind kept.
fn explained(error: io::Error) -> io::Error {
    let words = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)",
        Some(libc::EINVAL) => "the kernel does not know a seccomp flag or action of the profile",
        Some(libc::EACCES) => "a seccomp filter needs no_new_privs or CAP_SYS_ADMIN",
        Some(libc::EBUSY) => "a seccomp filter with a listener is there already",
        Some(libc::ESRCH) => return other_thread("a thread"),
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{words}: {error}"))
}

fn other_thread(which: &str) -> io::Error {
    io::Error::other(format!("{which} of this process has seccomp filters of its own, TSYNC is not possible"))
}
