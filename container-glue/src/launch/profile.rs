//! The system calls of a container that `launch` makes, as a seccomp profile. Pure.

use serde_json::{Value, json};

/// Of no use without rights that the container lacks, or a way to the kernel's least tested parts: what engines leave
/// out of their default profiles (Docker's documentation, "Seccomp security profiles for Docker").
const REFUSED: &[&str] = &[
    "acct",
    // keyrings are not part of any namespace
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "init_module",
    "get_kernel_syms",
    "query_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pivot_root",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "_sysctl",
    "sysfs",
    "umount",
    "umount2",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// asm-generic/ioctls.h: commands of the Linux console, one of them pastes.
const TIOCLINUX: u32 = 0x541c;

/// All of it. What is not named is allowed: the container has few capabilities, and programs of tomorrow are to run.
pub fn document() -> Value {
    let architectures: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &[]
    };
    // an int in the kernel: the upper half of the register does not count
    let low = |index: u32, value: u32| json!([{ "index": index, "value": u32::MAX, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" }]);
    let rule = |names: &[&str], errno: i32, args: Value| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args });
    let user = libc::CLONE_NEWUSER;
    let user = json!([{ "index": 0, "value": user, "valueTwo": user, "op": "SCMP_CMP_MASKED_EQ" }]);
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures,
        "syscalls": [
            // these put characters into a terminal's input: the command may share the caller's, so it could type into the
            // caller's shell (CVE-2016-7545, CVE-2023-1523)
            rule(&["ioctl"], libc::EPERM, low(1, libc::TIOCSTI as u32)),
            rule(&["ioctl"], libc::EPERM, low(1, TIOCLINUX)),
            // the host reads the container's files too, and whoever opens a leased file waits for up to 45 s
            rule(&["fcntl", "fcntl64"], libc::EINVAL, low(1, libc::F_SETLEASE.cast_unsigned())),
            // in a user namespace of its own it has all capabilities
            rule(&["clone", "unshare"], libc::EPERM, user),
            // its flags are in memory, which a filter cannot read; with ENOSYS libc falls back to clone
            rule(&["clone3"], libc::ENOSYS, json!([])),
            rule(REFUSED, libc::EPERM, json!([])),
        ],
    })
}
