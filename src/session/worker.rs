//! The worker: everything that answers, from the take-over to the end.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use rustix::process::{getpid, getppid, kill_process, set_parent_process_death_signal};

use super::calls::listeners::Listeners;
use super::calls::scribe::Scribe;
use super::calls::table::SLOTS;
use super::calls::{answers, inbox};
use super::confine;
use super::handler::Daemon;
use super::link::{self, Go, Order, Word};
use super::negotiate::{self, Waiting};
use super::page::Page;
use super::policies::Source;
use super::serve::{Options, SessionError};
use super::spawn;
use crate::cgroup::Layout;
use crate::containers::{Registry, Resolver, View};
use crate::control::{Paths, Running, Server};
use crate::fs::flights::Flights;
use crate::fs::tree::Tree;
use crate::fs::triggers::Triggers;
use crate::fs::{fuse, mount, settings};
use crate::host::Host;
use crate::model::HostPid;
use crate::readings::{self, ReaderTime};
use crate::store::{self, Store};

/// How often it shows that it lives; the holder misses it after three seconds.
const BEAT: Duration = Duration::from_millis(250);

/// What the holder gave it.
#[derive(Debug)]
pub(super) struct Endowment {
    pub(super) device: OwnedFd,
    pub(super) memory: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) link: OwnedFd,
    pub(super) inbox: OwnedFd,
}

impl Endowment {
    /// Takes what lies at the fixed numbers. To be called once.
    pub(super) fn take() -> Result<Self, SessionError> {
        use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
        let take = |number| -> Result<OwnedFd, SessionError> {
            // SAFETY: a number that is not open is an error of fcntl(2), nothing worse.
            let there = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
            there.map_err(|_| SessionError::NoHolder)?;
            // SAFETY: it is open, the holder put it there for us, and nothing else in this process knows of it.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(|_| SessionError::NoHolder)?;
            Ok(fd)
        };
        let link = take(spawn::LINK)?;
        Ok(Self {
            device: take(spawn::DEVICE)?,
            memory: take(spawn::MEMORY)?,
            listener: take(spawn::LISTENER)?,
            inbox: take(spawn::INBOX)?,
            link,
        })
    }

    /// Says that it is ready, and waits for the order to take over; `None`: it is not needed.
    pub(super) fn wait_for_go(&self) -> Result<Option<Go>, SessionError> {
        link::say(self.link.as_fd(), Word::Prepared, &[])?;
        loop {
            match link::next_order(self.link.as_fd())? {
                Some(Order::Go(go)) => return Ok(Some(go)),
                Some(Order::Signal { .. } | Order::Kept { .. } | Order::NoMore) => {}
                Some(Order::Leave) | None => return Ok(None),
            }
        }
    }
}

/// A worker's life. Returns when it was told to leave, or the daemon ends.
pub(super) fn work(options: &Options) -> Result<(), SessionError> {
    let _ = rustix::thread::set_name(c"ownproc-worker");
    let scribes: Result<Vec<_>, _> = (0..SLOTS).map(|_| Scribe::start()).collect();
    let scribes = scribes.map_err(SessionError::Start)?;
    confine::worker(&options.needs())?;
    let endowment = Endowment::take()?;
    let page = Page::open(endowment.memory.as_fd())?;
    store::check(endowment.memory.as_fd())?;
    not_over_the_hosts_files(page)?;
    let paths = Paths::new(&options.mountpoint);
    let (source, layers) = Source::restart(options.config.clone(), options.flags, &paths.containers)?;
    let host = Arc::new(Host::open(Path::new("/"))?);
    let layout = Arc::new(Layout::discover(Path::new("/"))?);
    let online = host.online()?.len();
    let Some(go) = endowment.wait_for_go()? else { return Ok(()) };

    let flights = Arc::new(Flights::take_over(page.flights(), u64::from(go.cause)));
    let registry = Registry::open(Arc::clone(&layout), &paths.containers)?;
    registry.configure(layers);
    let store = Store::open(endowment.memory.as_fd())?;
    let resolver = Resolver::new(Arc::clone(&host), layout, Arc::clone(&registry), Arc::clone(&store))
        .map_err(SessionError::Start)?;
    let resolver = Arc::new(resolver);
    let triggers = options.psi_triggers.then(Triggers::start).transpose().map_err(SessionError::Start)?;
    let tree = Tree::new(Arc::clone(&host), Arc::clone(&resolver), Arc::clone(&registry), triggers, store);
    let tree = Arc::new(tree);
    let server = fuse::Server::new(Arc::clone(&tree), Arc::clone(&flights));
    let server = server.with_epoch(page.head.epoch.load(Relaxed));
    let resend = page.head.resend.load(Relaxed) != 0;
    let server = server.with_pool(settings::threads(online), resend).map_err(SessionError::Start)?;
    let (server, meeting) = server.meet(settings::threads(online));
    let waiting = negotiate::with_worker(server, page, online)?;
    let of_daemon = Arc::clone(&tree);
    let daemon = Daemon::new(options.mountpoint.clone(), page, registry, resolver, of_daemon, source)?;
    let notifier = waiting.session.notifier();
    let of_thread = Arc::clone(&daemon);
    let ended: Ended = Box::new(move |result| of_thread.connection_ended(result));
    let serving = Serving::start(waiting, &meeting, &endowment, page, &flights, ended)?;
    tree.rearm(&|by| fuse::notify(&notifier, by));
    let _sampling = daemon.resolver().loads().start(&host).map_err(SessionError::Start)?;
    let forgetting = Arc::clone(daemon.resolver());
    daemon.registry().on_removed(Box::new(move |entry| forgetting.forget(entry.slot)));
    let removed = Arc::clone(daemon.resolver());
    let thread = std::thread::Builder::new().name("removed-cgroups".to_owned());
    thread.spawn(move || removed.let_go_of_removed()).map_err(SessionError::Start)?;
    let answerer = answerer(&host, daemon.resolver());
    let missed = answer_calls(&serving, &endowment, page, scribes, answerer, &host)?;
    let control = serving.control(paths, page, daemon.clone())?;
    link::say(serving.link.as_fd(), Word::Serving, &[])?;
    // From here on the end of the link tells of the holder's, and the heartbeat sees to it that this process ends too.
    set_parent_process_death_signal(None).map_err(SessionError::from)?;
    let ending = daemon.until_the_end(&serving.link, missed, options.idle_exit)?;
    serving.end(ending, control)?;
    let to_answer = match ending {
        // Where the kernel sends requests again they wait for nobody.
        Ending::Leave | Ending::Daemon { keep: true, .. } => !resend,
        Ending::Daemon { keep: false, .. } => false,
        // The next start may be far. Until then those who wait for an answer cannot even be killed (`request_wait_answer`,
        // fs/fuse/dev.c), our own opener among them, and systemd starts nothing before it has gone.
        Ending::Alone => true,
    };
    if to_answer && !flights.close(settings::threads(online), LAST_ANSWERS) {
        log::info!("some requests were still being answered: they are sent again, or told EINTR");
    }
    Ok(())
}

/// Answers the calls of containers: first those that were left unanswered. The orders that came meanwhile.
pub(super) fn answer_calls(
    serving: &Serving,
    endowment: &Endowment,
    page: Page,
    scribes: Vec<Scribe>,
    answerer: answers::Answerer,
    host: &Arc<Host>,
) -> Result<VecDeque<Order>, SessionError> {
    let listeners = Arc::new(Listeners::new(Arc::clone(&serving.link))?);
    let missed = listeners.take_up()?;
    let host = Arc::clone(host);
    let started = move |pid: u64| {
        let stat = host.process(HostPid::new(i32::try_from(pid).ok()?)?)?.stat()?;
        // A dead one that nobody has reaped yet writes no more.
        (!matches!(stat.state, b'Z' | b'X')).then_some(stat.start.0)
    };
    let start = |error| SessionError::Start(error);
    answers::start(page, Arc::clone(&listeners), scribes, answerer, Box::new(started)).map_err(start)?;
    inbox::start(endowment.inbox.try_clone().map_err(start)?, listeners).map_err(start)?;
    Ok(missed)
}

/// What sysinfo(2) tells the threads of containers.
fn answerer(host: &Arc<Host>, resolver: &Arc<Resolver>) -> answers::Answerer {
    let (host, resolver) = (Arc::clone(host), Arc::clone(resolver));
    Box::new(move |thread| {
        let Some(View::Container(contained)) = resolver.process(thread) else { return None };
        let subject = &contained.subject;
        let reader = ReaderTime::of(thread, subject, &host);
        match readings::sysinfo(reader, subject, &host, &contained.policies()) {
            Ok(view) => view,
            Err(error) => {
                log::debug!("sysinfo: {error}");
                None
            }
        }
    })
}

/// What the last requests may take before another worker takes over.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// Refuses to read the host's files where those are its own: it would wait for itself, and could not even be killed.
pub(super) fn not_over_the_hosts_files(page: Page) -> Result<(), SessionError> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(SessionError::Start)?;
    match mount::over_the_hosts_files(&mountinfo, page.head.mounted.load(Relaxed)) {
        Some(path) => Err(SessionError::OverItself(path)),
        None => Ok(()),
    }
}

/// What a worker's main thread came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The daemon ends.
    Daemon {
        /// The mounts live on in systemd's care.
        keep: bool,
        /// The exit code.
        code: u8,
    },
    /// Another worker waits.
    Leave,
    /// The holder is gone.
    Alone,
}

/// Called when the connection to the kernel has ended, or cannot be read from.
pub(super) type Ended = Box<dyn FnOnce(std::io::Result<()>) + Send>;

/// The parts of a worker that serve.
pub(super) struct Serving {
    listener: OwnedFd,
    pub(super) link: Arc<OwnedFd>,
}

impl Serving {
    /// Starts to answer: first what was left unanswered.
    pub(super) fn start(
        waiting: Waiting<fuse::Server>,
        meeting: &Barrier,
        endowment: &Endowment,
        page: Page,
        flights: &Flights,
        ended: Ended,
    ) -> Result<Self, SessionError> {
        beat(page)?;
        let Waiting { session, start } = waiting;
        std::thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || ended(session.run()))
            .map_err(SessionError::Start)?;
        let device = endowment.device.as_fd();
        start.begin(device, meeting, || negotiate::see_to_the_unanswered(device, page, flights.left()))?;
        let clone = |fd: &OwnedFd| fd.try_clone().map_err(SessionError::Start);
        Ok(Self { listener: clone(&endowment.listener)?, link: Arc::new(clone(&endowment.link)?) })
    }

    /// Answers the clients of the control socket.
    pub(super) fn control(
        &self,
        paths: Paths,
        page: Page,
        handler: Arc<dyn crate::control::Handler>,
    ) -> Result<Running, SessionError> {
        let listener = self.listener.try_clone().map_err(SessionError::Start)?;
        let holder = i32::try_from(page.story.holder.load(Relaxed)).unwrap_or_default();
        Server::adopt(paths, listener, holder).start(handler).map_err(SessionError::Start)
    }

    /// The end of this worker.
    pub(super) fn end(self, ending: Ending, control: Running) -> Result<(), SessionError> {
        match ending {
            Ending::Daemon { keep, code } => {
                // First, so that the holder takes the socket's name away before the clients have their answers.
                link::say(self.link.as_fd(), Word::End { keep, code }, &[])?;
                control.leave();
                // Reads are answered until the holder has taken the mount away.
                while let Ok(Some(order)) = link::next_order(self.link.as_fd()) {
                    if order == Order::Leave {
                        break;
                    }
                }
            }
            Ending::Leave => control.leave(),
            Ending::Alone => {}
        }
        Ok(())
    }
}

/// Shows that this process lives, and ends it where it should have ended with its holder and has not.
fn beat(page: Page) -> Result<(), SessionError> {
    page.beat.fetch_add(1, Relaxed);
    let holder = getppid();
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(move || {
            loop {
                let orphan = getppid() != holder;
                std::thread::sleep(BEAT);
                if orphan {
                    let _ = kill_process(getpid(), rustix::process::Signal::KILL); // to itself there is always a right
                }
                page.beat.fetch_add(1, Relaxed);
            }
        })
        .map(|_| ())
        .map_err(SessionError::Start)
}

/// The device number of what is mounted at a path, without asking it.
pub(super) fn device_at(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).ok().and_then(|path| crate::fs::mount::device_at(&path))
}

impl Daemon {
    /// Returns when this worker shall end.
    pub(super) fn until_the_end(
        &self,
        link: &OwnedFd,
        mut missed: VecDeque<Order>,
        idle_exit: Option<Duration>,
    ) -> Result<Ending, SessionError> {
        let end = Ending::Daemon { keep: false, code: 0 };
        let mut asked = false;
        let mut said_gone = false;
        let mut idle_since = Instant::now();
        let mut next_look = idle_since;
        // Becomes ready with every change of this namespace's mounts (proc_pid_mountinfo(5)).
        let mounts = File::open("/proc/self/mountinfo").map_err(SessionError::Start)?;
        loop {
            let gone = self.mount_is_gone();
            if let Some(code) = self.broken(gone) {
                return Ok(Ending::Daemon { keep: false, code });
            }
            if gone && !std::mem::replace(&mut said_gone, true) {
                log::warn!(
                    "the mount was taken away by somebody else: ending as soon as nobody holds its files"
                );
            }
            let timeout = match idle_exit.is_some() || asked || gone {
                _ if !missed.is_empty() => PollTimeout::ZERO,
                true => PollTimeout::from(1000_u16),
                false => PollTimeout::NONE,
            };
            let mut fds = [
                PollFd::new(link.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.ending(), PollFlags::POLLIN),
                PollFd::new(mounts.as_fd(), PollFlags::POLLPRI),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if !missed.is_empty() || fds[0].any().unwrap_or(false) {
                let order = missed.pop_front();
                match order.map_or_else(|| link::next_order(link.as_fd()), |order| Ok(Some(order))) {
                    Ok(Some(Order::Signal { number, stored })) => match Signal::try_from(i32::from(number)) {
                        Ok(Signal::SIGHUP) => self.reload(),
                        Ok(signal) => {
                            let in_use = self.in_use();
                            if self.close_if_free(asked) {
                                return Ok(end);
                            }
                            if stored {
                                log::info!(
                                    "{signal}: {in_use}; systemd keeps the connection for the next start"
                                );
                                return Ok(Ending::Daemon { keep: true, code: 0 });
                            }
                            asked = true;
                            super::notice::say(format_args!(
                                "{signal}: serving on until they are gone, since {in_use}; a second signal ends it at once"
                            ));
                        }
                        Err(_) => {}
                    },
                    Ok(Some(Order::Leave)) => return Ok(Ending::Leave),
                    Ok(Some(Order::Go(_) | Order::Kept { .. } | Order::NoMore)) => {}
                    Ok(None) | Err(_) => return Ok(Ending::Alone),
                }
            }
            // The look at all mount namespaces is dear: it comes last.
            let free = || !self.has_containers() && self.close_if_free(false);
            if self.is_closing() || (asked || gone) && free() {
                return Ok(end);
            }
            if let Some(limit) = idle_exit {
                if self.has_containers() {
                    idle_since = Instant::now();
                } else if idle_since.elapsed() >= limit && Instant::now() >= next_look {
                    if free() {
                        return Ok(end);
                    }
                    next_look = Instant::now() + Duration::from_secs(5);
                }
            }
        }
    }
}

/// Where the worker's last good configuration lies: in the one directory that it may write to, under a name that is no
/// container's.
pub(super) fn last_config(registrations: &Path) -> PathBuf {
    registrations.join(".config.last")
}
