//! A process dies at any moment, and the next one serves on: over a host that was made up.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::fixture::{self, Arch, Fixture, Flavour, Group};
use proptest::prelude::*;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::*;
use crate::cgroup::{GroupSet, Layout, Membership};
use crate::host::{ClockSource, Clocks};
use crate::model::{ContainerName, Nsec};
use crate::store::private_memory;

const SECOND: u64 = 1_000_000_000;
/// Threads in three containers: registered, in a pid namespace of its own, and in a group alone.
const WEB: u32 = 4000;
const BOX: u32 = 4100;
const BARE: u32 = 4200;
const READERS: [(u32, &str); 3] = [(WEB, "web"), (BOX, "box"), (BARE, "bare")];

/// A host that goes on while processes come and go.
struct World {
    fixture: Fixture,
    clock: Arc<Mutex<Clocks>>,
    memory: OwnedFd,
    cpus: usize,
}

impl World {
    fn new(flavour: Flavour, cpus: usize) -> Self {
        let fixture = Fixture::new(flavour, cpus, Arch::X86);
        fixture.write("proc/diskstats", &fixture::text("diskstats"));
        fixture.write("proc/schedstat", "version 17\ntimestamp 4297117296\ncpu0 0 0 0 0 0 0 1 2 3\n");
        let mounts = fixture.root().join("proc/self/mountinfo");
        let layout = Layout::discover(fixture.root()).unwrap();
        assert!(mounts.exists() && !layout.hierarchies().is_empty());
        for (pid, inner, pidns, cgroupns, group) in [
            (std::process::id(), None, 1, 2, "/"),
            (WEB, Some(1), 7, 9, "/web"),
            (BOX, Some(1), 8, 9, "/box"),
            (BARE, None, 1, 2, "/bare"),
        ] {
            let inner: Vec<u32> = inner.into_iter().collect();
            fixture.process(pid, &inner, "a", 'S', 890_000, None);
            let text: String = layout.hierarchies().iter().map(|it| line(it, group)).collect();
            fixture.write(&format!("proc/{pid}/cgroup"), &text);
            for (kind, number) in [("pid", pidns), ("cgroup", cgroupns)] {
                fixture.link(&format!("proc/{pid}/ns/{kind}"), &format!("{kind}:[{number}]"));
            }
        }
        let start =
            Clocks { boottime: Nsec(9000 * SECOND), monotonic: Nsec(8950 * SECOND), realtime: Nsec(0) };
        let world =
            Self { fixture, clock: Arc::new(Mutex::new(start)), memory: private_memory().unwrap(), cpus };
        READERS.iter().for_each(|(pid, name)| {
            world.used(name, 3_000_000);
            world.fixture.tasks(&format!("/{name}"), &[*pid]);
        });
        world
    }

    /// A container has used so much CPU time since it began.
    fn used(&self, name: &str, usec: u64) {
        let group = Group {
            memory: Some(64 << 20),
            quota: Some(150_000),
            used: (usec, usec / 3),
            throttled: (usec / 100_000, usec / 5),
            cpus: format!("0-{}", self.cpus - 1),
            ..Group::default()
        };
        self.fixture.group(&format!("/{name}"), &group);
        let group = format!("sys/fs/cgroup/{name}");
        if self.fixture.root().join(&group).join("memory.stat").exists() {
            let stat = std::fs::read_to_string(self.fixture.root().join(&group).join("memory.stat")).unwrap();
            let rest =
                stat.lines().filter(|line| !line.starts_with("pgfault ")).collect::<Vec<_>>().join("\n");
            self.fixture.write(&format!("{group}/memory.stat"), &format!("{rest}\npgfault {}\n", usec / 7));
            let io =
                format!("254:0 rbytes={} wbytes=0 rios={} wios=0 dbytes=0 dios=0\n", usec * 512, usec / 1000);
            self.fixture.write(&format!("{group}/io.stat"), &io);
        }
    }

    /// A container has, or has no more, a second task, with a high number in its own namespace.
    fn second_task(&self, there: bool) {
        let second = BOX + 5;
        if there {
            self.fixture.process(second, &[77], "b", 'S', 890_500, None);
            self.fixture.tasks("/box", &[BOX, second]);
        } else {
            self.fixture.tasks("/box", &[BOX]);
        }
    }

    fn pass(&self, nanos: u64) {
        let mut clock = self.clock.lock();
        clock.boottime = clock.boottime.plus(Nsec(nanos));
        clock.monotonic = clock.monotonic.plus(Nsec(nanos));
    }

    /// A process that serves from now on; it takes over from the one before.
    fn serve(&self) -> Tree {
        self.serve_with(true)
    }

    fn serve_with(&self, web: bool) -> Tree {
        let root = self.fixture.root();
        let host = Arc::new(Host::open_with(root, ClockSource::Fixed(Arc::clone(&self.clock))).unwrap());
        let layout = Arc::new(Layout::discover(root).unwrap());
        let registry = Registry::in_memory(Arc::clone(&layout)).unwrap();
        if web {
            let membership = Membership::parse("", &layout).map(|_, _| "/web".into());
            let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
            let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
            let init = (pidfd, HostPid::new(i32::try_from(WEB).unwrap()).unwrap());
            registry.insert_unchecked(ContainerName::new("web").unwrap(), 1, init, groups).unwrap();
        }
        let store = Store::open(self.memory.as_fd()).unwrap();
        let resolver =
            Resolver::new(Arc::clone(&host), layout, Arc::clone(&registry), Arc::clone(&store)).unwrap();
        Tree::new(host, Arc::new(resolver), registry, None, store)
    }
}

fn line(hierarchy: &crate::cgroup::Hierarchy, group: &str) -> String {
    let controllers: Vec<&str> = hierarchy.controllers().iter().map(|it| it.name()).collect();
    match hierarchy.version() {
        crate::cgroup::Version::V2 => format!("0::{group}\n"),
        crate::cgroup::Version::V1 if controllers.is_empty() => {
            format!("1:name={}:{group}\n", hierarchy.name().unwrap())
        }
        crate::cgroup::Version::V1 => format!("1:{}:{group}\n", controllers.join(",")),
    }
}

fn of(file: ProcFile) -> Place {
    Place { scope: Scope::Reader, node: Node::ProcFile(file) }
}

fn open(tree: &Tree, file: ProcFile, tid: u32, unique: u64) -> Handle {
    let handle = tree.open(of(file), libc::O_RDONLY, tid, unique).unwrap();
    tree.answered(handle);
    handle
}

fn read_at(tree: &Tree, handle: Handle, offset: u64, size: u32, tid: u32) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    tree.read(handle, offset, size, tid, true, |more| bytes.extend_from_slice(more))?;
    Ok(bytes)
}

fn show(tree: &Tree, file: ProcFile, tid: u32) -> String {
    let handle = open(tree, file, tid, 0);
    let text = read_at(tree, handle, 0, 1 << 24, tid).unwrap();
    tree.release(handle);
    String::from_utf8(text).unwrap()
}

#[test]
fn r1_an_open_file_goes_on_in_the_next_process() {
    let world = World::new(Flavour::V2, 4);
    let tree = world.serve();
    let (first, second) = (open(&tree, ProcFile::Stat, WEB, 1), open(&tree, ProcFile::Meminfo, BOX, 2));
    let stat = read_at(&tree, first, 0, 1 << 20, WEB).unwrap();
    let next = world.serve();
    world.pass(SECOND);
    assert_eq!(read_at(&next, first, 20, 1 << 20, WEB).unwrap(), stat[20..], "one moment");
    assert_eq!(read_at(&next, first, 7, 5, BOX).unwrap(), stat[7..12], "whoever reads");
    assert_ne!(read_at(&next, first, 0, 1 << 20, WEB).unwrap(), stat, "and anew from the beginning");
    // never rendered before
    assert_eq!(read_at(&next, second, 3, 5, BOX).unwrap(), b"Total");
    assert_eq!(next.open_files(), 2);
    let last = world.serve();
    assert_eq!(read_at(&last, second, 3, 5, BOX).unwrap(), b"Total");
    last.release(second);
    last.release(second);
    assert_eq!(read_at(&last, second, 3, 5, BOX), Err(Refusal(Errno::EBADF)));
    let third = open(&last, ProcFile::Uptime, BOX, 3);
    assert_eq!(
        (third.0 as u32, third == second),
        (second.0 as u32, false),
        "the slot lives on, the handle does not"
    );
    let after = world.serve();
    after.release(second);
    assert!(read_at(&after, third, 0, 100, BOX).is_ok());
    assert_eq!(after.attr(of(ProcFile::Stat)).unwrap().time, tree.attr(of(ProcFile::Stat)).unwrap().time);
}

/// The container of a slot is found by its number; where it is gone there is no file, and nothing is kept of it.
#[test]
fn r1_the_files_of_a_registered_container() {
    let world = World::new(Flavour::V1, 2);
    let tree = world.serve();
    let place = Place { scope: Scope::Container(1), node: Node::ProcFile(ProcFile::Uptime) };
    let handle = tree.open(place, libc::O_RDONLY, WEB, 1).unwrap();
    tree.answered(handle);
    let text = read_at(&tree, handle, 0, 100, WEB).unwrap();
    let next = world.serve();
    assert_eq!(read_at(&next, handle, 0, 100, WEB).unwrap(), text);
    let without = world.serve_with(false);
    assert_eq!(read_at(&without, handle, 0, 100, WEB), Err(Refusal(Errno::ENOENT)));
    without.release(handle);
    drop(without);
    assert!(Store::open(world.memory.as_fd()).unwrap().take_records().is_empty());
}

/// The answer to an OPEN is lost: the kernel sends it again, and has one handle.
#[test]
fn r2_an_open_that_comes_twice_takes_one_slot() {
    let world = World::new(Flavour::V2, 2);
    let tree = world.serve();
    let place = of(ProcFile::Meminfo);
    let lost = tree.open(place, libc::O_RDONLY, BOX, 10).unwrap();
    let answered = open(&tree, ProcFile::Meminfo, BOX, 12);
    let next = world.serve();
    assert_eq!(next.open(place, libc::O_RDONLY, BOX, 10), Ok(lost));
    assert_ne!(next.open(place, libc::O_RDONLY, BOX, 12), Ok(answered), "the kernel has that one");
    assert_eq!(next.open_files(), 3);
    assert!(read_at(&next, lost, 0, 100, BOX).is_ok());
    // twice in a row
    let lost = next.open(place, libc::O_RDONLY, WEB, 14).unwrap();
    let (third, fourth) = (world.serve(), world.serve());
    assert_eq!(third.open_files(), 4);
    assert_eq!(fourth.open(place, libc::O_RDONLY, WEB, 14), Ok(lost));
    fourth.answered(lost);
    assert_ne!(fourth.open(place, libc::O_RDONLY, WEB, 14), Ok(lost), "it is answered now");
    // another file, or another thread, is another request whatever its number
    let lost = fourth.open(place, libc::O_RDONLY, WEB, 16).unwrap();
    let last = world.serve();
    assert_ne!(last.open(of(ProcFile::Stat), libc::O_RDONLY, WEB, 16), Ok(lost));
    assert_ne!(last.open(place, libc::O_RDONLY, BOX, 16), Ok(lost));
}

/// A container that is forgotten for want of descriptors gives them back, whoever has its files open.
#[test]
fn r3_open_files_hold_no_descriptors_of_groups() {
    let world = World::new(Flavour::V1, 2);
    let tree = world.serve();
    let View::Container(contained) = tree.resolver.reader(BOX) else { panic!("a container") };
    let held = Arc::strong_count(&contained);
    let fresh = open(&tree, ProcFile::Meminfo, BOX, 1);
    let read = open(&tree, ProcFile::Meminfo, BOX, 2);
    assert!(read_at(&tree, read, 0, 100, BOX).is_ok());
    assert_eq!(Arc::strong_count(&contained), held);
    [fresh, read].into_iter().for_each(|handle| tree.release(handle));
}

/// What a container may have open does not start anew.
#[test]
fn r3_limits_hold_across_processes() {
    let world = World::new(Flavour::V2, 2);
    let mut tree = world.serve();
    let place = of(ProcFile::Uptime);
    let mut handles = Vec::new();
    for unique in 0..opened::MOST_OPEN as u64 {
        if unique == 3000 {
            tree = world.serve();
        }
        handles.push(open(&tree, ProcFile::Uptime, BOX, unique));
    }
    for tree in [tree, world.serve()] {
        assert_eq!(tree.open(place, libc::O_RDONLY, BOX, 1 << 20), Err(Refusal(Errno::EMFILE)));
        tree.release(open(&tree, ProcFile::Uptime, WEB, 1 << 20));
        tree.release(handles.pop().unwrap());
        handles.push(open(&tree, ProcFile::Uptime, BOX, 1 << 21));
    }
    let tree = world.serve();
    handles.into_iter().for_each(|handle| tree.release(handle));
    assert_eq!(tree.open_files(), 0);
    tree.release(open(&tree, ProcFile::Uptime, BOX, 0));
}

/// A container that hoards snapshots is refused more, and nobody else is.
#[test]
fn r4_snapshots_of_one_container_are_bounded() {
    let world = World::new(Flavour::V1, 2);
    let serve = || {
        let mut tree = world.serve();
        assert_eq!(tree.most_snapshots, (64 << 20) + (2 << 20));
        tree.most_snapshots = 8 * 4096;
        tree
    };
    let tree = serve();
    let files: Vec<Handle> = (0..20).map(|unique| open(&tree, ProcFile::Uptime, BOX, unique)).collect();
    for handle in &files[..8] {
        assert!(read_at(&tree, *handle, 0, 100, BOX).is_ok());
    }
    for tree in [tree, serve()] {
        assert_eq!(read_at(&tree, files[8], 0, 100, BOX), Err(Refusal(Errno::ENOMEM)));
        assert!(read_at(&tree, files[7], 0, 100, BOX).is_ok(), "in place of the one it has");
        assert!(show(&tree, ProcFile::Meminfo, WEB).starts_with("MemTotal"), "not another's");
    }
    let tree = serve();
    tree.release(files[0]);
    assert!(read_at(&tree, files[8], 0, 100, BOX).is_ok());
    assert_eq!(read_at(&tree, files[9], 0, 100, BOX), Err(Refusal(Errno::ENOMEM)));
}

/// Counters go on as if nothing had happened: the same text as from one process that never died.
#[test]
fn r5_counters_go_on() {
    const FILES: [ProcFile; 6] = [
        ProcFile::Stat,
        ProcFile::Uptime,
        ProcFile::Schedstat,
        ProcFile::Vmstat,
        ProcFile::Diskstats,
        ProcFile::Loadavg,
    ];
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let mut world = World::new(flavour, 3);
        let (steady, elsewhere) = (world.serve(), private_memory().unwrap());
        world.memory = elsewhere;
        // the last but one is lower: a counter that was overtaken, which must not be counted twice
        for (round, used) in
            [3_000_000, 3_500_000, 4_900_000, 5_000_000, 4_950_000, 6_000_000].into_iter().enumerate()
        {
            for (_, name) in READERS {
                world.used(name, used);
            }
            let tree = world.serve();
            for (tid, name) in READERS {
                for file in FILES {
                    assert_eq!(
                        show(&tree, file, tid),
                        show(&steady, file, tid),
                        "{flavour:?} {name} {round}"
                    );
                }
            }
            world.pass(SECOND * 3 / 2);
            // how many jiffies a second has is known by now
            world.fixture.write("proc/schedstat", "version 17\ntimestamp 1\ncpu0 0 0 0 0 0 0 1 2 3\n");
        }
        // all of which had something to say
        assert!(show(&steady, ProcFile::Schedstat, BOX).contains("\ntimestamp 429"));
        if matches!(flavour, Flavour::V2) {
            assert!(show(&steady, ProcFile::Diskstats, BOX).contains(" vda "));
            assert!(!show(&steady, ProcFile::Vmstat, BOX).contains("\npgfault 0\n"));
        }
    }
}

/// The highest process id that was seen stays so.
#[test]
fn r5_process_ids_do_not_fall() {
    let world = World::new(Flavour::V2, 2);
    world.second_task(true);
    let forks = |tree: &Tree| {
        let (load, stat) = (show(tree, ProcFile::Loadavg, BOX), show(tree, ProcFile::Stat, BOX));
        (load.ends_with(" 77\n"), stat.contains("\nprocesses 77\n"))
    };
    assert_eq!(forks(&world.serve()), (true, true));
    world.second_task(false);
    world.pass(20 * SECOND); // a count serves for 15 s at most
    assert_eq!(forks(&world.serve()), (true, true));
}

/// A group that is made anew under the name of another starts at its own beginning.
#[test]
fn r5_counters_are_nobody_elses() {
    let world = World::new(Flavour::V2, 2);
    let ticks =
        |text: &str| text.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let tree = world.serve();
    assert_eq!(ticks(&show(&tree, ProcFile::Stat, BARE)), 300);
    std::fs::rename(
        world.fixture.root().join("sys/fs/cgroup/bare"),
        world.fixture.root().join("sys/fs/cgroup/old"),
    )
    .unwrap();
    world.used("bare", 1_000_000);
    let next = world.serve();
    assert_eq!(ticks(&show(&next, ProcFile::Stat, BARE)), 100);
    // what is kept of the one that is gone is let go of, once there is time for it
    let kept = || Store::open(world.memory.as_fd()).unwrap().take_records().len();
    assert_eq!(kept(), 2);
    next.rearm(&|_| Box::new(|| ()));
    assert_eq!(kept(), 1);
}

/// Files of large hosts are served in pieces, across processes.
#[test]
fn r1_texts_of_many_cpus() {
    for cpus in [256, 1024] {
        let world = World::new(Flavour::V1, cpus);
        world.fixture.group("/bare", &Group { used: (9_000_000, 0), ..Group::default() });
        let tree = world.serve();
        for (file, least) in [(ProcFile::Cpuinfo, 600 * cpus), (ProcFile::Stat, 20 * cpus)] {
            let handle = open(&tree, file, BARE, 1);
            let mut text = read_at(&tree, handle, 0, 4096, BARE).unwrap();
            let processes = [world.serve(), world.serve(), world.serve()];
            for piece in 0.. {
                let tree = &processes[piece * 3 * 8192 / (least + 8192) % 3];
                let more = read_at(tree, handle, text.len() as u64, 8191, BARE).unwrap();
                if more.is_empty() {
                    break;
                }
                text.extend(more);
            }
            assert!(text.len() >= least, "{}", text.len());
            assert_eq!(text, read_at(&processes[2], handle, 0, 1 << 30, BARE).unwrap(), "{cpus} {file:?}");
        }
        // the counters of as many
        let before = show(&tree, ProcFile::Stat, BARE);
        assert_eq!(show(&world.serve(), ProcFile::Stat, BARE), before);
        assert_eq!(before.lines().filter(|line| line.starts_with("cpu")).count(), cpus + 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(usize, usize),
    Read(usize, u64, u32),
    Release(usize),
    /// Time passes and CPU time is used.
    Pass(u64, u64),
    /// The process ends, no request under way.
    Takeover,
}

const SHOWN: [ProcFile; 3] = [ProcFile::Stat, ProcFile::Meminfo, ProcFile::Uptime];

fn step() -> impl Strategy<Value = Step> {
    let read = (0..8usize, prop_oneof![3 => Just(0), 2 => 0..3000u64], prop_oneof![1..200u32, Just(1 << 20)]);
    prop_oneof![
        3 => (0..SHOWN.len(), 0..READERS.len()).prop_map(|(file, reader)| Step::Open(file, reader)),
        6 => read.prop_map(|(file, offset, size)| Step::Read(file, offset, size)),
        2 => (0..8usize).prop_map(Step::Release),
        2 => (1..3 * SECOND, 0..2_000_000u64).prop_map(|(time, used)| Step::Pass(time, used)),
        1 => Just(Step::Takeover),
    ]
}

/// One file as its reader knows it.
#[derive(Debug)]
struct Known {
    handle: Handle,
    file: ProcFile,
    reader: usize,
    /// The bytes seen since offset 0 was read last.
    seen: BTreeMap<u64, u8>,
}

/// What readers have seen, and must never see again lower.
#[derive(Default)]
struct Seen {
    files: Vec<Known>,
    highest: HashMap<(usize, String), f64>,
}

impl Seen {
    fn read(&mut self, at: usize, offset: u64, bytes: &[u8]) {
        let known = &mut self.files[at];
        if offset == 0 {
            known.seen.clear();
        }
        for (place, byte) in (offset..).zip(bytes) {
            assert_eq!(
                *known.seen.entry(place).or_insert(*byte),
                *byte,
                "two moments in one text, at {place}"
            );
        }
        if offset > 0 || bytes.len() < 100 && known.file != ProcFile::Uptime {
            return;
        }
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (file, reader) = (known.file, known.reader);
        let mut counter = |name: String, value: f64| {
            let before = self.highest.entry((reader, name.clone())).or_insert(value);
            assert!(value >= *before, "{name} fell from {before} to {value}");
            *before = value;
        };
        match file {
            ProcFile::Stat => {
                for line in text.lines().filter(|line| line.starts_with("cpu") && bytes.len() > 400) {
                    let (cpu, numbers) = line.split_once(' ').unwrap();
                    for (column, number) in numbers.split_whitespace().enumerate() {
                        counter(format!("{cpu} {column}"), number.parse().unwrap());
                    }
                }
            }
            ProcFile::Uptime if text.ends_with('\n') => {
                for (column, number) in text.split_whitespace().enumerate() {
                    counter(format!("uptime {column}"), number.parse().unwrap());
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is done, and wherever within it the process dies: the request is sent again, texts are of one moment, handles
    /// are of one file, counters never fall, and nothing is lost or left over.
    #[test]
    fn r6_death_at_any_moment(
        steps in proptest::collection::vec((step(), proptest::option::weighted(0.4, 0..24i64)), 1..60),
        flavour in prop_oneof![Just(Flavour::V1), Just(Flavour::V2)],
    ) {
        let world = World::new(flavour, 2);
        let mut tree = world.serve();
        let mut seen = Seen::default();
        let mut used = 3_000_000;
        for (number, (step, death)) in (1..).zip(steps) {
            if let Some(writes) = death {
                tree.resolver.store().dies_after(writes);
            }
            for _ in 0..2 {
                let dead = |tree: &Tree| tree.resolver.store().is_dead();
                match step {
                    Step::Open(file, reader) if seen.files.len() < 8 => {
                        let (tid, file) = (READERS[reader].0, SHOWN[file]);
                        let handle = tree.open(of(file), libc::O_RDONLY, tid, number).unwrap();
                        if !dead(&tree) {
                            prop_assert!(seen.files.iter().all(|known| known.handle != handle), "two files, one handle");
                            seen.files.push(Known { handle, file, reader, seen: BTreeMap::new() });
                            tree.answered(handle); // it may die here: the kernel has the handle then
                            if dead(&tree) {
                                tree = world.serve();
                            }
                            break;
                        }
                    }
                    Step::Read(at, offset, size) if at < seen.files.len() => {
                        let known = &seen.files[at];
                        let answer = read_at(&tree, known.handle, offset, size, READERS[known.reader].0);
                        if !dead(&tree) {
                            seen.read(at, offset, &answer.unwrap());
                            break;
                        }
                    }
                    Step::Release(at) if at < seen.files.len() => {
                        tree.release(seen.files[at].handle);
                        if !dead(&tree) {
                            seen.files.remove(at);
                            break;
                        }
                    }
                    Step::Pass(time, more) => {
                        used += more;
                        READERS.iter().for_each(|(_, name)| world.used(name, used));
                        world.pass(time);
                        break;
                    }
                    Step::Takeover => {}
                    _ => break,
                }
                tree = world.serve();
            }
            tree.resolver.store().dies_after(i64::MAX);
        }
        let last = world.serve();
        // a file whose release was answered is not there, and each other is
        prop_assert_eq!(last.open_files(), seen.files.len());
        for known in &seen.files {
            prop_assert!(read_at(&last, known.handle, 0, 1, READERS[known.reader].0).is_ok());
            last.release(known.handle);
        }
        prop_assert_eq!(last.open_files(), 0);
        for (tid, _) in READERS {
            let View::Container(contained) = last.resolver.reader(tid) else { panic!("a container") };
            prop_assert_eq!(contained.limits.open_files.load(Ordering::Relaxed), 0);
            prop_assert_eq!(contained.limits.snapshots.load(Ordering::Relaxed), 0);
        }
    }
}
