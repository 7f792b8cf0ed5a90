//! Suspend, steps of the clock, and namespaces of readers: what they change in uptime and stat, and what not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[path = "common/fixture.rs"]
#[allow(dead_code)] // each test file uses a part of it
mod fixture;

use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{HostPid, Nsec, Policies, TimensOffset};
use ownproc::readings::{self, ReaderTime, Subject};
use ownproc::render::ProcFile;

const SECOND: u64 = 1_000_000_000;
/// `btime` of tests/fixtures/stat.tail.
const BOOTED: u64 = 1_795_498_128;

struct World {
    fixture: Fixture,
    host: Host,
    clock: Arc<parking_lot::Mutex<Clocks>>,
    subject: Subject,
}

/// A host that has been up for 9000 s, a container of one CPU that began 100 s ago and used 4 s since; `timens` is the
/// boottime offset of its time namespace in seconds.
fn world(flavour: Flavour, timens: Option<i64>) -> World {
    let fixture = Fixture::new(flavour, 1, Arch::X86);
    let group = Group { cpus: "0".into(), used: (3_000_000, 1_000_000), ..Group::default() };
    fixture.group("/ownproc/web", &group);
    fixture.group("/ownproc", &Group { cpus: "0".into(), ..Group::default() });
    fixture.process(4242, &[1], "init", 'S', 890_000, timens);
    let layout = Layout::discover(fixture.root()).unwrap();
    let membership = Membership::parse("", &layout).map(|_, _| "/ownproc/web".into());
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    let clock = Arc::new(parking_lot::Mutex::new(Clocks {
        boottime: Nsec(9000 * SECOND),
        monotonic: Nsec(8900 * SECOND),
        realtime: Nsec((BOOTED + 9000) * SECOND),
    }));
    let host = Host::open_with(fixture.root(), ClockSource::Fixed(clock.clone())).unwrap();
    let subject = Subject::of_init(groups, HostPid::new(4242).unwrap(), &host);
    World { fixture, host, clock, subject }
}

/// What `uptime` and `stat` say, in hundredths and seconds.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    uptime: u64,
    idle: u64,
    stat_idle: u64,
    used: u64,
    btime: u64,
}

impl World {
    fn text(&self, file: ProcFile, reader: ReaderTime) -> String {
        let mut out = Vec::new();
        let policies = Policies::default();
        readings::render_to(reader, file, &self.subject, &self.host, &policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn seen_as(&self, reader: ReaderTime) -> Seen {
        let uptime = self.text(ProcFile::Uptime, reader);
        let hundredths: Vec<u64> =
            uptime.split_whitespace().map(|field| field.replace('.', "").parse().unwrap()).collect();
        let stat = self.text(ProcFile::Stat, reader);
        let fields: Vec<u64> =
            stat.lines().next().unwrap()[5..].split(' ').map(|n| n.parse().unwrap()).collect();
        let btime = stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
        Seen {
            uptime: hundredths[0],
            idle: hundredths[1],
            stat_idle: fields[3],
            used: fields[0] + fields[1] + fields[2],
            btime,
        }
    }

    fn seen(&self) -> Seen {
        self.seen_as(ReaderTime::Init)
    }

    fn pass(&self, [boottime, monotonic, realtime]: [i64; 3]) {
        let mut clock = self.clock.lock();
        let moved = |time: Nsec, by: i64| Nsec(time.0.checked_add_signed(by * SECOND as i64).unwrap());
        clock.boottime = moved(clock.boottime, boottime);
        clock.monotonic = moved(clock.monotonic, monotonic);
        clock.realtime = moved(clock.realtime, realtime);
    }

    /// The host's own file after a step of the clock: its boot time moves with it.
    fn host_btime(&self, btime: u64) {
        let path = self.fixture.root().join("proc/stat");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| match line.starts_with("btime ") {
            true => format!("btime {btime}\n"),
            false => format!("{line}\n"),
        });
        self.fixture.write("proc/stat", &lines.collect::<String>());
    }
}

/// A host that slept for an hour: CLOCK_BOOTTIME and the clock went on, CLOCK_MONOTONIC stood still.
#[test]
fn suspend_lengthens_uptime_and_nothing_else() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        for timens in [None, Some(-8900)] {
            let world = world(flavour, timens);
            let before = world.seen();
            assert_eq!(
                (before.uptime, before.idle, before.used),
                (10_000, 9600, 400),
                "{flavour:?} {timens:?}"
            );
            world.pass([3600, 0, 3600]);
            let after = world.seen();
            assert_eq!(after, Seen { uptime: 370_000, ..before }, "{flavour:?} {timens:?}");
            world.pass([2, 2, 2]);
            assert_eq!(world.seen(), Seen { uptime: 370_200, idle: 9800, stat_idle: 9800, ..after });
        }
    }
}

/// Somebody sets the clock an hour forward and back: only the boot time moves, as the kernel's does.
#[test]
fn steps_of_the_clock_move_btime_and_nothing_else() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        for (timens, booted) in [(None, BOOTED), (Some(-8900), BOOTED + 8900)] {
            let world = world(flavour, timens);
            let first = world.seen();
            assert_eq!(first.btime, booted);
            let mut passed = 0;
            for step in [3600, -3600, -86_400 * 365] {
                world.pass([2, 2, 2 + step]);
                passed += 200;
                world.host_btime(BOOTED.checked_add_signed(step).unwrap());
                let seen = world.seen();
                assert_eq!(
                    (seen.uptime, seen.idle, seen.stat_idle, seen.used),
                    (10_000 + passed, first.idle + passed, first.stat_idle + passed, first.used),
                    "{flavour:?} {timens:?} {step}"
                );
                assert_eq!(seen.btime, booted.checked_add_signed(step).unwrap(), "{timens:?} {step}");
                world.pass([0, 0, -step]);
            }
        }
    }
}

/// Each reader has the start times of its own namespace, and start + btime is the same moment for all of them.
#[test]
fn every_reader_agrees_with_its_own_start_times() {
    // Restored: its clock goes on from where an older machine's stood, a year ahead of this host's or behind.
    for timens in [None, Some(-8900), Some(31_536_000), Some(-9000)] {
        let world = world(Flavour::V2, timens);
        let started = 8900_i64; // the init, in the host's CLOCK_BOOTTIME
        let readers = [
            ReaderTime::Init,
            ReaderTime::Host,
            ReaderTime::Other(TimensOffset { nanos: 77 * 1_000_000_000 }),
        ];
        for (reader, offset) in readers.into_iter().zip([timens, None, Some(77)]) {
            let seen = world.seen_as(reader);
            let start_seen = started + offset.unwrap_or(0);
            assert_eq!(
                i64::try_from(seen.btime).unwrap() + start_seen,
                i64::try_from(BOOTED).unwrap() + started,
                "lstart for {reader:?} under {timens:?}"
            );
            let uptime = i64::try_from(seen.uptime / 100).unwrap();
            match offset {
                Some(offset) => assert_eq!(uptime - start_seen, 100, "etime, {reader:?} {timens:?} {offset}"),
                None => assert_eq!(uptime, 100, "the age"),
            }
            assert_eq!((seen.idle, seen.used), (9600, 400), "{reader:?} {timens:?}");
        }
    }
}
