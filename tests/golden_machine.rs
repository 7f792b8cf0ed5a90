//! `softirqs`, `interrupts` and `schedstat` from a host's files to the bytes a container reads, compared with
//! `tests/golden/machine-*.txt`. `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden_machine` rewrites those.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are no #[test] functions

#[allow(dead_code)] // shared with other tests
#[path = "common/fixture.rs"]
mod fixture;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use fixture::{Arch, Fixture, Flavour, Group};
use ownproc::cgroup::{GroupSet, Layout, Membership};
use ownproc::host::{ClockSource, Clocks, Host};
use ownproc::model::{CountersPolicy, HostPid, Nsec, Numbering, Policies};
use ownproc::readings::{self, Subject};
use ownproc::render::ProcFile;

const SECOND: u64 = 1_000_000_000;
const SOFTIRQS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];
/// Label, what follows the numbers, whether there is one per CPU.
const INTERRUPTS: [(&str, &str, bool); 9] = [
    ("  0", "  IO-APIC   2-edge      timer", true),
    (" 24", " PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0", true),
    ("NMI", "   Non-maskable interrupts", true),
    ("LOC", "   Local timer interrupts", true),
    ("RES", "   Rescheduling interrupts", true),
    ("CAL", "   Function call interrupts", true),
    ("ERR", "", false),
    ("MIS", "", false),
    ("PIN", "   Posted-interrupt notification event", true),
];

fn write_host(fixture: &Fixture, cpus: usize) {
    let header = |indent: usize| -> String {
        (0..cpus).fold(" ".repeat(indent), |line, cpu| line + &format!("CPU{cpu:<8}")) + "\n"
    };
    let row = |seed: u64| -> String {
        (0..cpus as u64).map(|cpu| format!(" {:>10}", (seed * 7919 + cpu * 104_729) % 9_999_991)).collect()
    };
    let mut softirqs = header(20);
    for (seed, name) in (1..).zip(SOFTIRQS) {
        let _ = writeln!(softirqs, "{name:>12}:{}", row(seed));
    }
    fixture.write("proc/softirqs", &softirqs);
    let mut interrupts = header(11);
    for (seed, (label, what, per_cpu)) in (11..).zip(INTERRUPTS) {
        let numbers = if per_cpu { row(seed) } else { format!(" {:>10}", seed) };
        let _ = writeln!(interrupts, "{label}:{numbers}{what}");
    }
    fixture.write("proc/interrupts", &interrupts);
    let mut schedstat = "version 16\ntimestamp 4302461883\n".to_owned();
    for cpu in 0..cpus {
        let _ = writeln!(schedstat, "cpu{cpu} 0 0 883 12 334 455 123456789 98765432 4242\ndomain0 3 1 2 3 4");
    }
    fixture.write("proc/schedstat", &schedstat);
}

struct World {
    host: Host,
    subject: Subject,
    _fixture: Fixture,
}

impl World {
    /// A container on the given CPUs that is 100 s old and has used 4 s.
    fn new(flavour: Flavour, cpus: usize, set: &str) -> Self {
        let fixture = Fixture::new(flavour, cpus, Arch::X86);
        write_host(&fixture, cpus);
        let group = Group { used: (3_000_000, 1_000_000), cpus: set.into(), ..Group::default() };
        fixture.group("/ownproc", &Group { cpus: set.into(), ..Group::default() });
        fixture.group("/ownproc/web", &group);
        fixture.process(4242, &[1], "init", 'S', 890_000, None);
        fixture.tasks("/ownproc/web", &[4242]);
        let clock =
            Clocks { boottime: Nsec(9000 * SECOND), monotonic: Nsec(8900 * SECOND), realtime: Nsec(0) };
        let host = Host::open_with(fixture.root(), ClockSource::fixed(clock)).unwrap();
        let layout = Layout::discover(fixture.root()).unwrap();
        let membership = Membership::parse("", &layout).map(|_, _| "/ownproc/web".into());
        let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
        let subject = Subject::of_init(groups, HostPid::new(4242).unwrap(), &host);
        Self { host, subject, _fixture: fixture }
    }

    fn text(&self, file: ProcFile, policies: &Policies) -> String {
        let mut out = Vec::new();
        readings::render(file, &self.subject, &self.host, policies, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

fn picture(world: &World, numbering: Numbering) -> String {
    let mut out = String::new();
    for counters in [CountersPolicy::Zero, CountersPolicy::Host] {
        let policies = Policies { numbering, counters, ..Policies::default() };
        for (name, file) in [
            ("softirqs", ProcFile::Softirqs),
            ("interrupts", ProcFile::Interrupts),
            ("schedstat", ProcFile::Schedstat),
        ] {
            let _ = write!(out, "==> proc/{name}, counters {counters:?}\n{}", world.text(file, &policies));
        }
    }
    out
}

#[test]
fn golden() {
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    for (name, flavour) in [("v1", Flavour::V1), ("hybrid", Flavour::Hybrid), ("v2", Flavour::V2)] {
        for (cpus, set, numbering) in [
            (1, "0", Numbering::Physical),
            (2, "1", Numbering::Compact),
            (64, "3,32-33", Numbering::Physical),
            (256, "8-9,250-255", Numbering::Compact),
        ] {
            let path = format!("tests/golden/machine-{name}-{cpus}cpu.txt");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let found = picture(&World::new(flavour, cpus, set), numbering);
            if update {
                std::fs::write(&path, &found).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(expected, found, "{}: OWNPROC_UPDATE_GOLDEN=1 rewrites it", path.display());
        }
    }
}

/// What no update of the files can change: the CPUs are those of stat, and no number is the host's.
#[test]
fn one_cpu_set_and_nothing_of_the_host() {
    for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
        let world = World::new(flavour, 64, "3,32-33");
        let policies = Policies::default();
        let header = "CPU3       CPU32      CPU33      \n";
        for (file, rows) in [(ProcFile::Softirqs, 10), (ProcFile::Interrupts, 7)] {
            let text = world.text(file, &policies);
            assert_eq!(text.lines().count(), 1 + rows, "{flavour:?}");
            assert_eq!(format!("{}\n", text.lines().next().unwrap()).trim_start(), header, "{flavour:?}");
            for line in text.lines().skip(1) {
                let (_, rest) = line.split_once(':').unwrap();
                let numbers = rest.split_whitespace().take_while(|word| word.parse::<u64>().is_ok());
                assert!(numbers.clone().all(|number| number == "0"), "{flavour:?}: {line}");
                assert!([1, 3].contains(&numbers.count()), "{flavour:?}: {line}");
            }
        }
        let schedstat = world.text(ProcFile::Schedstat, &policies);
        assert!(schedstat.starts_with("version 16\ntimestamp 10000\ncpu3 0 0 0 0 0 0 "), "{schedstat}");
        let ran: u64 = schedstat
            .lines()
            .filter(|line| line.starts_with("cpu"))
            .map(|line| line.split(' ').nth(7).unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(ran, 4 * SECOND, "{flavour:?}: {schedstat}");
        // A host without schedstat has none to show.
        assert!(world.host.template("nosuch").is_err());
    }
}
