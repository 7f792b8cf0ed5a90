//! One client from its first to its last byte, on the daemon's side.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{ClientHello, Hello, Refusal, RefusalKind, Reply, Request, VERSION};
use super::peer;
use super::server::{Handler, RegisterRequest};
use super::wire::{self, Frame, MAX_FDS, MAX_FRAME, WireError};

/// What all clients are served with.
pub(super) struct Service {
    pub hello: Hello,
    pub handler: Arc<dyn Handler>,
    /// For each message.
    pub deadline: Duration,
}

/// Serves one client over a connection that is there already, without a look at who it is: for fuzzing.
#[doc(hidden)]
pub fn talk_unchecked(
    socket: BorrowedFd<'_>,
    hello: Hello,
    handler: Arc<dyn Handler>,
    deadline: Duration,
) -> Result<(), WireError> {
    Service { hello, handler, deadline }.talk(socket)
}

enum Answer {
    Reply(Reply),
    Bytes(Vec<u8>),
}

fn json<T: serde::Serialize>(value: &T) -> Result<Answer, Refusal> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Answer::Bytes).map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))
}

impl Service {
    /// Both say hello, then one request and its answer.
    pub(super) fn converse(&self, socket: BorrowedFd<'_>) -> Result<(), WireError> {
        if let Err(refusal) = peer::check(socket) {
            self.refuse(socket, refusal);
            return Ok(());
        }
        self.talk(socket)
    }

    fn talk(&self, socket: BorrowedFd<'_>) -> Result<(), WireError> {
        let greeting: ClientHello = self.expect(socket, 0, |frame| frame.parse())?;
        self.send(socket, &Reply::Hello(self.hello.clone()))?;
        if greeting.version != VERSION {
            // The client sees the difference in the hello and says what to do.
            return Ok(());
        }
        let (request, fds) =
            self.expect(socket, MAX_FDS, |frame| Ok((frame.parse::<Request>()?, frame.fds)))?;
        match self.answer(request, fds) {
            Ok(Answer::Reply(reply)) => self.send(socket, &reply),
            Ok(Answer::Bytes(bytes)) => {
                self.send(socket, &Reply::Bytes { len: bytes.len() as u64 })?;
                bytes
                    .chunks(MAX_FRAME)
                    .try_for_each(|chunk| wire::send_frame(socket, chunk, &[], self.until()))
            }
            Err(refusal) => {
                self.refuse(socket, refusal);
                Ok(())
            }
        }
    }

    /// Says why not, as far as the client listens.
    pub(super) fn refuse(&self, socket: BorrowedFd<'_>, refusal: Refusal) {
        log::debug!("control client refused: {refusal}");
        if let Err(error) = self.send(socket, &Reply::Refused(refusal)) {
            log::debug!("control client: {error}");
        }
    }

    /// Receives one message; tells the client what is wrong with it.
    fn expect<T>(
        &self,
        socket: BorrowedFd<'_>,
        max_fds: usize,
        parse: impl FnOnce(Frame) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        wire::receive(socket, max_fds, self.until()).and_then(parse).inspect_err(|error| {
            if !matches!(error, WireError::Closed | WireError::Truncated) {
                self.refuse(socket, Refusal::new(RefusalKind::Malformed, error.to_string()));
            }
        })
    }

    fn answer(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Refusal> {
        if !fds.is_empty() && !matches!(request, Request::Register { .. }) {
            return Err(Refusal::new(
                RefusalKind::BadDescriptor,
                "file descriptors came with a request that takes none",
            ));
        }
        let handler = &*self.handler;
        Ok(match request {
            Request::Hello => Answer::Reply(Reply::Done),
            Request::Register { name, policies, replaces } => {
                let mut fds = fds.into_iter();
                let pidfd = fds.next().ok_or_else(|| {
                    Refusal::new(
                        RefusalKind::BadDescriptor,
                        "a registration needs a pidfd and the group directories",
                    )
                })?;
                let request = RegisterRequest { name, policies, pidfd, groups: fds.collect(), replaces };
                Answer::Reply(Reply::Registered(handler.register(request)?))
            }
            Request::Unregister { name } => {
                handler.unregister(&name)?;
                Answer::Reply(Reply::Done)
            }
            Request::List => json(&handler.list())?,
            Request::View { target } => json(&handler.view(&target)?)?,
            Request::Choose { name, changes } => json(&handler.choose(&name, &changes)?)?,
            Request::Config => json(&handler.config())?,
            Request::Show { target, file } => Answer::Bytes(handler.show(&target, &file)?),
            Request::Status => Answer::Reply(Reply::Status(handler.status())),
            Request::Umount { force } => {
                handler.umount(force)?;
                Answer::Reply(Reply::Done)
            }
        })
    }

    fn send(&self, socket: BorrowedFd<'_>, reply: &Reply) -> Result<(), WireError> {
        wire::send_json(socket, reply, &[], self.until())
    }

    /// When a message that begins now must be whole.
    fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }
}
