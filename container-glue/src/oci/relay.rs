//! The caller's terminal and that of a container, connected: who runs `run`, `exec -t` or `launch -t` by hand.

use std::io::{self, IoSliceMut, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::termios::{self, SetArg, Termios};

use super::{Doing, OciError};
use crate::supervise::{self, Signals};

/// Bytes that are copied at once.
const PIECE: usize = 16 << 10;

/// Waits for the master side of the container's terminal.
#[derive(Debug)]
pub struct Relay {
    ours: OwnedFd,
    theirs: OwnedFd,
    resized: SignalFd,
}

/// One, where the caller has to do without a receiver of terminals. To be called before the container's process exists.
pub fn wanted(wanted: bool) -> Result<Option<Relay>, OciError> {
    if !wanted {
        return Ok(None);
    }
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .doing("make a socket pair")?;
    let mut size = SigSet::empty();
    size.add(Signal::SIGWINCH);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&size), None).doing("block SIGWINCH")?;
    let resized = SignalFd::with_flags(&size, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing("wait for changes of the terminal's size")?;
    Ok(Some(Relay { ours, theirs, resized }))
}

impl Relay {
    /// Where the container's process sends the master side.
    pub fn receiver(&self) -> Result<OwnedFd, OciError> {
        self.theirs.try_clone().doing("keep a descriptor")
    }

    /// Copies until the process ends; its exit code. Signals that come are sent to it.
    pub fn run(self, process: BorrowedFd<'_>, signals: &Signals) -> io::Result<u8> {
        let master = receive(self.ours.as_fd())?;
        drop((self.ours, self.theirs));
        let raw = Raw::enter(io::stdin().as_fd());
        copy_size(master.as_fd());
        let mut input = true;
        loop {
            let interest = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let stdin = io::stdin();
            let mut fds = vec![
                interest(process),
                interest(master.as_fd()),
                interest(signals.fd()),
                interest(self.resized.as_fd()),
            ];
            if input {
                fds.push(interest(stdin.as_fd()));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            if ready[1] && !copy(master.as_fd(), io::stdout().as_fd())? && !ready[0] {
                // the last who had the terminal open has closed it; the process may live on
                drop(raw);
                return signals.relay(process);
            }
            if ready[2] {
                signals.catch_up(process)?;
            }
            if ready[3] {
                while self.resized.read_signal()?.is_some() {}
                copy_size(master.as_fd());
            }
            if ready.get(4) == Some(&true) && !copy(stdin.as_fd(), master.as_fd())? {
                end_of_file(master.as_fd());
                input = false;
            }
            if ready[0] {
                // what it wrote last
                while is_ready(master.as_fd()) && copy(master.as_fd(), io::stdout().as_fd())? {}
                drop(raw);
                return supervise::exit_code(process);
            }
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// One piece; false at the end. Nobody who listens is no error: the process may do without.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0; PIECE];
    let length = match rustix::io::read(from, &mut buffer) {
        Ok(0) => return Ok(false),
        Ok(length) => length,
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
        // the other side of a terminal is closed
        Err(rustix::io::Errno::IO) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut left = buffer.get(..length).unwrap_or_default();
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => break,
        }
    }
    Ok(true)
}

/// The end of the input, as a terminal has it: its character for that, Ctrl-D unless it was changed.
fn end_of_file(master: BorrowedFd<'_>) {
    let character = termios::tcgetattr(master)
        .map(|terminal| terminal.control_chars[termios::SpecialCharacterIndices::VEOF as usize])
        .unwrap_or(4);
    let _ = rustix::io::write(master, &[character]);
}

/// The descriptor that comes with a message.
fn receive(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut name = [0; 64];
    let mut parts = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let fd = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fd.ok_or_else(|| io::Error::other("the container sent no terminal"))?;
    // SAFETY: the kernel has just put it there, and nothing else owns it; there was room for one.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Rows and columns of the caller's terminal, or of any of the first three descriptors that is one.
pub fn size() -> Option<(u16, u16)> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().find_map(|fd| {
        let size = rustix::termios::tcgetwinsize(fd).ok()?;
        Some((size.ws_row, size.ws_col))
    })
}

fn copy_size(master: BorrowedFd<'_>) {
    if let Some((rows, columns)) = size() {
        let _ = super::console::set_size(master, rows, columns);
    }
}

/// The caller's terminal without a line discipline of its own: keys go to the container as they are. Taken back when
/// dropped.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter(terminal: BorrowedFd<'_>) -> Option<Self> {
        if !terminal.is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(terminal, SetArg::TCSANOW, &raw).ok()?;
        Some(Self { terminal: terminal.try_clone_to_owned().ok()?, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}
