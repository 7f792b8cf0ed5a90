//! One container's groups in all hierarchies, held open.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::chain::{Chain, GroupDir, GroupId};
use super::controller::{Controller, Version};
use super::error::CgroupError;
use super::kept::{KeptFile, Miss};
use super::layout::{Hierarchy, Layout};
use super::membership::Membership;
use super::parse::ParseError;
use super::read::{cpu, cpuset, hugetlb, io, memory, pressure};

/// One container's groups: in each hierarchy the group and its ancestors below the root, with the files that
/// are read kept open.
///
/// A reading never fails: a level whose files are not there (removed, or without the controller) is left out,
/// so that its ancestors serve, and anything else that goes wrong is counted in [`Self::faults`].
#[derive(Debug)]
pub struct GroupSet {
    hierarchies: Vec<Place>,
    pub(super) memory: Option<Resource<memory::Files>>,
    pub(super) cpu: Option<Resource<cpu::Files>>,
    pub(super) accounting: Option<Resource<cpu::AccountingFiles>>,
    pub(super) cpuset: Option<Resource<cpuset::Files>>,
    pub(super) hugetlb: Option<Resource<hugetlb::Files>>,
    /// `pids.current`
    pub(super) pids: Option<Resource<KeptFile>>,
    pub(super) io: Option<Resource<io::Files>>,
    pub(super) pressure: Option<Resource<pressure::Files>>,
    gone: AtomicU64,
    faults: AtomicU64,
    starved: AtomicU64,
}

/// One hierarchy, as far as it concerns this container.
#[derive(Debug)]
struct Place {
    version: Version,
    mountpoint: PathBuf,
    controllers: Vec<Controller>,
    root_id: GroupId,
    chain: Chain,
}

/// The files of one controller at each level of a hierarchy's chain.
#[derive(Debug)]
pub(super) struct Resource<F> {
    pub(super) hierarchy: usize,
    pub(super) version: Version,
    levels: Vec<F>,
}

impl GroupSet {
    /// Opens the groups by their paths.
    pub fn open(layout: &Layout, membership: &Membership) -> Result<Self, CgroupError> {
        let chains = layout
            .hierarchies()
            .iter()
            .enumerate()
            .map(|(index, hierarchy)| Chain::open(hierarchy, membership.path(index)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::assemble(layout, chains))
    }

    /// From directories that a trusted process passed in, with the number of the hierarchy of each. In a
    /// hierarchy that none was given for, the container is taken to be in the root group.
    pub fn from_dirs(layout: &Layout, dirs: Vec<(usize, OwnedFd)>) -> Result<Self, CgroupError> {
        let mut chains: Vec<Chain> = layout.hierarchies().iter().map(|_| Chain::default()).collect();
        for (index, dir) in dirs {
            let fault = || CgroupError::NoSuchHierarchy { index };
            let hierarchy = layout.get(index).ok_or_else(fault)?;
            *chains.get_mut(index).ok_or_else(fault)? = Chain::from_dir(hierarchy, dir)?;
        }
        Ok(Self::assemble(layout, chains))
    }

    fn assemble(layout: &Layout, chains: Vec<Chain>) -> Self {
        let hierarchies: Vec<Place> = layout
            .hierarchies()
            .iter()
            .zip(chains)
            .map(|(hierarchy, chain)| Place {
                version: hierarchy.version(),
                mountpoint: hierarchy.mountpoint().to_owned(),
                controllers: hierarchy.controllers().to_vec(),
                root_id: hierarchy.id(),
                chain,
            })
            .collect();
        let of = |controller| layout.hierarchy_of(controller);
        Self {
            memory: Resource::new(of(Controller::Memory), &hierarchies, memory::Files::new),
            cpu: Resource::new(of(Controller::Cpu), &hierarchies, cpu::Files::new),
            accounting: Resource::new(layout.accounting(), &hierarchies, cpu::AccountingFiles::new),
            cpuset: Resource::new(of(Controller::Cpuset), &hierarchies, cpuset::Files::new),
            hugetlb: Resource::new(of(Controller::Hugetlb), &hierarchies, hugetlb::Files::new),
            pids: Resource::new(of(Controller::Pids), &hierarchies, |_, _| KeptFile::new("pids.current")),
            io: Resource::new(of(Controller::Io), &hierarchies, io::Files::new),
            pressure: Resource::new(layout.v2(), &hierarchies, pressure::Files::new),
            hierarchies,
            gone: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            starved: AtomicU64::new(0),
        }
    }

    /// The chain of one hierarchy (numbered as in the [`Layout`]): the group first.
    #[must_use]
    pub fn levels(&self, hierarchy: usize) -> &[GroupDir] {
        self.hierarchies.get(hierarchy).map_or(&[], |place| place.chain.levels())
    }

    /// The group's path in one hierarchy, `/` for the root.
    #[must_use]
    pub fn path(&self, hierarchy: usize) -> &Path {
        self.levels(hierarchy).first().map_or(Path::new("/"), GroupDir::path)
    }

    /// Device and inode of the group in one hierarchy; those of the root where it is in the root.
    #[must_use]
    pub fn id(&self, hierarchy: usize) -> Option<GroupId> {
        let place = self.hierarchies.get(hierarchy)?;
        Some(place.chain.group().map_or(place.root_id, GroupDir::id))
    }

    /// Device and inode of the group that accounts CPU time, to key what is kept per container. `(0, 0)` on a
    /// host without any accounting.
    #[must_use]
    pub fn identity(&self) -> GroupId {
        self.accounting.as_ref().and_then(|resource| self.id(resource.hierarchy)).unwrap_or_default()
    }

    /// Whether the group is the root, the host itself, in every hierarchy that has to do with memory.
    #[must_use]
    pub fn is_memory_root(&self) -> bool {
        self.memory.as_ref().is_none_or(|memory| self.levels(memory.hierarchy).is_empty())
    }

    /// Whether it is the root in every hierarchy that has to do with CPUs: quota, accounting, cpuset.
    #[must_use]
    pub fn is_cpu_root(&self) -> bool {
        let hierarchies = [
            self.cpu.as_ref().map(|resource| resource.hierarchy),
            self.accounting.as_ref().map(|resource| resource.hierarchy),
            self.cpuset.as_ref().map(|resource| resource.hierarchy),
        ];
        hierarchies.into_iter().flatten().all(|hierarchy| self.levels(hierarchy).is_empty())
    }

    /// Whether it is the root in the hierarchy that counts block I/O.
    #[must_use]
    pub fn is_io_root(&self) -> bool {
        self.io.as_ref().is_none_or(|io| self.levels(io.hierarchy).is_empty())
    }

    /// Whether it is the root in the v2 hierarchy, the only one with pressure stall information.
    #[must_use]
    pub fn is_pressure_root(&self) -> bool {
        self.pressure.as_ref().is_none_or(|pressure| self.levels(pressure.hierarchy).is_empty())
    }

    /// Whether it is the root group in every hierarchy: the host itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.hierarchies.iter().all(|place| place.chain.levels().is_empty())
    }

    /// Whether the group has been removed in some hierarchy, as far as readings have met it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.hierarchies.iter().any(|place| place.chain.group().is_some_and(GroupDir::is_gone))
    }

    /// Looks in every hierarchy whether the group is still there; [`Self::is_gone`] then says so.
    pub fn check_gone(&self) {
        for place in &self.hierarchies {
            if place.chain.group().is_some_and(GroupDir::check_gone) {
                self.gone.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// About how many descriptors it holds once all its files have been read: each level's directory, and the files
    /// of the controllers that are read at every level.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let levels = |hierarchy: Option<usize>| hierarchy.map_or(0, |hierarchy| self.levels(hierarchy).len());
        let directories: usize = self.hierarchies.iter().map(|place| place.chain.levels().len()).sum();
        let memory = levels(self.memory.as_ref().map(|resource| resource.hierarchy));
        let cpu = levels(self.cpu.as_ref().map(|resource| resource.hierarchy));
        directories + memory * 6 + cpu * 4 + 11
    }

    /// How many levels readings have found removed.
    #[must_use]
    pub fn gone_levels(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// How many reads of single files failed otherwise (unreadable, not understood).
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// How many reads failed because this process or the host had no descriptor or memory left: what was read
    /// meanwhile lacks limits that are there, and must not be shown.
    #[must_use]
    pub fn starved(&self) -> u64 {
        self.starved.load(Ordering::Relaxed)
    }

    /// Where the container's tasks are listed: the first hierarchy in which it has a group of its own.
    pub(super) fn task_group(&self) -> Option<(Version, &GroupDir)> {
        const ORDER: [Controller; 6] = [
            Controller::Pids,
            Controller::Memory,
            Controller::Cpuacct,
            Controller::Cpu,
            Controller::Freezer,
            Controller::Cpuset,
        ];
        let group = |place: &'_ Place| place.chain.group().map(|_| ());
        let by_controller = ORDER.iter().filter_map(|controller| {
            self.hierarchies.iter().find(|p| p.controllers.contains(controller) && group(p).is_some())
        });
        let any = self.hierarchies.iter().filter(|place| group(place).is_some());
        by_controller.chain(any).find_map(|place| Some((place.version, place.chain.group()?)))
    }

    /// The levels of one resource with their files, the group's first.
    pub(super) fn each<'a, F>(
        &'a self,
        resource: &'a Resource<F>,
    ) -> impl Iterator<Item = (&'a GroupDir, &'a F)> {
        self.levels(resource.hierarchy).iter().zip(&resource.levels)
    }

    /// The files of the group itself, for numbers that no ancestor can stand in for: an ancestor's are those of
    /// siblings too. `None` in the root group, and where the group was gone already when this was opened.
    pub(super) fn own<'a, F>(&'a self, resource: &'a Resource<F>) -> Option<(&'a GroupDir, &'a F)> {
        let cut = self.hierarchies.get(resource.hierarchy).is_none_or(|place| place.chain.is_cut());
        if cut { None } else { self.each(resource).next() }
    }

    /// One file of one level through a parser; `None` where it is not there or not understood.
    pub(super) fn value<R>(
        &self,
        dir: &GroupDir,
        file: &KeptFile,
        parse: impl FnOnce(&[u8]) -> Result<R, ParseError>,
    ) -> Option<R> {
        match file.read(dir.fd(), parse) {
            Ok(Ok(value)) => return Some(value),
            Err(Miss::Remembered) => {}
            Err(Miss::Absent) => {
                if dir.check_gone() && self.gone.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::info!("group {} is gone: its ancestors serve", dir.path().display());
                }
            }
            Ok(Err(error)) => self.fault(dir, file, &error),
            Err(Miss::Failed(error)) => {
                use rustix::io::Errno;
                if matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM) {
                    self.starved.fetch_add(1, Ordering::Relaxed);
                }
                self.fault(dir, file, &error);
            }
        }
        None
    }

    /// Counts it; the first of a container is logged.
    fn fault(&self, dir: &GroupDir, file: &KeptFile, error: &dyn std::fmt::Display) {
        if self.faults.fetch_add(1, Ordering::Relaxed) == 0 {
            let group = dir.path().display();
            log::warn!("cannot read {} of group {group}: {error}; its ancestors serve", file.name());
        }
    }

    /// The path of a file of one level, for people to read.
    pub(super) fn display(&self, hierarchy: usize, group: &Path, file: &str) -> PathBuf {
        let mountpoint = self.hierarchies.get(hierarchy).map_or(Path::new("/"), |place| &place.mountpoint);
        Hierarchy::join(mountpoint, group, file)
    }
}

impl<F> Resource<F> {
    fn new(
        hierarchy: Option<usize>,
        places: &[Place],
        files: impl Fn(Version, &GroupDir) -> F,
    ) -> Option<Self> {
        let hierarchy = hierarchy?;
        let place = places.get(hierarchy)?;
        let levels = place.chain.levels().iter().map(|dir| files(place.version, dir)).collect();
        Some(Self { hierarchy, version: place.version, levels })
    }
}
