//! The holder: keeps the connection, starts workers, and does as little as possible, so that it never dies.
//!
//! Once it holds, it allocates nothing, takes no lock, and reads nothing but the words of its workers.

mod child;
mod watch;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::calls::listeners::Kept;
use super::end::End;
use super::keeper::{self, Keeper};
use super::link::{self, Go, Heard, Order, Word};
use super::notice::{now, say};
use super::page::Page;
use super::restart::{Kind, Millis, Restarts};
use super::signals::Signals;
use super::spawn::{self, Program};
use crate::fs::{flights, mount};
use child::{Child, Stage};
use std::sync::atomic::Ordering::Relaxed;

/// A new worker must be ready to take over within this time.
const PREPARE: Millis = Millis(20_000);
/// And must answer a read within this time after it took over.
const SERVE: Millis = Millis(20_000);
/// How long a worker may take to let its clients finish before the next one takes over.
const LEAVE: Millis = Millis(1500);
/// A worker that asks for another one sooner has to wait so long.
const RENEWED: Millis = Millis(100);
/// How long it may take to end when the daemon ends.
const LAST: Millis = Millis(3000);
/// How long a new program may go on failing before the one before it is taken again.
const TRIAL: Millis = Millis(10_000);

/// Openers that are tried.
const OPENERS: u8 = 3;

/// What the holder has.
#[derive(Debug)]
pub struct Holdings {
    /// The connection.
    pub device: OwnedFd,
    /// The shared memory.
    pub memory: OwnedFd,
    /// Its first part.
    pub page: Page,
    /// The control socket, listening.
    pub listener: OwnedFd,
    /// The socket for seccomp listeners, likewise.
    pub inbox: OwnedFd,
    /// The lock of the mount point.
    pub lock: Option<OwnedFd>,
    /// The arguments of workers, and where their program lies.
    pub program: Program,
    /// What degraded workers are given.
    pub degraded: Program,
    /// What the opener is given.
    pub opener: Program,
    /// What a keeper is given.
    pub keeper: Program,
    /// The link to the keeper that has started this holder.
    pub older: Option<OwnedFd>,
    /// Seccomp listeners that it has passed on.
    pub listeners: Vec<(u16, OwnedFd)>,
    /// The mount point.
    pub path: CString,
    /// The control socket's name, and that of the socket for seccomp listeners.
    pub sockets: [CString; 2],
    /// The mount's device number.
    pub mounted: u64,
    /// The connection was taken over from systemd's store or from a keeper: containers depend on it
    /// already.
    pub adopted: bool,
    /// And systemd keeps it on.
    pub stored: bool,
    /// There is no systemd that would.
    pub alone: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was asked to; the mount is to be taken away unless it is `kept`.
    Orderly {
        /// The connection stays with systemd, and the mounts live on.
        kept: bool,
        /// The exit code.
        code: u8,
    },
    /// The first worker ended before it served; it has said why.
    NeverServed(End),
}

/// Called when the first worker serves, once; tells whether systemd keeps the connection.
pub type Served<'a> = &'a mut dyn FnMut(&Holdings) -> bool;

/// The living holder.
#[derive(Debug)]
pub struct Holder {
    has: Holdings,
    signals: Signals,
    restarts: Restarts,
    /// Seccomp listeners.
    kept: Kept,
    /// The program that runs, and the one before it while the new one is on trial.
    file: OwnedFd,
    before: Option<(OwnedFd, Millis)>,
    serving: Option<Child>,
    /// A new worker that prepares, with the program that it runs if that is a new one.
    next: Option<(Child, Option<OwnedFd>)>,
    /// Reads through the mount for the first time, and opens the shared files.
    opener: Option<Child>,
    /// Keeps the connection for the next holder where systemd does not, and from when on one may be
    /// started.
    keeper: Option<Keeper>,
    keeper_at: Millis,
    watch: watch::Watch,
    start_at: Option<(Kind, Millis)>,
    cause: u8,
    /// The opener is done.
    opened: bool,
    /// Openers that have ended.
    openers: u8,
    stored: bool,
    ever_served: bool,
    /// Another SIGHUP came while the next worker prepared.
    again: bool,
    /// The first signal that asked to end, and has not been answered by a worker yet.
    asked: Option<Signal>,
    /// The daemon ends when its worker is gone, or at this time.
    ending: Option<(Ended, Millis)>,
}

impl Holder {
    /// A holder that has not started a worker.
    pub fn new(mut has: Holdings, signals: Signals) -> rustix::io::Result<Self> {
        let stored = has.stored;
        let mut kept = Kept::default();
        for (number, listener) in std::mem::take(&mut has.listeners) {
            kept.keep(number, listener);
        }
        Ok(Self {
            has,
            signals,
            restarts: Restarts::default(),
            kept,
            file: Program::running()?,
            before: None,
            serving: None,
            next: None,
            opener: None,
            keeper: None,
            keeper_at: Millis(0),
            watch: watch::Watch::default(),
            start_at: Some((Kind::Full, Millis(0))),
            cause: 0,
            opened: false,
            openers: 0,
            stored,
            ever_served: false,
            again: false,
            asked: None,
            ending: None,
        })
    }

    /// Holds until the daemon ends.
    pub fn run(mut self, served: Served<'_>) -> (Ended, Holdings, Option<Keeper>) {
        loop {
            let time = now();
            if let Some((ended, at)) = self.ending
                && (self.serving.is_none() || time >= at)
            {
                self.kill_all();
                return (ended, self.has, self.keeper);
            }
            self.keep_kept(time);
            self.start_due(time);
            self.wait();
            let time = now();
            self.take_signals(time);
            self.reap(served, time);
            self.listen(served, time);
            self.look(time);
        }
    }

    /// Waits for something to happen, or for the next look at the heartbeat.
    fn wait<'a>(&'a self) {
        let timeout = match self.start_at {
            Some((_, at)) => u16::try_from(at.since(now()).0).unwrap_or(u16::MAX).min(watch::TICK),
            None => watch::TICK,
        };
        // A worker that is not there is polled as the signals once more: no list of varying length is needed.
        let fd = |child: Option<&'a Child>| {
            let link = child.filter(|child| !child.is_silent()).map(Child::link);
            PollFd::new(link.unwrap_or_else(|| self.signals.as_fd()), PollFlags::POLLIN)
        };
        let mut fds = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            fd(self.serving.as_ref()),
            fd(self.next.as_ref().map(|(child, _)| child)),
            fd(self.opener.as_ref()),
        ];
        // An error is no reason to end: the loop looks at everything anyway.
        let _ = poll(&mut fds, PollTimeout::from(timeout));
    }

    fn take_signals(&mut self, time: Millis) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::SIGCHLD => {}
                Signal::SIGHUP => {
                    if let Some(child) = &self.serving {
                        child.order(Order::Signal { number: Signal::SIGHUP as u8, stored: self.stored });
                    }
                    // One that prepares may have read the configuration before it was changed again.
                    self.again |= self.next.is_some();
                    self.start_next(true, time);
                }
                signal if self.asked.is_some() && self.ending.is_none() => {
                    // The second one counts, whatever the worker says.
                    say(format_args!("{signal}: ending at once"));
                    self.end(Ended::Orderly { kept: self.stored, code: 0 }, time);
                }
                signal => {
                    self.asked = Some(signal);
                    match &self.serving {
                        Some(child) if child.kind == Kind::Degraded => {
                            self.end(Ended::Orderly { kept: self.stored, code: 0 }, time);
                        }
                        Some(child) if child.stage == Stage::Serving => {
                            child.order(Order::Signal { number: signal as u8, stored: self.stored })
                        }
                        // Nobody uses what was never served.
                        _ if !self.ever_served && !self.has.adopted => {
                            self.end(Ended::Orderly { kept: false, code: 0 }, time);
                        }
                        // The next worker is asked once it serves.
                        _ => {}
                    }
                }
            }
        }
    }

    /// Starts what is due.
    fn start_due(&mut self, time: Millis) {
        if let Some((kind, at)) = self.start_at
            && at <= time
            && self.serving.is_none()
            && self.ending.is_none()
        {
            self.start_at = None;
            // One that is prepared already takes the place at once.
            if kind == Kind::Full && self.promote(time) {
                return;
            }
            let program = if kind == Kind::Full { &self.has.program } else { &self.has.degraded };
            match self.start(program, kind, None, time) {
                Some(child) => {
                    self.serving = Some(child);
                    self.go(time);
                }
                None => self.start_at = Some((kind, time.plus(Millis(100)))),
            }
        }
        if let Some(at) = self.restarts.retry_at()
            && at <= time
            && self.next.is_none()
            && self.serving.as_ref().is_some_and(|child| child.kind == Kind::Degraded)
        {
            self.restarts.retried();
            self.start_next(false, time);
        }
    }

    /// Starts a worker; nothing is said to it yet.
    fn start(&self, program: &Program, kind: Kind, file: Option<&OwnedFd>, time: Millis) -> Option<Child> {
        let started = link::pair().and_then(|(ours, its)| {
            let (ours, its) = (spawn::above(ours)?, spawn::above(its)?);
            let endowment = spawn::Endowment {
                device: self.has.device.as_fd(),
                memory: self.has.memory.as_fd(),
                listener: self.has.listener.as_fd(),
                link: its.as_fd(),
                inbox: self.has.inbox.as_fd(),
            };
            let pid = spawn::spawn(
                program,
                file.unwrap_or(&self.file).as_fd(),
                &endowment,
                spawn::Life::WithParent,
            )?;
            Ok(Child::new(pid, ours, kind, time))
        });
        started.inspect_err(|errno| say(format_args!("cannot start a worker: {errno}; trying again"))).ok()
    }

    /// Starts a worker beside the one that serves: of the program on disk, or of the same.
    fn start_next(&mut self, from_disk: bool, time: Millis) {
        if self.next.is_some() || self.ending.is_some() {
            return;
        }
        let file = match from_disk.then(|| self.has.program.on_disk()).transpose() {
            Ok(file) => file,
            Err(errno) => {
                self.has.page.story.failed_upgrades.fetch_add(1, Relaxed);
                let path = self.has.program.path().to_bytes();
                return say(format_args!(
                    "{}: {errno}; the worker that runs serves on",
                    std::str::from_utf8(path).unwrap_or("the program on disk")
                ));
            }
        };
        if let Some(child) = self.start(&self.has.program, Kind::Full, file.as_ref(), time) {
            self.next = Some((child, file));
        }
    }

    /// Tells the new worker in `serving` to take over.
    fn go(&mut self, time: Millis) {
        let Some(child) = &mut self.serving else { return };
        child.order(Order::Go(Go { cause: self.cause }));
        child.stage = Stage::TakingOver(time);
        self.watch = watch::Watch::default();
        self.cause = 0;
        let story = &self.has.page.story;
        story.worker.store(u64::from(child.pid.as_raw_nonzero().get().unsigned_abs()), Relaxed);
        story.degraded.store(u64::from(child.kind == Kind::Degraded), Relaxed);
        self.start_opener(time);
    }

    /// Neither we nor a worker may touch our own mount: whoever waits there for an answer cannot even be killed, and the next
    /// worker takes over only when the last one is gone. A process of its own may wait.
    fn start_opener(&mut self, time: Millis) {
        if !self.opened && self.opener.is_none() {
            self.opener = self.start(&self.has.opener, Kind::Full, None, time);
        }
    }

    /// Sees to it that a keeper is there once somebody may depend on the connection, and that it
    /// knows of all listeners.
    fn keep_kept(&mut self, time: Millis) {
        if self.keeper.as_ref().is_some_and(Keeper::has_ended) {
            self.keeper = None;
        }
        // before the first read is answered, unless systemd is to keep it: a container may be registered sooner
        let expected = self.has.alone || self.ever_served || self.has.adopted;
        let needed = !self.stored && expected && self.ending.is_none();
        if needed && self.keeper.is_none() && time >= self.keeper_at {
            let Holdings { device, memory, .. } = &self.has;
            match Keeper::start(&self.has.keeper, self.file.as_fd(), device.as_fd(), memory.as_fd()) {
                Ok(keeper) => self.keeper = Some(keeper),
                Err(errno) => say(format_args!("cannot start a keeper: {errno}; trying again")),
            }
            self.keeper_at = keeper::next_start(time);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.catch_up(&self.kept);
            // now there are two
            if let Some(older) = self.has.older.take() {
                keeper::say_farewell(older.as_fd());
            }
        }
    }

    /// Lets a prepared worker take the place of the one that is gone.
    fn promote(&mut self, time: Millis) -> bool {
        if self.next.as_ref().is_none_or(|(child, _)| child.stage != Stage::Prepared) {
            return false;
        }
        let Some((child, file)) = self.next.take() else { return false };
        if let Some(file) = file {
            self.before = Some((std::mem::replace(&mut self.file, file), time));
        }
        self.has.page.story.upgrades.fetch_add(1, Relaxed);
        let again = std::mem::take(&mut self.again);
        self.serving = Some(child);
        self.go(time);
        if again && let Some(child) = &self.serving {
            child.order(Order::Signal { number: Signal::SIGHUP as u8, stored: self.stored });
        }
        true
    }

    /// Takes note of children that ended or were stopped.
    fn reap(&mut self, served: Served<'_>, time: Millis) {
        if let Some(end) = self.opener.as_mut().and_then(Child::ended) {
            // What it said last may not have been heard yet.
            self.hear_opener(served);
            self.opener = None;
            self.openers = self.openers.saturating_add(1);
            match self.openers {
                _ if self.opened || self.ending.is_some() => {}
                ..OPENERS => self.start_opener(time),
                _ if self.ever_served || self.has.adopted => {
                    say(format_args!("the shared files are not held open: the opener {end}"))
                }
                _ => self.end(Ended::NeverServed(end), time),
            }
        }
        if let Some(end) = self.next.as_mut().and_then(|(child, _)| child.ended()) {
            self.next = None;
            self.has.page.story.failed_upgrades.fetch_add(1, Relaxed);
            if self.serving.as_ref().is_some_and(|child| child.kind == Kind::Degraded) {
                self.restarts.retry_failed(time);
            }
            say(format_args!("the new worker {end} before it could take over; the one that runs serves on"));
        }
        let Some(end) = self.serving.as_mut().and_then(Child::ended) else { return };
        let Some(mut child) = self.serving.take() else { return };
        // A listener that it had said is kept must be.
        self.kept.hear_last(&mut child);
        if let Some(keeper) = &mut self.keeper {
            keeper.tell_again();
        }
        if self.ending.is_some() {
            return;
        }
        let story = &self.has.page.story;
        if !end.may_be_a_requests() {
            self.has.page.calls.forgive();
        }
        if end == End::Replaced {
            self.start_at = Some((Kind::Full, time));
            return;
        }
        let lived = child.took_over().map_or(Millis(0), |at| time.since(at));
        if end == End::Exit(End::RENEW) && (self.ever_served || self.has.adopted) {
            // nobody's crash; one that says so all the time is not started all the time
            let pause = if lived < RENEWED { RENEWED } else { Millis(0) };
            self.start_at = Some((Kind::Full, time.plus(pause)));
            return;
        }
        story.deaths.fetch_add(1, Relaxed);
        story.last_end.store(end.code(), Relaxed);
        let cause = if end.may_be_a_requests() { flights::OWN_END } else { flights::KILLED };
        self.cause = u8::try_from(cause).unwrap_or(u8::MAX);
        if !self.ever_served
            && !self.has.adopted
            && (matches!(end, End::Exit(_)) || story.deaths.load(Relaxed) > 3)
        {
            self.ending = Some((Ended::NeverServed(end), time));
            return;
        }
        // A new program that does not hold out gives way to the one before.
        if end.is_own_fault()
            && let Some((before, since)) = self.before.take()
            && time.since(since) < TRIAL
        {
            say(format_args!("the new worker {end}: back to the program that ran before"));
            story.failed_upgrades.fetch_add(1, Relaxed);
            self.file = before;
        }
        let next = self.restarts.ended(child.kind, end, lived, time);
        let pid = child.pid.as_raw_nonzero();
        match (child.kind, next.kind) {
            (Kind::Full, Kind::Degraded) => say(format_args!(
                "the worker (pid {pid}) {end}, again: until it lives longer, reads are answered from the host's files"
            )),
            _ => say(format_args!("the worker (pid {pid}) {end}: starting another")),
        }
        self.start_at = Some((next.kind, next.at));
    }

    /// Hears what the workers say.
    fn listen(&mut self, served: Served<'_>, time: Millis) {
        loop {
            match self.serving.as_mut().map_or(Heard::Nothing, Child::hear) {
                Heard::Nothing | Heard::Closed => break,
                Heard::Word(Word::Prepared) => {}
                Heard::Word(Word::Answered | Word::Files | Word::Opened | Word::Keep { .. }) => {}
                Heard::Listener(number, listener) => {
                    self.kept.keep(number, listener);
                    if let Some(keeper) = &mut self.keeper {
                        keeper.keep(number, &self.kept);
                    }
                }
                Heard::Word(Word::Drop { number }) => {
                    self.kept.drop(number);
                    if let Some(keeper) = &self.keeper {
                        keeper.drop(number);
                    }
                }
                Heard::Word(Word::Next { from }) => {
                    if let Some(child) = &self.serving {
                        // One question at a time: there is room for the answer.
                        let _ = link::pass_kept(child.link(), self.kept.next(from));
                    }
                }
                Heard::Word(Word::Serving) => {
                    if let Some(child) = &mut self.serving {
                        child.stage = Stage::Serving;
                        if let Some(signal) = self.asked {
                            child.order(Order::Signal { number: signal as u8, stored: self.stored });
                        }
                    }
                }
                Heard::Word(Word::End { keep, code }) => {
                    self.end(Ended::Orderly { kept: keep && self.stored, code }, time);
                }
            }
        }
        self.hear_opener(served);
        let Some((child, _)) = &mut self.next else { return };
        if matches!(child.hear(), Heard::Word(Word::Prepared)) {
            child.stage = Stage::Prepared;
            match &mut self.serving {
                Some(old) => old.leave(time),
                None => self.start_at = Some((Kind::Full, time)),
            }
        }
    }

    /// Reads are answered: says so, the first time.
    fn serves(&mut self, served: Served<'_>) {
        if !std::mem::replace(&mut self.ever_served, true) {
            self.stored = served(&self.has);
            self.has.page.story.stored.store(self.stored.into(), Relaxed);
        }
    }

    fn hear_opener(&mut self, served: Served<'_>) {
        loop {
            match self.opener.as_mut().map_or(Heard::Nothing, Child::hear) {
                Heard::Word(Word::Answered) => self.serves(served),
                Heard::Word(Word::Opened) => self.opened = true,
                Heard::Word(_) | Heard::Listener(..) => {}
                Heard::Nothing | Heard::Closed => break,
            }
        }
        // A mount that was taken away from its place cannot be read there; containers use it all the same.
        if self.has.adopted && self.openers >= OPENERS {
            self.serves(served);
        }
    }

    /// Looks after those that take too long.
    fn look(&mut self, time: Millis) {
        if let Some((child, _)) = &mut self.next
            && child.stage == Stage::Starting
            && time.since(child.started) > PREPARE
        {
            child.kill(End::Hung);
        }
        if self.before.as_ref().is_some_and(|(_, since)| time.since(*since) >= TRIAL) {
            self.before = None;
        }
        let Some(child) = &mut self.serving else { return };
        match child.stage {
            Stage::Leaving(since) if time.since(since) > LEAVE => child.kill(End::Replaced),
            Stage::TakingOver(since) if time.since(since) > SERVE => child.kill(End::Hung),
            Stage::Serving => {
                if let Some(end) = self.watch.hangs(self.has.page, time) {
                    child.kill(end);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, ended: Ended, time: Millis) {
        if self.ending.is_none() {
            if !matches!(ended, Ended::Orderly { kept: true, .. }) {
                // So that nobody finds it any more; a worker has no right to.
                for socket in &self.has.sockets {
                    let _ = rustix::fs::unlink(socket.as_c_str());
                }
            }
            self.ending = Some((ended, time.plus(LAST)));
        }
        if let Some(child) = &mut self.serving {
            child.leave(time);
        }
    }

    fn kill_all(&mut self) {
        let next = self.next.as_mut().map(|(child, _)| child);
        for child in self.serving.as_mut().into_iter().chain(next) {
            child.kill(End::Replaced);
        }
        // One that the kernel does not let die is not waited for: with us the connection ends, and with that its wait.
        for _ in 0..100 {
            if self.serving.as_mut().is_none_or(|child| child.ended().is_some()) {
                break;
            }
            let _ = poll(&mut [], PollTimeout::from(10_u16));
        }
    }
}

impl Kept {
    /// Hears what a worker that is gone had said of listeners.
    fn hear_last(&mut self, child: &mut Child) {
        loop {
            match child.hear() {
                Heard::Listener(number, listener) => self.keep(number, listener),
                Heard::Word(Word::Drop { number }) => self.drop(number),
                Heard::Word(_) => {}
                Heard::Nothing | Heard::Closed => return,
            }
        }
    }
}

impl Holdings {
    /// Takes the mount away, if it is still the one that we made.
    pub fn unmount(&self) {
        if mount::device_at(&self.path) == Some(self.mounted)
            && let Err(errno) = mount::unmount_at(&self.path)
        {
            say(format_args!("cannot unmount: {errno}"));
        }
    }
}
