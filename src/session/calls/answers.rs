//! The thread that answers: one call of each listener that is ready, in turn.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::listeners::Listeners;
use super::notify::{self, Abi, Answer, Call};
use super::scribe::Scribe;
use super::table::SLOTS;
use crate::model::HostPid;
use crate::render;
use crate::session::end::End;
use crate::session::page::Page;
use crate::view::SysinfoView;

/// What a thread is told; `None` where the kernel's own answer is the right one, or no better one is to be had.
pub type Answerer = Box<dyn Fn(HostPid) -> Option<SysinfoView> + Send>;
/// When a process started, by its number; `None` if it is gone.
pub type Started = Box<dyn Fn(u64) -> Option<u64> + Send>;

/// While every scribe has been at one answer for so long, calls are left to the kernel at once. An
/// answer takes some microseconds where memory answers: who holds a scribe longer delays nobody
/// else, however many hold one.
const STUCK: Duration = Duration::from_millis(100);
/// How often a scribe of the worker before, which still writes, is looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Key of the first scribe among the events; those below are numbers of listeners.
const SCRIBES: u64 = 1 << 32;

/// What a slot is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing.
    Free,
    /// A scribe writes the answer to a call of this listener, since then.
    Writing(u16, Instant),
    /// A scribe of the worker before may still write, since then or longer.
    Inherited(Instant),
}

impl Use {
    /// Whether it has been in use for too long to wait for it.
    fn is_stuck(self, now: Instant) -> bool {
        match self {
            Self::Free => false,
            Self::Writing(_, since) | Self::Inherited(since) => now.duration_since(since) >= STUCK,
        }
    }
}

/// The thread's own.
struct Answers {
    page: Page,
    listeners: Arc<Listeners>,
    /// With the start of each. None in a worker that looks at no container.
    scribes: Vec<(Scribe, u64)>,
    answerer: Answerer,
    started: Started,
    uses: [Use; SLOTS],
    /// Ready listeners for which no slot was free.
    waiting: VecDeque<u16>,
    said: bool,
}

/// Starts to answer, on a thread of its own, for as long as this process lives. `scribes`: one for each slot, or none, in which
/// case all calls are left to the kernel.
pub fn start(
    page: Page,
    listeners: Arc<Listeners>,
    scribes: Vec<Scribe>,
    answerer: Answerer,
    started: Started,
) -> std::io::Result<()> {
    let start_of = |scribe: &Scribe| started(pid_of(scribe)).unwrap_or(0);
    let scribes: Vec<_> = scribes.into_iter().map(|scribe| (start_of(&scribe), scribe)).collect();
    let scribes: Vec<_> = scribes.into_iter().map(|(start, scribe)| (scribe, start)).collect();
    for ((scribe, _), key) in scribes.iter().zip(SCRIBES..) {
        epoll::add(listeners.epoll(), scribe.socket(), EventData::new_u64(key), EventFlags::IN)?;
    }
    let uses = std::array::from_fn(|slot| {
        match page.calls().slots.get(slot).and_then(|slot| slot.notification.call()) {
            Some(_) => Use::Inherited(Instant::now()),
            None => Use::Free,
        }
    });
    let (waiting, said) = (VecDeque::new(), false);
    let answers = Answers { page, listeners, scribes, answerer, started, uses, waiting, said };
    std::thread::Builder::new().name("sysinfo".to_owned()).spawn(move || answers.run())?;
    Ok(())
}

fn pid_of(scribe: &Scribe) -> u64 {
    u64::from(scribe.pid.as_raw_nonzero().get().unsigned_abs())
}

impl Answers {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        self.finish_spare();
        loop {
            self.look_at_inherited();
            self.serve_waiting();
            events.clear();
            let inherited = self.uses.iter().any(|used| matches!(used, Use::Inherited(_)));
            let idle = self.waiting.is_empty() && !inherited;
            let timeout = if idle { None } else { Some(&TICK) };
            match epoll::wait(self.listeners.epoll(), spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => give_up(format_args!("epoll: {errno}")),
            }
            for event in &events {
                match event.data.u64() {
                    key if key >= SCRIBES => {
                        self.scribe_said(usize::try_from(key - SCRIBES).unwrap_or(SLOTS))
                    }
                    number => self.is_ready(u16::try_from(number).unwrap_or(u16::MAX)),
                }
            }
        }
    }

    fn free_slot(&self) -> Option<usize> {
        self.uses.iter().position(|used| *used == Use::Free)
    }

    /// A listener has an event: a call, or its end.
    fn is_ready(&mut self, number: u16) {
        let Some(listener) = self.listeners.get(number) else { return };
        match notify::ready(listener.as_fd()) {
            // a call that nobody has taken: its thread is there, so that this is not the end
            (true, _) => {}
            (false, true) => return self.listeners.end(number),
            (false, false) => return self.listeners.arm(number),
        }
        match self.free_slot() {
            Some(slot) => self.take(slot, number),
            None => self.waiting.push_back(number),
        }
    }

    fn serve_waiting(&mut self) {
        while let Some(number) = self.waiting.front().copied() {
            if self.free_slot().is_some() {
                self.waiting.pop_front();
                self.is_ready(number);
            } else if all_stuck(&self.uses, Instant::now()) {
                self.waiting.pop_front();
                self.leave_to_the_kernel(number);
            } else {
                return;
            }
        }
    }

    /// Takes a call into a slot and answers it, or has it answered.
    fn take(&mut self, slot: usize, number: u16) {
        let Some(listener) = self.listeners.get(number) else { return };
        let scribe = self.scribes.get(slot).map_or((0, 0), |(scribe, start)| (pid_of(scribe), *start));
        self.page.calls().slot(slot).prepare(number, scribe);
        match self.page.calls().slot(slot).notification.receive(listener.as_fd()) {
            Ok(()) => self.answer(slot, number),
            // ENOENT: its thread was killed meanwhile
            Err(Errno::NOENT | Errno::INTR) => self.listeners.arm(number),
            Err(errno) => {
                log::warn!("sysinfo: a listener cannot be read from: {errno}");
                self.listeners.end(number);
            }
        }
    }

    /// Answers what stands in a slot.
    fn answer(&mut self, slot: usize, number: u16) {
        let Some(call) = self.page.calls().slot(slot).notification.call() else {
            return self.listeners.arm(number);
        };
        let Some(listener) = self.listeners.get(number) else { return self.finish(slot) };
        if let Some(bytes) = self.bytes(&call)
            && let Some((scribe, _)) = self.scribes.get(slot)
        {
            match scribe.write(&call, &bytes, listener.as_fd()) {
                Ok(()) => {
                    self.page.calls().answered.fetch_add(1, Relaxed);
                    self.set(slot, Use::Writing(number, Instant::now()));
                    return;
                }
                Err(errno) => renew(errno),
            }
        }
        self.page.calls().left.fetch_add(1, Relaxed);
        send(&listener, call.id, Answer::Kernel);
        self.finish(slot);
        self.listeners.arm(number);
    }

    /// The bytes for the caller.
    fn bytes(&self, call: &Call) -> Option<Vec<u8>> {
        let abi = call.abi().filter(|_| !self.scribes.is_empty())?;
        let view = (self.answerer)(HostPid::new(i32::try_from(call.tid).ok()?)?)?;
        Some(match abi {
            Abi::Wide => render::sysinfo(&view).to_vec(),
            Abi::Compat => render::sysinfo_32(&view).to_vec(),
        })
    }

    fn scribe_said(&mut self, slot: usize) {
        let Some((scribe, _)) = self.scribes.get(slot) else { return };
        match (scribe.is_done(), self.uses.get(slot)) {
            (Ok(true), Some(Use::Writing(number, _))) => {
                let number = *number;
                self.finish(slot);
                self.listeners.arm(number);
            }
            (Ok(_), _) => {}
            (Err(errno), _) => renew(errno),
        }
    }

    fn set(&mut self, slot: usize, to: Use) {
        if let Some(used) = self.uses.get_mut(slot) {
            *used = to;
        }
    }

    fn finish(&mut self, slot: usize) {
        self.page.calls().slot(slot).notification.clear();
        self.set(slot, Use::Free);
    }

    /// All scribes write into memory that does not answer: a call that no scribe has is safely left to the kernel.
    fn leave_to_the_kernel(&mut self, number: u16) {
        if !std::mem::replace(&mut self.said, true) {
            log::warn!(
                "sysinfo: memory of {SLOTS} callers does not answer: others get the host's numbers meanwhile"
            );
        }
        let Some(listener) = self.listeners.get(number) else { return };
        let spare = &self.page.calls().spare;
        spare.prepare(number, (0, 0));
        if notify::ready(listener.as_fd()).0 && spare.notification.receive(listener.as_fd()).is_ok() {
            self.finish_spare();
        }
        self.listeners.arm(number);
    }

    /// No scribe writes for what stands there, whichever worker took it.
    fn finish_spare(&self) {
        let spare = &self.page.calls().spare;
        let number = u16::try_from(spare.listener.load(Relaxed)).unwrap_or(u16::MAX);
        if let (Some(call), Some(listener)) = (spare.notification.call(), self.listeners.get(number)) {
            self.page.calls().left.fetch_add(1, Relaxed);
            send(&listener, call.id, Answer::Kernel);
        }
        spare.notification.clear();
    }

    /// Calls that a worker before this one had taken. Its scribe ends with it, but not while it writes; before it has, nobody
    /// else may answer.
    fn look_at_inherited(&mut self) {
        for slot in 0..SLOTS {
            if !matches!(self.uses.get(slot), Some(Use::Inherited(_))) {
                continue;
            }
            let place = self.page.calls().slot(slot);
            let (pid, start) = place.scribe();
            if pid != 0 && (self.started)(pid) == Some(start) {
                continue;
            }
            let (Some(call), Ok(number)) =
                (place.notification.call(), u16::try_from(place.listener.load(Relaxed)))
            else {
                self.finish(slot);
                continue;
            };
            let Some(listener) = self.listeners.get(number) else {
                self.finish(slot);
                continue;
            };
            if !notify::is_waiting(listener.as_fd(), call.id) {
                self.finish(slot);
            } else if place.take_over() {
                self.page.calls().left.fetch_add(1, Relaxed);
                send(&listener, call.id, Answer::Kernel);
                self.finish(slot);
            } else {
                let scribe =
                    self.scribes.get(slot).map_or((0, 0), |(scribe, start)| (pid_of(scribe), *start));
                place.belongs_to(scribe);
                self.set(slot, Use::Free);
                self.answer(slot, number);
            }
        }
    }
}

fn send(listener: &impl AsFd, id: u64, answer: Answer) {
    if let Err(errno) = notify::send(listener.as_fd(), id, answer) {
        log::warn!("sysinfo: a call cannot be answered: {errno}");
    }
}

/// Whether there is none that is free or will be soon.
fn all_stuck(uses: &[Use], now: Instant) -> bool {
    uses.iter().all(|used| used.is_stuck(now))
}

/// A scribe was killed: only a new worker, which has its rights still, can start another. That is
/// nobody's crash.
fn renew(errno: Errno) -> ! {
    log::warn!("sysinfo: a copy-out helper was killed ({errno}): another worker takes over");
    std::process::exit(i32::from(End::RENEW))
}

/// The next worker takes over all of it.
fn give_up(why: std::fmt::Arguments<'_>) -> ! {
    log::error!("sysinfo: {why}");
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_all_scribes_delays_nobody_for_long() {
        let now = Instant::now();
        let since = |millis| Use::Writing(1, now.checked_sub(Duration::from_millis(millis)).unwrap_or(now));
        let inherited = Use::Inherited(now.checked_sub(STUCK).unwrap_or(now));
        assert!(all_stuck(&[since(100), since(5000), inherited, since(101)], now));
        // one that may be done in a moment is waited for, and one that is free is used
        assert!(!all_stuck(&[since(100), since(99), inherited, since(101)], now));
        assert!(!all_stuck(&[since(100), Use::Free, inherited, since(101)], now));
        // also right after nobody has waited
        assert!(all_stuck(&[since(100_000); 4], now));
    }
}
