//! A worker that looks at no container: it answers with the host's files while the others keep dying.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::confine::{self, WorkerNeeds};
use super::link::{self, Order, Word};
use super::page::Page;
use super::policies::Source;
use super::serve::{Options, SessionError};
use super::worker::{Ending, Endowment, Serving};
use super::{handler, negotiate, worker};
use crate::cgroup::Layout;
use crate::containers::{Registry, Resolver};
use crate::control::{
    ConfigInfo, ContainerInfo, Handler, Paths, Refusal, RefusalKind, RegisterRequest, Registered, ShowTarget,
    Status, ViewInfo,
};
use crate::fs::flights::Flights;
use crate::fs::tree::Tree;
use crate::fs::{fuse, settings};
use crate::host::Host;
use crate::model::{ContainerName, PolicyChange};
use crate::store::{self, Store};

/// The life of such a worker.
pub(super) fn work(options: &Options) -> Result<(), SessionError> {
    let _ = rustix::thread::set_name(c"ownproc-plain");
    confine::worker(&WorkerNeeds { psi_triggers: false })?;
    let endowment = Endowment::take()?;
    let page = Page::open(endowment.memory.as_fd())?;
    worker::not_over_the_hosts_files(page)?;
    let paths = Paths::new(&options.mountpoint);
    let host = Arc::new(Host::open(Path::new("/"))?);
    let layout = Arc::new(Layout::discover(Path::new("/"))?);
    let online = host.online()?.len();
    let registry = Registry::in_memory(Arc::clone(&layout)).map_err(SessionError::Start)?;
    if let Ok((_, layers)) = Source::restart(options.config.clone(), options.flags, &paths.containers) {
        registry.configure(layers);
    }
    // What is kept of containers is left as it is: nobody is registered here, and no counter is shown.
    let nobody = Store::private()?;
    let resolver = Resolver::new(Arc::clone(&host), layout, Arc::clone(&registry), nobody)
        .map_err(SessionError::Start)?;
    store::check(endowment.memory.as_fd())?;
    let Some(go) = endowment.wait_for_go()? else { return Ok(()) };
    let store = Store::open(endowment.memory.as_fd())?;
    let tree = Arc::new(Tree::new(Arc::clone(&host), Arc::new(resolver), registry, None, store).into_plain());

    let flights = Arc::new(Flights::take_over(page.flights(), u64::from(go.cause)));
    let server = fuse::Server::new(tree, Arc::clone(&flights)).with_epoch(page.head.epoch.load(Relaxed));
    let (server, meeting) = server.meet(settings::threads(online));
    let waiting = negotiate::with_worker(server, page, online)?;
    let ended = Box::new(|_| std::process::exit(1));
    let serving = Serving::start(waiting, &meeting, &endowment, page, &flights, ended)?;
    let mut missed = worker::answer_calls(&serving, &endowment, page, Vec::new(), Box::new(|_| None), &host)?;
    let control =
        serving.control(paths, page, Arc::new(Degraded { page, link: Arc::clone(&serving.link) }))?;
    link::say(serving.link.as_fd(), Word::Serving, &[])?;
    let ending = loop {
        let order = missed.pop_front();
        match order.map_or_else(|| link::next_order(serving.link.as_fd()), |order| Ok(Some(order))) {
            Ok(Some(Order::Leave)) => break Ending::Leave,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break Ending::Alone,
        }
    };
    serving.end(ending, control)
}

/// Says to everybody what is the matter.
struct Degraded {
    page: Page,
    link: Arc<OwnedFd>,
}

impl Degraded {
    fn refusal<T>(&self) -> Result<T, Refusal> {
        let info = handler::worker_info(self.page);
        let end = info.last_end.unwrap_or_else(|| "ended".to_owned());
        Err(Refusal::new(
            RefusalKind::Failed,
            format!(
                "the daemon's worker keeps dying ({} times so far; the last one {end}), so that reads are answered from the host's files \
                 for the time being: its log says more, and it is tried again by itself",
                info.deaths
            ),
        ))
    }
}

impl Handler for Degraded {
    fn register(&self, _: RegisterRequest) -> Result<Registered, Refusal> {
        self.refusal()
    }

    fn unregister(&self, _: &ContainerName) -> Result<(), Refusal> {
        self.refusal()
    }

    fn list(&self) -> Vec<ContainerInfo> {
        Vec::new()
    }

    fn show(&self, _: &ShowTarget, _: &str) -> Result<Vec<u8>, Refusal> {
        self.refusal()
    }

    fn view(&self, _: &ShowTarget) -> Result<ViewInfo, Refusal> {
        self.refusal()
    }

    fn choose(&self, _: &ContainerName, _: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        self.refusal()
    }

    fn config(&self) -> ConfigInfo {
        ConfigInfo::default()
    }

    fn status(&self) -> Status {
        Status { worker: handler::worker_info(self.page), ..Status::default() }
    }

    fn umount(&self, force: bool) -> Result<(), Refusal> {
        // Who is there cannot be told: only what is done whoever is there can be done.
        if !force {
            return self.refusal();
        }
        link::say(self.link.as_fd(), Word::End { keep: false, code: 0 }, &[])
            .map_err(|errno| Refusal::new(RefusalKind::Failed, errno.to_string()))
    }
}
