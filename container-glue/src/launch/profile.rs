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
    "clock_settime",
    "create_module",
    "delete_module",
    // reports every access to whole file systems
    "fanotify_init",
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
    "open_tree_attr",
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
    // the host's kernel log, by the same call also for whom /dev/kmsg is closed
    "syslog",
    "umount",
    "umount2",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Address families (bits/socket.h) that no namespace holds back, or that are a way to the kernel's
/// least tested parts: those that Docker's profile leaves out.
const FAMILIES: &[u32] = &[
    12, // AF_DECnet
    19, // AF_ECONET
    20, // AF_ATMSVC
    23, // AF_IRDA
    25, // AF_WANPIPE
    34, // AF_ISDN
    37, // AF_CAIF
    38, // AF_ALG: the kernel's ciphers
    40, // AF_VSOCK: the host and other virtual machines, also without a network
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
    // as where the kernel has no such family: programs do without. 32-bit programs have
    // socketcall(2) as well, whose arguments are in memory, which a filter cannot read
    let family = |family: &u32| rule(&["socket"], libc::EAFNOSUPPORT, low(0, *family));
    let families: Vec<Value> = FAMILIES.iter().map(family).collect();
    let user = libc::CLONE_NEWUSER;
    let user = json!([{ "index": 0, "value": user, "valueTwo": user, "op": "SCMP_CMP_MASKED_EQ" }]);
    let mut rules = vec![
        // these put characters into a terminal's input: the command may share the caller's, so it
        // could type into the caller's shell (CVE-2016-7545, CVE-2023-1523)
        rule(&["ioctl"], libc::EPERM, low(1, libc::TIOCSTI as u32)),
        rule(&["ioctl"], libc::EPERM, low(1, TIOCLINUX)),
        // the host reads the container's files too, and whoever opens a leased file waits for up to
        // 45 s
        rule(&["fcntl", "fcntl64"], libc::EINVAL, low(1, libc::F_SETLEASE.cast_unsigned())),
        // in a user namespace of its own it has all capabilities
        rule(&["clone", "unshare"], libc::EPERM, user),
        // its flags are in memory, which a filter cannot read; with ENOSYS libc falls back to clone
        rule(&["clone3"], libc::ENOSYS, json!([])),
        rule(REFUSED, libc::EPERM, json!([])),
    ];
    rules.extend(families);
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What Docker refuses and this profile does not name, with the reason.
    const ALLOWED: &[(&str, &[&str])] = &[
        (
            "a kernel of today has none of them",
            &["afs_syscall", "getpmsg", "putpmsg", "security", "tuxcall", "vserver"],
        ),
        ("needs a capability that the container lacks", &["sethostname", "setdomainname", "vhangup"]),
        (
            "needs the right to trace the other process, and ptrace(2) is allowed, by Docker as well",
            &["pidfd_getfd", "process_madvise"],
        ),
        (
            "NUMA policies of its own memory, within the nodes of its cpuset: databases and the JVM set them",
            &[
                "get_mempolicy",
                "set_mempolicy",
                "set_mempolicy_home_node",
                "mbind",
                "migrate_pages",
                "move_pages",
            ],
        ),
        (
            "the process's own label, as /proc/self/attr",
            &["lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"],
        ),
        ("what ioctl(2) with FS_IOC_GETFLAGS and its like does", &["file_getattr", "file_setattr"]),
        ("ends a process that calls it other than by the kernel's trampoline", &["uprobe"]),
        ("a rule of its own refuses new user namespaces, and all others need CAP_SYS_ADMIN", &["unshare"]),
        ("a rule of its own says that it is not there", &["clone3"]),
    ];

    #[test]
    fn every_difference_from_docker_s_profile_has_a_reason() {
        let docker = include_str!("docker_refuses.txt").lines().filter(|line| !line.starts_with('#'));
        let docker: BTreeSet<&str> = docker.flat_map(str::split_whitespace).collect();
        assert!(docker.len() > 60);
        let ours: BTreeSet<&str> = REFUSED.iter().copied().collect();
        let explained: BTreeSet<&str> = ALLOWED.iter().flat_map(|(_, names)| *names).copied().collect();
        assert_eq!(docker.difference(&ours).copied().collect::<BTreeSet<_>>(), explained);
        // those of other architectures are not in the list of x86-64
        let others = BTreeSet::from(["stime", "umount", "vm86", "vm86old"]);
        assert_eq!(ours.difference(&docker).copied().collect::<BTreeSet<_>>(), others);
    }
}
