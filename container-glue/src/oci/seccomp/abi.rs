//! The ways to call the kernel: each has numbers of its own for the names.

use oci_spec::runtime::Arch;

use super::SeccompError;

/// __X32_SYSCALL_BIT of asm/unistd.h: x32 calls look like x86-64 calls with this bit in the number.
pub const X32_BIT: u32 = 0x4000_0000;

/// __ARM_NR_BASE of asm/unistd.h, where ARM's private calls start.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// One way to call the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Abi {
    /// Its name in a profile.
    pub arch: Arch,
    /// AUDIT_ARCH_* of linux/audit.h, what the kernel gives a filter as the architecture.
    pub audit: u32,
    /// Whether arguments have 64 bits.
    pub wide: bool,
    /// The number of a call as the kernel gives it to a filter.
    pub number: fn(&str) -> Option<u32>,
}

impl Abi {
    /// Whether a number says nothing about how new a call is.
    pub fn is_private(&self, number: u32) -> bool {
        self.arch == Arch::ScmpArchArm && number >= ARM_PRIVATE
    }
}

/// This machine's own architecture.
pub const fn host() -> Option<Arch> {
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        Some(Arch::ScmpArchX86_64)
    } else if cfg!(target_arch = "x86") {
        Some(Arch::ScmpArchX86)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::ScmpArchAarch64)
    } else if cfg!(target_arch = "arm") {
        Some(Arch::ScmpArchArm)
    } else if cfg!(target_arch = "riscv64") {
        Some(Arch::ScmpArchRiscv64)
    } else if cfg!(target_arch = "s390x") {
        Some(Arch::ScmpArchS390x)
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        Some(Arch::ScmpArchPpc64le)
    } else if cfg!(target_arch = "powerpc64") {
        Some(Arch::ScmpArchPpc64)
    } else if cfg!(target_arch = "loongarch64") {
        Some(Arch::ScmpArchLoongarch64)
    } else {
        None
    }
}

/// The ABIs of a profile that can occur on a machine, each once, the machine's own first.
pub fn listed(architectures: &[Arch], host: Arch) -> Result<Vec<Abi>, SeccompError> {
    let mut abis = vec![abi(host)?];
    for arch in architectures {
        if *arch == Arch::ScmpArchNative || !runs_on(*arch, host) || abis.iter().any(|abi| abi.arch == *arch)
        {
            continue;
        }
        abis.push(abi(*arch)?);
    }
    Ok(abis)
}

/// Whether a kernel can have processes of an architecture. A 32-bit program of ours can be on a 64-bit kernel.
fn runs_on(arch: Arch, host: Arch) -> bool {
    use Arch::*;
    match host {
        ScmpArchX86_64 | ScmpArchX86 => matches!(arch, ScmpArchX86_64 | ScmpArchX86 | ScmpArchX32),
        ScmpArchAarch64 | ScmpArchArm => matches!(arch, ScmpArchAarch64 | ScmpArchArm),
        ScmpArchS390x => matches!(arch, ScmpArchS390x | ScmpArchS390),
        ScmpArchPpc64 => matches!(arch, ScmpArchPpc64 | ScmpArchPpc),
        _ => arch == host,
    }
}

/// The number in one of the tables of crate `syscalls`.
macro_rules! table {
    ($module:ident) => {
        |name: &str| name.parse::<syscalls::$module::Sysno>().ok().map(|call| call.id().cast_unsigned())
    };
}

fn abi(arch: Arch) -> Result<Abi, SeccompError> {
    let (wide, number): (bool, fn(&str) -> Option<u32>) = match arch {
        Arch::ScmpArchX86_64 => (true, table!(x86_64)),
        Arch::ScmpArchX86 => (false, table!(x86)),
        Arch::ScmpArchX32 => (false, x32),
        Arch::ScmpArchAarch64 => (true, table!(aarch64)),
        Arch::ScmpArchArm => (false, arm),
        Arch::ScmpArchRiscv64 => (true, table!(riscv64)),
        Arch::ScmpArchS390x => (true, table!(s390x)),
        Arch::ScmpArchPpc64 | Arch::ScmpArchPpc64le => (true, table!(powerpc64)),
        Arch::ScmpArchPpc => (false, table!(powerpc)),
        Arch::ScmpArchLoongarch64 => (true, table!(loongarch64)),
        _ => return Err(SeccompError::NoTable(arch)),
    };
    // the values of the specification's crate are the kernel's but for x32, which is none of the kernel's
    let audit = if arch == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 } else { arch } as u32;
    Ok(Abi { arch, audit, wide, number })
}

/// Calls that x32 has at numbers of their own, for their structures differ: from 512 on in this order.
const X32_FROM_512: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of x86-64 that x32 does not have.
const NOT_X32: [&str; 13] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
];

fn x32(name: &str) -> Option<u32> {
    if NOT_X32.contains(&name) {
        return None;
    }
    let number = match (512..).zip(X32_FROM_512).find(|(_, own)| *own == name) {
        Some((number, _)) => number,
        None => (table!(x86_64))(name)?,
    };
    Some(X32_BIT | number)
}

fn arm(name: &str) -> Option<u32> {
    let private = match name {
        "breakpoint" => 1,
        "cacheflush" => 2,
        "usr26" => 3,
        "usr32" => 4,
        "set_tls" => 5,
        "get_tls" => 6,
        // the table has the name before 2007; the number is the same
        "sync_file_range2" => return arm("arm_sync_file_range"),
        _ => return (table!(arm))(name),
    };
    Some(ARM_PRIVATE + private)
}

/// How a call can also be made: through a call that does several things, by its first argument.
pub struct Through {
    /// The name of the call that is made.
    pub call: &'static str,
    /// Its first argument, in the bits of `mask`.
    pub selector: u64,
    /// ipc has a version in the upper half.
    pub mask: u64,
}

/// linux/net.h, SYS_*, from 1 on in this order.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// linux/ipc.h.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The other way to make the call `name`, where the architecture has it.
pub fn through(name: &str) -> Option<Through> {
    if let Some((selector, _)) = (1..).zip(SOCKETCALL).find(|(_, call)| *call == name) {
        return Some(Through { call: "socketcall", selector, mask: u64::MAX });
    }
    let (_, selector) = IPC.into_iter().find(|(call, _)| *call == name)?;
    Some(Through { call: "ipc", selector, mask: 0xffff })
}
