//! What the container may not do.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::sock_filter;

/// Docker's default set less MKNOD: without device rules a node of the host's disk would give away the disk.
const KEPT: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Takes this process's rights down to the container's, for itself and all that it starts. Call after the last
/// mount.
pub fn confine() -> io::Result<()> {
    // the caller's session keyring is reachable by its number otherwise; absent where the kernel has no keyrings
    // SAFETY: no pointers but a null one, which stands for a new anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING), 0usize) };
    no_new_privileges()?;
    terminal_filter()?;
    drop_capabilities()?;
    Ok(())
}

/// Makes /proc/PID/exe, mem and fd of this process unreachable for the container, which has no CAP_SYS_PTRACE.
pub fn set_undumpable() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn no_new_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let kept: CapsHashSet = KEPT.iter().copied().collect();
    // by number, not by the crate's list: a newer kernel may have more
    for number in 0..64 {
        if kept.iter().any(|capability| u32::from(capability.index()) == number) {
            continue;
        }
        // SAFETY: an integer argument only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                break; // beyond the kernel's last
            }
            return Err(error);
        }
    }
    let none = CapsHashSet::new();
    for (set, value) in [
        (CapSet::Ambient, &none),
        (CapSet::Inheritable, &none),
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
    ] {
        caps::set(None, set, value).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

/// Refuses (EPERM) the two ioctls that put characters into a terminal's input: the command keeps the caller's
/// terminal, so it could type into the caller's shell (CVE-2016-7545, CVE-2023-1523).
fn terminal_filter() -> io::Result<()> {
    seccompiler::apply_filter(&filter()).map_err(|error| io::Error::other(error.to_string()))
}

/// Offsets in `struct seccomp_data` (linux/seccomp.h); of arguments the low half, on little-endian machines.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0_LOW: u32 = 16;
const ARG1_LOW: u32 = 24;

/// The program, by hand: seccompiler's rules kill every process of another architecture, and 32-bit programs are
/// to run. Each architecture has numbers of its own.
fn filter() -> Vec<sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let allow = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let refuse = |errno: i32| step(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(), 0, 0);
    let mut program = vec![step(LOAD, ARCH, 0, 0)];
    for abi in [abi::NATIVE, abi::COMPAT] {
        let mut block = vec![step(LOAD, NR, 0, 0)];
        let mut rule = |numbers: &[u32], body: Vec<sock_filter>| {
            for number in numbers {
                block.push(step(EQUAL, *number, 0, body.len() as u8));
                block.extend(body.iter().cloned());
            }
        };
        let terminal = vec![
            step(LOAD, ARG1_LOW, 0, 0),
            step(EQUAL, libc::TIOCSTI as u32, 1, 0),
            step(EQUAL, TIOCLINUX, 0, 1),
            refuse(libc::EPERM),
            allow.clone(),
        ];
        let user_namespace = vec![
            step(LOAD, ARG0_LOW, 0, 0),
            step(BITS, libc::CLONE_NEWUSER.cast_unsigned(), 0, 1),
            refuse(libc::EPERM),
            allow.clone(),
        ];
        // The host reads the container's files too, and whoever opens a leased file waits for up to 45 s.
        let lease = vec![
            step(LOAD, ARG1_LOW, 0, 0),
            step(EQUAL, libc::F_SETLEASE.cast_unsigned(), 0, 1),
            refuse(libc::EINVAL),
            allow.clone(),
        ];
        rule(abi.ioctl, terminal);
        rule(abi.fcntl, lease);
        rule(abi.clone_unshare, user_namespace);
        // its flags are in memory, which a filter cannot read; with ENOSYS libc falls back to clone
        rule(abi.clone3, vec![refuse(libc::ENOSYS)]);
        rule(abi.keys, vec![refuse(libc::EPERM)]);
        block.push(allow.clone());
        program.push(step(EQUAL, abi.arch, 0, block.len() as u8));
        program.extend(block);
    }
    program.push(allow); // an architecture whose calls this kernel does not run
    program
}

/// asm-generic/ioctls.h: subcommands of the Linux console, one of them pastes.
const TIOCLINUX: u32 = 0x541c;

/// How this machine's programs call ioctl.
mod abi {
    /// AUDIT_ARCH_* of linux/audit.h and the numbers of the calls there.
    pub struct Abi {
        pub arch: u32,
        pub ioctl: &'static [u32],
        pub fcntl: &'static [u32],
        pub clone_unshare: &'static [u32],
        pub clone3: &'static [u32],
        /// add_key, request_key, keyctl
        pub keys: &'static [u32],
    }

    #[cfg(target_arch = "x86_64")]
    const X32: u32 = 0x4000_0000;
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Abi = Abi {
        arch: 0xc000_003e,
        ioctl: &[16, X32 | 514],
        fcntl: &[72, X32 | 72],
        clone_unshare: &[56, 272, X32 | 56, X32 | 272],
        clone3: &[435, X32 | 435],
        keys: &[248, 249, 250, X32 | 248, X32 | 249, X32 | 250],
    };
    #[cfg(target_arch = "x86_64")]
    pub const COMPAT: Abi = Abi {
        arch: 0x4000_0003,
        ioctl: &[54],
        fcntl: &[55, 221],
        clone_unshare: &[120, 310],
        clone3: &[435],
        keys: &[286, 287, 288],
    };
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Abi = Abi {
        arch: 0xc000_00b7,
        ioctl: &[29],
        fcntl: &[25],
        clone_unshare: &[220, 97],
        clone3: &[435],
        keys: &[217, 218, 219],
    };
    #[cfg(target_arch = "aarch64")]
    pub const COMPAT: Abi = Abi {
        arch: 0x4000_0028,
        ioctl: &[54],
        fcntl: &[55, 221],
        clone_unshare: &[120, 337],
        clone3: &[435],
        keys: &[309, 310, 311],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BPF machine for the instructions that the filter uses; `argument` stands for each argument.
    fn run(arch: u32, number: u32, argument: u64) -> u32 {
        let program = filter();
        let (mut at, mut loaded) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                0x20 => {
                    loaded = match step.k {
                        NR => number,
                        ARCH => arch,
                        ARG0_LOW | ARG1_LOW => argument as u32,
                        other => panic!("load of {other}"),
                    }
                }
                0x15 => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                0x45 => at += usize::from(if loaded & step.k != 0 { step.jt } else { step.jf }),
                0x06 => return step.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        for abi in [abi::NATIVE, abi::COMPAT] {
            for number in abi.ioctl {
                for request in [0x5412u64, 0x541c, 0xdead_0000_5412] {
                    assert_eq!(run(abi.arch, *number, request), errno(libc::EPERM));
                }
                assert_eq!(run(abi.arch, *number, 0x5413), libc::SECCOMP_RET_ALLOW);
            }
            for number in abi.clone_unshare {
                assert_eq!(run(abi.arch, *number, 0x1002_0011), errno(libc::EPERM));
                assert_eq!(run(abi.arch, *number, 0x0002_0011), libc::SECCOMP_RET_ALLOW);
            }
            assert_eq!(run(abi.arch, abi.clone3[0], 0), errno(libc::ENOSYS));
            for number in abi.fcntl {
                assert_eq!(run(abi.arch, *number, 1024), errno(libc::EINVAL));
                assert_eq!(run(abi.arch, *number, 3), libc::SECCOMP_RET_ALLOW);
            }
            for number in abi.keys {
                assert_eq!(run(abi.arch, *number, 0), errno(libc::EPERM));
            }
            assert_eq!(run(abi.arch, 1, 0x1000_5412), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(run(1, 16, 0x5412), libc::SECCOMP_RET_ALLOW);
    }
}
