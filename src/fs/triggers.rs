//! Triggers of pressure stall information: a program writes a threshold to a pressure file that it has open, and
//! polls it for POLLPRI (Documentation/accounting/psi.rst).
//!
//! Each trigger is one of the kernel's own, written to the container's file. One thread waits for all of them and tells
//! the kernel that the FUSE file may have something to say; the poll that follows is answered from what was noted here.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// Triggers that one container may have: each costs this process a descriptor, and the kernel work.
pub const MOST: usize = 64;
/// Triggers of all containers together: each holds a descriptor of this process.
const MOST_OF_ALL: usize = 1024;
/// The key of the eventfd.
const WAKE: u64 = 0;
/// As the kernel, which takes 32 bytes with the final NUL.
const LONGEST: usize = 32;

/// Tells the kernel that a polled file is to be asked again.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// What a poll of a trigger's file is told beside "readable and writable".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing happened since the last poll.
    None,
    /// The threshold was passed.
    Fired,
    /// The group is gone: nothing will happen any more.
    Gone,
}

/// The triggers of one mount, and the thread that waits for them.
#[derive(Debug)]
pub struct Triggers {
    shared: Arc<Shared>,
    /// Of the host's own readers, who have no container to count for.
    pub hosts: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    next: AtomicU64,
    armed: Mutex<HashMap<u64, Arc<Armed>>>,
    /// To be closed by the thread: the kernel lets a closing trigger wait for a grace period, some ten milliseconds in
    /// which no request would be answered.
    closing: Mutex<Vec<Arc<Armed>>>,
}

/// One trigger as the thread knows it.
struct Armed {
    file: OwnedFd,
    fired: AtomicBool,
    gone: AtomicBool,
    notify: Mutex<Option<Notify>>,
    _place: Place,
}

impl std::fmt::Debug for Armed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Armed").field("file", &self.file).field("fired", &self.fired).finish_non_exhaustive()
    }
}

/// The trigger of one open file; dropping it takes it away.
#[derive(Debug)]
pub struct Trigger {
    key: u64,
    armed: Arc<Armed>,
    shared: Arc<Shared>,
}

/// Counts one trigger for its container until the kernel has closed it.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// One more; ENOSPC beyond [`MOST`].
    pub fn take(count: &Arc<AtomicUsize>) -> Result<Self, Errno> {
        let place = Self(Arc::clone(count));
        if place.0.fetch_add(1, Ordering::Relaxed) >= MOST {
            return Err(Errno::NOSPC); // dropping `place` takes it back
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Triggers {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(WAKE + 1),
            armed: Mutex::default(),
            closing: Mutex::default(),
        });
        epoll::add(&shared.epoll, &shared.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("pressure".to_owned()).spawn(move || of_thread.run())?;
        Ok(Self { shared, hosts: Arc::default() })
    }

    /// Writes `text` to `file`, a pressure file that was opened for this, and waits for it from now on. What the kernel
    /// says against the text is passed on.
    pub fn arm(&self, file: OwnedFd, text: &[u8], place: Place) -> Result<Trigger, Errno> {
        if self.shared.armed.lock().len() >= MOST_OF_ALL {
            return Err(Errno::NOSPC);
        }
        rustix::io::write(&file, &terminated(text))?;
        let (gone, fired) = (AtomicBool::new(false), AtomicBool::new(false));
        let armed = Arc::new(Armed { file, fired, gone, notify: Mutex::default(), _place: place });
        let key = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let trigger = Trigger { key, armed: Arc::clone(&armed), shared: Arc::clone(&self.shared) };
        self.shared.armed.lock().insert(key, armed);
        epoll::add(&self.shared.epoll, &trigger.armed.file, EventData::new_u64(key), EventFlags::PRI)?;
        Ok(trigger)
    }
}

/// The text up to a NUL, and one NUL. The kernel overwrites the last byte that is written to its own file, so that
/// programs write their text with the NUL; from those that do not it would take the last digit.
fn terminated(text: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = text.iter().copied().take_while(|&byte| byte != 0).take(LONGEST - 1).collect();
    line.push(0);
    line
}

impl Drop for Triggers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake_up();
    }
}

impl Trigger {
    /// `notify` is called when something happens, from now on.
    pub fn tell(&self, notify: Notify) {
        self.armed.notify.lock().get_or_insert(notify);
    }

    /// What happened since the last call; `notify` is called when something does, from now on.
    pub fn poll(&self, notify: Option<Notify>) -> Event {
        // first the way to be told, then the look: nothing can fall between
        if let Some(notify) = notify {
            self.tell(notify);
        }
        if self.armed.gone.load(Ordering::Acquire) {
            return Event::Gone;
        }
        if self.armed.fired.swap(false, Ordering::AcqRel) { Event::Fired } else { Event::None }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        if let Some(armed) = self.shared.armed.lock().remove(&self.key) {
            self.shared.closing.lock().push(armed);
            self.shared.wake_up();
        }
    }
}

impl Shared {
    fn wake_up(&self) {
        match rustix::io::write(&self.wake, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => log::error!("pressure triggers: eventfd: {errno}"),
        }
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        while !self.stop.load(Ordering::Acquire) {
            events.clear();
            let closing = self.closing.lock().pop();
            // one is closed at a time, so that no event waits for many
            let at_once = closing.is_some().then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
            match epoll::wait(&self.epoll, spare_capacity(&mut events), at_once.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    // not to be expected; the triggers that are there must still be taken away when they are closed
                    log::error!("waiting for pressure triggers: {errno}");
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                    }
                    key => self.happened(key, event.flags),
                }
            }
            drop(closing);
        }
    }

    fn happened(&self, key: u64, flags: EventFlags) {
        let Some(armed) = self.armed.lock().get(&key).cloned() else { return };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            armed.gone.store(true, Ordering::Release);
            // it would be reported for ever
            if let Err(errno) = epoll::delete(&self.epoll, &armed.file) {
                log::debug!("pressure triggers: {errno}");
            }
        } else {
            armed.fired.store(true, Ordering::Release);
        }
        if let Some(notify) = &*armed.notify.lock() {
            notify();
        }
    }
}

#[cfg(test)]
mod tests;
