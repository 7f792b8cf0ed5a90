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
use crate::model::Policies;
use crate::readings::Subject;

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
        let client = match Client::at(paths) {
            Ok(client) => Some(client),
            Err(ControlError::NotRunning { .. } | ControlError::NotAllowed { .. }) => None,
            Err(error) => {
                // A daemon that hangs must not keep an administrator from looking.
                output::complain(&error.to_string());
                None
            }
        };
        let registered = client.as_ref().map(Client::list).transpose().map_err(Failure::error)?;
        let registered = registered.unwrap_or_default();
        let root = Path::new("/");
        let host = Arc::new(Host::open(root).map_err(Failure::error)?);
        let layout = Arc::new(Layout::discover(root).map_err(Failure::error)?);
        let inits = survey::inits(root).map_err(|error| Failure::Error(format!("/proc: {error}")))?;
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
        let resolver = Resolver::new(Arc::clone(&host), Arc::clone(&layout), Arc::clone(&registry));
        let resolver = Arc::new(resolver.map_err(Failure::error)?);
        Ok(Self { host, layout, inits, client, registered, registry, resolver })
    }

    /// What TARGET names.
    pub(super) fn find(&self, text: &str) -> Result<Target, Failure> {
        let candidates = Candidates {
            root: Path::new("/"),
            layout: &self.layout,
            registered: &self.registered,
            inits: &self.inits,
        };
        candidates.find(text)
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
                Some(Contained::new(subject, Policies::default()))
            }
        }
    }

    /// The tree that a daemon would serve.
    pub(super) fn tree(&self) -> Tree {
        Tree::new(Arc::clone(&self.host), Arc::clone(&self.resolver), Arc::clone(&self.registry))
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
    registry.register(info.name.clone(), info.policies, pidfd, groups).ok().map(drop)
}
