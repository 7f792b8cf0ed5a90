//! Processes that write answers into the memory of those who asked.
//!
//! The memory may be mapped from a file system of the container's own, which lets a writer wait for ever, and in a way in which it
//! cannot even be killed. So a worker never writes there itself. Scribes are forked by it before it gives up its rights, know
//! nothing, have nothing open but one socket, and end with it; one that cannot end is left behind.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;

use super::notify::{self, Answer, Call};
use crate::render::SYSINFO_64;
use crate::session::confine;
use crate::session::spawn::LOWEST;

/// The longest answer, and the length of all messages: the call's number, its thread, the length, the address, the bytes.
const MESSAGE: usize = 8 + 4 + 4 + 8 + SYSINFO_64;

/// A scribe, as its worker knows it.
#[derive(Debug)]
pub struct Scribe {
    socket: OwnedFd,
    /// Its process.
    pub pid: Pid,
}

impl Scribe {
    /// Forks one. To be called while this process has one thread, and its full rights.
    pub fn start() -> std::io::Result<Self> {
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let its = rustix::io::fcntl_dupfd_cloexec(&its, LOWEST)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let parent = rustix::process::getpid();
        // SAFETY: the process has one thread, so that the child may do what any process may.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                let code = live(&its, parent);
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(code) }
            }
            pid => Ok(Self { socket: ours, pid: Pid::from_raw(pid).ok_or(Errno::SRCH)? }),
        }
    }

    /// Has an answer written, and given.
    pub fn write(&self, call: &Call, bytes: &[u8], listener: BorrowedFd<'_>) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
        let parts = [
            &call.id.to_ne_bytes()[..],
            &call.tid.to_ne_bytes(),
            &len.to_ne_bytes(),
            &call.argument.to_ne_bytes(),
            bytes,
            &[0; SYSINFO_64][bytes.len().min(SYSINFO_64)..],
        ];
        let parts = parts.map(IoSlice::new);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [listener];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::INVAL);
        }
        sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL).map(|_| ())
    }

    /// Whether it has done what it was told. EPIPE: it is gone.
    pub fn is_done(&self) -> Result<bool, Errno> {
        match rustix::net::recv(&self.socket, &mut [0; 1][..], RecvFlags::DONTWAIT) {
            Ok((1, _)) => Ok(true),
            Ok(_) => Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Becomes ready when it has.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What it is told.
struct Order {
    id: u64,
    tid: u32,
    address: u64,
    bytes: [u8; SYSINFO_64],
    len: usize,
}

impl Order {
    fn parse(message: &[u8; MESSAGE]) -> Option<Self> {
        let (id, rest) = message.split_first_chunk::<8>()?;
        let (tid, rest) = rest.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (address, bytes) = rest.split_first_chunk::<8>()?;
        Some(Self {
            id: u64::from_ne_bytes(*id),
            tid: u32::from_ne_bytes(*tid),
            address: u64::from_ne_bytes(*address),
            bytes: *bytes.first_chunk()?,
            len: usize::try_from(u32::from_ne_bytes(*len)).ok().filter(|len| *len <= SYSINFO_64)?,
        })
    }
}

/// The life of a scribe: returns its exit code when its worker is gone.
fn live(socket: &OwnedFd, worker: Pid) -> i32 {
    let _ = rustix::thread::set_name(c"ownproc-scribe");
    close_others(socket.as_raw_fd());
    if let Err(error) = confine::scribe(worker) {
        log::error!("a scribe: {error}");
        return 1;
    }
    loop {
        let mut message = [0; MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut message)];
        let came = match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(came) if came.bytes == MESSAGE => control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            }),
            Err(Errno::INTR) => continue,
            _ => return 0,
        };
        let (Some(order), Some(listener)) = (Order::parse(&message), came) else { return 1 };
        if let Some(answer) = carry_out(&order, listener.as_fd()) {
            let _ = notify::send(listener.as_fd(), order.id, answer); // the thread may have been killed meanwhile
        }
        drop(listener);
        if rustix::net::send(socket, &[0], SendFlags::NOSIGNAL).is_err() {
            return 0;
        }
    }
}

/// The fixed numbers hold the connection and more, which must not live on in here.
fn close_others(socket: RawFd) {
    let socket = socket.cast_unsigned();
    for (first, last) in [(3, socket - 1), (socket + 1, u32::MAX)] {
        // SAFETY: closes descriptors of this process, which uses none of them. Where the kernel cannot (before 5.9) those
        // that were given to the worker are closed one by one.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0
            && first < LOWEST.cast_unsigned()
        {
            (3..LOWEST).for_each(|number| {
                // SAFETY: likewise.
                unsafe { libc::close(number) };
            });
        }
    }
}

/// The thread's memory is opened first, and only then is it asked whether the thread still waits: so what is open is the memory
/// of the one that asked, whoever may have its number since. `None`: it is gone.
fn carry_out(order: &Order, listener: BorrowedFd<'_>) -> Option<Answer> {
    let memory = File::options().write(true).open(format!("/proc/{}/mem", order.tid));
    if !notify::is_waiting(listener, order.id) {
        return None;
    }
    let Ok(memory) = memory else { return Some(Answer::Kernel) };
    let bytes = order.bytes.get(..order.len).unwrap_or_default();
    Some(match memory.write_all_at(bytes, order.address) {
        Ok(()) => Answer::Done,
        Err(_) => Answer::Failed(libc::EFAULT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_through() {
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&77_u64.to_ne_bytes());
        message[8..12].copy_from_slice(&12_u32.to_ne_bytes());
        message[12..16].copy_from_slice(&64_u32.to_ne_bytes());
        message[16..24].copy_from_slice(&0x7fff_0000_1234_u64.to_ne_bytes());
        message[24..].fill(9);
        let order = Order::parse(&message).expect("an order");
        assert_eq!((order.id, order.tid, order.len, order.address), (77, 12, 64, 0x7fff_0000_1234));
        assert!(order.bytes.iter().all(|byte| *byte == 9));
        message[12..16].copy_from_slice(&113_u32.to_ne_bytes());
        assert!(Order::parse(&message).is_none(), "longer than any answer");
    }
}
