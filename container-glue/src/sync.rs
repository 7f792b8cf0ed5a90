//! The socket pair between the launcher and the container's init while the container is set up.
//!
//! End of file means: for init that the launcher is dead, for the launcher that the set-up is over.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};

/// Longest message; an error text is cut to fit.
const LARGEST: usize = 4096;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Makes both ends, close-on-exec.
pub fn channel() -> io::Result<(Channel, Channel)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Channel(a), Channel(b)))
}

impl Channel {
    /// Its descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Sends one message.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let message = message.get(..LARGEST).unwrap_or(message);
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], &[], MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message; `None` when the other end is closed.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; LARGEST];
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                Err(nix::Error::EINTR) => {}
                // init died with messages of ours unread
                Err(nix::Error::ECONNRESET) => break 0,
                Err(error) => return Err(error.into()),
            }
        };
        buffer.truncate(length);
        Ok((length > 0).then_some(buffer))
    }
}
