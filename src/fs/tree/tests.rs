//! The tree over the machine's own files; no mount is needed.

use std::collections::HashSet;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;
use crate::cgroup::Layout;
use crate::config::Layers;
use crate::model::{ContainerName, DaemonChoices, OnUnreadable, PolicyChange, PolicyChoices};

fn tree() -> Tree {
    with_triggers(None)
}

fn with_triggers(triggers: Option<Triggers>) -> Tree {
    over(triggers, Store::private().unwrap())
}

fn over(triggers: Option<Triggers>, store: Arc<Store>) -> Tree {
    let host = Arc::new(Host::open(Path::new("/")).unwrap());
    let layout = Arc::new(Layout::discover(Path::new("/")).unwrap());
    let registry = Registry::in_memory(Arc::clone(&layout)).unwrap();
    let resolver =
        Resolver::new(Arc::clone(&host), layout, Arc::clone(&registry), Arc::clone(&store)).unwrap();
    Tree::new(host, Arc::new(resolver), registry, triggers, store)
}

fn own_tid() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap()
}

fn read_all(tree: &Tree, handle: Handle, piece: u32) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let before = text.len();
        tree.read(handle, before as u64, piece, own_tid(), true, |bytes| text.extend_from_slice(bytes))
            .unwrap();
        if text.len() == before {
            return text;
        }
    }
}

/// All that is listed is found under its name, as the node and kind it was listed as, and has the number that
/// leads back to it.
#[test]
fn listing_lookup_and_numbers_agree() {
    let tree = tree();
    let mut waiting = vec![Place::ROOT];
    let mut seen = HashSet::new();
    while let Some(directory) = waiting.pop() {
        for entry in tree.list(directory, own_tid()).unwrap() {
            if entry.name == "." || entry.name == ".." {
                continue;
            }
            let attr = tree.lookup(directory, &entry.name).unwrap();
            assert_eq!((attr.place, attr.kind), (entry.place, entry.kind), "{:?}", entry.name);
            assert_eq!(Place::from_ino(entry.place.ino()), Some(entry.place));
            assert_eq!(tree.attr(entry.place).unwrap(), attr);
            assert!(seen.insert(entry.place), "{:?} has two names", entry.place);
            if entry.kind == Kind::Directory {
                let above = &tree.list(entry.place, own_tid()).unwrap()[1];
                assert_eq!((above.name.to_str(), above.place), (Some(".."), directory));
                waiting.push(entry.place);
            }
            if entry.kind == Kind::Symlink {
                let target = tree.readlink(entry.place, own_tid());
                assert!(
                    target.as_ref().is_ok_and(|target| !target.is_empty()),
                    "{:?}: {target:?}",
                    entry.name
                );
            }
        }
    }
    assert!(seen.len() > 50, "the CPU directory is mirrored: {}", seen.len());
}

#[test]
fn other_names_are_not_there() {
    let tree = tree();
    let proc = tree.lookup(Place::ROOT, OsStr::new("proc")).unwrap().place;
    for (directory, name) in [
        (Place::ROOT, "etc"),
        (proc, "version"),
        (proc, ""),
        (Place { scope: Scope::Reader, node: Node::Containers }, "web"),
        (Place { scope: Scope::Reader, node: Node::Containers }, ".."),
        (Place { scope: Scope::Reader, node: Node::SysCpu { path: 0 } }, "cpu8191"),
        (Place { scope: Scope::Reader, node: Node::SysCpu { path: 0 } }, "../node"),
    ] {
        assert_eq!(tree.lookup(directory, OsStr::new(name)), Err(Refusal(Errno::ENOENT)), "{name}");
    }
    let meminfo = tree.lookup(proc, OsStr::new("meminfo")).unwrap().place;
    assert_eq!(tree.lookup(meminfo, OsStr::new("x")), Err(Refusal(Errno::ENOTDIR)));
    let gone = Place { scope: Scope::Container(7), node: Node::Proc };
    assert_eq!(tree.attr(gone), Err(Refusal(Errno::ENOENT)));
    assert_eq!(tree.list(gone, own_tid()), Err(Refusal(Errno::ENOENT)));
    assert_eq!(tree.open(gone, libc::O_RDONLY, own_tid(), 0), Err(Refusal(Errno::ENOENT)));
}

/// Pieces of any length give the bytes of one moment, and no file is longer than its size says.
#[test]
fn snapshots_are_served_whole() {
    let tree = tree();
    for file in tree.proc_files().collect::<Vec<_>>() {
        let path = file.name();
        let place = Place { scope: Scope::Reader, node: Node::ProcFile(file) };
        let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
        let whole = read_all(&tree, handle, 1 << 20);
        // a group without the io controller has no disks, and there may be no locks
        let may_be_empty = matches!(file, ProcFile::Diskstats | ProcFile::Locks);
        assert!(whole.ends_with(b"\n") || (whole.is_empty() && may_be_empty), "{path}");
        assert!(whole.len() as u64 <= tree.attr(place).unwrap().size, "{path}");
        let mut pieces = Vec::new();
        tree.read(handle, 0, 7, own_tid(), true, |bytes| pieces.extend_from_slice(bytes)).unwrap();
        let first = pieces.clone();
        tree.read(handle, 0, 7, own_tid(), true, |bytes| assert_eq!(bytes.len(), first.len())).unwrap();
        tree.read(handle, u64::MAX, 7, own_tid(), true, |bytes| assert!(bytes.is_empty())).unwrap();
        tree.release(handle);
        assert_eq!(tree.read(handle, 0, 7, own_tid(), true, |_| ()), Err(Refusal(Errno::EBADF)));
    }
    assert_eq!(tree.open_files(), 0);
}

/// A first read in the middle renders, as the kernel's own files do.
#[test]
fn the_middle_may_come_first() {
    let tree = tree();
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Meminfo) };
    let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
    tree.read(handle, 3, 5, own_tid(), true, |bytes| assert_eq!(bytes, b"Total")).unwrap();
}

/// What sendfile(2) and splice(2) ask is refused, so that nothing gets into the page cache.
#[test]
fn reads_without_an_owner_and_writers_are_refused() {
    let tree = tree();
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Meminfo) };
    for flags in [libc::O_WRONLY, libc::O_RDWR] {
        assert_eq!(tree.open(place, flags, own_tid(), 0), Err(Refusal(Errno::EACCES)));
    }
    let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
    assert_eq!(tree.read(handle, 0, 10, own_tid(), false, |_| ()), Err(Refusal(Errno::EINVAL)));
}

/// Thread 0 is a reader outside our pid namespace.
#[test]
fn an_unknown_reader_sees_the_host() {
    let tree = tree();
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Cpuinfo) };
    for tid in [0, u32::MAX] {
        let handle = tree.open(place, libc::O_RDONLY, tid, 0).unwrap();
        tree.read(handle, 0, 10, tid, true, |bytes| assert!(!bytes.is_empty())).unwrap();
    }
}

/// The policy `on-unreadable` decides about thread 0, also for a file that it has open.
#[test]
fn an_unknown_reader_gets_an_error_where_that_is_the_policy() {
    let tree = tree();
    let layers = |on_unreadable| {
        let flags = DaemonChoices { on_unreadable, ..DaemonChoices::default() };
        Layers { flags, ..Layers::default() }
    };
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Cpuinfo) };
    let handle = tree.open(place, libc::O_RDONLY, 0, 0).unwrap();
    let read = || tree.read(handle, 0, 10, 0, true, |bytes| assert!(!bytes.is_empty()));
    assert_eq!(read(), Ok(()));
    tree.registry.configure(layers(Some(OnUnreadable::Error)));
    assert_eq!(read(), Err(Refusal(Errno::EIO)));
    let directory = Place { scope: Scope::Reader, node: Node::SysCpu { path: 0 } };
    assert_eq!(tree.list(directory, 0).map(|_| ()), Err(Refusal(Errno::EIO)));
    tree.registry.configure(layers(None));
    assert_eq!(read(), Ok(()));
    assert!(tree.list(directory, 0).is_ok());
}

/// A change of policy shows in a file that is open, at the next read at offset 0 and not before.
#[test]
fn a_change_of_policy_shows_in_open_files() {
    let tree = tree();
    let name = ContainerName::new("web").unwrap();
    let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
    let pidfd = pidfd_open(own, PidfdFlags::empty()).unwrap();
    let entry = tree.registry.register(name.clone(), PolicyChoices::default(), pidfd, Vec::new()).unwrap();
    let place = Place { scope: Scope::Container(entry.slot), node: Node::ProcFile(ProcFile::Stat) };
    let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
    let ctxt = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines().find_map(|line| line.strip_prefix("ctxt ")).unwrap().parse::<u64>().unwrap()
    };
    let first = read_all(&tree, handle, 1 << 20);
    assert_eq!(ctxt(&first), 0);
    let change = PolicyChange { key: "counters".into(), value: Some("host".into()) };
    tree.registry.choose(&name, &[change]).unwrap();
    let mut rest = Vec::new();
    tree.read(handle, 10, 1 << 20, own_tid(), true, |bytes| rest.extend_from_slice(bytes)).unwrap();
    assert_eq!(rest, &first[10..], "one moment");
    assert!(ctxt(&read_all(&tree, handle, 1 << 20)) > 0);
}

/// A seek to the end of a file that can be large is told where its own text ends.
#[test]
fn large_files_end_where_their_text_does() {
    let mut tree = tree();
    for (_, size) in &mut tree.sizes {
        *size = std::sync::OnceLock::from(1 << 20);
    }
    for file in tree.proc_files().collect::<Vec<_>>() {
        let path = file.name();
        let place = Place { scope: Scope::Reader, node: Node::ProcFile(file) };
        assert_eq!(tree.attr(place).unwrap().ttl, Duration::ZERO, "{path}: the kernel must ask again");
        let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
        let end = tree.open_attr(place, handle, own_tid()).unwrap().size;
        let text = read_all(&tree, handle, 4096);
        assert_eq!(end, settings::stat_size(text.len() as u64), "{path}");
    }
}

fn of(file: ProcFile) -> Place {
    Place { scope: Scope::Reader, node: Node::ProcFile(file) }
}

/// Fails the test on a kernel that accounts no pressure: it would show nothing.
fn needs_pressure(tree: &Tree) {
    let has = |wanted| tree.proc_files().any(|file| file == wanted);
    assert!(
        has(ProcFile::PressureCpu) && has(ProcFile::PressureIo),
        "this test needs a kernel that accounts pressure (CONFIG_PSI, no psi=0)"
    );
}

/// Where triggers are on, pressure files are written to and no other; where they are off none is, and poll is left to
/// the kernel.
#[test]
fn p4_only_pressure_files_are_written_to() {
    let (on, off) = (with_triggers(Some(Triggers::start().unwrap())), tree());
    needs_pressure(&on);
    for flags in [libc::O_WRONLY, libc::O_RDWR] {
        assert_eq!(on.open(of(ProcFile::Meminfo), flags, own_tid(), 0), Err(Refusal(Errno::EACCES)));
        assert_eq!(off.open(of(ProcFile::PressureCpu), flags, own_tid(), 0), Err(Refusal(Errno::EACCES)));
        on.release(on.open(of(ProcFile::PressureCpu), flags, own_tid(), 0).unwrap());
    }
    assert_eq!(on.attr(of(ProcFile::PressureCpu)).unwrap().mode, 0o666);
    assert_eq!(on.attr(of(ProcFile::Meminfo)).unwrap().mode, 0o444);
    assert_eq!(off.attr(of(ProcFile::PressureCpu)).unwrap().mode, 0o444);
    assert!(on.truncate(of(ProcFile::PressureCpu)).is_ok());
    assert_eq!(on.truncate(of(ProcFile::Meminfo)), Err(Refusal(Errno::EACCES)));
    let reader = on.open(of(ProcFile::PressureCpu), libc::O_RDONLY, own_tid(), 0).unwrap();
    assert_eq!(on.write(reader, b"some 100000 2000000", own_tid(), 0), Err(Refusal(Errno::EBADF)));
    let reader = off.open(of(ProcFile::PressureCpu), libc::O_RDONLY, own_tid(), 0).unwrap();
    assert_eq!(off.poll(reader, None), Err(Refusal(Errno::ENOSYS)));
}

#[test]
fn p4_one_trigger_per_open_file() {
    let tree = with_triggers(Some(Triggers::start().unwrap()));
    needs_pressure(&tree);
    let open = || tree.open(of(ProcFile::PressureIo), libc::O_RDWR, own_tid(), 0).unwrap();
    let (first, second) = (open(), open());
    assert_eq!(tree.write(first, b"some", own_tid(), 0), Err(Refusal(Errno::EINVAL)));
    assert_eq!(tree.write(first, b"some 1900000 2000000", own_tid(), 0), Ok(()), "after a refused one");
    assert_eq!(tree.write(first, b"some 1900000 2000000", own_tid(), 1), Err(Refusal(Errno::EBUSY)));
    assert_eq!(tree.write(first, b"some 1900000 2000000", own_tid(), 0), Ok(()), "the same, sent again");
    assert_eq!(
        tree.write(second, b"full 1900000 2000000\0", own_tid(), 0),
        Ok(()),
        "another file, another trigger"
    );
    assert!(read_all(&tree, first, 4096).starts_with(b"some avg10="), "it is read as before");
    // the kernel's own files do not move on by what is written
    let mut text = Vec::new();
    for offset in [21, 25, 0, 4] {
        tree.read(second, offset, 4, own_tid(), true, |bytes| text.extend_from_slice(bytes)).unwrap();
    }
    assert_eq!(text, b"some avgsome avg");
    tree.release(first);
    assert_eq!(tree.write(first, b"some 1900000 2000000", own_tid(), 0), Err(Refusal(Errno::EBADF)));
}

#[test]
fn p7_poll_of_files_without_a_trigger() {
    let tree = with_triggers(Some(Triggers::start().unwrap()));
    needs_pressure(&tree);
    let open = |file, flags| tree.open(of(file), flags, own_tid(), 0).unwrap();
    assert_eq!(tree.poll(open(ProcFile::Meminfo, libc::O_RDONLY), None), Ok(PollEvents::Ready));
    // as the kernel answers for its own
    assert_eq!(tree.poll(open(ProcFile::PressureIo, libc::O_RDONLY), None), Ok(PollEvents::Broken));
    let armed = open(ProcFile::PressureIo, libc::O_RDWR);
    tree.write(armed, b"full 2000000 2000000", own_tid(), 0).unwrap();
    assert_eq!(tree.poll(armed, None), Ok(PollEvents::Ready));
}

#[test]
fn f1_locks_are_nobodys() {
    let tree = tree();
    let held = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let _held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockShared).unwrap();
    assert!(!std::fs::read("/proc/locks").unwrap().is_empty());
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Locks) };
    let handle = tree.open(place, libc::O_RDONLY, own_tid(), 0).unwrap();
    assert_eq!(read_all(&tree, handle, 1 << 20), b"");
}

/// The trigger of a file is set again by the next process, and whoever waits for it is told to look.
#[test]
fn r7_triggers_are_set_again() {
    let memory = crate::store::private_memory().unwrap();
    let serve = || {
        let store = Store::open(std::os::fd::AsFd::as_fd(&memory)).unwrap();
        over(Some(Triggers::start().unwrap()), store)
    };
    let tree = serve();
    needs_pressure(&tree);
    let told = Arc::new(Mutex::new(Vec::new()));
    let notifier = |by: u64| -> crate::fs::triggers::Notify {
        let told = Arc::clone(&told);
        Box::new(move || told.lock().push(by))
    };
    let open =
        |tree: &Tree, unique| tree.open(of(ProcFile::PressureIo), libc::O_RDWR, own_tid(), unique).unwrap();
    let (armed, other) = (open(&tree, 2), open(&tree, 4));
    tree.answered(other);
    let text = b"some 1900000 2000000";
    tree.write(armed, text, own_tid(), 6).unwrap();
    assert_eq!(tree.poll(armed, Some((77, notifier(77)))), Ok(PollEvents::Ready));
    drop(tree);
    let next = serve();
    assert_eq!(next.poll(armed, None), Ok(PollEvents::Ready), "not yet");
    next.rearm(&notifier);
    assert_eq!(*told.lock(), [77]);
    assert_eq!(next.poll(armed, None), Ok(PollEvents::Ready));
    assert_eq!(next.poll(other, None), Ok(PollEvents::Broken), "that one has none");
    assert_eq!(next.write(armed, text, own_tid(), 6), Ok(()), "the same request, sent again");
    assert_eq!(next.write(armed, text, own_tid(), 8), Err(Refusal(Errno::EBUSY)));
    // reads go on as if the write had not moved the position
    let mut bytes = Vec::new();
    next.read(armed, 21, 3, own_tid(), true, |more| bytes.extend_from_slice(more)).unwrap();
    assert_eq!(bytes, b"ome");
    next.rearm(&notifier);
    assert_eq!(told.lock().len(), 1, "once");
}
