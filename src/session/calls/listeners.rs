//! Where listeners lie: with the holder, which keeps them, and with the worker, which reads from them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::MOST;
use crate::session::link::{self, Order, Word};

/// Those that the holder keeps. All room is made at the start.
#[derive(Debug)]
pub struct Kept(Vec<Option<OwnedFd>>);

impl Default for Kept {
    fn default() -> Self {
        Self((0..MOST).map(|_| None).collect())
    }
}

impl Kept {
    /// Keeps one under its number; one that was there is closed.
    pub fn keep(&mut self, number: u16, listener: OwnedFd) {
        if let Some(place) = self.0.get_mut(usize::from(number)) {
            *place = Some(listener);
        }
    }

    /// Closes one.
    pub fn drop(&mut self, number: u16) {
        if let Some(place) = self.0.get_mut(usize::from(number)) {
            *place = None;
        }
    }

    /// The first from `from` on, with its number.
    #[must_use]
    pub fn next(&self, from: u16) -> Option<(u16, BorrowedFd<'_>)> {
        let mut from_there = self.0.iter().enumerate().skip(usize::from(from));
        let (number, listener) = from_there.find_map(|(at, place)| Some((at, place.as_ref()?)))?;
        Some((u16::try_from(number).ok()?, listener.as_fd()))
    }
}

/// Those that a worker reads from.
#[derive(Debug)]
pub struct Listeners {
    epoll: OwnedFd,
    /// To the holder.
    link: Arc<OwnedFd>,
    open: Mutex<Vec<Option<Arc<OwnedFd>>>>,
}

/// Why a listener is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// There are [`MOST`] already.
    #[error("{MOST} containers have their sysinfo(2) answered already")]
    Full,
    /// A system call.
    #[error(transparent)]
    System(#[from] Errno),
}

/// Told once for each event, until it is armed again: one call at a time, and all ready listeners in turn.
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

impl Listeners {
    /// None yet. `link`: to the holder.
    pub fn new(link: Arc<OwnedFd>) -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, link, open: Mutex::default() })
    }

    /// Takes up those that the holder has kept. To be called before anybody else hears on the link: what was said there
    /// meanwhile is what it gives.
    pub fn take_up(&self) -> Result<VecDeque<Order>, Errno> {
        let mut missed = VecDeque::new();
        let mut from = 0;
        while let Some((number, listener)) = link::next_kept(self.link.as_fd(), from, &mut missed)? {
            self.place(number, listener)?;
            let Some(next) = number.checked_add(1) else { break };
            from = next;
        }
        Ok(missed)
    }

    /// Takes a new one: once this returns it outlives this process.
    pub fn add(&self, listener: OwnedFd) -> Result<(), ListenError> {
        let number = {
            let open = self.open.lock();
            let free = open.iter().position(Option::is_none).unwrap_or(open.len());
            u16::try_from(free).ok().filter(|number| usize::from(*number) < MOST).ok_or(ListenError::Full)?
        };
        link::say(self.link.as_fd(), Word::Keep { number }, &[listener.as_fd()])?;
        Ok(self.place(number, listener)?)
    }

    /// Whether one more would be taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let open = self.open.lock();
        open.len() >= MOST && open.iter().all(Option::is_some)
    }

    fn place(&self, number: u16, listener: OwnedFd) -> Result<(), Errno> {
        let listener = Arc::new(listener);
        let at = usize::from(number);
        let mut open = self.open.lock();
        if open.len() <= at {
            open.resize(at + 1, None);
        }
        epoll::add(&self.epoll, &*listener, EventData::new_u64(at as u64), ONCE)?;
        if let Some(place) = open.get_mut(at) {
            *place = Some(listener);
        }
        Ok(())
    }

    /// One by its number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<Arc<OwnedFd>> {
        self.open.lock().get(usize::from(number)).cloned().flatten()
    }

    /// Its next event is to be told.
    pub fn arm(&self, number: u16) {
        let Some(listener) = self.get(number) else { return };
        if let Err(errno) = epoll::modify(&self.epoll, &*listener, EventData::new_u64(number.into()), ONCE) {
            log::warn!("sysinfo: epoll: {errno}");
        }
    }

    /// The container has ended: nobody needs it any more.
    pub fn end(&self, number: u16) {
        // From the holder first: a number that is free here may be given again.
        let told = link::say(self.link.as_fd(), Word::Drop { number }, &[]);
        let mut open = self.open.lock();
        let Some(place) = open.get_mut(usize::from(number)) else { return };
        if let Some(listener) = place.take() {
            let _ = epoll::delete(&self.epoll, &*listener); // with the last descriptor it goes by itself
        }
        if let Err(errno) = told {
            log::debug!("sysinfo: the holder: {errno}");
        }
    }

    /// What becomes ready when a listener does.
    #[must_use]
    pub fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_file() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd")
    }

    #[test]
    fn the_holder_keeps_by_number() {
        let mut kept = Kept::default();
        assert!(kept.next(0).is_none());
        for number in [7, 0, 4095, 4096] {
            kept.keep(number, some_file());
        }
        let all = |kept: &Kept| {
            let (mut from, mut found) = (0, Vec::new());
            while let Some((number, _)) = kept.next(from) {
                found.push(number);
                from = number + 1;
            }
            found
        };
        assert_eq!(all(&kept), [0, 7, 4095]);
        kept.drop(7);
        kept.drop(5000);
        assert_eq!(all(&kept), [0, 4095]);
    }

    #[test]
    fn numbers_are_given_again_and_are_not_endless() {
        let (holder, worker) = link::pair().expect("sockets");
        let listeners = Listeners::new(Arc::new(worker)).expect("epoll");
        let heard = || match link::hear(holder.as_fd()) {
            link::Heard::Listener(number, _) => Some(number),
            _ => None,
        };
        for number in 0..3 {
            listeners.add(some_file()).expect("room");
            assert_eq!(heard(), Some(number));
        }
        listeners.end(1);
        assert!(matches!(link::hear(holder.as_fd()), link::Heard::Word(Word::Drop { number: 1 })));
        listeners.add(some_file()).expect("room");
        assert_eq!(heard(), Some(1));
        listeners.open.lock().resize(MOST, Some(Arc::new(some_file())));
        assert!(listeners.is_full());
        assert!(matches!(listeners.add(some_file()), Err(ListenError::Full)));
    }
}
