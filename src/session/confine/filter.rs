//! The lists of [`super::calls`] as a seccomp program.
//!
//! By hand: seccompiler's rules know one answer for all that is not listed, where here are four. Of a constant answer the
//! kernel makes a bitmap by call (since 5.11), so the length of the list costs nothing.

use seccompiler::sock_filter;

use super::WorkerNeeds;
use super::calls::{self, ABSENT, ALLOWED, Class, Only, SCRIBE};

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;
/// The low half of an argument, on little-endian machines.
const fn low_half(argument: u8) -> u32 {
    ARGUMENTS + 8 * argument as u32
}

/// AUDIT_ARCH_* of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xc000_00f3;

const ALLOW: sock_filter = answer(libc::SECCOMP_RET_ALLOW);
const KILL: sock_filter = answer(libc::SECCOMP_RET_KILL_PROCESS);

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const fn load(offset: u32) -> sock_filter {
    step(0x20, offset, 0, 0) // BPF_LD | BPF_W | BPF_ABS
}

const fn answer(what: u32) -> sock_filter {
    step(0x06, what, 0, 0) // BPF_RET | BPF_K
}

const fn refuse(errno: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// If what was loaded equals `k`, the next step, else `jf` steps further on.
const fn equal(k: u32, jt: u8, jf: u8) -> sock_filter {
    step(0x15, k, jt, jf) // BPF_JMP | BPF_JEQ | BPF_K
}

/// The program for a worker with these needs; `pid` is its own.
pub(super) fn program(needs: &WorkerNeeds, pid: u32) -> Vec<sock_filter> {
    of(ALLOWED.iter().filter(|class| (class.needed)(needs)), pid)
}

/// That for a scribe.
pub(super) fn scribe(pid: u32) -> Vec<sock_filter> {
    of(SCRIBE.iter(), pid)
}

fn of<'a>(classes: impl Iterator<Item = &'a Class>, pid: u32) -> Vec<sock_filter> {
    // Calls of another architecture have other numbers, and no part of a worker makes any.
    let mut program = vec![load(ARCH), equal(NATIVE, 1, 0), KILL, load(NR)];
    let mut rule = |numbers: &mut dyn Iterator<Item = u32>, body: &[sock_filter]| {
        for number in numbers {
            program.push(equal(number, 0, body.len() as u8)); // bodies have a handful of steps
            program.extend_from_slice(body);
        }
    };
    for class in classes {
        rule(&mut class.calls().filter_map(|call| call.number), &body(class.only, pid));
    }
    rule(&mut calls::deadly().filter_map(|call| call.number), &[KILL]);
    rule(&mut ABSENT.iter().filter_map(|call| call.number), &[refuse(libc::ENOSYS)]);
    // BPF_JMP | BPF_JGT | BPF_K
    program.extend([step(0x25, calls::LAST_KNOWN, 0, 1), refuse(libc::ENOSYS), refuse(libc::EPERM)]);
    program
}

/// What is done with a call of the list.
fn body(only: Only, pid: u32) -> Vec<sock_filter> {
    let one_of = |argument, values: &[u32]| {
        let mut body = vec![load(low_half(argument))];
        for (at, value) in values.iter().enumerate() {
            body.push(equal(*value, (values.len() - at) as u8, 0)); // to the end; a handful
        }
        body.extend([refuse(libc::EPERM), ALLOW]);
        body
    };
    match only {
        Only::Any => vec![ALLOW],
        Only::OneOf { argument, values } => one_of(argument, values),
        Only::OwnPid { argument } => one_of(argument, &[pid]),
        Only::Bits { argument, set, clear } => vec![
            load(low_half(argument)),
            step(0x54, set | clear, 0, 0), // BPF_ALU | BPF_AND | BPF_K
            equal(set, 1, 0),
            refuse(libc::EPERM),
            ALLOW,
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PLAIN: WorkerNeeds = WorkerNeeds { psi_triggers: false };
    const TRIGGERS: WorkerNeeds = WorkerNeeds { psi_triggers: true };
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const PID: u32 = 4711;

    /// A BPF machine for the instructions that the filter uses.
    fn run(needs: &WorkerNeeds, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let program = program(needs, PID);
        let (mut at, mut loaded) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => {
                    loaded = match step.k {
                        NR => number,
                        ARCH => arch,
                        offset => arguments[(offset - ARGUMENTS) as usize / 8] as u32,
                    }
                }
                0x15 => at += jump(loaded == step.k),
                0x25 => at += jump(loaded > step.k),
                0x54 => loaded &= step.k,
                0x06 => return step.k,
                other => panic!("code {other}"),
            }
        }
    }

    fn call(number: libc::c_long, arguments: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&PLAIN, NATIVE, number as u32, all)
    }

    #[test]
    fn no_call_is_in_two_lists() {
        let mut seen = BTreeSet::new();
        let allowed = ALLOWED.iter().flat_map(|class| class.calls());
        for call in allowed.chain(calls::deadly()).chain(ABSENT) {
            assert!(seen.insert(call.name()), "{} twice", call.name());
            assert!(call.number.is_none_or(|number| number <= calls::LAST_KNOWN), "{}", call.name());
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        // BPF_MAXINSNS
        assert!(program(&TRIGGERS, PID).len() <= 4096);
    }

    #[test]
    fn every_list_is_answered_as_it_says() {
        for class in ALLOWED {
            let good = match class.only {
                Only::Any => [0; 6],
                Only::OneOf { argument, values } => at(argument, values[0]),
                Only::OwnPid { argument } => at(argument, PID),
                Only::Bits { argument, set, .. } => at(argument, set),
            };
            for number in class.calls().filter_map(|call| call.number) {
                assert_eq!(run(&TRIGGERS, NATIVE, number, good), libc::SECCOMP_RET_ALLOW, "{}", class.name);
                let plain = if (class.needed)(&PLAIN) { libc::SECCOMP_RET_ALLOW } else { EPERM };
                assert_eq!(run(&PLAIN, NATIVE, number, good), plain, "{}", class.name);
                assert_eq!(run(&TRIGGERS, NATIVE ^ 1, number, good), libc::SECCOMP_RET_KILL_PROCESS);
            }
        }
        for number in calls::deadly().filter_map(|call| call.number) {
            assert_eq!(run(&TRIGGERS, NATIVE, number, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    fn at(argument: u8, value: u32) -> [u64; 6] {
        let mut all = [0; 6];
        all[usize::from(argument)] = u64::from(value);
        all
    }

    #[test]
    fn arguments() {
        let allow = libc::SECCOMP_RET_ALLOW;
        for (number, arguments, want) in [
            // pthread_create of the C library
            (libc::SYS_clone, &[0x3d_0f00][..], allow),
            (libc::SYS_clone, &[libc::SIGCHLD as u64], EPERM),
            (libc::SYS_clone, &[0x3d_0f00 | libc::CLONE_NEWUSER as u64], EPERM),
            (libc::SYS_clone3, &[], ENOSYS),
            (libc::SYS_mmap, &[0, 4096, 3], allow),
            (libc::SYS_mmap, &[0, 4096, 5], EPERM),
            (libc::SYS_mprotect, &[0, 4096, 7], EPERM),
            (libc::SYS_mprotect, &[0, 4096, 0], allow),
            (libc::SYS_tgkill, &[PID.into(), 1, 6], allow),
            (libc::SYS_tgkill, &[1, 1, 6], EPERM),
            (libc::SYS_kill, &[u64::MAX, 9], EPERM),
            (libc::SYS_prlimit64, &[0], allow),
            (libc::SYS_prlimit64, &[1], EPERM),
            (libc::SYS_socketpair, &[libc::AF_UNIX as u64], allow),
            (libc::SYS_socketpair, &[libc::AF_INET as u64], EPERM),
            (libc::SYS_socket, &[libc::AF_UNIX as u64], EPERM),
            (libc::SYS_connect, &[], EPERM),
            (libc::SYS_prctl, &[libc::PR_SET_NAME as u64], allow),
            (libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64], EPERM),
            (libc::SYS_ioctl, &[2, libc::TCGETS], allow),
            (libc::SYS_ioctl, &[2, NS_GET_PID_FROM_PIDNS], allow),
            (libc::SYS_ioctl, &[2, libc::TIOCSTI], EPERM),
            (libc::SYS_fchmodat, &[], EPERM),
            (libc::SYS_linkat, &[], EPERM),
            (libc::c_long::from(calls::LAST_KNOWN), &[], EPERM),
            (libc::c_long::from(calls::LAST_KNOWN) + 1, &[], ENOSYS),
            (0x4000_0000 | libc::SYS_read, &[], ENOSYS), // the x32 way to call it
        ] {
            assert_eq!(call(number, arguments), want, "{number} {arguments:?}");
        }
    }

    /// The number of src/containers/pidns.rs.
    const NS_GET_PID_FROM_PIDNS: u64 = nix::request_code_read!(0xb7, 0x6, size_of::<libc::c_int>());
}
