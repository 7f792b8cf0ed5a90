//! The tree over the machine's own files; no mount is needed.

use std::collections::HashSet;

use super::*;
use crate::cgroup::Layout;

fn tree() -> Tree {
    let host = Arc::new(Host::open(Path::new("/")).unwrap());
    let layout = Arc::new(Layout::discover(Path::new("/")).unwrap());
    let registry = Registry::in_memory(Arc::clone(&layout)).unwrap();
    let resolver = Resolver::new(Arc::clone(&host), layout, Arc::clone(&registry)).unwrap();
    Tree::new(host, Arc::new(resolver), registry)
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
                assert!(!tree.readlink(entry.place, own_tid()).unwrap().is_empty());
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
    assert_eq!(tree.open(gone, libc::O_RDONLY, own_tid()), Err(Refusal(Errno::ENOENT)));
}

/// Pieces of any length give the bytes of one moment, and no file is longer than its size says.
#[test]
fn snapshots_are_served_whole() {
    let tree = tree();
    for &(path, file) in PROC_FILES {
        let place = Place { scope: Scope::Reader, node: Node::ProcFile(file) };
        let handle = tree.open(place, libc::O_RDONLY, own_tid()).unwrap();
        let whole = read_all(&tree, handle, 1 << 20);
        assert!(!whole.is_empty() && whole.ends_with(b"\n"), "{path}");
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
    let handle = tree.open(place, libc::O_RDONLY, own_tid()).unwrap();
    tree.read(handle, 3, 5, own_tid(), true, |bytes| assert_eq!(bytes, b"Total")).unwrap();
}

/// What sendfile(2) and splice(2) ask is refused, so that nothing gets into the page cache.
#[test]
fn reads_without_an_owner_and_writers_are_refused() {
    let tree = tree();
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Meminfo) };
    for flags in [libc::O_WRONLY, libc::O_RDWR] {
        assert_eq!(tree.open(place, flags, own_tid()), Err(Refusal(Errno::EACCES)));
    }
    let handle = tree.open(place, libc::O_RDONLY, own_tid()).unwrap();
    assert_eq!(tree.read(handle, 0, 10, own_tid(), false, |_| ()), Err(Refusal(Errno::EINVAL)));
}

/// Thread 0 is a reader outside our pid namespace.
#[test]
fn an_unknown_reader_sees_the_host() {
    let tree = tree();
    let place = Place { scope: Scope::Reader, node: Node::ProcFile(ProcFile::Cpuinfo) };
    for tid in [0, u32::MAX] {
        let handle = tree.open(place, libc::O_RDONLY, tid).unwrap();
        tree.read(handle, 0, 10, tid, true, |bytes| assert!(!bytes.is_empty())).unwrap();
    }
}

/// A seek to the end of a file that can be large is told where its own text ends.
#[test]
fn large_files_end_where_their_text_does() {
    let mut tree = tree();
    for (_, size) in &mut tree.sizes {
        *size = 1 << 20;
    }
    for &(path, file) in PROC_FILES {
        let place = Place { scope: Scope::Reader, node: Node::ProcFile(file) };
        assert_eq!(tree.attr(place).unwrap().ttl, Duration::ZERO, "{path}: the kernel must ask again");
        let handle = tree.open(place, libc::O_RDONLY, own_tid()).unwrap();
        let end = tree.open_attr(place, handle, own_tid()).unwrap().size;
        let text = read_all(&tree, handle, 4096);
        assert_eq!(end, settings::stat_size(text.len() as u64), "{path}");
    }
}
