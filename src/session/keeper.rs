//! The keeper: holds the connection and the memory where no service manager does, so that they
//! outlive the main process.
//!
//! It does nothing as long as that lives. When the link to it ends without a farewell, it starts the
//! main process anew, and passes on what it has as systemd would (`fdstore.rs`, sd_listen_fds(3)).
//! It never reads what a container controls.
//!
//! ```text
//! main process --- link ---> keeper     E farewell   L a listener   D drop a listener
//!   | killed                   | the link ends: fork, exec of the same program and arguments
//!   v                          v
//!                     main process      takes over, starts a keeper, says farewell to the old one
//! ```

mod successor;

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::calls::listeners::Kept;
use super::link;
use super::notice::say;
use super::restart::Millis;
use super::serve::{Options, SessionError};
use super::spawn::{self, Endowment, Life, Program};
use super::worker;

/// What stands first in a message.
const FAREWELL: u8 = b'E';
const LISTENER: u8 = b'L';
const DROP: u8 = b'D';

/// A keeper that ends within this time after it was started is replaced when the time is over, others at once.
const AGAIN: Millis = Millis(1000);
/// How long one may take to end when it was told to.
const LAST: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The keeper as the main process knows it.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    link: OwnedFd,
    /// Listeners from this number on are still to be told.
    untold: Option<u16>,
}

impl Keeper {
    /// Starts one.
    pub(super) fn start(
        program: &Program,
        file: BorrowedFd<'_>,
        device: BorrowedFd<'_>,
        memory: BorrowedFd<'_>,
    ) -> rustix::io::Result<Self> {
        let (ours, its) = link::pair()?;
        let (ours, its) = (spawn::above(ours)?, spawn::above(its)?);
        // it has no use for the sockets, and must not have them: nobody else may listen there
        let none = memory;
        let endowment = Endowment { device, memory, listener: none, link: its.as_fd(), inbox: none };
        let pid = spawn::spawn(program, file, &endowment, Life::ItsOwn)?;
        Ok(Self { pid, link: ours, untold: Some(0) })
    }

    /// Whether it has ended; it is reaped then.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None) | Err(Errno::INTR))
    }

    /// A listener is kept from now on, or another one under that number.
    pub(super) fn keep(&mut self, number: u16, kept: &Kept) {
        match kept.next(number) {
            Some((found, listener)) if found == number && self.untold.is_none() => {
                if tell(self.link.as_fd(), number, listener).is_err() {
                    self.untold = Some(number);
                }
            }
            // what is behind in line is told in its turn
            _ => self.untold = Some(self.untold.map_or(number, |from| from.min(number))),
        }
    }

    /// A listener is not needed any more. One that is kept too long does no harm: it has ended.
    pub(super) fn drop(&self, number: u16) {
        let _ = rustix::net::send(self.link.as_fd(), &message(DROP, number), SendFlags::NOSIGNAL);
    }

    /// All listeners are to be told, whether they were or not.
    pub(super) fn tell_again(&mut self) {
        self.untold = Some(0);
    }

    /// Tells what is left to tell, as much as it can take now.
    pub(super) fn catch_up(&mut self, kept: &Kept) {
        while let Some(from) = self.untold {
            let Some((number, listener)) = kept.next(from) else {
                self.untold = None;
                return;
            };
            if tell(self.link.as_fd(), number, listener).is_err() {
                return;
            }
            self.untold = number.checked_add(1);
        }
    }

    /// The daemon ends as it was asked to.
    pub(super) fn dismiss(self) {
        dismiss(self.link.as_fd());
    }
}

/// Tells a keeper to end.
pub(super) fn say_farewell(link: BorrowedFd<'_>) {
    let _ = rustix::net::send(link, &message(FAREWELL, 0), SendFlags::NOSIGNAL);
}

/// The same, and waits until it has closed what it has.
pub(super) fn dismiss(link: BorrowedFd<'_>) {
    say_farewell(link);
    let mut fds = [PollFd::from_borrowed_fd(link, PollFlags::HUP)];
    let _ = poll(&mut fds, Some(&LAST));
}

/// When a keeper may be started after one that was started then.
pub(super) fn next_start(started: Millis) -> Millis {
    started.plus(AGAIN)
}

const fn message(kind: u8, number: u16) -> [u8; 3] {
    let [low, high] = number.to_le_bytes();
    [kind, low, high]
}

fn tell(link: BorrowedFd<'_>, number: u16, listener: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let fds = [listener];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(link, &[IoSlice::new(&message(LISTENER, number))], &mut control, flags).map(|_| ())
}

/// What a keeper has.
struct Kit {
    device: OwnedFd,
    memory: OwnedFd,
    listeners: BTreeMap<u16, OwnedFd>,
}

/// How the main process left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It said farewell.
    Orderly,
    /// It was killed, or crashed.
    Died,
}

/// The keeper's life.
pub(super) fn work(options: &Options) -> Result<(), SessionError> {
    let worker::Endowment { device, memory, listener, link, inbox } = worker::Endowment::take()?;
    drop((listener, inbox));
    let mut kit = Kit { device, memory, listeners: BTreeMap::new() };
    // At the machine's shutdown all processes get SIGTERM: the main process says farewell if it
    // ends of it.
    // Nor is it meant by who ends the process group that the main process is in.
    let _ = rustix::process::setsid();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: no handler is installed that could be unsafe.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let mount = options.mountpoint.display();
    let mut link = link;
    let mut pause = successor::Pause::default();
    while hear(&mut kit, link.as_fd()) == Left::Died {
        successor::reap();
        drop(link);
        if !super::fdstore::is_connected(kit.device.as_fd()) {
            say(format_args!(
                "{mount}: the main process was killed, and so was the mount: nothing is left to be served"
            ));
            return Ok(());
        }
        link = loop {
            pause.wait();
            say(format_args!("{mount}: the main process was killed: starting another"));
            match successor::start(&kit, pause.is_odd()) {
                Ok(link) => break link,
                Err(error) => {
                    say(format_args!("{mount}: cannot start the main process: {error}; trying again"))
                }
            }
        };
    }
    Ok(())
}

/// Until the main process leaves.
fn hear(kit: &mut Kit, link: BorrowedFd<'_>) -> Left {
    loop {
        let mut text = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(link, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::INTR) => continue,
            Err(_) => return Left::Died,
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let number = u16::from_le_bytes([text[1], text[2]]);
        match (length, text[0], fd) {
            (0, ..) => return Left::Died,
            (_, FAREWELL, _) => return Left::Orderly,
            (_, LISTENER, Some(fd)) => {
                kit.listeners.insert(number, fd);
            }
            (_, DROP, _) => {
                kit.listeners.remove(&number);
            }
            // what a later build says
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Kit {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        Kit { device: null(), memory: null(), listeners: BTreeMap::new() }
    }

    #[test]
    fn what_is_kept_and_how_the_main_process_leaves() {
        let (ours, its) = link::pair().expect("a pair");
        let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        let mut kit = kit();
        for number in [3, 700] {
            tell(ours.as_fd(), number, null.as_fd()).expect("tell");
        }
        rustix::net::send(&ours, &message(DROP, 3), SendFlags::NOSIGNAL).expect("drop");
        rustix::net::send(&ours, b"?later", SendFlags::NOSIGNAL).expect("later");
        rustix::net::send(&ours, &message(FAREWELL, 0), SendFlags::NOSIGNAL).expect("farewell");
        assert_eq!(hear(&mut kit, its.as_fd()), Left::Orderly);
        assert_eq!(kit.listeners.keys().copied().collect::<Vec<_>>(), [700]);
        drop(ours);
        assert_eq!(hear(&mut kit, its.as_fd()), Left::Died);
    }

    #[test]
    fn a_keeper_that_does_not_listen_is_told_later() {
        let (ours, its) = link::pair().expect("a pair");
        let mut kept = Kept::default();
        let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        for number in 0..2000 {
            kept.keep(number, null.try_clone().expect("clone"));
        }
        let mut keeper = Keeper { pid: rustix::process::getpid(), link: ours, untold: Some(0) };
        let mut kit = kit();
        keeper.catch_up(&kept);
        assert!(keeper.untold.is_some_and(|from| from > 0), "{:?}", keeper.untold);
        keeper.keep(1999, &kept);
        let reader = std::thread::spawn(move || {
            hear(&mut kit, its.as_fd());
            kit.listeners.len()
        });
        while keeper.untold.is_some() {
            keeper.catch_up(&kept);
        }
        rustix::io::ioctl_fionbio(&keeper.link, false).expect("wait");
        rustix::net::send(&keeper.link, &message(FAREWELL, 0), SendFlags::NOSIGNAL).expect("farewell");
        assert_eq!(reader.join().expect("join"), 2000);
    }
}
