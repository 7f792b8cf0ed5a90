//! What the commands read for themselves, with or without a daemon: the host, its hierarchies, the containers
//! that are there. The rules by which a process gets its view are the daemon's own.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::failure::Failure;
use super::output;
use super::survey::{self, Init};
use super::target::{Candidates, Target};
use crate::cgroup::{GroupSet, Layout, Membership};
use crate::containers::resolve::{Contained, View};
use crate::containers::{Registry, Resolver};
use crate::control::{Client, ContainerInfo, ControlError, Paths};
use crate::fs::tree::Tree;
use crate::host::Host;
use crate::readings::Subject;
use crate::store::Store;

/// What is known of the containers on this host, for finding TARGETs. Starts no thread.
pub(super) struct Known {
    pub layout: Arc<Layout>,
    /// Every init of a pid namespace below ours, by pid.
    pub inits: Vec<Init>,
    /// What the daemon has registered.
    pub registered: Vec<ContainerInfo>,
}

impl Known {
    /// Reads `/proc`, and asks the daemon where there is one.
    pub(super) fn take(client: Option<&Client>) -> Result<Self, Failure> {
        let registered = client.map(Client::list).transpose().map_err(Failure::error)?.unwrap_or_default();
        let root = Path::new("/");
        let layout = Arc::new(Layout::discover(root).map_err(Failure::error)?);
        let inits = survey::inits(root).map_err(|error| Failure::Error(format!("/proc: {error}")))?;
        Ok(Self { layout, inits, registered })
    }

    /// What TARGET names.
    pub(super) fn find(&self, text: &str) -> Result<Target, Failure> {
        find(&self.layout, &self.registered, &self.inits, text)
    }
}

fn find(
    layout: &Layout,
    registered: &[ContainerInfo],
    inits: &[Init],
    text: &str,
) -> Result<Target, Failure> {
    Candidates { root: Path::new("/"), layout, registered, inits }.find(text)
}

/// The daemon, where one answers. One that hangs must not keep an administrator from looking.
pub(super) fn client_if_any(paths: Paths) -> Option<Client> {
    match Client::at(paths) {
        Ok(client) => Some(client),
        Err(ControlError::NotRunning { .. } | ControlError::NotAllowed { .. }) => None,
        Err(error) => {
            output::complain(&error.to_string());
            None
        }
    }
}

/// One look at the host.
pub(super) struct Look {
    pub host: Arc<Host>,
    pub layout: Arc<Layout>,
    /// Every init of a pid namespace below ours, by pid.
    pub inits: Vec<Init>,
    /// The daemon of the mount point, where one answers.
    pub client: Option<Client>,
    /// What it has registered.
    pub registered: Vec<ContainerInfo>,
    registry: Arc<Registry>,
    resolver: Arc<Resolver>,
}

impl Look {
    /// Reads the host, and asks the daemon of `paths` if there is one.
    pub(super) fn take(paths: Paths) -> Result<Self, Failure> {
        let client = client_if_any(paths);
        let Known { layout, inits, registered } = Known::take(client.as_ref())?;
        let host = Arc::new(Host::open(Path::new("/")).map_err(Failure::error)?);
        let registry = Registry::in_memory(Arc::clone(&layout)).map_err(Failure::error)?;
        for info in &registered {
            if mirror(&registry, info).is_none() {
                log::debug!(
                    "{} (process {}) has gone meanwhile, or is not ours to read",
                    info.name,
                    info.pid
                );
            }
        }
        let store = Store::private().map_err(Failure::error)?;
        let resolver = Resolver::new(Arc::clone(&host), Arc::clone(&layout), Arc::clone(&registry), store);
        let resolver = Arc::new(resolver.map_err(Failure::error)?);
        Ok(Self { host, layout, inits, client, registered, registry, resolver })
    }

    /// What TARGET names.
    pub(super) fn find(&self, text: &str) -> Result<Target, Failure> {
        find(&self.layout, &self.registered, &self.inits, text)
    }

    /// The view that a target has. `None` where it has gone meanwhile.
    pub(super) fn view(&self, target: &Target) -> Option<View> {
        match target {
            Target::Registered(info) => match self.registry.by_name(&info.name) {
                Some(entry) => self.resolver.registered(entry.slot),
                None => self.resolver.process(info.pid),
            },
            Target::Process(pid) => self.resolver.process(*pid),
            Target::Group(dirs) => self.resolver.group(dirs.first()?),
        }
    }

    /// What is to be read of a target, the host itself included. `None` where it has gone meanwhile.
    pub(super) fn contained(&self, target: &Target) -> Option<Arc<Contained>> {
        match self.view(target)? {
            View::Container(contained) => Some(contained),
            View::Host | View::Unknown => {
                let groups = GroupSet::open(&self.layout, &Membership::parse("", &self.layout)).ok()?;
                let subject = Subject::new(Arc::new(groups), crate::model::Nsec::ZERO, None, None);
                Some(Contained::new(subject, Arc::default()))
            }
        }
    }

    /// The tree that a daemon would serve.
    pub(super) fn tree(&self) -> Tree {
        let store = Arc::clone(self.resolver.store());
        Tree::new(Arc::clone(&self.host), Arc::clone(&self.resolver), Arc::clone(&self.registry), None, store)
    }
}

/// Registers here what the daemon has registered, so that the same processes get the same views.
fn mirror(registry: &Registry, info: &ContainerInfo) -> Option<()> {
    let pidfd = pidfd_open(Pid::from_raw(info.pid.get())?, PidfdFlags::empty()).ok()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let groups = info
        .groups
        .iter()
        .map(|path| rustix::fs::open(path, flags, Mode::empty()))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    registry.register(info.name.clone(), info.policies.into(), pidfd, groups).ok().map(drop)
}
