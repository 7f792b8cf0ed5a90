//! One test or more per rule of `SEMANTICS.md`, named after it, on a host that was made up.

use std::sync::Arc;

use crate::fixture::{Arch, Fixture, Flavour, Group};
use parking_lot::Mutex;

use crate::cgroup::{GroupSet, Layout, Membership};
use crate::host::{ClockSource, Clocks, Host};
use crate::model::{HostPid, Nsec, Policies};
use crate::readings::{LoadSampler, Subject, render};
use crate::render::ProcFile;

const SECOND: u64 = 1_000_000_000;
const FLAVOURS: [Flavour; 3] = [Flavour::V1, Flavour::Hybrid, Flavour::V2];

struct World {
    fixture: Fixture,
    host: Host,
    clock: Arc<Mutex<Clocks>>,
    sampler: Arc<LoadSampler>,
    subject: Option<Subject>,
}

impl World {
    /// A container that is 100 s old and has used `used` seconds of CPU time.
    fn new(flavour: Flavour, used: u64) -> Self {
        let fixture = Fixture::new(flavour, 8, Arch::X86);
        fixture.group("/web", &Group { used: (used * 1_000_000, 0), ..Group::default() });
        fixture.process(4000, &[1], "init", 'S', 890_000, None);
        fixture.tasks("/web", &[4000]);
        let clock = Arc::new(Mutex::new(Clocks {
            boottime: Nsec(9000 * SECOND),
            monotonic: Nsec(8900 * SECOND),
            realtime: Nsec(0),
        }));
        let host = Host::open_with(fixture.root(), ClockSource::Fixed(clock.clone())).unwrap();
        let layout = Layout::discover(fixture.root()).unwrap();
        let membership = Membership::parse("", &layout).map(|_, _| "/web".into());
        let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
        let sampler = Arc::new(LoadSampler::default());
        let subject = Subject::of_init(groups, HostPid::new(4000).unwrap(), &host).sampled_by(&sampler);
        Self { fixture, host, clock, sampler, subject: Some(subject) }
    }

    /// So many tasks in each state, besides the init; `None` of those in D waits for anything but a disk.
    fn tasks(&self, states: &[(char, u32)]) {
        let mut ids = vec![4000];
        for (state, count) in states {
            for _ in 0..*count {
                let id = 4000 + ids.len() as u32;
                let (letter, waits_in) =
                    if *state == 'F' { ('D', "request_wait_answer") } else { (*state, "io_schedule") };
                if !self.fixture.root().join(format!("proc/{id}")).exists() {
                    self.fixture.process(id, &[id - 3999], "task", letter, 890_500, None);
                }
                self.fixture.write(
                    &format!("proc/{id}/status"),
                    &format!("State:\t{letter} (x)\nTgid:\t{id}\nNSpid:\t{id}\t{}\n", id - 3999),
                );
                self.fixture.write(&format!("proc/{id}/wchan"), waits_in);
                ids.push(id);
            }
        }
        self.fixture.tasks("/web", &ids);
    }

    fn pass(&self, seconds: u64) {
        let mut clock = self.clock.lock();
        clock.boottime = clock.boottime.plus(Nsec(seconds * SECOND));
        clock.monotonic = clock.monotonic.plus(Nsec(seconds * SECOND));
    }

    fn used(&self, seconds: u64) {
        self.fixture.group("/web", &Group { used: (seconds * 1_000_000, 0), ..Group::default() });
    }

    fn text(&self, file: ProcFile) -> String {
        let mut out = Vec::new();
        render(file, self.subject.as_ref().unwrap(), &self.host, &Policies::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn loadavg(&self) -> String {
        self.text(ProcFile::Loadavg)
    }

    /// The 1-minute average as shown.
    fn one(&self) -> f64 {
        self.loadavg().split(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn l2_running_and_waiting_for_a_disk_but_not_for_us() {
    for flavour in FLAVOURS {
        let world = World::new(flavour, 0);
        world.tasks(&[('R', 2), ('D', 1), ('F', 3), ('S', 4), ('Z', 1)]);
        // 3 active for 5 s of a life of 100 s
        assert_eq!(world.loadavg(), "0.24 0.05 0.02 2/12 12\n", "{flavour:?}");
        let stat = world.text(ProcFile::Stat);
        assert!(stat.contains("\nprocs_running 2\nprocs_blocked 1\n"), "{flavour:?}: {stat}");
    }
}

#[test]
fn l3_the_first_read_is_not_zero() {
    for flavour in FLAVOURS {
        let world = World::new(flavour, 200);
        // c = 2 for 100 s, then nothing for 5 s: 2 (1 - e^(-100/60)) e^(-5/60) = 1.49
        assert_eq!(world.loadavg(), "1.49 0.56 0.21 1/1 1\n", "{flavour:?}");
    }
}

#[test]
fn l3_waiting_for_the_quota_is_load() {
    for flavour in FLAVOURS {
        let world = World::new(flavour, 100);
        let group = Group {
            used: (100_000_000, 0),
            quota: Some(100_000),
            throttled: (900, 100_000_000),
            ..Group::default()
        };
        world.fixture.group("/web", &group);
        assert_eq!(world.loadavg(), "1.49 0.56 0.21 1/1 1\n", "{flavour:?}");
        let world = World::new(flavour, 100);
        world.fixture.group("/web", &Group { local: Some(100_000_000), ..group });
        assert_eq!(world.loadavg(), "1.49 0.56 0.21 1/1 1\n", "{flavour:?}");
    }
}

#[test]
fn l4_sampled_while_it_is_read_and_a_quarter_of_an_hour_longer() {
    let world = World::new(Flavour::V2, 0);
    world.tasks(&[('R', 2)]);
    world.loadavg();
    world.loadavg();
    assert_eq!(world.sampler.len(), 1, "once, however often it is read");
    let mut rounds = 0;
    while !world.sampler.is_empty() {
        rounds += 1;
        world.pass(5);
        world.used(2 * 5 * rounds);
        assert_eq!(world.sampler.sample_due(&world.host), 1);
        assert!(rounds < 200, "somebody goes on");
    }
    assert_eq!(rounds, 181, "the last look finds that 15 minutes are over");
    // Another 1000 s with 1.5 CPUs in use; then it is idle.
    world.pass(1000);
    world.used(2 * 5 * (rounds - 1) + 1500);
    world.tasks(&[('S', 2)]);
    assert_eq!(world.one(), 1.37); // 1500/1005 e^(-5/60): the last sample was 5 s before the last look
    assert_eq!(world.sampler.len(), 1, "and is sampled again");
}

#[test]
fn l5_every_five_seconds_and_by_the_reader_where_nobody_does() {
    let world = World::new(Flavour::V2, 0);
    world.tasks(&[('R', 1)]);
    world.loadavg();
    assert_eq!(world.sampler.sample_due(&world.host), 0);
    world.pass(4);
    assert_eq!(world.sampler.sample_due(&world.host), 0);
    world.pass(1);
    let before = world.one();
    assert_eq!(world.sampler.sample_due(&world.host), 1);
    let after = world.one();
    assert!(after > before, "{before} {after}");
    // The sampler does not come any more.
    world.pass(10);
    assert_eq!(world.one(), after);
    world.pass(1);
    let later = world.one();
    assert!(later > after, "{after} {later}");
}

#[test]
fn l6_all_tasks_and_the_newest_pid() {
    for flavour in FLAVOURS {
        let world = World::new(flavour, 0);
        world.tasks(&[('S', 10)]);
        assert!(world.loadavg().ends_with(" 1/11 11\n"), "{flavour:?}");
        let world = World::new(flavour, 0);
        world.tasks(&[('S', 10)]);
        for pids in ["sys/fs/cgroup/pids/web", "sys/fs/cgroup/unified/web", "sys/fs/cgroup/web"] {
            if world.fixture.root().join(pids).is_dir() {
                world.fixture.write(&format!("{pids}/pids.current"), "14\n");
            }
        }
        assert!(world.loadavg().ends_with(" 1/14 11\n"), "{flavour:?}: zombies are tasks, too");
    }
}

#[test]
fn l7_a_container_that_used_no_cpu_time_is_not_looked_at() {
    let world = World::new(Flavour::V1, 0);
    world.tasks(&[('R', 1)]);
    world.loadavg();
    let step = |used| {
        world.used(used);
        world.pass(5);
        assert_eq!(world.sampler.sample_due(&world.host), 1);
    };
    step(1);
    // The files say otherwise from now on, but it used nothing: for six samples the last count is taken.
    world.tasks(&[('S', 1)]);
    let mut last = world.one();
    for _ in 0..6 {
        step(1);
        let now = world.one();
        assert!(now > last, "{last} {now}");
        last = now;
    }
    step(1);
    assert!(world.one() < last, "the seventh looks");
    // A change of the counter is looked at once.
    world.tasks(&[('R', 1)]);
    last = world.one();
    step(2);
    assert!(world.one() > last);
}

#[test]
fn l8_a_part_of_many_tasks_stands_for_all() {
    let world = World::new(Flavour::V2, 0);
    // Half of them run; the last by number is the newest.
    world.tasks(&[('S', 900), ('R', 899)]);
    let text = world.loadavg();
    let (running, total) = text.split(' ').nth(3).unwrap().split_once('/').unwrap();
    let running: u64 = running.parse().unwrap();
    assert_eq!(total, "1800");
    assert!((700..1100).contains(&running), "{running}");
    assert!(text.ends_with(" 1800\n"), "the newest is always looked at: {text}");
    world.used(5);
    world.pass(5);
    assert_eq!(world.sampler.sample_due(&world.host), 1);
    world.pass(5);
    world.used(10);
    assert_eq!(world.sampler.sample_due(&world.host), 1);
    // 900 active for 15 of 100 s
    assert!((180.0..220.0).contains(&world.one()), "{}", world.one());
}

#[test]
fn l8_the_sampler_counts_where_that_takes_long() {
    let world = World::new(Flavour::V1, 0);
    world.tasks(&[('S', 1500)]);
    let running = || world.text(ProcFile::Stat).contains("\nprocs_running 1\n");
    assert!(running());
    assert_eq!(world.sampler.len(), 1, "1500 tasks take more than a millisecond");
    world.tasks(&[('R', 1500)]);
    world.used(5);
    world.pass(1);
    assert!(running(), "the last count serves");
    world.pass(4);
    assert_eq!(world.sampler.sample_due(&world.host), 1);
    assert!(!running(), "that of the sampler");
}

#[test]
fn containers_that_end_are_dropped() {
    let mut world = World::new(Flavour::V2, 0);
    world.loadavg();
    assert_eq!(world.sampler.len(), 1);
    let groups = Arc::downgrade(&world.subject.as_ref().unwrap().groups);
    world.subject = None;
    assert!(groups.upgrade().is_none(), "the sampler holds no descriptors");
    world.pass(5);
    assert_eq!(world.sampler.sample_due(&world.host), 0);
    assert!(world.sampler.is_empty());

    let world = World::new(Flavour::V2, 0);
    world.loadavg();
    std::fs::remove_dir_all(world.fixture.root().join("sys/fs/cgroup/web")).unwrap();
    world.pass(5);
    world.sampler.sample_due(&world.host);
    assert!(world.sampler.is_empty(), "its group is gone");
}

#[test]
fn the_thread_ends_when_told() {
    let world = World::new(Flavour::V2, 0);
    let host = Arc::new(Host::open(std::path::Path::new("/")).unwrap());
    let running = world.sampler.start(&host).unwrap();
    world.loadavg();
    drop(running);
}
