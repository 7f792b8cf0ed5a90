//! Where runtimes hand in listeners: the socket that `linux.seccomp.listenerPath` of the OCI runtime specification names.
//!
//! A connection carries one message: a JSON containerProcessState, and descriptors, which its `fds` names in their order. One byte
//! is sent back once the listener is kept, which the specification does not know of and our own runtime waits for; likewise to
//! whoever sends nothing and ends, if there is room for one more.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, accept_with, recvmsg,
};
use serde::Deserialize;

use super::listeners::{ListenError, Listeners};
use super::notify;
use crate::control::peer;

/// The name that the specification gives the descriptor.
const NAME: &str = "seccompFd";
/// The longest message.
const LONGEST: usize = 256 * 1024;
/// Descriptors in it.
const FDS: usize = 16;
/// A message must have come whole within this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a listener that is kept is answered with.
pub const KEPT: u8 = b'k';

/// Why a runtime was not served.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Not root.
    #[error("the peer has uid {0}; only root may hand in listeners")]
    NotRoot(u32),
    /// What came is not a whole message within the time.
    #[error("no whole message came: {0}")]
    Receive(#[from] Errno),
    /// What came is not understood.
    #[error("the message is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A message without the descriptor.
    #[error("no descriptor '{NAME}' came with the message")]
    NoListener,
    /// Another kind of file.
    #[error("the descriptor '{NAME}' is no seccomp listener")]
    Foreign,
    /// No room, or the holder is gone.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// As much as is needed of a containerProcessState.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    fds: Vec<String>,
}

/// Which of the descriptors is the listener; `None` while the message is not whole.
fn place_of_listener(message: &[u8]) -> Result<Option<usize>, InboxError> {
    match serde_json::Deserializer::from_slice(message).into_iter::<State>().next() {
        Some(Ok(state)) => {
            state.fds.iter().position(|name| name == NAME).map(Some).ok_or(InboxError::NoListener)
        }
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => Ok(None),
    }
}

/// Takes listeners on a thread of its own, for as long as this process lives.
pub fn start(socket: OwnedFd, listeners: Arc<Listeners>) -> std::io::Result<()> {
    std::thread::Builder::new().name("seccomp-inbox".to_owned()).spawn(move || {
        loop {
            let mut fds = [PollFd::new(&socket, PollFlags::IN)];
            let _ = poll(&mut fds, None); // whatever it says, accept does not wait
            match accept_with(&socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => {
                    if let Err(error) = serve(client.as_fd(), &listeners) {
                        log::warn!("seccomp listener refused: {error}");
                    }
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    // Out of descriptors or memory: the connection stays in the queue, so do not spin.
                    log::warn!("seccomp socket: accept: {errno}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    })?;
    Ok(())
}

fn serve(client: BorrowedFd<'_>, listeners: &Listeners) -> Result<(), InboxError> {
    match peer::uid(client)? {
        0 => {}
        uid => return Err(InboxError::NotRoot(uid)),
    }
    if listeners.is_full() {
        return Err(ListenError::Full.into()); // the peer sees the end at once
    }
    let Some(listener) = receive(client)? else {
        // it only asks whether there is room
        let _ = rustix::net::send(client, &[KEPT], SendFlags::NOSIGNAL);
        return Ok(());
    };
    if !notify::is_listener(listener.as_fd()) {
        return Err(InboxError::Foreign);
    }
    listeners.add(listener)?;
    // Runtimes that do not wait for it may be gone already.
    let _ = rustix::net::send(client, &[KEPT], SendFlags::NOSIGNAL);
    Ok(())
}

/// The listener of one message; `None` where the peer sends none and ends.
fn receive(client: BorrowedFd<'_>) -> Result<Option<OwnedFd>, InboxError> {
    let until = Instant::now() + PATIENCE;
    let (mut message, mut fds) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let len = match recvmsg(client, &mut [std::io::IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Ok(received) => received.bytes,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                let left = until.saturating_duration_since(Instant::now());
                let left = Timespec { tv_sec: 0, tv_nsec: left.as_nanos().min(999_999_999) as _ };
                if poll(&mut [PollFd::from_borrowed_fd(client, PollFlags::IN)], Some(&left))? == 0 {
                    return Err(Errno::TIMEDOUT.into());
                }
                continue;
            }
            Err(errno) => return Err(errno.into()),
        };
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = ancillary {
                fds.extend(received);
            }
        }
        message.extend_from_slice(buffer.get(..len).unwrap_or_default());
        if let Some(place) = place_of_listener(&message)? {
            return fds.into_iter().nth(place).ok_or(InboxError::NoListener).map(Some);
        }
        if len == 0 && message.is_empty() {
            return Ok(None);
        }
        if len == 0 || message.len() > LONGEST || fds.len() > FDS || Instant::now() >= until {
            return Err(Errno::MSGSIZE.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, socketpair};

    use super::*;

    #[test]
    fn the_listener_is_found_by_its_name() {
        let state =
            br#"{"ociVersion":"1.0.2","fds":["other","seccompFd"],"pid":7,"state":{"id":"a","fds":[1]}}"#;
        assert_eq!(place_of_listener(state).expect("understood"), Some(1));
        for end in 0..state.len() {
            assert_eq!(place_of_listener(&state[..end]).expect("so far"), None, "{end}");
        }
        assert!(matches!(place_of_listener(br#"{"fds":["x"]}"#), Err(InboxError::NoListener)));
        assert!(matches!(place_of_listener(b"{}"), Err(InboxError::NoListener)));
        assert!(matches!(place_of_listener(b"fds"), Err(InboxError::Json(_))));
        assert!(matches!(place_of_listener(br#"{"fds":7}"#), Err(InboxError::Json(_))));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let pair = || {
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("pair")
        };
        let (ours, its) = pair();
        rustix::net::send(&its, br#"{"fds":["seccompFd"]}"#, SendFlags::empty()).expect("sent");
        assert!(matches!(receive(ours.as_fd()), Err(InboxError::NoListener)), "without the descriptor");
        let (ours, its) = pair();
        drop(its);
        assert!(matches!(receive(ours.as_fd()), Ok(None)), "nothing");
        let (ours, its) = pair();
        rustix::net::send(&its, b"{", SendFlags::empty()).expect("sent");
        drop(its);
        assert!(matches!(receive(ours.as_fd()), Err(InboxError::Receive(Errno::MSGSIZE))), "a part");
        let (ours, _its) = pair();
        assert!(matches!(receive(ours.as_fd()), Err(InboxError::Receive(Errno::TIMEDOUT))), "silence");
    }
}
