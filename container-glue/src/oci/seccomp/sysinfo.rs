//! A filter that sends sysinfo(2) to a listener, and is otherwise what it was.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscallBuilder};
use seccompiler::sock_filter;

use super::{Filter, abi, compile_for};

const NAME: &str = "sysinfo";

/// The filter for this machine; `None` where the profile says something else of sysinfo(2) than that it is allowed, or has a
/// listener of its own (a process can have one only), or nothing is left to add.
pub fn with_sysinfo(profile: Option<&LinuxSeccomp>) -> Option<Filter> {
    with_sysinfo_for(profile, abi::host()?)
}

pub(super) fn with_sysinfo_for(profile: Option<&LinuxSeccomp>, host: Arch) -> Option<Filter> {
    let mut filter = match profile {
        None => Filter {
            program: alone(host)?,
            flags: libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            notify: true,
            listener_path: None,
            listener_metadata: None,
        },
        Some(profile) => {
            let mut profile = profile.clone();
            let mut calls = profile.syscalls().clone().unwrap_or_default();
            if !is_allowed(&profile) || calls.iter().any(|entry| entry.action() == Action::ScmpActNotify) {
                return None;
            }
            let entry = LinuxSyscallBuilder::default()
                .names([NAME.to_owned()])
                .action(Action::ScmpActNotify)
                .build()
                .ok()?;
            calls.insert(0, entry);
            profile.set_syscalls(Some(calls));
            // one that is wrong or too long is told of where the profile itself is compiled
            compile_for(&profile, host).ok()?
        }
    };
    // whoever was answered would otherwise be told EINTR where a signal comes meanwhile, which sysinfo(2) never says
    filter.flags |= libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    Some(filter)
}

/// Whether a profile allows it whatever its argument is.
fn is_allowed(profile: &LinuxSeccomp) -> bool {
    let default = profile.default_action();
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let first = entries
        .iter()
        .filter(|entry| entry.action() != default)
        .find(|entry| entry.names().iter().any(|name| name == NAME));
    match first {
        Some(entry) => {
            entry.action() == Action::ScmpActAllow && entry.args().as_ref().is_none_or(Vec::is_empty)
        }
        None => default == Action::ScmpActAllow,
    }
}

/// All but sysinfo(2) is allowed, by two comparisons, whichever way the kernel is called.
fn alone(host: Arch) -> Option<Vec<sock_filter>> {
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let (load, equal, end) = (0x20, 0x15, 0x06); // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
    let listed = match host {
        Arch::ScmpArchX86_64 => &[Arch::ScmpArchX86, Arch::ScmpArchX32][..],
        Arch::ScmpArchAarch64 => &[Arch::ScmpArchArm],
        _ => &[],
    };
    let mut program = vec![step(load, 4, 0, 0)];
    let abis = abi::listed(listed, host).ok()?;
    let mut kernels: Vec<u32> = abis.iter().map(|abi| abi.audit).collect();
    kernels.dedup();
    for kernel in kernels {
        let numbers: Vec<u32> =
            abis.iter().filter(|abi| abi.audit == kernel).filter_map(|abi| (abi.number)(NAME)).collect();
        let block = u8::try_from(2 * numbers.len() + 2).ok()?;
        program.extend([step(equal, kernel, 0, block), step(load, 0, 0, 0)]);
        for number in numbers {
            program.extend([step(equal, number, 0, 1), step(end, libc::SECCOMP_RET_USER_NOTIF, 0, 0)]);
        }
        program.push(step(end, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    program.push(step(end, libc::SECCOMP_RET_ALLOW, 0, 0));
    Some(program)
}
