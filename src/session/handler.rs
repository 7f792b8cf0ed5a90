//! What the daemon does for the clients of its control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::event::{EventfdFlags, eventfd};

use super::end::End;
use super::page::Page;
use super::policies::{self, Source};
use super::serve::SessionError;
use crate::containers::{Registry, Resolver, View};
use crate::control::{
    ConfigInfo, ContainerInfo, Handler, Refusal, RefusalKind, RegisterRequest, Registered, ShowTarget,
    Status, ViewInfo, WorkerInfo,
};
use crate::fs::mount;
use crate::fs::tree::Tree;
use crate::model::{ContainerName, PolicyChange};

/// Who would lose their files if the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Registered containers.
    pub containers: usize,
    /// Other mount namespaces that hold a mount of our device.
    pub namespaces: usize,
}

impl InUse {
    /// Nobody would.
    #[must_use]
    pub const fn is_free(self) -> bool {
        self.containers == 0 && self.namespaces == 0
    }
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} registered container(s) and {} other mount namespace(s) hold its files",
            self.containers, self.namespaces
        )
    }
}

/// The living daemon.
#[derive(Debug)]
pub struct Daemon {
    mountpoint: PathBuf,
    device: u64,
    page: Page,
    /// The connection to the kernel has ended.
    disconnected: AtomicBool,
    registry: Arc<Registry>,
    resolver: Arc<Resolver>,
    tree: Arc<Tree>,
    /// Set once the daemon is going to end: from then on nobody is registered.
    closing: RwLock<bool>,
    wake: OwnedFd,
    source: Source,
}

impl Daemon {
    /// A daemon whose mount is up.
    pub fn new(
        mountpoint: PathBuf,
        page: Page,
        registry: Arc<Registry>,
        resolver: Arc<Resolver>,
        tree: Arc<Tree>,
        source: Source,
    ) -> Result<Arc<Self>, SessionError> {
        let device = page.head.mounted.load(Ordering::Relaxed);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SessionError::Start(errno.into()))?;
        let closing = RwLock::new(false);
        let disconnected = AtomicBool::new(false);
        Ok(Arc::new(Self {
            mountpoint,
            device,
            page,
            disconnected,
            registry,
            resolver,
            tree,
            closing,
            wake,
            source,
        }))
    }

    /// Who holds our files.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        InUse {
            containers: self.registry.len(),
            namespaces: mount::foreign_namespaces(Path::new("/proc"), self.device, &self.mountpoint),
        }
    }

    /// Whether the mount point shows our mount no more: somebody unmounted it by hand.
    #[must_use]
    pub fn mount_is_gone(&self) -> bool {
        super::worker::device_at(&self.mountpoint) != Some(self.device)
    }

    /// The threads that answer have ended: nobody is connected any more, or they cannot read.
    pub(super) fn connection_ended(&self, result: std::io::Result<()>) {
        match result {
            // The kernel says ENODEV when the last mount is gone, or somebody aborted the connection.
            Ok(()) => self.disconnected.store(true, Ordering::Release),
            Err(error) => {
                log::error!("cannot read requests: {error}");
                std::process::exit(1);
            }
        }
        if let Err(errno) = rustix::io::write(&self.wake, &1u64.to_ne_bytes()) {
            log::error!("eventfd: {errno}");
        }
    }

    /// The exit code, if the connection has ended. It does with the last mount, and where somebody aborts it.
    pub(super) fn broken(&self, gone: bool) -> Option<u8> {
        if !self.disconnected.load(Ordering::Acquire) {
            return None;
        }
        if !gone {
            log::error!(
                "{}: the connection to the kernel was aborted (by /sys/fs/fuse/connections?): its mounts are dead, serve again and \
                 repair them with `ownproc attach --repair`",
                self.mountpoint.display()
            );
        }
        Some(u8::from(!gone))
    }

    /// Whose containers they are.
    pub(super) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// Which there are.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Reads the configuration again. One that is wrong changes nothing; it is logged, and `ownproc config` tells it.
    pub fn reload(&self) {
        self.source.reload(&self.registry);
    }

    /// Whether any container is registered.
    #[must_use]
    pub fn has_containers(&self) -> bool {
        !self.registry.is_empty()
    }

    /// Becomes readable when the daemon shall end.
    pub fn ending(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Whether it shall end.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        *self.closing.read()
    }

    /// Decides to end, unless somebody holds our files (`force` ends all the same). No container can be
    /// registered between the look and the decision.
    pub fn close_if_free(&self, force: bool) -> bool {
        let mut closing = self.closing.write();
        if force || self.in_use().is_free() {
            *closing = true;
        }
        *closing
    }
}

/// How the workers have fared.
pub(super) fn worker_info(page: Page) -> WorkerInfo {
    let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (story, flights) = (&page.story, page.flights());
    WorkerInfo {
        pid: get(&story.worker),
        deaths: get(&story.deaths),
        last_end: End::from_code(get(&story.last_end)).map(|end| end.to_string()),
        upgrades: get(&story.upgrades),
        failed_upgrades: get(&story.failed_upgrades),
        degraded: get(&story.degraded) != 0,
        stored: get(&story.stored) != 0,
        resend: get(&page.head.resend) != 0,
        resent: get(&flights.resent),
        in_flight_at_deaths: get(&flights.at_deaths),
        interrupted: get(&story.interrupted),
        plain_answers: get(&flights.plain),
    }
}

impl Daemon {
    /// Whose numbers a target sees.
    fn view_of(&self, target: &ShowTarget) -> Result<View, Refusal> {
        let gone = |what: &dyn std::fmt::Display| {
            Refusal::new(RefusalKind::NotFound, format!("{what} is not there (any more)"))
        };
        Ok(match target {
            ShowTarget::Name(name) => self
                .registry
                .by_name(name)
                .and_then(|entry| self.resolver.registered(entry.slot))
                .ok_or_else(|| gone(name))?,
            ShowTarget::Pid(pid) => self.resolver.process(*pid).ok_or_else(|| gone(pid))?,
            ShowTarget::Group(path) => self.resolver.group(path).ok_or_else(|| gone(&path.display()))?,
        })
    }
}

impl Handler for Daemon {
    fn register(&self, request: RegisterRequest) -> Result<Registered, Refusal> {
        let closing = self.closing.read();
        if *closing {
            return Err(Refusal::new(RefusalKind::Busy, "the daemon is ending; start it again"));
        }
        let RegisterRequest { name, policies, pidfd, groups, replaces } = request;
        let entry = if replaces {
            self.registry.replace(&name, pidfd, groups)?
        } else {
            self.registry.register(name, policies, pidfd, groups)?
        };
        Ok(Registered { tree: self.mountpoint.join("containers").join(entry.name.as_str()) })
    }

    fn unregister(&self, name: &ContainerName) -> Result<(), Refusal> {
        Ok(self.registry.unregister(name)?)
    }

    fn list(&self) -> Vec<ContainerInfo> {
        self.registry.list().iter().map(|entry| entry.info()).collect()
    }

    fn show(&self, target: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal> {
        let view = self.view_of(target)?;
        self.tree.show(&view, file).map_err(|refusal| {
            let kind = match refusal.0 {
                nix::errno::Errno::ENOENT => RefusalKind::NotFound,
                _ => RefusalKind::Failed,
            };
            Refusal::new(kind, format!("{file}: {}", refusal.0.desc()))
        })
    }

    fn view(&self, target: &ShowTarget) -> Result<ViewInfo, Refusal> {
        policies::view(&self.registry, &self.view_of(target)?)
    }

    fn choose(&self, name: &ContainerName, changes: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        self.registry.choose(name, changes)?;
        self.view(&ShowTarget::Name(name.clone()))
    }

    fn config(&self) -> ConfigInfo {
        self.source.info(&self.registry.layers())
    }

    fn status(&self) -> Status {
        let InUse { containers, namespaces } = self.in_use();
        let worker = worker_info(self.page);
        Status { containers, mount_namespaces: namespaces, open_files: self.tree.open_files(), worker }
    }

    fn umount(&self, force: bool) -> Result<(), Refusal> {
        if !self.close_if_free(force) {
            return Err(Refusal::new(
                RefusalKind::InUse,
                format!(
                    "{}: {}; end those containers first, or add --force",
                    self.mountpoint.display(),
                    self.in_use()
                ),
            ));
        }
        // The event loop looks at `closing` when it wakes.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes())
            .map_err(|errno| Refusal::new(RefusalKind::Failed, errno.to_string()))?;
        Ok(())
    }
}
