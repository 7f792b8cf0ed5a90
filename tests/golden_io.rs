//! Block I/O and pressure: from a host's files to the bytes a container reads, compared with `tests/golden/io-*.txt`.
//! `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden_io` rewrites those.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[allow(dead_code)] // not every file of tests uses all of it
#[path = "common/fixture.rs"]
mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{HostPid, Nsec, Policies};
use ownproc::readings::{self, Subject};
use ownproc::render::ProcFile;

const PRESSURE: [(&str, ProcFile); 4] = [
    ("cpu", ProcFile::PressureCpu),
    ("memory", ProcFile::PressureMemory),
    ("io", ProcFile::PressureIo),
    ("irq", ProcFile::PressureIrq),
];

struct World {
    fixture: Fixture,
    flavour: Flavour,
    host: Host,
    clock: Arc<parking_lot::Mutex<Clocks>>,
    layout: Layout,
}

/// `/pods` with the container `/pods/web` and its sibling; the sibling and `/pods` have numbers of their own.
fn world(flavour: Flavour) -> World {
    let fixture = Fixture::new(flavour, 2, Arch::X86);
    fixture.write("proc/diskstats", &fixture::text("diskstats"));
    for (name, _) in PRESSURE {
        let some = "some avg10=36.31 avg60=11.55 avg300=7.78 total=2618892490\n";
        let full = "full avg10=1.00 avg60=0.52 avg300=0.10 total=991\n";
        let text = if name == "irq" { full.to_owned() } else { format!("{some}{full}") };
        fixture.write(&format!("proc/pressure/{name}"), &text);
    }
    fixture.group("/pods", &Group::default());
    fixture.group("/pods/web", &Group::default());
    fixture.group("/pods/other", &Group::default());
    let blkio = "sys/fs/cgroup/blkio";
    if flavour != Flavour::V2 {
        fixture.write(&format!("{blkio}/release_agent"), "\n");
        for group in ["pods", "pods/web", "pods/other"] {
            fixture.write(&format!("{blkio}/{group}/cgroup.procs"), "");
        }
    }
    let (host, clock) = {
        let clock = Arc::new(parking_lot::Mutex::new(Clocks::default()));
        (Host::open_with(fixture.root(), ClockSource::Fixed(clock.clone())).unwrap(), clock)
    };
    let layout = Layout::discover(fixture.root()).unwrap();
    let world = World { fixture, flavour, host, clock, layout };
    world.io("pods", &[("254:0", [900_000, 900_000, 900, 900, 0, 0])]);
    world.io("pods/other", &[("259:0", [800_000, 800_000, 800, 800, 0, 0])]);
    world.pressure("pods", "some avg10=9.00 avg60=9.00 avg300=9.00 total=9\n");
    world
}

impl World {
    /// A group's traffic: bytes and requests read, written, discarded.
    fn io(&self, group: &str, disks: &[(&str, [u64; 6])]) {
        let top = "sys/fs/cgroup";
        if self.flavour == Flavour::V2 {
            let line = |(disk, [rb, wb, r, w, db, d]): &(&str, [u64; 6])| {
                format!(
                    "{disk} rbytes={rb} wbytes={wb} rios={r} wios={w} dbytes={db} dios={d} cost.usage=3\n"
                )
            };
            let stat: String = disks.iter().map(line).collect();
            self.fixture.write(&format!("{top}/{group}/io.stat"), &format!("7:0 \n7:1\n{stat}"));
            return;
        }
        let lines = |pick: fn(&[u64; 6]) -> [u64; 3]| -> String {
            let disk = |(disk, numbers): &(&str, [u64; 6])| {
                let [read, write, discard] = pick(numbers);
                let both = read + write;
                format!(
                    "{disk} Read {read}\n{disk} Write {write}\n{disk} Sync {both}\n{disk} Async 0\n\
                    {disk} Discard {discard}\n{disk} Total {}\n",
                    both + discard
                )
            };
            let idle = "7:0 Read 0\n7:0 Write 0\n7:0 Sync 0\n7:0 Async 0\n7:0 Discard 0\n7:0 Total 0\n";
            format!("{idle}{}Total 12345\n", disks.iter().map(disk).collect::<String>())
        };
        let dir = format!("{top}/blkio/{group}/blkio.throttle");
        self.fixture.write(&format!("{dir}.io_service_bytes_recursive"), &lines(|n| [n[0], n[1], n[4]]));
        self.fixture.write(&format!("{dir}.io_serviced_recursive"), &lines(|n| [n[2], n[3], n[5]]));
    }

    /// All pressure files of a group in the v2 hierarchy, where there is one.
    fn pressure(&self, group: &str, some: &str) {
        let top = match self.flavour {
            Flavour::V1 => return,
            Flavour::Hybrid => "sys/fs/cgroup/unified",
            Flavour::V2 => "sys/fs/cgroup",
        };
        for (name, _) in PRESSURE {
            let full = "full avg10=2.50 avg60=1.00 avg300=0.25 total=77\n";
            let text = if name == "irq" { full.to_owned() } else { format!("{some}{full}") };
            self.fixture.write(&format!("{top}/{group}/{name}.pressure"), &text);
        }
    }

    fn subject(&self, group: &str, init: Option<i32>) -> Subject {
        let membership = Membership::parse("", &self.layout).map(|_, _| group.into());
        let groups = Arc::new(GroupSet::open(&self.layout, &membership).unwrap());
        Subject::new(groups, Nsec::ZERO, None, init.and_then(HostPid::new))
    }

    fn file(&self, subject: &Subject, file: ProcFile) -> String {
        let mut out = Vec::new();
        readings::render(file, subject, &self.host, &Policies::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn a_second_later(&self) {
        let mut clock = self.clock.lock();
        clock.monotonic = clock.monotonic.plus(Nsec(1_100_000_000));
    }

    fn own(&self, file: &str) -> String {
        std::fs::read_to_string(self.fixture.root().join("proc").join(file)).unwrap()
    }
}

fn picture(world: &World) -> String {
    let mut out = String::new();
    let mut add = |title: &str, text: &str| out.push_str(&format!("==> {title}\n{text}"));
    let web = world.subject("/pods/web", Some(1));
    add("proc/diskstats, nothing used yet", &world.file(&web, ProcFile::Diskstats));
    for (name, file) in PRESSURE {
        add(&format!("proc/pressure/{name}, no file of its own"), &world.file(&web, file));
    }
    world.io(
        "pods/web",
        &[("254:0", [1_459_200, 314_773_504, 192, 353, 0, 0]), ("259:0", [0, 4096, 0, 1, 1_048_576, 2])],
    );
    world.pressure("pods/web", "some avg10=0.50 avg60=0.25 avg300=0.10 total=4711\n");
    // the kernel switched the controller on: what was not there is looked for again
    std::thread::sleep(std::time::Duration::from_millis(300));
    add("proc/diskstats", &world.file(&web, ProcFile::Diskstats));
    for (name, file) in PRESSURE {
        add(&format!("proc/pressure/{name}"), &world.file(&web, file));
    }
    // one disk gone, the counters of another reset, a third one plugged in
    world.io("pods/web", &[("254:0", [10, 20, 1, 1, 0, 0]), ("8:16", [512, 1024, 1, 2, 0, 0])]);
    world.fixture.link("sys/dev/block/8:16", "../../devices/pci0/host0/block/cciss!c0d1");
    add("proc/diskstats, other disks", &world.file(&web, ProcFile::Diskstats));
    out
}

#[test]
fn golden() {
    for (name, flavour) in [("io-v1", Flavour::V1), ("io-hybrid", Flavour::Hybrid), ("io-v2", Flavour::V2)] {
        let found = picture(&world(flavour));
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
        if std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), found, "{}", path.display());
    }
}

/// What no update of the files can change: no number of the host, of a sibling or of an ancestor shows.
#[test]
fn nothing_of_others() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let world = world(flavour);
        for group in ["/pods/web", "/", "/pods/gone"] {
            let subject = world.subject(group, Some(1));
            assert_eq!(world.file(&subject, ProcFile::Diskstats), "", "{flavour:?} {group}");
            for (name, file) in PRESSURE {
                let text = world.file(&subject, file);
                let zeros = "avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
                let want =
                    if name == "irq" { format!("full {zeros}") } else { format!("some {zeros}full {zeros}") };
                assert_eq!(text, want, "{flavour:?} {group} {name}");
            }
            assert_eq!(subject.groups.faults(), 0);
        }
    }
}

/// A reader that is nobody's container: the host's own files where it is in the root of that hierarchy.
#[test]
fn the_host_itself() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let world = world(flavour);
        let root = world.subject("/", None);
        assert_eq!(world.file(&root, ProcFile::Diskstats), world.own("diskstats"), "{flavour:?}");
        for (name, file) in PRESSURE {
            assert_eq!(world.file(&root, file), world.own(&format!("pressure/{name}")), "{flavour:?}");
        }
        let service = world.subject("/pods", None);
        assert!(world.file(&service, ProcFile::Diskstats).contains(" vda 900 0 1757 "), "{flavour:?}");
        let cpu = world.file(&service, ProcFile::PressureCpu);
        match flavour {
            // no pressure of groups: the host's is all there is, and this is one of the host's own processes
            Flavour::V1 => assert_eq!(cpu, world.own("pressure/cpu")),
            Flavour::Hybrid | Flavour::V2 => assert!(cpu.contains("total=9\n"), "{flavour:?}: {cpu}"),
        }
    }
}

/// The file has the kernel's shape, whichever the kernel.
#[test]
fn the_shape_of_the_running_kernel() {
    let world = world(Flavour::V2);
    world.io("pods/web", &[("254:0", [512, 0, 1, 0, 0, 0])]);
    let web = world.subject("/pods/web", Some(1));
    let columns = |text: &str| text.lines().next().unwrap().split_whitespace().count();
    assert_eq!(columns(&world.file(&web, ProcFile::Diskstats)), 20);
    world.fixture.write("proc/diskstats", " 254       0 vda 1 2 3 4 5 6 7 8 9 10 11\n");
    world.fixture.write("proc/pressure/cpu", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n");
    world.a_second_later();
    assert_eq!(world.file(&web, ProcFile::Diskstats), " 254       0 vda 1 0 1 0 0 0 0 0 0 0 0\n");
    assert_eq!(world.file(&web, ProcFile::PressureCpu).lines().count(), 1);
}
