//! The kernel's interface of a listener: linux/seccomp.h.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// SECCOMP_IOCTL_NOTIF_RECV
pub const RECV: u32 = 0xc050_2100;
/// SECCOMP_IOCTL_NOTIF_SEND
pub const SEND: u32 = 0xc018_2101;
/// SECCOMP_IOCTL_NOTIF_ID_VALID
pub const ID_VALID: u32 = 0x4008_2102;
/// SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel does the call itself.
const CONTINUE: u32 = 1;

/// `struct seccomp_notif`, written by the kernel into memory that outlives this process.
#[repr(C)]
#[derive(Debug)]
pub struct Notification {
    /// Its number: 0 until the kernel has written it, which it does last of all or not at all.
    id: AtomicU64,
    /// The thread's number in the low half, and flags.
    pid: AtomicU64,
    /// Number of the call, and AUDIT_ARCH_* of the caller.
    call: AtomicU64,
    instruction: AtomicU64,
    arguments: [AtomicU64; 6],
}

const _: () = assert!(size_of::<Notification>() == (RECV >> 16 & 0x3fff) as usize);

/// One call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number, of this listener.
    pub id: u64,
    /// The thread, in our pid namespace; 0 where it is not there.
    pub tid: u32,
    /// The number of the call.
    pub number: u32,
    /// AUDIT_ARCH_* of linux/audit.h.
    pub arch: u32,
    /// Its first argument.
    pub argument: u64,
}

impl Notification {
    /// None.
    pub fn clear(&self) {
        self.id.store(0, Relaxed);
        let others = [&self.pid, &self.call, &self.instruction];
        others.into_iter().chain(&self.arguments).for_each(|word| word.store(0, Relaxed));
    }

    /// What stands here, if anything does.
    pub fn call(&self) -> Option<Call> {
        let halves = |word: &AtomicU64| {
            let [a, b, c, d, e, f, g, h] = word.load(Relaxed).to_ne_bytes();
            (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
        };
        let id = self.id.load(Relaxed);
        let ((tid, _), (number, arch)) = (halves(&self.pid), halves(&self.call));
        let argument = self.arguments.first().map_or(0, |word| word.load(Relaxed));
        (id != 0).then_some(Call { id, tid, number, arch, argument })
    }

    /// Takes the next call of a listener, which [is ready](ready), so that this does not wait: nobody else reads from it.
    /// ENOENT: its thread was killed meanwhile.
    ///
    /// The kernel writes straight into shared memory, within this one call: whether this process is killed before or after,
    /// a call that was taken stands there, and one that does not was not taken (`seccomp_notify_recv` takes it back if it
    /// cannot write).
    pub fn receive(&self, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        self.clear(); // the kernel wants it empty
        // SAFETY: RECV writes `struct seccomp_notif`, which is as long as this, and any bytes are valid atomics.
        let result = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                RECV as libc::Ioctl,
                std::ptr::from_ref(self).cast_mut().cast::<libc::c_void>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(last()) }
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 0.
    Done,
    /// Refused with this error number.
    Failed(i32),
    /// The kernel does it itself.
    Kernel,
}

/// Answers a call. One whose thread is gone, or that was answered before, is no error.
pub fn send(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<(), Errno> {
    /// `struct seccomp_notif_resp`.
    #[repr(C)]
    struct Response {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    const _: () = assert!(size_of::<Response>() == (SEND >> 16 & 0x3fff) as usize);
    let (error, flags) = match answer {
        Answer::Done => (0, 0),
        Answer::Failed(errno) => (-errno, 0),
        Answer::Kernel => (0, CONTINUE),
    };
    let mut response = Response { id, value: 0, error, flags };
    // SAFETY: SEND reads the structure, which outlives the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND as libc::Ioctl, std::ptr::from_mut(&mut response)) };
    match (result == 0).then_some(()).ok_or_else(last) {
        // gone; answered already
        Err(Errno::NOENT | Errno::INPROGRESS) => Ok(()),
        other => other,
    }
}

/// Whether the call still waits for its answer.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: ID_VALID reads the number, which outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID as libc::Ioctl, std::ptr::from_ref(&id)) == 0 }
}

/// Whether a listener has a call that nobody has taken, and whether all processes with its filter are gone.
pub fn ready(listener: BorrowedFd<'_>) -> (bool, bool) {
    let mut fds = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(1..) => {
            let events = fds[0].revents();
            (events.contains(PollFlags::IN), events.contains(PollFlags::HUP))
        }
        _ => (false, false),
    }
}

/// Whether a descriptor is a listener: others understand the same numbers of ioctl(2) as something else.
#[must_use]
pub fn is_listener(fd: BorrowedFd<'_>) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str() == "anon_inode:seccomp notify")
}

/// Calls that are answered: the ways to call sysinfo(2) on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// `struct sysinfo` with 64 bits.
    Wide,
    /// `struct compat_sysinfo`.
    Compat,
}

impl Call {
    /// How this call is laid out, if it is sysinfo(2).
    #[must_use]
    pub fn abi(&self) -> Option<Abi> {
        match (self.arch, self.number) {
            // AUDIT_ARCH_X86_64, x32 with the same structure; AUDIT_ARCH_I386
            (0xc000_003e, 99 | 0x4000_0063) => Some(Abi::Wide),
            (0x4000_0003, 116) => Some(Abi::Compat),
            // AUDIT_ARCH_AARCH64, AUDIT_ARCH_RISCV64; AUDIT_ARCH_ARM
            (0xc000_00b7 | 0xc000_00f3, 179) => Some(Abi::Wide),
            (0x4000_0028, 116) => Some(Abi::Compat),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        let of = |number: u64| number as u32;
        assert_eq!(RECV, of(nix::request_code_readwrite!(b'!', 0, 80)));
        assert_eq!(SEND, of(nix::request_code_readwrite!(b'!', 1, 24)));
        assert_eq!(ID_VALID, of(nix::request_code_write!(b'!', 2, 8)));
    }

    #[test]
    fn other_files_are_no_listeners() {
        let file = std::fs::File::open("/dev/null").expect("open");
        assert!(!is_listener(file.as_fd()));
        assert!(!is_listener(
            rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("fd").as_fd()
        ));
    }

    #[test]
    fn what_the_kernel_wrote_is_read() {
        let notification = Notification {
            id: AtomicU64::new(7),
            pid: AtomicU64::new(u64::from_ne_bytes([1, 2, 0, 0, 0, 0, 0, 0])),
            call: AtomicU64::new(u64::from_ne_bytes([99, 0, 0, 0, 0x3e, 0, 0, 0xc0])),
            instruction: AtomicU64::new(5),
            arguments: std::array::from_fn(|index| AtomicU64::new(index as u64 + 10)),
        };
        let call = Call { id: 7, tid: 513, number: 99, arch: 0xc000_003e, argument: 10 };
        assert_eq!(notification.call(), Some(call));
        assert_eq!(call.abi(), Some(Abi::Wide));
        notification.clear();
        assert_eq!(notification.call(), None);
        assert!(notification.arguments.iter().all(|argument| argument.load(Relaxed) == 0));
    }

    #[test]
    fn only_sysinfo_is_answered() {
        let abi = |arch, number| Call { id: 1, tid: 1, number, arch, argument: 0 }.abi();
        assert_eq!(abi(0x4000_0003, 116), Some(Abi::Compat));
        assert_eq!(abi(0xc000_00b7, 179), Some(Abi::Wide));
        for (arch, number) in [(0xc000_003e, 116), (0x4000_0003, 99), (0xc000_003e, 0), (0, 99)] {
            assert_eq!(abi(arch, number), None, "{arch:x} {number}");
        }
    }
}
