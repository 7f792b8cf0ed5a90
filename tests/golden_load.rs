//! `loadavg` from a host's files to the bytes a container reads, over a minute and a half of its life, compared with
//! `tests/golden/load-*.txt`. `OWNPROC_UPDATE_GOLDEN=1 cargo test --test golden_load` rewrites those.

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
use ownproc::model::{HostPid, Nsec, Policies};
use ownproc::readings::{self, LoadSampler, Subject};
use ownproc::render::ProcFile;

const SECOND: u64 = 1_000_000_000;

/// A container of two tasks that run and one that waits for a disk, 30 s old at the first read; read and sampled for 60 s,
/// then left alone for half an hour in which it used a quarter of a CPU.
fn picture(flavour: Flavour, cpus: usize) -> String {
    let fixture = Fixture::new(flavour, cpus, Arch::X86);
    let used = |seconds: u64| Group { used: (seconds * 900_000, seconds * 100_000), ..Group::default() };
    fixture.group("/ownproc", &Group::default());
    fixture.group("/ownproc/web", &used(15));
    for (pid, state) in [(4242, 'S'), (4300, 'R'), (4301, 'R'), (4302, 'D'), (4303, 'S')] {
        fixture.process(pid, &[pid - 4241], "a b) c", state, 897_000, None);
    }
    fixture.tasks("/ownproc/web", &[4242, 4300, 4301, 4302, 4303]);
    let clock = Arc::new(parking_lot::Mutex::new(Clocks {
        boottime: Nsec(9000 * SECOND),
        monotonic: Nsec(8900 * SECOND),
        realtime: Nsec(1_795_498_128 * SECOND),
    }));
    let host = Host::open_with(fixture.root(), ClockSource::Fixed(clock.clone())).unwrap();
    let layout = Layout::discover(fixture.root()).unwrap();
    let membership = Membership::parse("", &layout).map(|_, _| "/ownproc/web".into());
    let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
    let sampler = Arc::new(LoadSampler::default());
    let subject = Subject::of_init(groups, HostPid::new(4242).unwrap(), &host).sampled_by(&sampler);
    let pass = |seconds: u64| {
        let mut clock = clock.lock();
        clock.boottime = clock.boottime.plus(Nsec(seconds * SECOND));
        clock.monotonic = clock.monotonic.plus(Nsec(seconds * SECOND));
    };
    let read = || {
        let mut out = Vec::new();
        readings::render(ProcFile::Loadavg, &subject, &host, &Policies::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let mut text = format!("first    {}", read());
    for step in 1..=12 {
        pass(5);
        fixture.group("/ownproc/web", &used(15 + 10 * step));
        sampler.sample_due(&host);
        if step % 4 == 0 {
            let _ = write!(text, "{:>4} s   {}", step * 5, read());
        }
    }
    while !sampler.is_empty() {
        pass(5);
        sampler.sample_due(&host);
    }
    pass(900);
    fixture.group("/ownproc/web", &used(135 + 450));
    let _ = write!(text, "pause    {}", read());
    assert_eq!(subject.groups.faults(), 0);
    text
}

#[test]
fn golden() {
    let update = std::env::var_os("OWNPROC_UPDATE_GOLDEN").is_some();
    for (name, flavour) in [("v1", Flavour::V1), ("hybrid", Flavour::Hybrid), ("v2", Flavour::V2)] {
        for cpus in [1, 2, 64, 256] {
            let path = format!("tests/golden/load-{name}-{cpus}cpu.txt");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let found = picture(flavour, cpus);
            if update {
                std::fs::write(&path, &found).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(expected, found, "{}: OWNPROC_UPDATE_GOLDEN=1 rewrites it", path.display());
        }
    }
}
