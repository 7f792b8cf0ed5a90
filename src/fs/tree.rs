//! Answers the requests: which nodes there are, whose view a file shows, which bytes it serves.

mod cpus;
mod listing;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::Refusal;
use super::inode::{Node, Place, Scope};
use super::settings;
use super::snapshots::{Handle, Slot, Snapshots};
use super::sysfs::{Family, Paths, cpu_number};
use crate::containers::{Registry, Resolver, View};
use crate::host::{Host, HostError, SysKind};
use crate::model::CpuSet;
use crate::readings;
use crate::render::{PROC_FILES, ProcFile};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link (mirrored from sysfs).
    Symlink,
}

/// A node's attributes: the same whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Which node.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// `st_size`, see [`settings::stat_size`].
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// All its times.
    pub time: SystemTime,
    /// How long the kernel may believe this.
    pub ttl: Duration,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Which node.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What an open file was opened as.
#[derive(Debug)]
pub struct Opened {
    place: Place,
    view: View,
    /// Nothing was read yet: the view is as fresh as the open.
    fresh: bool,
    /// The thread that opened it.
    tid: u32,
    /// Counts the file for its container while it is open.
    _count: Option<OpenCount>,
}

/// Files that one container may have open at once. Each costs this process memory that the container is not
/// charged for.
const MOST_OPEN: usize = 4096;

#[derive(Debug)]
struct OpenCount(Arc<AtomicUsize>);

impl OpenCount {
    /// Counts one more; `None` at the limit.
    fn take(view: &View) -> Result<Option<Self>, Refusal> {
        let View::Container(contained) = view else { return Ok(None) };
        let count = Self(Arc::clone(&contained.open_files));
        if count.0.fetch_add(1, Ordering::Relaxed) >= MOST_OPEN {
            return Err(Refusal(Errno::EMFILE)); // dropping `count` takes it back
        }
        Ok(Some(count))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The tree that one mount shows.
#[derive(Debug)]
pub struct Tree {
    host: Arc<Host>,
    resolver: Arc<Resolver>,
    registry: Arc<Registry>,
    paths: Paths,
    files: Snapshots<Opened>,
    sizes: Vec<(ProcFile, u64)>,
    started: SystemTime,
}

impl Tree {
    /// A tree over the host's files.
    #[must_use]
    pub fn new(host: Arc<Host>, resolver: Arc<Resolver>, registry: Arc<Registry>) -> Self {
        let count = |cpus: Result<CpuSet, HostError>| cpus.map_or(1, |cpus| cpus.len().max(1) as u64);
        let (possible, online) = (count(host.possible()), count(host.online()));
        let sizes = PROC_FILES
            .iter()
            .map(|&(_, file)| {
                let mut text = Vec::new();
                let now = readings::host_file(file, &host, &mut text).map_or(0, |()| text.len() as u64);
                (file, settings::stat_size(settings::text_bound(now, possible, online)))
            })
            .collect();
        let tree = Self {
            host,
            resolver,
            registry,
            paths: Paths::default(),
            files: Snapshots::default(),
            sizes,
            started: SystemTime::now(),
        };
        tree.number_paths();
        tree
    }

    /// Finds `name` in a directory.
    pub fn lookup(&self, parent: Place, name: &OsStr) -> Result<Attr, Refusal> {
        let name = name.to_str().ok_or(Refusal(Errno::ENOENT))?;
        let node = match parent.node {
            Node::Top => match name {
                "proc" => Node::Proc,
                "sys" => Node::Sys,
                "containers" if parent.scope == Scope::Reader => Node::Containers,
                _ => return Err(Refusal(Errno::ENOENT)),
            },
            Node::Containers => {
                let entry = crate::model::ContainerName::new(name)
                    .ok()
                    .and_then(|name| self.registry.by_name(&name))
                    .ok_or(Refusal(Errno::ENOENT))?;
                return self.attr(Place { scope: Scope::Container(entry.slot), node: Node::Top });
            }
            Node::Proc => PROC_FILES
                .iter()
                .find(|(path, _)| path.strip_prefix("proc/") == Some(name))
                .map(|(_, file)| Node::ProcFile(*file))
                .ok_or(Refusal(Errno::ENOENT))?,
            Node::Sys if name == "devices" => Node::SysDevices,
            Node::SysDevices if name == "system" => Node::SysDevicesSystem,
            Node::SysDevicesSystem if name == "cpu" => Node::SysCpu { path: 0 },
            Node::SysCpu { path: 0 } if cpu_number(name).is_some() => {
                Node::SysCpuN { cpu: cpu_number(name).unwrap_or_default(), path: 0 }
            }
            Node::SysCpu { path } => {
                let path = join(&self.path(Family::Directory, path)?, name);
                self.sys_kind(None, &path)?;
                Node::SysCpu {
                    path: self.paths.number(Family::Directory, &path).ok_or(Refusal(Errno::ENOENT))?,
                }
            }
            Node::SysCpuN { cpu, path } => {
                let path = join(&self.path(Family::CpuN, path)?, name);
                self.sys_kind(Some(cpu), &path)?;
                let path = self.paths.number(Family::CpuN, &path).ok_or(Refusal(Errno::ENOENT))?;
                Node::SysCpuN { cpu, path }
            }
            Node::Sys | Node::SysDevices | Node::SysDevicesSystem => return Err(Refusal(Errno::ENOENT)),
            Node::ProcFile(_) => return Err(Refusal(Errno::ENOTDIR)),
        };
        self.attr(parent.sibling(node))
    }

    /// A node's attributes.
    pub fn attr(&self, place: Place) -> Result<Attr, Refusal> {
        if let Scope::Container(slot) = place.scope {
            self.registry.by_slot(slot).ok_or(Refusal(Errno::ENOENT))?;
        }
        let kind = self.kind(place.node)?;
        let (size, mode) = match (kind, place.node) {
            (Kind::Directory, _) => (0, 0o555),
            (Kind::Symlink, _) => (0, 0o777),
            (Kind::File, Node::ProcFile(file)) => (self.proc_size(file), 0o444),
            (Kind::File, _) => (settings::SYSFS_FILE_SIZE, 0o444),
        };
        let comes_and_goes = place.node == Node::Top && place.scope != Scope::Reader;
        let ttl = match comes_and_goes {
            _ if size > settings::TAIL_REACHES => Duration::ZERO,
            true => settings::CONTAINER_TTL,
            false => settings::TTL,
        };
        Ok(Attr { place, kind, size, mode, time: self.started, ttl })
    }

    /// The attributes of an open file: those of the node, but where its size says little, that of its snapshot.
    /// The kernel asks when a program seeks to the end.
    pub fn open_attr(&self, place: Place, handle: Handle, tid: u32) -> Result<Attr, Refusal> {
        let mut attr = self.attr(place)?;
        if attr.size > settings::TAIL_REACHES
            && let Some(mut slot) = self.files.get(handle)
        {
            if !slot.rendered {
                self.render_slot(&mut slot, tid)?;
            }
            attr.size = settings::stat_size(slot.text.len() as u64);
        }
        Ok(attr)
    }

    fn proc_size(&self, file: ProcFile) -> u64 {
        self.sizes
            .iter()
            .find(|(known, _)| *known == file)
            .map_or(settings::SYSFS_FILE_SIZE, |(_, size)| *size)
    }

    fn kind(&self, node: Node) -> Result<Kind, Refusal> {
        match node {
            Node::ProcFile(_) => Ok(Kind::File),
            Node::SysCpu { path } if path != 0 => self.sys_kind(None, &self.path(Family::Directory, path)?),
            Node::SysCpuN { cpu, path } => self.sys_kind(Some(cpu), &self.path(Family::CpuN, path)?),
            _ => Ok(Kind::Directory),
        }
    }

    /// Whose view a thread gets of a place.
    fn view(&self, scope: Scope, tid: u32) -> Result<View, Refusal> {
        match scope {
            Scope::Reader => Ok(self.resolver.reader(tid)),
            Scope::Container(slot) => self.resolver.registered(slot).ok_or(Refusal(Errno::ENOENT)),
        }
    }

    /// Opens a file for the thread `tid`; `flags` as of open(2).
    pub fn open(&self, place: Place, flags: i32, tid: u32) -> Result<Handle, Refusal> {
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Err(Refusal(Errno::EACCES));
        }
        if let Scope::Container(slot) = place.scope {
            if self.registry.by_slot(slot).is_none() {
                return Err(Refusal(Errno::ENOENT));
            }
            if !self.resolver.may_open(slot, tid) {
                return Err(Refusal(Errno::EACCES));
            }
        }
        let view = self.view(place.scope, tid)?;
        self.check_shown(place.node, &view)?;
        let count = OpenCount::take(&view)?;
        let opened = Opened { place, view, fresh: true, tid, _count: count };
        self.files.open(opened, tid as usize).ok_or(Refusal(Errno::ENFILE))
    }

    /// Files of a CPU that the view does not show are not there (but for `online`, which says so).
    fn check_shown(&self, node: Node, view: &View) -> Result<(), Refusal> {
        match (node, view) {
            (Node::SysCpuN { cpu, path }, View::Container(contained)) => {
                let name = self.path(Family::CpuN, path)?;
                let (_, shown) = readings::cpus(&contained.subject, &self.host, &contained.policies)?;
                if shown.physical_of(usize::from(cpu)).is_some() || &*name == "online" {
                    Ok(())
                } else {
                    Err(Refusal(Errno::ENOENT))
                }
            }
            _ => Ok(()),
        }
    }

    /// Gives `answer` the bytes of an open file at `offset`, at most `size` of them. `has_owner`: the request
    /// carries a lock owner, as those of read(2) do and those of sendfile(2) and splice(2) do not.
    pub fn read(
        &self,
        handle: Handle,
        offset: u64,
        size: u32,
        tid: u32,
        has_owner: bool,
        answer: impl FnOnce(&[u8]),
    ) -> Result<(), Refusal> {
        if !has_owner {
            return Err(Refusal(Errno::EINVAL));
        }
        let mut slot = self.files.get(handle).ok_or(Refusal(Errno::EBADF))?;
        if offset == 0 || !slot.rendered {
            self.render_slot(&mut slot, tid)?;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(slot.text.len());
        let end = start.saturating_add(size as usize).min(slot.text.len());
        answer(&slot.text[start..end]);
        Ok(())
    }

    fn render_slot(&self, slot: &mut Slot<Opened>, tid: u32) -> Result<(), Refusal> {
        slot.rendered = false;
        let opened = slot.opened.as_mut().ok_or(Refusal(Errno::EBADF))?;
        if let Scope::Container(gone) = opened.place.scope
            && self.registry.by_slot(gone).is_none()
        {
            return Err(Refusal(Errno::ENOENT));
        }
        if !(opened.fresh && opened.tid == tid) {
            opened.view = self.view(opened.place.scope, tid)?;
        }
        opened.fresh = false;
        slot.text.clear();
        self.render(&opened.view, opened.place.node, &mut slot.text)?;
        if !opened.view.is_alive() && opened.place.scope == Scope::Reader {
            // The group went away under us, or is another of the same name: the reader moved, so look again.
            opened.view = self.view(opened.place.scope, tid)?;
            slot.text.clear();
            self.render(&opened.view, opened.place.node, &mut slot.text)?;
        }
        slot.rendered = true;
        Ok(())
    }

    fn render(&self, view: &View, node: Node, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let starved = || match view {
            View::Container(contained) => contained.subject.groups.starved(),
            View::Host | View::Unknown => 0,
        };
        let before = starved();
        self.render_node(view, node, out)?;
        if starved() == before { Ok(()) } else { Err(Refusal(Errno::EIO)) }
    }

    fn render_node(&self, view: &View, node: Node, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match node {
            Node::ProcFile(file) => self.render_proc(view, file, out),
            Node::SysCpu { path } if path != 0 => {
                self.render_sys(view, &self.path(Family::Directory, path)?, out)
            }
            Node::SysCpuN { cpu, path } if path != 0 => {
                self.render_sys(view, &cpu_path(cpu, &self.path(Family::CpuN, path)?), out)
            }
            _ => Err(Refusal(Errno::EISDIR)),
        }
    }

    fn render_proc(&self, view: &View, file: ProcFile, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match view {
            View::Container(contained) => {
                readings::render(file, &contained.subject, &self.host, &contained.policies, out)?;
            }
            View::Host => readings::host_file(file, &self.host, out)?,
            View::Unknown => return Err(Refusal(Errno::EIO)),
        }
        Ok(())
    }

    fn render_sys(&self, view: &View, path: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let path = Path::new(path);
        match view {
            View::Container(contained) => {
                readings::sys_cpu_file(path, &contained.subject, &self.host, &contained.policies, out)?;
            }
            View::Host => self.host.cpus().read(path, |text| out.extend_from_slice(text))?,
            View::Unknown => return Err(Refusal(Errno::EIO)),
        }
        Ok(())
    }

    /// The bytes that a view has at a path below the mount point.
    pub fn show(&self, view: &View, path: &str) -> Result<Vec<u8>, Refusal> {
        let mut place = Place::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            place = self.lookup(place, OsStr::new(name))?.place;
        }
        if place.scope != Scope::Reader {
            return Err(Refusal(Errno::ENOENT)); // containers/NAME is another target, not a file of this one
        }
        self.check_shown(place.node, view)?;
        let mut text = Vec::new();
        self.render(view, place.node, &mut text)?;
        Ok(text)
    }

    /// Ends an open file.
    pub fn release(&self, handle: Handle) {
        self.files.release(handle);
    }

    /// How many files are open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.files.open_files()
    }
}

impl From<SysKind> for Kind {
    fn from(kind: SysKind) -> Self {
        match kind {
            SysKind::Directory => Self::Directory,
            SysKind::File => Self::File,
            SysKind::Link => Self::Symlink,
        }
    }
}

/// A host file that could not be read is an error of ours, whatever its number; it is logged once it happens.
impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        let errno = Errno::from_raw(error.errno());
        if errno != Errno::ENOENT {
            log::warn!("{error}");
        }
        Self(errno)
    }
}

/// The path of cpuN, or below it, in the CPU directory.
fn cpu_path(cpu: u16, below: &str) -> String {
    join(&format!("cpu{cpu}"), below)
}

fn join(base: &str, below: &str) -> String {
    match (base, below) {
        ("", path) | (path, "") => path.to_owned(),
        (base, below) => format!("{base}/{below}"),
    }
}

#[cfg(test)]
mod tests;
