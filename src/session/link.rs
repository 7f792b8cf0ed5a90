//! What holder and worker say to each other, over a socket that ends with either.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Descriptors in one message at most.
pub const FILES: usize = 64;

/// From the holder to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one before is gone: take over.
    Go(Go),
    /// Let the clients of the control socket finish and exit: another one waits.
    Leave,
    /// A signal for the daemon.
    Signal {
        /// SIGTERM, SIGINT or SIGHUP.
        number: u8,
        /// The connection outlives even the holder: systemd keeps it.
        stored: bool,
    },
    /// A seccomp listener that is kept comes along, with its number.
    Kept {
        /// Its number.
        number: u16,
    },
    /// None is kept from that number on.
    NoMore,
}

/// How to take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Go {
    /// What the death of the one before counts against its requests.
    pub cause: u8,
}

/// From a worker to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Ready to take over.
    Prepared,
    /// It has taken over, and answers.
    Serving,
    /// The daemon is to end: unmount, unless the mount is kept.
    End {
        /// Containers use it, and systemd keeps the connection for the next holder.
        keep: bool,
        /// The exit code.
        code: u8,
    },
    /// The opener: a read through the mount was answered.
    Answered,
    /// The opener: descriptors of shared files come along, to be kept open.
    Files,
    /// The opener: those were all.
    Opened,
    /// A seccomp listener comes along, to be kept for later workers.
    Keep {
        /// Under this number.
        number: u16,
    },
    /// The one of this number is not needed any more.
    Drop {
        /// Its number.
        number: u16,
    },
    /// Asks for the first one that is kept from this number on.
    Next {
        /// The number.
        from: u16,
    },
}

const fn number(kind: u8, number: u16) -> [u8; 4] {
    let [low, high] = number.to_le_bytes();
    [kind, low, high, 0]
}

impl Order {
    const fn encode(self) -> [u8; 4] {
        match self {
            Self::Go(Go { cause }) => [b'G', cause, 0, 0],
            Self::Leave => [b'L', 0, 0, 0],
            Self::Signal { number, stored } => [b'S', number, stored as u8, 0],
            Self::Kept { number: of } => number(b'K', of),
            Self::NoMore => [b'N', 0, 0, 0],
        }
    }

    const fn decode(bytes: [u8; 4]) -> Option<Self> {
        match bytes {
            [b'G', cause, ..] => Some(Self::Go(Go { cause })),
            [b'L', ..] => Some(Self::Leave),
            [b'S', number, stored, _] => Some(Self::Signal { number, stored: stored != 0 }),
            [b'K', low, high, _] => Some(Self::Kept { number: u16::from_le_bytes([low, high]) }),
            [b'N', ..] => Some(Self::NoMore),
            _ => None,
        }
    }
}

impl Word {
    const fn encode(self) -> [u8; 4] {
        match self {
            Self::Prepared => [b'P', 0, 0, 0],
            Self::Serving => [b'V', 0, 0, 0],
            Self::End { keep, code } => [b'E', keep as u8, code, 0],
            Self::Answered => [b'A', 0, 0, 0],
            Self::Files => [b'F', 0, 0, 0],
            Self::Opened => [b'O', 0, 0, 0],
            Self::Keep { number: of } => number(b'K', of),
            Self::Drop { number: of } => number(b'D', of),
            Self::Next { from } => number(b'N', from),
        }
    }

    const fn decode(bytes: [u8; 4]) -> Option<Self> {
        match bytes {
            [b'P', ..] => Some(Self::Prepared),
            [b'V', ..] => Some(Self::Serving),
            [b'E', keep, code, _] => Some(Self::End { keep: keep != 0, code }),
            [b'A', ..] => Some(Self::Answered),
            [b'F', ..] => Some(Self::Files),
            [b'O', ..] => Some(Self::Opened),
            [b'K', low, high, _] => Some(Self::Keep { number: u16::from_le_bytes([low, high]) }),
            [b'D', low, high, _] => Some(Self::Drop { number: u16::from_le_bytes([low, high]) }),
            [b'N', low, high, _] => Some(Self::Next { from: u16::from_le_bytes([low, high]) }),
            _ => None,
        }
    }
}

/// Both ends: the holder's, which never waits, and the worker's.
pub fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (holder, worker) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&holder, true)?;
    Ok((holder, worker))
}

/// The holder says something. A worker that does not listen is soon found out by its heartbeat.
pub fn order(link: BorrowedFd<'_>, order: Order) -> rustix::io::Result<()> {
    rustix::net::send(link, &order.encode(), SendFlags::NOSIGNAL).map(|_| ())
}

/// The holder passes a listener, or says that there is none.
pub fn pass_kept(link: BorrowedFd<'_>, next: Option<(u16, BorrowedFd<'_>)>) -> rustix::io::Result<()> {
    match next {
        Some((number, listener)) => send(link, Order::Kept { number }.encode(), &[listener]),
        None => order(link, Order::NoMore),
    }
}

/// The worker asks for the first listener that is kept from a number on. Orders that come meanwhile go to `missed`.
pub fn next_kept(
    link: BorrowedFd<'_>,
    from: u16,
    missed: &mut VecDeque<Order>,
) -> rustix::io::Result<Option<(u16, OwnedFd)>> {
    say(link, Word::Next { from }, &[])?;
    loop {
        let mut bytes = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(link, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 4 => match (Order::decode(bytes), first(&mut control)) {
                (Some(Order::Kept { number }), Some(listener)) => return Ok(Some((number, listener))),
                (Some(Order::NoMore), _) => return Ok(None),
                (Some(order), _) => missed.push_back(order),
                (None, _) => {}
            },
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn first(control: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    })
}

/// The worker waits for an order; `None` when the holder is gone.
pub fn next_order(link: BorrowedFd<'_>) -> rustix::io::Result<Option<Order>> {
    let mut bytes = [0; 4];
    loop {
        match rustix::net::recv(link, &mut bytes[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(None),
            Ok((4, _)) => return Ok(Order::decode(bytes)),
            Ok(_) => return Err(Errno::PROTO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The worker says something, with files where there are any, [`FILES`] at most.
pub fn say(link: BorrowedFd<'_>, word: Word, files: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    send(link, word.encode(), files)
}

fn send(link: BorrowedFd<'_>, bytes: [u8; 4], files: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(Errno::INVAL);
    }
    sendmsg(link, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(|_| ())
}

/// What the holder heard.
#[derive(Debug)]
pub enum Heard {
    /// A word. Descriptors that came with it stay open for as long as this process lives.
    Word(Word),
    /// A listener, to be kept under this number.
    Listener(u16, OwnedFd),
    /// Nothing just now.
    Nothing,
    /// The worker is gone, or talks nonsense.
    Closed,
}

/// The holder listens, without waiting and without allocating.
pub fn hear(link: BorrowedFd<'_>) -> Heard {
    let mut bytes = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    match recvmsg(link, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(message) if message.bytes == 4 && !message.flags.contains(ReturnFlags::TRUNC) => {
            let Some(word) = Word::decode(bytes) else { return Heard::Closed };
            if let Word::Keep { number } = word {
                return first(&mut control)
                    .map_or(Heard::Closed, |listener| Heard::Listener(number, listener));
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message
                    && word == Word::Files
                {
                    files.for_each(std::mem::forget); // kept open; their numbers are of no use to anybody
                }
            }
            Heard::Word(word)
        }
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        _ => Heard::Closed,
    }
}

/// Sends open files in as many messages as that takes.
pub fn hand_over(link: BorrowedFd<'_>, files: &[std::fs::File]) -> rustix::io::Result<()> {
    for some in files.chunks(FILES) {
        let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        say(link, Word::Files, &some)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_among_listeners_are_not_lost() {
        let (holder, worker) = pair().expect("sockets");
        let hangup = Order::Signal { number: 1, stored: false };
        let file = rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        order(holder.as_fd(), hangup).expect("sent");
        pass_kept(holder.as_fd(), Some((7, file.as_fd()))).expect("sent");
        order(holder.as_fd(), Order::Leave).expect("sent");
        pass_kept(holder.as_fd(), None).expect("sent");
        let mut missed = VecDeque::new();
        let kept = next_kept(worker.as_fd(), 0, &mut missed).expect("received");
        assert_eq!(kept.map(|(number, _)| number), Some(7));
        assert!(next_kept(worker.as_fd(), 8, &mut missed).expect("received").is_none());
        assert_eq!(missed, [hangup, Order::Leave]);
    }

    #[test]
    fn orders_and_words_arrive() {
        let (holder, worker) = pair().expect("sockets");
        let go = Order::Go(Go { cause: 8 });
        for sent in [go, Order::Leave, Order::Signal { number: 15, stored: true }] {
            order(holder.as_fd(), sent).expect("sent");
            assert_eq!(next_order(worker.as_fd()).expect("received"), Some(sent));
        }
        assert!(matches!(hear(holder.as_fd()), Heard::Nothing));
        for word in [
            Word::Next { from: 258 },
            Word::Drop { number: 4095 },
            Word::Prepared,
            Word::Serving,
            Word::End { keep: true, code: 2 },
        ] {
            say(worker.as_fd(), word, &[]).expect("sent");
            assert!(matches!(hear(holder.as_fd()), Heard::Word(heard) if heard == word));
        }
        // Files that no other test has: those open and close theirs meanwhile.
        const NAME: &str = "handed-over";
        let file =
            |_| rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::CLOEXEC).map(std::fs::File::from);
        let files: Vec<_> = (0..FILES + 1).map(|number| file(number).expect("memfd")).collect();
        hand_over(worker.as_fd(), &files).expect("sent");
        let is_ours = |fd: &std::fs::DirEntry| {
            std::fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().contains(NAME))
        };
        let open = || std::fs::read_dir("/proc/self/fd").expect("fds").flatten().filter(is_ours).count();
        assert_eq!(open(), FILES + 1);
        assert!(matches!(hear(holder.as_fd()), Heard::Word(Word::Files)));
        assert!(matches!(hear(holder.as_fd()), Heard::Word(Word::Files)));
        assert_eq!(open(), 2 * (FILES + 1), "they are kept");
        drop(worker);
        // A child that another test has forked and that has not executed its program yet has the socket too.
        let closed = (0..500).any(|_| match hear(holder.as_fd()) {
            Heard::Closed => true,
            _ => {
                std::thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
        assert!(closed);
    }

    #[test]
    fn listeners_come_with_their_numbers() {
        let (holder, worker) = pair().expect("sockets");
        let file = rustix::fs::memfd_create("listener", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        say(worker.as_fd(), Word::Keep { number: 513 }, &[file.as_fd()]).expect("sent");
        let Heard::Listener(513, kept) = hear(holder.as_fd()) else { panic!("a listener") };
        order(holder.as_fd(), Order::Signal { number: 1, stored: false }).expect("sent");
        pass_kept(holder.as_fd(), Some((513, kept.as_fd()))).expect("sent");
        let (number, passed) =
            next_kept(worker.as_fd(), 7, &mut VecDeque::new()).expect("received").expect("one");
        assert_eq!(number, 513);
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).expect("stat").st_ino;
        assert_eq!(inode(passed.as_fd()), inode(file.as_fd()));
        assert!(matches!(hear(holder.as_fd()), Heard::Word(Word::Next { from: 7 })));
        pass_kept(holder.as_fd(), None).expect("sent");
        assert!(next_kept(worker.as_fd(), 514, &mut VecDeque::new()).expect("received").is_none());
        // one without its descriptor is nonsense
        say(worker.as_fd(), Word::Keep { number: 1 }, &[]).expect("sent");
        assert!(matches!(hear(holder.as_fd()), Heard::Word(Word::Next { from: 514 })));
        assert!(matches!(hear(holder.as_fd()), Heard::Closed));
    }

    #[test]
    fn the_end_of_the_holder_is_noticed() {
        let (holder, worker) = pair().expect("sockets");
        drop(holder);
        assert_eq!(next_order(worker.as_fd()).expect("end"), None);
    }
}
