//! Waits for the end of processes: one thread, one epoll instance, a pidfd per process.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Marks the event that ends the thread.
const STOP: u64 = u64::MAX;

/// The watcher. Dropping it ends the thread, without waiting for it.
#[derive(Debug)]
pub struct Watch {
    epoll: Arc<OwnedFd>,
    /// Shared with the thread: an eventfd that closes takes its event back.
    stop: Arc<OwnedFd>,
}

impl Watch {
    /// An idle watcher.
    pub fn new() -> std::io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        epoll::add(&*epoll, &*stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll, stop })
    }

    /// Starts the thread; it calls `ended` with the key of each process that ends. The key must be forgotten
    /// with [`Self::remove`] then, or it is called again.
    pub fn start(&self, ended: impl Fn(u64) + Send + 'static) -> std::io::Result<()> {
        let (epoll, stop) = (Arc::clone(&self.epoll), Arc::clone(&self.stop));
        std::thread::Builder::new().name("container-exit".to_owned()).spawn(move || {
            let _until_the_end = stop;
            let mut events = Vec::with_capacity(64);
            loop {
                events.clear();
                match epoll::wait(&*epoll, spare_capacity(&mut events), None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return log::error!("waiting for the end of containers: {errno}"),
                }
                for event in &events {
                    match event.data.u64() {
                        STOP => return,
                        key => ended(key),
                    }
                }
            }
        })?;
        Ok(())
    }

    /// Adds a process under a key.
    pub fn add(&self, pidfd: BorrowedFd<'_>, key: u32) -> std::io::Result<()> {
        Ok(epoll::add(&*self.epoll, pidfd, EventData::new_u64(key.into()), EventFlags::IN)?)
    }

    /// Forgets a process; one that is not watched is no error.
    pub fn remove(&self, pidfd: BorrowedFd<'_>) {
        match epoll::delete(&*self.epoll, pidfd) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => log::warn!("epoll: {errno}"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(errno) = rustix::io::write(&*self.stop, &1u64.to_ne_bytes()) {
            log::warn!("eventfd: {errno}");
        }
    }
}
