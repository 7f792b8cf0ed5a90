//! The INIT exchange: once with the kernel, for as long as the connection lives, and again with each worker, which is told
//! what the kernel said then.
//!
//! fuser has no constructor for a connection that is open already (cberner/fuser#378, #753). It is given a socket that
//! carries the INIT again; then the device takes the socket's place.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Barrier;
use std::sync::atomic::Ordering;

use fuser::{Config, Filesystem, KernelConfig, Request, Session, SessionACL};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::page::Page;
use crate::fs::fuse::{MEETING, wish};
use crate::fs::settings;

/// Offsets in `struct fuse_in_header` and `struct fuse_init_in`, which follows it (linux/fuse.h).
const IN_HEADER: usize = 40;
const IN_FLAGS: usize = IN_HEADER + 12;
const IN_FLAGS2: usize = IN_HEADER + 16;
/// Offsets in `struct fuse_out_header` and `struct fuse_init_out`.
const OUT_HEADER: usize = 16;
const OUT_FLAGS: usize = OUT_HEADER + 12;
const OUT_FLAGS2: usize = OUT_HEADER + 32;
/// FUSE_INIT_EXT: the second word of flags counts.
const INIT_EXT: u32 = 1 << 30;
/// FUSE_HAS_RESEND, bit 39 of the flags (Linux 6.9): FUSE_NOTIFY_RESEND is understood.
const HAS_RESEND: u32 = 1 << (39 - 32);
/// FUSE_NOTIFY_RESEND.
const NOTIFY_RESEND: i32 = 7;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum NegotiateError {
    /// A system call.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The kernel's message.
    #[error("an INIT of {0} bytes, where 56 at least are due")]
    Short(usize),
    /// Another build's fuser wants another protocol than the one that the kernel was told.
    #[error("it speaks another FUSE protocol than what was agreed with the kernel for this mount")]
    Incompatible,
}

impl From<rustix::io::Errno> for NegotiateError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Answers for fuser's sake only.
struct Nobody;
impl Filesystem for Nobody {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        wish(config);
        Ok(())
    }
}

/// fuser's settings for a session.
fn config(threads: usize) -> Config {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads);
    // A clone that is closed with its worker would take its requests along.
    config.clone_fd = false;
    config
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).map_or(0, u32::from_ne_bytes)
}

fn set_word(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(four) = bytes.get_mut(at..at + 4) {
        four.copy_from_slice(&value.to_ne_bytes());
    }
}

/// A session made from an INIT, the descriptor it reads from, and its reply to the INIT.
fn handshake<F: Filesystem>(
    filesystem: F,
    request: &[u8],
    threads: usize,
) -> Result<(Session<F>, Vec<u8>, OwnedFd), NegotiateError> {
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(&ours, request, SendFlags::empty())?;
    // Both messages fit into the socket's buffer: nobody waits.
    let session = Session::from_fd(filesystem, its, SessionACL::All, config(threads))?;
    let mut reply = vec![0; 256];
    let (len, _) = rustix::net::recv(&ours, &mut reply[..], RecvFlags::DONTWAIT)?;
    reply.truncate(len);
    Ok((session, reply, ours))
}

/// The kernel's first message on a new connection, answered as fuser would answer it, and with a wish for
/// requests to be sent again where the kernel can. Both messages are kept in the page.
pub fn with_kernel(device: BorrowedFd<'_>, page: Page) -> Result<(), NegotiateError> {
    let mut request = vec![0; 16 * 1024];
    let len = rustix::io::read(device, &mut request[..])?;
    request.truncate(len);
    if len < IN_HEADER + 16 {
        return Err(NegotiateError::Short(len));
    }
    let (session, mut reply, _peer) = handshake(Nobody, &request, 1)?;
    drop(session);
    let offered = word(&request, IN_FLAGS) & INIT_EXT != 0 && word(&request, IN_FLAGS2) & HAS_RESEND != 0;
    if offered && reply.len() >= OUT_FLAGS2 + 4 {
        let (low, high) = (word(&reply, OUT_FLAGS), word(&reply, OUT_FLAGS2));
        set_word(&mut reply, OUT_FLAGS, low | INIT_EXT);
        set_word(&mut reply, OUT_FLAGS2, high | HAS_RESEND);
        page.head.resend.store(1, Ordering::Relaxed);
    }
    page.set_negotiated(&request, &reply);
    rustix::io::write(device, &reply)?;
    Ok(())
}

/// The INIT that a worker is given: the kernel's, with no more flags than what was agreed.
fn for_worker(request: &[u8], reply: &[u8]) -> Vec<u8> {
    let mut request = request.to_owned();
    let (low, high) = (word(reply, OUT_FLAGS), word(reply, OUT_FLAGS2) & !HAS_RESEND);
    // Without a second word the bit that announces it is not offered either.
    let announced = word(&request, IN_FLAGS) & INIT_EXT;
    set_word(&mut request, IN_FLAGS, low & !INIT_EXT | announced);
    set_word(&mut request, IN_FLAGS2, high);
    request
}

/// Whether a worker's reply says what the kernel was told, but for the wishes that are the holder's own.
fn agrees(own: &[u8], agreed: &[u8]) -> bool {
    let strip = |reply: &[u8]| {
        let mut reply = reply.to_owned();
        let (low, high) = (word(&reply, OUT_FLAGS), word(&reply, OUT_FLAGS2));
        set_word(&mut reply, OUT_FLAGS, low & !INIT_EXT);
        set_word(&mut reply, OUT_FLAGS2, high & !HAS_RESEND);
        reply
    };
    strip(own) == strip(agreed)
}

/// A session that still reads from a socket of ours: see [`Start::begin`].
#[derive(Debug)]
pub struct Waiting<F: Filesystem> {
    /// To be run.
    pub session: Session<F>,
    /// Takes the place of the socket.
    pub start: Start,
}

/// How a session that runs is given the device.
#[derive(Debug)]
pub struct Start {
    peer: OwnedFd,
    number: RawFd,
    threads: usize,
}

impl Start {
    /// Gives a session that runs the device, once each of its threads has read something: the kernel answers a request with
    /// EIO that it cannot hand over, since the reading process is killed while it touches its buffer for the first time
    /// (fuse_dev_do_read, fs/fuse/dev.c). Until `before_the_first` has run no request is read.
    pub fn begin(
        self,
        device: BorrowedFd<'_>,
        meeting: &Barrier,
        before_the_first: impl FnOnce() -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        // struct fuse_in_header, and the number of lookups that are forgotten; nobody answers it
        let mut forget = [0u8; IN_HEADER + 8];
        set_word(&mut forget, 0, (IN_HEADER + 8) as u32);
        set_word(&mut forget, 4, FORGET);
        set_word(&mut forget, 8, 2);
        set_word(&mut forget, 16, MEETING as u32);
        set_word(&mut forget, 20, (MEETING >> 32) as u32);
        for _ in 0..self.threads {
            rustix::net::send(&self.peer, &forget, SendFlags::empty())?;
        }
        // One message for each thread, which waits with it for the others.
        meeting.wait();
        // SAFETY: the number is open, it is the session's, whose threads wait and go on owning it. It is borrowed to be given
        // another file, never closed here.
        let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.number) });
        rustix::io::dup3(device, &mut place, rustix::io::DupFlags::CLOEXEC)?;
        before_the_first()?;
        meeting.wait();
        Ok(())
    }
}

/// FUSE_FORGET.
const FORGET: u32 = 2;

/// A session on a connection that is open already, once it [begins](Start::begin).
pub fn with_worker<F: Filesystem>(
    filesystem: F,
    page: Page,
    online: usize,
) -> Result<Waiting<F>, NegotiateError> {
    let (request, agreed) = (page.request(), page.reply());
    let threads = settings::threads(online);
    let (session, reply, peer) = handshake(filesystem, &for_worker(&request, &agreed), threads)?;
    if !agrees(&reply, &agreed) {
        return Err(NegotiateError::Incompatible);
    }
    let number = session.as_fd().as_raw_fd();
    Ok(Waiting { session, start: Start { peer, number, threads } })
}

/// Whether this build's workers would agree to what was negotiated for a connection, by whatever build.
pub fn check(page: Page) -> Result<(), NegotiateError> {
    let (request, agreed) = (page.request(), page.reply());
    if request.len() < IN_HEADER + 16 {
        return Err(NegotiateError::Short(request.len()));
    }
    let (_, reply, _peer) = handshake(Nobody, &for_worker(&request, &agreed), 1)?;
    if agrees(&reply, &agreed) { Ok(()) } else { Err(NegotiateError::Incompatible) }
}

/// Sees to the requests that a worker had taken and not answered when it died.
///
/// Where the kernel can, it sends them again. Kernels before 6.9 cannot: there they would wait for ever, and are told EINTR,
/// after which most programs try again by themselves. The dead worker had marked them (`marked`), or had just read
/// them: their numbers go up by two (`fuse_get_unique`, fs/fuse/dev.c), so that they are near the last one that was marked, on either
/// side: a thread that was not let run while it had read one and not marked it yet is passed by the others. A number that nobody
/// waits for is refused with ENOENT, and so is one that no worker has read yet: nobody is interrupted who was not in flight.
pub fn see_to_the_unanswered(device: BorrowedFd<'_>, page: Page, marked: &[u64]) -> rustix::io::Result<()> {
    let header = |error: i32, unique: u64| {
        // struct fuse_out_header: length, error, unique
        let mut message = [0u8; OUT_HEADER];
        set_word(&mut message, 0, OUT_HEADER as u32);
        set_word(&mut message, 4, error as u32);
        set_word(&mut message, 8, unique as u32);
        set_word(&mut message, 12, (unique >> 32) as u32);
        message
    };
    if page.head.resend.load(Ordering::Relaxed) != 0 {
        // with unique 0 the error is the kind of a notification
        return rustix::io::write(device, &header(NOTIFY_RESEND, 0)).map(|_| ());
    }
    let last = page.flights().last_unique.load(Ordering::Relaxed);
    let first = last.saturating_sub(2 * MOST_PASSED).max(2);
    let near = (first..=last.saturating_add(2 * MOST_UNMARKED)).step_by(2);
    for unique in marked.iter().copied().chain(near) {
        match rustix::io::write(device, &header(-libc::EINTR, unique)) {
            Ok(_) => {
                page.story.interrupted.fetch_add(1, Ordering::Relaxed);
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Requests that a worker's threads may have read after the last one that was marked; a request's number may also be that of an
/// INTERRUPT, which has an odd one, or of a RELEASE that was queued between.
const MOST_UNMARKED: u64 = 64;
/// Requests that the others may have marked while one thread had read one and not marked it: what they answer in a fifth of a
/// second. Trying a number takes half a microsecond.
const MOST_PASSED: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// An INIT as Linux 6.18 sends it.
    fn init(flags: u32, flags2: u32) -> Vec<u8> {
        let mut request = vec![0; 104];
        for (at, value) in
            [(0, 104), (4, 26), (8, 2), (40, 7), (44, 45), (48, 131_072), (52, flags), (56, flags2)]
        {
            set_word(&mut request, at, value);
        }
        request
    }

    #[test]
    fn a_worker_of_the_same_build_agrees() {
        for (flags, flags2) in [(0x73ff_fffb, 0xff), (0x33ff_fffb, 0), (0x7fff_ffff, 0xffff)] {
            let request = init(flags, flags2);
            let (_, mut agreed, _) = handshake(Nobody, &request, 1).expect("reply");
            assert_eq!(word(&agreed, 0) as usize, agreed.len());
            if flags & INIT_EXT != 0 {
                set_word(&mut agreed, OUT_FLAGS2, HAS_RESEND);
            }
            let (_, again, _) = handshake(Nobody, &for_worker(&request, &agreed), 1).expect("reply");
            assert!(agrees(&again, &agreed), "{flags:x} {flags2:x}: {again:?} {agreed:?}");
        }
    }

    #[test]
    fn another_protocol_does_not() {
        let request = init(0x73ff_fffb, 0);
        let (_, agreed, _) = handshake(Nobody, &request, 1).expect("reply");
        let mut other = agreed.clone();
        set_word(&mut other, OUT_HEADER + 4, 31);
        assert!(!agrees(&agreed, &other), "another minor version");
        let mut other = agreed.clone();
        set_word(&mut other, OUT_FLAGS, word(&agreed, OUT_FLAGS) ^ 1);
        assert!(!agrees(&agreed, &other), "another flag");
    }
}
