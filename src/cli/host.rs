//! What the commands read for themselves, with or without a daemon: the host, its hierarchies, the containers
//! that are there.

use std::path::Path;
use std::sync::Arc;

use super::failure::Failure;
use super::survey::{self, Init};
use crate::cgroup::{GroupSet, Layout, Membership};
use crate::control::{Client, ContainerInfo, ControlError, Paths};
use crate::host::Host;
use crate::model::{HostPid, Policies};
use crate::readings::Subject;

use super::target::Target;

/// One look at the host.
pub(super) struct Look {
    pub host: Host,
    pub layout: Layout,
    /// Every init of a pid namespace below ours, by pid.
    pub inits: Vec<Init>,
    /// The daemon of the mount point, where one answers.
    pub client: Option<Client>,
    /// What it has registered.
    pub registered: Vec<ContainerInfo>,
}

impl Look {
    /// Reads the host, and asks the daemon of `paths` if there is one.
    pub(super) fn take(paths: Paths) -> Result<Self, Failure> {
        let client = match Client::at(paths) {
            Ok(client) => Some(client),
            Err(ControlError::NotRunning { .. } | ControlError::NotAllowed { .. }) => None,
            Err(error) => return Err(Failure::error(error)),
        };
        let registered = client.as_ref().map(Client::list).transpose().map_err(Failure::error)?;
        let root = Path::new("/");
        Ok(Self {
            host: Host::open(root).map_err(Failure::error)?,
            layout: Layout::discover(root).map_err(Failure::error)?,
            inits: survey::inits(root).map_err(|error| Failure::Error(format!("/proc: {error}")))?,
            client,
            registered: registered.unwrap_or_default(),
        })
    }

    /// What is to be read of a target. `None` where it has gone meanwhile.
    pub(super) fn subject(&self, target: &Target) -> Option<(Subject, Policies)> {
        match target {
            Target::Registered(info) => {
                let membership = self.membership_of_dirs(info.groups.iter().map(|path| path.as_path()));
                let groups = GroupSet::open(&self.layout, &membership).ok()?;
                Some((Subject::of_init(Arc::new(groups), info.pid, &self.host), info.policies))
            }
            Target::Process(pid) => Some((self.of_process(*pid)?, Policies::default())),
            Target::Group(dirs) => {
                let membership = self.membership_of_dirs(dirs.iter().map(|path| path.as_path()));
                let groups = GroupSet::open(&self.layout, &membership).ok()?;
                let now = self.host.clocks().boottime;
                Some((Subject::new(Arc::new(groups), now, None, None), Policies::default()))
            }
        }
    }

    /// What is to be read of the groups that a process is in.
    pub(super) fn of_process(&self, pid: HostPid) -> Option<Subject> {
        let membership = Membership::parse(self.host.process(pid)?.cgroup()?, &self.layout);
        let groups = GroupSet::open(&self.layout, &membership).ok()?;
        Some(Subject::of_init(Arc::new(groups), pid, &self.host))
    }

    /// From the directories of groups to the group in each hierarchy; the root where none is given.
    fn membership_of_dirs<'a>(&self, dirs: impl Iterator<Item = &'a Path> + Clone) -> Membership {
        Membership::parse(b"", &self.layout).map(|number, root| {
            let group = self.layout.get(number).and_then(|hierarchy| {
                let inside = |dir: &'a Path| dir.strip_prefix(hierarchy.mountpoint()).ok();
                Some(hierarchy.root().join(dirs.clone().find_map(inside)?))
            });
            group.unwrap_or_else(|| root.to_owned())
        })
    }
}
