//! Nodes, their numbers, and the requests that the kernel sends about them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::containers::{Registry, Resolver};
use ownproc::fs::inode::{MAX_PATH, Place, Scope};
use ownproc::fs::snapshots::Handle;
use ownproc::fs::sysfs::{Family, Paths};
use ownproc::fs::tree::{Kind, Tree};
use ownproc::fs::triggers::Triggers;
use ownproc::host::Host;
use ownproc::model::{Bytes, ContainerName, HostPid};
use ownproc::store::Store;

use crate::fixture::{Arch, Fixture, Flavour, Group};
use crate::input::with;

/// A number names at most one node, and that node has this number.
pub fn inode_numbers(data: &[u8]) {
    for chunk in data.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let ino = u64::from_le_bytes(bytes);
        for ino in [ino, ino & 0xfff, ino & (u64::from(u32::MAX) << 6)] {
            if let Some(place) = Place::from_ino(ino) {
                assert_eq!(place.ino(), ino, "{place:?}");
                assert!(ino != 0);
            }
        }
    }
}

/// Paths below the CPU directory, one per line: each has a number of its own that leads back to it.
pub fn path_numbers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let (paths, other) = (Paths::default(), Paths::default());
    paths.add_all(Family::CpuN, names.clone());
    other.add_all(Family::CpuN, names.iter().rev().cloned().collect());
    let mut seen = BTreeSet::new();
    for name in &names {
        let number = paths.number(Family::CpuN, name).expect("room");
        assert!(number < MAX_PATH && seen.insert(number) && (number == 0) == name.is_empty());
        assert_eq!(paths.path(Family::CpuN, number).as_deref(), Some(name.as_str()));
        assert_eq!(other.number(Family::CpuN, name), Some(number));
    }
}

pub(crate) const THREADS: &[u32] = &[0, 1, 100, 101, 102, 103, 104, 999, u32::MAX];
pub(crate) const NAMES: &[&str] = &[
    "proc",
    "sys",
    "devices",
    "system",
    "cpu",
    "node",
    "containers",
    "web",
    "cpu0",
    "cpu1",
    "cpu7",
    "topology",
    "cache",
    "core_cpus_list",
    "core_cpus",
    "index0",
    "shared_cpu_list",
    "online",
    "meminfo",
    "stat",
    "cpuinfo",
    "uptime",
    "pressure",
    "..",
    ".",
    "",
    "cpu8192",
    "a/b",
];

/// A host with a container that is registered and one that is not, readers in and outside of both, and its tree.
pub(crate) struct World {
    pub(crate) fixture: Fixture,
    pub(crate) tree: Arc<Tree>,
    /// The tree for the time in which workers keep dying.
    pub(crate) plain: Arc<Tree>,
    pub(crate) registry: Arc<Registry>,
    groups: Arc<GroupSet>,
}

impl World {
    /// Registers `web` once more.
    pub(crate) fn come(&self) {
        let pid = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let init = (pidfd, HostPid::new(102).unwrap());
        let name = ContainerName::new("web").unwrap();
        self.registry.insert_unchecked(name, 1, init, Arc::clone(&self.groups)).unwrap();
    }

    /// Ends `web`.
    pub(crate) fn go(&self) {
        self.registry.unregister(&ContainerName::new("web").unwrap()).unwrap();
    }
}

/// One for all targets.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let fixture = Fixture::new(Flavour::V2, 4, Arch::X86);
        let limits =
            Group { memory: Some(64 << 20), cpus: "0-1".into(), quota: Some(150_000), ..Group::default() };
        for path in ["/web", "/web/sub", "/other"] {
            fixture.group(path, &limits);
        }
        // (thread, number inside, pid namespace, cgroup namespace, group)
        let own = std::process::id();
        for (pid, inner, pidns, cgroupns, group) in [
            (own, None, 1, 2, "/"),
            (100, None, 1, 2, "/other"),
            (101, None, 1, 2, "/web/sub"),
            (102, Some(1), 7, 9, "/web"),
            (103, Some(5), 7, 9, "/web/sub"),
            (104, Some(6), 8, 2, "/other"),
        ] {
            let inner: Vec<u32> = inner.into_iter().collect();
            fixture.process(pid, &inner, "a b) c", 'S', 890_000, None);
            fixture.write(&format!("proc/{pid}/cgroup"), &format!("0::{group}\n"));
            for (kind, number) in [("pid", pidns), ("cgroup", cgroupns)] {
                let link = fixture.root().join(format!("proc/{pid}/ns/{kind}"));
                std::os::unix::fs::symlink(format!("{kind}:[{number}]"), link).unwrap();
            }
        }
        // Plain files, which take a text and cannot be waited for: a trigger is refused after it was written.
        let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        fixture.write("proc/pressure/cpu", pressure);
        for group in ["web", "web/sub", "other"] {
            fixture.write(&format!("sys/fs/cgroup/{group}/cpu.pressure"), pressure);
        }
        let host = Arc::new(Host::open(fixture.root()).unwrap());
        let layout = Arc::new(Layout::discover(fixture.root()).unwrap());
        let registry = Registry::in_memory(Arc::clone(&layout)).unwrap();
        let store = Store::private().unwrap();
        let (of_host, of_layout, of_registry) =
            (Arc::clone(&host), Arc::clone(&layout), Arc::clone(&registry));
        let resolver = Resolver::new(of_host, of_layout, of_registry, store).unwrap();
        let resolver = Arc::new(resolver);
        let forgetting = Arc::clone(&resolver);
        registry.on_removed(Box::new(move |entry| forgetting.forget(entry.slot)));
        let groups = GroupSet::open(&layout, &Membership::parse("0::/web\n", &layout)).unwrap();
        let tree = || {
            let parts = (Arc::clone(&host), Arc::clone(&resolver), Arc::clone(&registry));
            Tree::new(parts.0, parts.1, parts.2, Triggers::start().ok(), Store::private().unwrap())
        };
        let (tree, plain) = (Arc::new(tree()), Arc::new(tree().into_plain()));
        let world = World { fixture, tree, plain, registry, groups: Arc::new(groups) };
        world.come();
        world
    })
}

/// Requests in any order about any places, by any threads: each is answered or refused, what is read is within the
/// text of one moment, and in the end nothing is left open.
pub fn tree_requests(data: &[u8]) {
    let tree = &world().tree;
    let open_before = tree.open_files();
    let mut places = vec![Place::ROOT];
    let mut handles = vec![Handle(u64::MAX)];
    with(data, |u| {
        while !u.is_empty() {
            let (request, place) = (u.int_in_range(0..=13u8)?, *u.choose(&places)?);
            let (handle, tid) = (*u.choose(&handles)?, *u.choose(THREADS)?);
            match request {
                0..=2 => {
                    let name = match u.int_in_range(0..=63u8)? {
                        index if usize::from(index) < NAMES.len() => NAMES[usize::from(index)].into(),
                        _ => OsString::from_vec(u.arbitrary::<[u8; 5]>()?.to_vec()),
                    };
                    if let Ok(attr) = tree.lookup(place, &name) {
                        assert_eq!(Place::from_ino(attr.place.ino()), Some(attr.place));
                        assert_eq!(tree.attr(attr.place).as_ref(), Ok(&attr));
                        places.push(attr.place);
                    }
                }
                3 => places.extend(Place::from_ino(u.arbitrary()?)),
                4 => places.push(Place { scope: Scope::Container(u.int_in_range(0..=2)?), ..place }),
                5 => {
                    if let Ok(entries) = tree.list(place, tid) {
                        assert_eq!(tree.attr(place).map(|attr| attr.kind), Ok(Kind::Directory));
                        for entry in &entries[2..] {
                            let found = tree.lookup(place, &entry.name).expect("what is listed is there");
                            assert_eq!((found.place, found.kind), (entry.place, entry.kind));
                        }
                        if let Some(entry) = entries.get(usize::from(u.arbitrary::<u8>()?) % entries.len()) {
                            places.push(entry.place);
                        }
                    }
                }
                6 | 7 => {
                    let writing = u.ratio(1, 16)?;
                    let flags = if writing { libc::O_RDWR } else { libc::O_RDONLY };
                    match tree.open(place, flags, tid, 0) {
                        Ok(handle) => {
                            // A number of no file may be opened, as long as nothing can be read there.
                            let mode = tree.attr(place).map_or(0, |file| file.mode);
                            assert!(!writing || mode & 0o222 != 0);
                            handles.push(handle);
                        }
                        Err(refusal) => assert_ne!(refusal.0, Errno::UnknownErrno),
                    }
                }
                8 | 9 => read(tree, place, handle, tid, (u.arbitrary::<u32>()?, u.arbitrary::<u16>()?)),
                10 => {
                    let _ = tree.readlink(place, tid);
                }
                11 => {
                    let text: [u8; 3] = u.arbitrary()?;
                    let text = [b"some 150000 1000000".as_slice(), &text].concat();
                    assert!(
                        tree.write(handle, &text, tid, 0).is_err(),
                        "the fixture's files cannot be waited for"
                    );
                }
                12 => drop(tree.poll(handle, None)),
                _ => tree.release(handle),
            }
        }
        Ok(())
    });
    handles.into_iter().for_each(|handle| tree.release(handle));
    assert_eq!(tree.open_files(), open_before);
}

fn read(tree: &Tree, place: Place, handle: Handle, tid: u32, (offset, size): (u32, u16)) {
    let whole = || {
        let mut text = Vec::new();
        tree.read(handle, 0, u32::MAX, tid, true, |bytes| text.extend_from_slice(bytes)).map(|()| text)
    };
    assert_eq!(tree.read(handle, 0, 1, tid, false, |_| ()).map_err(|refusal| refusal.0), Err(Errno::EINVAL));
    let Ok(text) = whole() else { return };
    let offset = u64::from(offset >> 8);
    tree.read(handle, offset, size.into(), tid, true, |bytes| {
        let start = (offset as usize).min(text.len());
        let end = (start + usize::from(size)).min(text.len());
        if offset > 0 {
            assert_eq!(bytes, &text[start..end]);
        }
    })
    .expect("what was rendered is there");
    if let Ok(attr) = tree.open_attr(place, handle, tid) {
        assert!(attr.size == 0 || attr.size % 512 == 0, "{}", Bytes(attr.size).0);
    }
}
