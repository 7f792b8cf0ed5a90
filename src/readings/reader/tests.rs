//! Rule T7 of `SEMANTICS.md` on a made-up host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::cgroup::{GroupSet, Layout, Membership};
use crate::host::{ClockSource, Clocks};
use crate::model::{Nsec, TimeNamespace};

const HOSTS: u64 = 4_026_531_834;
const INITS: u64 = 4_026_532_001;
const OTHER: u64 = 4_026_532_002;

struct World {
    dir: tempfile::TempDir,
    host: Host,
    subject: Subject,
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

impl World {
    /// A container whose init, process 10, lives in the namespace [`INITS`], which is 50 s behind.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        link(root, "proc/self/ns/time", &format!("time:[{HOSTS}]"));
        fs::create_dir_all(root.join("sys/devices/system/cpu")).unwrap();
        write(root, "sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
        write(root, "sys/fs/cgroup/web/cgroup.threads", "77\n");
        let layout = Layout::discover(root).unwrap();
        let groups = GroupSet::open(&layout, &Membership::parse("0::/web\n", &layout)).unwrap();
        let host = Host::open_with(root, ClockSource::fixed(Clocks::default())).unwrap();
        let timens = TimeNamespace { inode: INITS, boottime: seconds(-50) };
        let subject = Subject::new(Arc::new(groups), Nsec::ZERO, Some(timens), HostPid::new(10));
        let world = Self { dir, host, subject };
        world.process(10, 1, INITS, INITS, -50);
        world
    }

    fn process(&self, pid: u32, parent: u32, own: u64, children: u64, offset: i128) {
        let root = self.dir.path();
        let rest = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        write(root, &format!("proc/{pid}/stat"), &format!("{pid} (x) S {parent} {rest}\n"));
        write(root, &format!("proc/{pid}/timens_offsets"), &format!("monotonic 0 0\nboottime {offset} 0\n"));
        link(root, &format!("proc/{pid}/ns/time"), &format!("time:[{own}]"));
        link(root, &format!("proc/{pid}/ns/time_for_children"), &format!("time:[{children}]"));
    }

    fn seen_by(&self, pid: i32) -> ReaderTime {
        ReaderTime::of(HostPid::new(pid).unwrap(), &self.subject, &self.host)
    }
}

fn seconds(seconds: i128) -> TimensOffset {
    TimensOffset { nanos: seconds * 1_000_000_000 }
}

fn other(offset: i128) -> ReaderTime {
    ReaderTime::Other(seconds(offset))
}

#[test]
fn t7_the_readers_own_namespace() {
    let world = World::new();
    world.process(20, 10, INITS, INITS, 50);
    world.process(21, 10, HOSTS, HOSTS, 0);
    world.process(22, 10, OTHER, OTHER, 7);
    assert_eq!(world.seen_by(20), ReaderTime::Init);
    assert_eq!(world.seen_by(21), ReaderTime::Host);
    assert_eq!(world.seen_by(22), other(7));
    let offsets = [20, 21, 22].map(|pid| world.seen_by(pid).offset(&world.subject));
    assert_eq!(offsets, [Some(seconds(-50)), None, Some(seconds(7))]);
}

#[test]
fn t7_unshared_for_the_children_only() {
    let world = World::new();
    // They live on where they were: the offsets that they give are those of the new namespace.
    world.process(30, 10, INITS, OTHER, 7);
    world.process(31, 10, HOSTS, OTHER, 7);
    assert_eq!(world.seen_by(30), ReaderTime::Init);
    assert_eq!(world.seen_by(31), ReaderTime::Host);
    // In a namespace that is neither: a parent knows its offsets.
    world.process(40, 10, OTHER, OTHER, 7);
    world.process(41, 40, OTHER, OTHER + 1, 99);
    assert_eq!(world.seen_by(41), other(7));
}

#[test]
fn t7_a_task_of_the_container_gives_the_offsets() {
    let world = World::new();
    world.process(50, 1, OTHER, OTHER + 1, 99);
    assert_eq!(world.seen_by(50), ReaderTime::Init, "nobody gives them");
    world.process(77, 1, OTHER, OTHER, 8);
    assert_eq!(world.seen_by(50), other(8));
}

#[test]
fn t7_what_cannot_be_read_is_the_inits() {
    let world = World::new();
    assert_eq!(world.seen_by(99), ReaderTime::Init);
    world.process(60, 60, OTHER, OTHER + 1, 99);
    assert_eq!(world.seen_by(60), ReaderTime::Init, "its own parent: the search ends");
}
