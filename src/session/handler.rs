//! What the daemon does for the clients of its control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::event::{EventfdFlags, eventfd};

use super::serve::SessionError;
use crate::containers::{Registry, Resolver};
use crate::control::{
    ContainerInfo, Handler, Refusal, RefusalKind, RegisterRequest, Registered, ShowTarget, Status,
};
use crate::fs::mount;
use crate::fs::tree::Tree;
use crate::model::ContainerName;

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

/// The living daemon.
#[derive(Debug)]
pub struct Daemon {
    mountpoint: PathBuf,
    device: u64,
    registry: Arc<Registry>,
    resolver: Arc<Resolver>,
    tree: Arc<Tree>,
    /// Set once the daemon is going to end: from then on nobody is registered.
    closing: RwLock<bool>,
    wake: OwnedFd,
}

impl Daemon {
    /// A daemon whose mount is up.
    pub fn new(
        mountpoint: PathBuf,
        registry: Arc<Registry>,
        resolver: Arc<Resolver>,
        tree: Arc<Tree>,
    ) -> Result<Arc<Self>, SessionError> {
        let device = mount::device_number(&mountpoint).map_err(SessionError::Start)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SessionError::Start(errno.into()))?;
        let closing = RwLock::new(false);
        Ok(Arc::new(Self { mountpoint, device, registry, resolver, tree, closing, wake }))
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
        mount::device_number(&self.mountpoint).ok() != Some(self.device)
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

impl Handler for Daemon {
    fn register(&self, request: RegisterRequest) -> Result<Registered, Refusal> {
        let closing = self.closing.read();
        if *closing {
            return Err(Refusal::new(RefusalKind::Busy, "the daemon is ending; start it again"));
        }
        let RegisterRequest { name, policies, pidfd, groups } = request;
        let entry = self.registry.register(name, policies, pidfd, groups)?;
        Ok(Registered { tree: self.mountpoint.join("containers").join(entry.name.as_str()) })
    }

    fn unregister(&self, name: &ContainerName) -> Result<(), Refusal> {
        Ok(self.registry.unregister(name)?)
    }

    fn list(&self) -> Vec<ContainerInfo> {
        self.registry.list().iter().map(|entry| entry.info()).collect()
    }

    fn show(&self, target: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal> {
        let gone = |what: &dyn std::fmt::Display| {
            Refusal::new(RefusalKind::NotFound, format!("{what} is not there (any more)"))
        };
        let view = match target {
            ShowTarget::Name(name) => self
                .registry
                .by_name(name)
                .and_then(|entry| self.resolver.registered(entry.slot))
                .ok_or_else(|| gone(name))?,
            ShowTarget::Pid(pid) => self.resolver.process(*pid).ok_or_else(|| gone(pid))?,
            ShowTarget::Group(path) => self.resolver.group(path).ok_or_else(|| gone(&path.display()))?,
        };
        self.tree.show(&view, file).map_err(|refusal| {
            let kind = match refusal.0 {
                nix::errno::Errno::ENOENT => RefusalKind::NotFound,
                _ => RefusalKind::Failed,
            };
            Refusal::new(kind, format!("{file}: {}", refusal.0.desc()))
        })
    }

    fn status(&self) -> Status {
        let InUse { containers, namespaces } = self.in_use();
        Status { containers, mount_namespaces: namespaces, open_files: self.tree.open_files() }
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
