//! sysinfo(2) of a container, answered by the daemon with the numbers of the container's files.
//!
//! A process installs its filter itself, just before it becomes the program. The listener that it gets goes over a socket to
//! `start` or `exec`, which wait beside it on the host and hand it to the daemon; only when the daemon has it does the
//! process go on. Before, they say whether there is a daemon that takes it: a filter cannot be taken back.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use ownproc::control::Paths;
use ownproc::session::calls::inbox::KEPT;

use super::seccomp::Filter;
use crate::rootfs::{SetupError, Step};

/// What is said to the process: there is a daemon that takes a listener, there is none, the listener is kept.
const OFFERED: u8 = b'y';
const NOT_OFFERED: u8 = b'n';
/// What it says along with the listener.
const LISTENER: u8 = b'L';
/// How long the daemon may take, workers that come and go included.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the process: waits for the offer and installs the one filter or the other.
pub fn install(with: &Filter, without: Option<&Filter>, socket: BorrowedFd<'_>) -> Result<(), SetupError> {
    let what = || "cannot install linux.seccomp".to_owned();
    if receive_byte(socket).step(|| "cannot hear whether sysinfo(2) is answered".to_owned())? == OFFERED {
        let listener = match with.install() {
            // before Linux 5.19
            Err(_) if with.flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 => {
                let flags = with.flags & !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
                Filter { flags, ..with.clone() }.install()
            }
            other => other,
        };
        // EBUSY: whoever started us has a listener, and there can be but one
        if let Ok(Some(listener)) = listener {
            return hand_over(&listener, socket)
                .step(|| "the daemon does not take the listener for sysinfo(2)".to_owned());
        }
    }
    without.map_or(Ok(None), Filter::install).map(drop).step(what)
}

fn hand_over(listener: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[LISTENER])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    match receive_byte(socket)? {
        KEPT => Ok(()),
        _ => Err(io::Error::other("it was refused: see its log")),
    }
}

fn receive_byte(socket: BorrowedFd<'_>) -> io::Result<u8> {
    let mut byte = [0];
    loop {
        match rustix::io::read(socket, &mut byte) {
            Ok(1..) => return Ok(byte[0]),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Beside the process, on the host.
pub struct Beside {
    inbox: PathBuf,
    offered: bool,
}

impl Beside {
    /// Asks the daemon whether it takes one listener more; says in one line where it does not.
    pub fn new(mount: &std::path::Path) -> Self {
        let inbox = Paths::new(mount).seccomp;
        let offered = match has_room(&inbox) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("sysinfo(2) will show the host's numbers: {}: {error}", inbox.display());
                false
            }
        };
        Self { inbox, offered }
    }

    /// Makes the offer, hands in the listener that comes, and returns what the process says until it becomes its program.
    pub fn serve(&self, mut socket: &UnixStream) -> io::Result<String> {
        let mut said = Vec::new();
        let mut handed = false;
        match socket.write_all(&[if self.offered { OFFERED } else { NOT_OFFERED }]) {
            // it has ended, and may have said why
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        while said.len() < 65_536 {
            let (bytes, listener) = match receive(socket) {
                // a process that an older build made has read nothing
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                other => other?,
            };
            if let Some(listener) = listener {
                handed = true;
                let kept = self.hand_in(&listener);
                if let Err(error) = &kept {
                    log::error!("{}: {error}", self.inbox.display());
                }
                socket.write_all(&[if kept.is_ok() { KEPT } else { NOT_OFFERED }])?;
                continue;
            }
            if bytes.is_empty() {
                break;
            }
            said.extend(bytes);
        }
        if self.offered && !handed && said.is_empty() {
            log::warn!(
                "sysinfo(2) will show the host's numbers: this kernel, or a filter of the caller's, allows no listener"
            );
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Again where a worker was replaced in between.
    fn hand_in(&self, listener: &OwnedFd) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let message = br#"{"ociVersion":"1.0.2","fds":["seccompFd"],"pid":0,"metadata":"","state":{}}"#;
        loop {
            let socket = connect(&self.inbox)?;
            let fds = [listener.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&fds)];
            let sent = sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(message)],
                &rights,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            let kept = sent.map_err(io::Error::from).and_then(|_| receive_byte(socket.as_fd()));
            match kept {
                Ok(KEPT) => return Ok(()),
                Ok(_) => return Err(io::Error::other("not understood")),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn connect(inbox: &std::path::Path) -> io::Result<UnixStream> {
    let directory = crate::rootfs::mounts::open_host(inbox.parent().unwrap_or(inbox))?;
    let name = inbox.file_name().unwrap_or_default();
    let socket = UnixStream::connect(PathBuf::from(crate::rootfs::mounts::proc_path(&directory)).join(name))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Who ends without a message is told whether there is room.
fn has_room(inbox: &std::path::Path) -> io::Result<()> {
    let socket = connect(inbox)?;
    socket.shutdown(Shutdown::Write)?;
    let mut byte = [0];
    match (&socket).read(&mut byte)? {
        1 if byte == [KEPT] => Ok(()),
        _ => Err(io::Error::other("the daemon has no room for one more")),
    }
}

/// Some bytes, or a descriptor.
fn receive(socket: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = vec![0; 4096];
    let mut space = nix::cmsg_space!([i32; 1]);
    let (length, fd) = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => {
                let fd = message.cmsgs()?.find_map(|control| match control {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                break (message.bytes, fd);
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    buffer.truncate(length);
    // SAFETY: recvmsg has just made it, there is room for no other, and nothing else owns it.
    Ok((buffer, fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_offered_nothing_gets_its_profile_alone() {
        let (ours, its) = UnixStream::pair().unwrap();
        let nobody = Beside { inbox: PathBuf::from("/nowhere/seccomp.sock"), offered: false };
        (&its).write_all(b"no such program").unwrap();
        its.shutdown(Shutdown::Write).unwrap();
        assert_eq!(nobody.serve(&ours).unwrap(), "no such program");
        let with = super::super::seccomp::with_sysinfo(None).unwrap();
        // no filter at all: this thread is not changed
        install(&with, None, its.as_fd()).unwrap();
        drop(ours);
        assert!(install(&with, None, its.as_fd()).is_err(), "whoever starts it is gone");
    }

    #[test]
    fn without_a_daemon_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        assert!(has_room(&dir.path().join("seccomp.sock")).is_err());
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("full.sock")).unwrap();
        let full = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(has_room(&dir.path().join("full.sock")).unwrap_err().to_string().contains("no room"));
        full.join().unwrap();
    }
}
