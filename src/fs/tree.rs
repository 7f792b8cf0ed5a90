//! Answers the requests: which nodes there are, whose view a file shows, which bytes it serves.

mod cpus;
mod listing;
mod nodes;
mod opened;
mod plain;
mod pressure;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::Refusal;
use super::inode::{Node, Place, ProcDir, Scope};
use super::settings;
use super::snapshots::{Handle, Open, Snapshots};
use super::sysfs::{Family, Paths};
use super::triggers::Triggers;
use crate::containers::{Registry, Resolver, View};
use crate::host::{Host, HostError, SysKind};
use crate::model::{CpuSet, HostPid};
use crate::readings::{self, ReaderTime, Subject};
use crate::render::{PROC_FILES, ProcFile};
use crate::store::{KeptFile, NewFile, Store};
use opened::{MORE_SNAPSHOTS, MOST_SNAPSHOTS, OpenCount, Opened};
use pressure::Unarmed;

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

/// Who reads, as far as the text depends on it.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// In which part of the tree.
    scope: Scope,
    /// Its thread; 0 for no one that is known.
    tid: u32,
}

/// What poll(2) is told of a file: always readable and writable, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEvents {
    /// No more.
    Ready,
    /// POLLPRI.
    Fired,
    /// POLLPRI and POLLERR.
    Broken,
}

/// The tree that one mount shows.
#[derive(Debug)]
pub struct Tree {
    host: Arc<Host>,
    resolver: Arc<Resolver>,
    registry: Arc<Registry>,
    paths: Paths,
    files: Snapshots<Opened>,
    /// Which files there are, and the sizes of those that somebody asked for.
    sizes: Vec<(ProcFile, OnceLock<u64>)>,
    /// Whether the paths below sysfs have their numbers.
    numbered: Once,
    /// Where pressure files take triggers.
    triggers: Option<Triggers>,
    /// Those of the process before this one that are not set again yet.
    unarmed: Mutex<Vec<Unarmed>>,
    /// Bytes that the snapshots of one container may take.
    most_snapshots: usize,
    started: SystemTime,
    /// No container is looked at.
    plain: bool,
}

impl Tree {
    /// A tree over the host's files, and the files that are open in `store`. [`Self::rearm`] it once the kernel listens.
    #[must_use]
    pub fn new(
        host: Arc<Host>,
        resolver: Arc<Resolver>,
        registry: Arc<Registry>,
        triggers: Option<Triggers>,
        store: Arc<Store>,
    ) -> Self {
        let count = |cpus: Result<CpuSet, HostError>| cpus.map_or(1, |cpus| cpus.len().max(1) as u64);
        let possible = count(host.possible());
        // What the running kernel has not is not there. How large the others are is found out when somebody asks: some
        // take the kernel milliseconds, in which the readers of a worker that takes over would wait.
        let there = PROC_FILES.iter().filter(|(_, file)| readings::host_has(*file, &host));
        let sizes = there.map(|&(_, file)| (file, OnceLock::new())).collect();
        let started = started(&store);
        let mut unarmed = Vec::new();
        let files = take_up(store, &resolver, &mut unarmed);
        let cpus = usize::try_from(possible).unwrap_or(usize::MAX);
        Self {
            host,
            resolver,
            registry,
            paths: Paths::default(),
            files,
            sizes,
            triggers,
            unarmed: Mutex::new(unarmed),
            most_snapshots: MOST_SNAPSHOTS.saturating_add(cpus.saturating_mul(MORE_SNAPSHOTS)),
            started,
            plain: false,
            numbered: Once::new(),
        }
    }

    /// The numbers of paths below sysfs. All get theirs before any is told.
    fn paths(&self) -> &Paths {
        self.numbered.call_once(|| {
            self.number_paths();
            self.number_node_paths();
        });
        &self.paths
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
            Node::Proc => self.proc_node("", name)?,
            Node::ProcDir(dir) => self.proc_node(dir.path(), name)?,
            Node::Sys if name == "devices" => Node::SysDevices,
            Node::SysDevices if name == "system" => Node::SysDevicesSystem,
            Node::SysDevicesSystem if name == "cpu" => Node::SysCpu { path: 0 },
            Node::SysDevicesSystem if name == "node" && self.host.node_tree().is_some() => {
                Node::SysNode { path: 0 }
            }
            Node::SysCpu { .. } | Node::SysCpuN { .. } => self.lookup_cpu(parent.node, name)?,
            Node::SysNode { .. } | Node::SysNodeN { .. } => self.lookup_node(parent.node, name)?,
            Node::Sys | Node::SysDevices | Node::SysDevicesSystem => return Err(Refusal(Errno::ENOENT)),
            Node::ProcFile(_) => return Err(Refusal(Errno::ENOTDIR)),
        };
        self.attr(parent.sibling(node))
    }

    /// A node's attributes.
    pub fn attr(&self, place: Place) -> Result<Attr, Refusal> {
        self.check_registered(place)?;
        let kind = self.kind(place.node)?;
        let (size, mode) = match (kind, place.node) {
            (Kind::Directory, _) => (0, 0o555),
            (Kind::Symlink, _) => (0, 0o777),
            (Kind::File, Node::ProcFile(file)) => {
                (self.proc_size(file), if self.takes_triggers(place.node) { 0o666 } else { 0o444 })
            }
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

    /// A container that is gone has no files.
    fn check_registered(&self, place: Place) -> Result<(), Refusal> {
        match place.scope {
            Scope::Container(slot) if !self.plain && self.registry.by_slot(slot).is_none() => {
                Err(Refusal(Errno::ENOENT))
            }
            _ => Ok(()),
        }
    }

    /// The attributes of an open file: those of the node, but where its size says little, that of its snapshot.
    /// The kernel asks when a program seeks to the end.
    pub fn open_attr(&self, place: Place, handle: Handle, tid: u32) -> Result<Attr, Refusal> {
        let mut attr = self.attr(place)?;
        if attr.size > settings::TAIL_REACHES
            && let Some(mut open) = self.files.get(handle)
        {
            if open.text().is_none() {
                self.render_open(&mut open, tid)?;
            }
            attr.size = settings::stat_size(open.held() as u64);
        }
        Ok(attr)
    }

    /// What `name` is in a directory below `proc`.
    fn proc_node(&self, dir: &str, name: &str) -> Result<Node, Refusal> {
        let path = join(dir, name);
        let file = self.proc_files().find(|file| file.name() == path).map(Node::ProcFile);
        file.or_else(|| ProcDir::find(&path).map(Node::ProcDir)).ok_or(Refusal(Errno::ENOENT))
    }

    /// The files of `proc` that the running kernel has.
    fn proc_files(&self) -> impl Iterator<Item = ProcFile> {
        self.sizes.iter().map(|(file, _)| *file)
    }

    fn proc_size(&self, file: ProcFile) -> u64 {
        let known = self.sizes.iter().find(|(known, _)| *known == file);
        known.map_or(settings::SYSFS_FILE_SIZE, |(_, size)| *size.get_or_init(|| self.look_at_size(file)))
    }

    fn look_at_size(&self, file: ProcFile) -> u64 {
        let count = |cpus: Result<CpuSet, HostError>| cpus.map_or(1, |cpus| cpus.len().max(1) as u64);
        let mut text = Vec::new();
        // an error that may pass must not take a file away for as long as the daemon lives
        if let Err(error) = readings::host_file(file, &self.host, &mut text) {
            log::warn!("{error}; its container's own is served all the same");
        }
        let (possible, online) = (count(self.host.possible()), count(self.host.online()));
        let bound = settings::text_bound(text.len() as u64, possible, online);
        settings::stat_size(bound.max(settings::least_bound(file)))
    }

    fn kind(&self, node: Node) -> Result<Kind, Refusal> {
        match node {
            Node::ProcFile(_) => Ok(Kind::File),
            Node::SysCpu { path } if path != 0 => self.sys_kind(None, &self.path(Family::Directory, path)?),
            Node::SysCpuN { cpu, path } => self.sys_kind(Some(cpu), &self.path(Family::CpuN, path)?),
            Node::SysNode { path } => self.node_kind(None, &self.path(Family::Node, path)?),
            Node::SysNodeN { node, path } => self.node_kind(Some(node), &self.path(Family::NodeN, path)?),
            _ => Ok(Kind::Directory),
        }
    }

    /// Whose view a thread gets of a place.
    fn view(&self, scope: Scope, tid: u32) -> Result<View, Refusal> {
        match scope {
            _ if self.plain => Ok(self.plain_view()),
            Scope::Reader => Ok(self.resolver.reader(tid)),
            Scope::Container(slot) => self.resolver.registered(slot).ok_or(Refusal(Errno::ENOENT)),
        }
    }

    /// Opens a file for the thread `tid`; `flags` as of open(2). `unique` is the request's id, without the bit that tells a
    /// request that is sent again: such a one gets the handle that the first was to get.
    pub fn open(&self, place: Place, flags: i32, tid: u32, unique: u64) -> Result<Handle, Refusal> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if writes && !self.takes_triggers(place.node) {
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
        let writer = writes.then(|| self.may_spawn_threads(tid));
        let owner = count.as_ref().and_then(OpenCount::owner);
        let file = NewFile { ino: place.ino(), unique, tid, owner, writer };
        let opened =
            Opened { view: Some(view.remembered()), fresh: true, count, ..Opened::new(place, tid, writer) };
        self.files.open(&file, opened, tid as usize).ok_or(Refusal(Errno::ENFILE))
    }

    /// The kernel was given the handle: should it be lost with this process, it was not.
    pub fn answered(&self, handle: Handle) {
        self.files.answered(handle);
    }

    /// The lane of the container that an open file counts for.
    #[must_use]
    pub fn lane(&self, handle: Handle) -> u16 {
        self.files.lane(handle)
    }

    /// Files of a CPU or of a node that the view does not show are not there (but for a CPU's `online`, which says so).
    fn check_shown(&self, node: Node, view: &View) -> Result<(), Refusal> {
        match (node, view) {
            (Node::SysCpuN { cpu, path }, View::Container(contained)) => {
                let name = self.path(Family::CpuN, path)?;
                let (_, shown) = readings::cpus(&contained.subject, &self.host, &contained.policies())?;
                if shown.physical_of(usize::from(cpu)).is_some() || &*name == "online" {
                    Ok(())
                } else {
                    Err(Refusal(Errno::ENOENT))
                }
            }
            (Node::SysNodeN { node, .. }, View::Container(contained)) => {
                let shown = readings::shown_nodes(&contained.subject, &self.host, &contained.policies())?;
                let found = shown.physical_of(usize::from(node)).map(|_| ());
                found.ok_or(Refusal(Errno::ENOENT))
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
        let mut open = self.files.get(handle).ok_or(Refusal(Errno::EBADF))?;
        let (mut position, mut moved_back) = (offset, false);
        if let Some(opened) = open.opened() {
            let before = opened.written;
            position = opened.position(offset);
            moved_back = opened.written != before;
        }
        if moved_back {
            open.move_position(0);
        }
        if position == 0 || open.text().is_none() {
            self.render_open(&mut open, tid)?;
        }
        answer(piece(open.text().unwrap_or_default(), position, size));
        Ok(())
    }

    /// Renders a file anew. Its bytes are put together elsewhere: what is in the store is the last text or this one, never a
    /// part of it.
    fn render_open(&self, open: &mut Open<'_, Opened>, tid: u32) -> Result<(), Refusal> {
        open.spoil();
        let mut text = BUFFER.take();
        text.clear();
        let rendered = self.render_text(open, tid, &mut text);
        let kept = rendered.and_then(|()| {
            let held = open.held();
            if let Some(count) = open.opened().and_then(|opened| opened.count.as_mut()) {
                count.resize(text.len(), self.most_snapshots)?;
            }
            if open.replace(&text) {
                return Ok(());
            }
            if let Some(count) = open.opened().and_then(|opened| opened.count.as_mut()) {
                count.resize(held, usize::MAX)?;
            }
            Err(Refusal(Errno::ENOMEM))
        });
        if text.capacity() <= KEEP_CAPACITY {
            BUFFER.set(text);
        }
        kept
    }

    fn render_text(&self, open: &mut Open<'_, Opened>, tid: u32, text: &mut Vec<u8>) -> Result<(), Refusal> {
        let opened = open.opened().ok_or(Refusal(Errno::EBADF))?;
        let place = opened.place;
        if let Scope::Container(gone) = place.scope
            && self.registry.by_slot(gone).is_none()
        {
            return Err(Refusal(Errno::ENOENT));
        }
        let known = opened.view.take().filter(|_| opened.fresh && opened.tid == tid);
        let known = known.and_then(|view| view.view());
        let mut view = match known {
            Some(view) => view,
            None => self.view(place.scope, tid)?,
        };
        opened.fresh = false;
        let reader = Reader { scope: place.scope, tid };
        self.render(&view, reader, place.node, text)?;
        if !view.is_alive() && place.scope == Scope::Reader {
            // The group went away under us, or is another of the same name: the reader moved, so look again.
            view = self.view(place.scope, tid)?;
            text.clear();
            self.render(&view, reader, place.node, text)?;
        }
        // A file of the process before this one whose opening may not have been answered was not counted for anybody.
        let uncounted = opened.count.is_none().then(|| OpenCount::beyond(&view)).flatten();
        opened.view = Some(view.remembered());
        if let Some(count) = uncounted {
            let (opener, owner) = (opened.tid, count.owner());
            opened.count = Some(count);
            open.keep_owner(opener, owner);
        }
        Ok(())
    }

    fn render(&self, view: &View, reader: Reader, node: Node, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let starved = || match view {
            View::Container(contained) => contained.subject.groups.starved(),
            View::Host | View::Unknown => 0,
        };
        let before = starved();
        self.render_node(view, reader, node, out)?;
        if starved() == before { Ok(()) } else { Err(Refusal(Errno::EIO)) }
    }

    fn render_node(&self, view: &View, reader: Reader, node: Node, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match node {
            Node::ProcFile(file) => self.render_proc(view, reader, file, out),
            Node::SysCpu { path } if path != 0 => {
                self.render_sys(view, &self.path(Family::Directory, path)?, out)
            }
            Node::SysCpuN { cpu, path } if path != 0 => {
                self.render_sys(view, &cpu_path(cpu, &self.path(Family::CpuN, path)?), out)
            }
            Node::SysNode { path } | Node::SysNodeN { path, .. } if path != 0 => {
                self.render_node_file(view, &self.node_path_of(node)?, out)
            }
            _ => Err(Refusal(Errno::EISDIR)),
        }
    }

    fn render_proc(
        &self,
        view: &View,
        reader: Reader,
        file: ProcFile,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        match view {
            View::Container(contained) => {
                let subject = &contained.subject;
                let time = match file {
                    ProcFile::Uptime | ProcFile::Stat => self.reader_time(reader, subject),
                    _ => ReaderTime::Init,
                };
                readings::render_to(time, file, subject, &self.host, &contained.policies(), out)?;
            }
            View::Host => readings::host_file(file, &self.host, out)?,
            View::Unknown => return Err(Refusal(Errno::EIO)),
        }
        Ok(())
    }

    /// Whose clocks a reader has. Whoever looks at `containers/NAME` from outside is shown what NAME sees.
    fn reader_time(&self, reader: Reader, subject: &Subject) -> ReaderTime {
        let Some(pid) = i32::try_from(reader.tid).ok().and_then(HostPid::new) else {
            return ReaderTime::Init;
        };
        match (ReaderTime::of(pid, subject, &self.host), reader.scope) {
            (ReaderTime::Host, Scope::Container(slot))
                if subject.timens.is_some() && self.resolver.is_outside(slot, pid) =>
            {
                ReaderTime::Init
            }
            (time, _) => time,
        }
    }

    fn render_sys(&self, view: &View, path: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let path = Path::new(path);
        match view {
            View::Container(contained) => {
                readings::sys_cpu_file(path, &contained.subject, &self.host, &contained.policies(), out)?;
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
        self.render(view, Reader { scope: Scope::Reader, tid: 0 }, place.node, &mut text)?;
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

/// The bytes of a text at `offset`, at most `size` of them; none beyond its end.
fn piece(text: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let end = start.saturating_add(size as usize).min(text.len());
    text.get(start..end).unwrap_or_default()
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

thread_local! {
    /// Where a thread puts texts together.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread keeps its buffer unless it is larger than this.
const KEEP_CAPACITY: usize = 1 << 20;

/// When the first process began to serve: the times of all files, which must not change when another takes over.
fn started(store: &Store) -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = store.started(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).unwrap_or(UNIX_EPOCH)
}

/// The files that the process before this one had open. Each counts for its container as before; whose numbers it shows is
/// found out when it is rendered again.
fn take_up(store: Arc<Store>, resolver: &Resolver, unarmed: &mut Vec<Unarmed>) -> Snapshots<Opened> {
    let owners = resolver.owners();
    Snapshots::take_up(store, |kept: &KeptFile| {
        let place = Place::from_ino(kept.file.ino)?;
        let owner = kept.file.owner.and_then(|owner| owners.get(&owner));
        let len = kept.text.as_ref().map_or(0, crate::store::Text::len);
        let count = owner
            .filter(|_| kept.known)
            .map(|owner| OpenCount::of(Arc::clone(&owner.limits), Some(Arc::clone(&owner.record)), len));
        if kept.trigger.is_some() {
            let owner = owner.map(|owner| owner.key.clone());
            unarmed.push(Unarmed { handle: kept.handle(), owner, poll: kept.poll });
        }
        Some(Opened { count, written: kept.written, ..Opened::new(place, kept.file.tid, kept.file.writer) })
    })
}

#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod tests;
