//! Frames over a stream socket: a length (u32, little endian), then so many bytes; descriptors travel with the
//! first byte. Everything has a deadline, so that a peer that stalls costs at most that.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame, its length not counted.
pub const MAX_FRAME: usize = 64 * 1024;
/// The most descriptors with one frame: a pidfd and one directory for each hierarchy that Linux can have.
pub const MAX_FDS: usize = 32;

/// Why a frame was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed the connection before a frame began.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the connection within a frame.
    #[error("the peer closed the connection in the middle of a message")]
    Truncated,
    /// Not whole at the deadline.
    #[error("the peer did not send or take a whole message in time")]
    Deadline,
    /// Longer than [`MAX_FRAME`].
    #[error("a message of {0} bytes; the most is {MAX_FRAME}")]
    TooLarge(usize),
    /// More than [`MAX_FDS`] descriptors, or some where none are expected. All of them are closed.
    #[error("more file descriptors came than are expected")]
    UnexpectedFds,
    /// The bytes are not the expected JSON.
    #[error("not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Errno> for WireError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// What was received.
#[derive(Debug)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Descriptors that came along, close-on-exec, in the order sent; dropping them closes them.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// The bytes as JSON.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }
}

/// Sends a value as one JSON frame.
pub fn send_json<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    fds: &[BorrowedFd<'_>],
    deadline: Instant,
) -> Result<(), WireError> {
    send_frame(socket, &serde_json::to_vec(value)?, fds, deadline)
}

/// Sends one frame, whole, by the deadline.
pub fn send_frame(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Instant,
) -> Result<(), WireError> {
    if payload.len() > MAX_FRAME {
        return Err(WireError::TooLarge(payload.len()));
    }
    if fds.len() > MAX_FDS {
        return Err(WireError::UnexpectedFds);
    }
    // At most MAX_FRAME, so it fits.
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    let mut sent = 0;
    while sent < bytes.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(WireError::UnexpectedFds);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(socket, &[IoSlice::new(&bytes[sent..])], &mut control, flags) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, deadline)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Receives one frame, whole, by the deadline; more than `max_fds` descriptors are an error.
pub fn receive(socket: BorrowedFd<'_>, max_fds: usize, deadline: Instant) -> Result<Frame, WireError> {
    let mut fds = Vec::new();
    let mut header = [0; 4];
    fill(socket, &mut header, &mut fds, max_fds, deadline)?;
    let len = u32::from_le_bytes(header) as usize;
    if len > MAX_FRAME {
        return Err(WireError::TooLarge(len));
    }
    let mut bytes = vec![0; len];
    match fill(socket, &mut bytes, &mut fds, max_fds, deadline) {
        Err(WireError::Closed) => return Err(WireError::Truncated), // after the length
        other => other?,
    }
    Ok(Frame { bytes, fds })
}

/// Fills `buffer` and collects descriptors; those of a refused message are closed with `fds`. An end before the first
/// byte is [`WireError::Closed`].
fn fill(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    max_fds: usize,
    deadline: Instant,
) -> Result<(), WireError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message =
            match recvmsg(socket, &mut [IoSliceMut::new(&mut buffer[filled..])], &mut control, flags) {
                Ok(message) => message,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    wait(socket, PollFlags::IN, deadline)?;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = ancillary {
                fds.extend(received);
            }
        }
        // CTRUNC: the kernel itself closed those for which there was no room.
        if fds.len() > max_fds || message.flags.contains(ReturnFlags::CTRUNC) {
            fds.clear();
            return Err(WireError::UnexpectedFds);
        }
        if message.bytes == 0 {
            return Err(if filled == 0 { WireError::Closed } else { WireError::Truncated });
        }
        filled += message.bytes;
        // One byte at a time never blocks, so the deadline is looked at here too.
        if Instant::now() >= deadline && filled < buffer.len() {
            return Err(WireError::Deadline);
        }
    }
    Ok(())
}

/// Waits until the socket is ready or the deadline is there.
fn wait(socket: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<(), WireError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Deadline);
        }
        let timeout = timespec(left);
        match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), events)], Some(&timeout)) {
            Ok(0) => return Err(WireError::Deadline),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
