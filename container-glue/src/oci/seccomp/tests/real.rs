//! Filters in the kernel, each in a process of its own.

use super::*;

/// What a child that installed a filter ended with: `check` gives its exit status, after the installation it makes
/// system calls only.
fn child(filter: &Filter, check: impl Fn(Option<std::os::fd::OwnedFd>) -> i32) -> i32 {
    // SAFETY: the child makes system calls only, and ends without what the test's process wants at its end.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: integers only; a filter needs it where the tests are not root's.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let status = match filter.install() {
            Ok(listener) => check(listener),
            Err(error) => 200 + error.raw_os_error().unwrap_or(0),
        };
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: a child of ours and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

/// The error of a getppid with this first argument, which the kernel does not read; 0 for none.
fn getppid(argument: libc::c_ulong) -> i32 {
    // SAFETY: takes no arguments.
    match unsafe { libc::syscall(libc::SYS_getppid, argument) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

fn native(action: &str, flags: &[&str]) -> Filter {
    let value = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{
            "names": ["getppid"], "action": action, "errnoRet": 77,
            "args": [{"index": 0, "op": "SCMP_CMP_GT", "value": 0x1_0000_0000u64}],
        }],
    });
    compile(&profile(value)).unwrap()
}

#[test]
fn the_kernel_refuses_the_call() {
    for flags in [&[][..], &["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]] {
        let filter = native("SCMP_ACT_ERRNO", flags);
        let status = child(&filter, |listener| match listener {
            Some(_) => 99,
            None if getppid(0x1_0000_0000) != 0 => 98,
            None => getppid(0x1_0000_0001),
        });
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 77);
    }
}

#[test]
fn the_kernel_kills() {
    let status = child(&native("SCMP_ACT_KILL_PROCESS", &[]), |_| getppid(libc::c_ulong::MAX));
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGSYS);
}

#[test]
fn notify_gives_a_descriptor() {
    for flags in [&[][..], &["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]] {
        let status = child(&native("SCMP_ACT_NOTIFY", flags), |listener| {
            use std::os::fd::AsRawFd;
            let Some(listener) = listener else { return 1 };
            // SAFETY: asks about a descriptor that is open.
            let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFD) };
            if flags & libc::FD_CLOEXEC != 0 { 42 } else { 2 }
        });
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 42);
    }
}

#[test]
fn a_flag_that_the_kernel_does_not_know() {
    let mut filter = native("SCMP_ACT_ERRNO", &[]);
    filter.flags = 1 << 30;
    let error = filter.install().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("does not know a seccomp flag"), "{error}");
}
