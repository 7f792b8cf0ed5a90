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
    no_new_privileges()?;
    terminal_filter()?;
    drop_capabilities()?;
    // the caller's session keyring is reachable by its number otherwise; absent where the kernel has no keyrings
    // SAFETY: no pointers but a null one, which stands for a new anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING), 0usize) };
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
const ARG1_LOW: u32 = 24;

/// The program, by hand: seccompiler's rules kill every process of another architecture, and 32-bit programs are
/// to run. `ioctl` has another number there, so both numbers are tested with the architecture that they belong to.
fn filter() -> Vec<sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let native = abi::NATIVE;
    let compat = abi::COMPAT;
    vec![
        step(LOAD, ARCH, 0, 0),
        step(EQUAL, native.arch, 2, 0),
        step(EQUAL, compat.arch, 4, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0), // an architecture whose calls this kernel does not run
        step(LOAD, NR, 0, 0),                        // 4: native
        step(EQUAL, native.ioctl, 4, 0),
        step(EQUAL, native.ioctl_other, 3, 6),
        step(LOAD, NR, 0, 0), // 7: compat
        step(EQUAL, compat.ioctl, 1, 0),
        step(EQUAL, compat.ioctl_other, 0, 3),
        step(LOAD, ARG1_LOW, 0, 0), // 10: an ioctl
        step(EQUAL, libc::TIOCSTI as u32, 2, 0),
        step(EQUAL, TIOCLINUX, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0), // 14
    ]
}

/// asm-generic/ioctls.h: subcommands of the Linux console, one of them pastes.
const TIOCLINUX: u32 = 0x541c;

/// How this machine's programs call ioctl.
mod abi {
    /// AUDIT_ARCH_* of linux/audit.h and the numbers of ioctl there (twice where there is one only).
    pub struct Abi {
        pub arch: u32,
        pub ioctl: u32,
        pub ioctl_other: u32,
    }

    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Abi = Abi { arch: 0xc000_003e, ioctl: 16, ioctl_other: 0x4000_0000 | 514 }; // and x32
    #[cfg(target_arch = "x86_64")]
    pub const COMPAT: Abi = Abi { arch: 0x4000_0003, ioctl: 54, ioctl_other: 54 }; // i386
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Abi = Abi { arch: 0xc000_00b7, ioctl: 29, ioctl_other: 29 };
    #[cfg(target_arch = "aarch64")]
    pub const COMPAT: Abi = Abi { arch: 0x4000_0028, ioctl: 54, ioctl_other: 54 }; // arm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BPF machine for the instructions that the filter uses.
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
                        ARG1_LOW => argument as u32,
                        other => panic!("load of {other}"),
                    }
                }
                0x15 => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                0x06 => return step.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn only_the_two_ioctls_are_refused() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        for abi in [abi::NATIVE, abi::COMPAT] {
            for number in [abi.ioctl, abi.ioctl_other] {
                for request in [0x5412u64, 0x541c, 0xdead_0000_5412] {
                    assert_eq!(run(abi.arch, number, request), refused);
                }
                assert_eq!(run(abi.arch, number, 0x5413), libc::SECCOMP_RET_ALLOW);
            }
            assert_eq!(run(abi.arch, 1, 0x5412), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(run(1, 16, 0x5412), libc::SECCOMP_RET_ALLOW);
    }
}
