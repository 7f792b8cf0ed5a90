//! On the pressure files of the running kernel. Needs root, but not CAP_SYS_RESOURCE: windows are whole 2 s.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::cgroup::{GroupSet, Layout, Membership};
use crate::model::PressureResource;

/// A cgroup of the v2 hierarchy, removed on drop.
struct Group {
    dir: std::path::PathBuf,
    set: GroupSet,
}

impl Group {
    fn new(name: &str) -> Self {
        let layout = Layout::discover(Path::new("/")).unwrap();
        let v2 = layout.v2().expect("this test needs a mounted cgroup v2 hierarchy");
        let path = format!("/ownproc-test-triggers-{}-{name}", std::process::id());
        let dir = layout.get(v2).unwrap().file_path(Path::new(&path), "");
        std::fs::create_dir(&dir).unwrap();
        let membership = Membership::parse("", &layout)
            .map(|index, root| if index == v2 { (&path).into() } else { root.to_owned() });
        let set = GroupSet::open(&layout, &membership).unwrap();
        let group = Self { dir, set };
        let pressure = group.set.pressure(PressureResource::Cpu, |_| ());
        pressure.expect("this test needs a kernel that accounts pressure (CONFIG_PSI, no psi=0)");
        group
    }

    fn file(&self) -> OwnedFd {
        self.set.open_pressure(PressureResource::Cpu).unwrap()
    }

    /// A process that waits for the CPU as soon as there are more of them than CPUs.
    fn burner(&self) -> crate::cgroup::testing::Running {
        let script = format!("echo $$ > {}/cgroup.procs; while :; do :; done", self.dir.display());
        crate::cgroup::testing::Running(
            std::process::Command::new("sh").arg("-c").arg(script).spawn().unwrap(),
        )
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        crate::cgroup::testing::remove(&self.dir);
    }
}

fn counter() -> Arc<AtomicUsize> {
    Arc::default()
}

fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn p4_what_the_kernel_refuses_is_passed_on() {
    let group = Group::new("refused");
    let triggers = Triggers::start().unwrap();
    let count = counter();
    for text in
        ["", "some", "some 1 0", "some 150000 100000000", "any 150000 1000000", "some 3000000 2000000"]
    {
        let place = Place::take(&count).unwrap();
        let refused = triggers.arm(group.file(), text.as_bytes(), place).map(|_| ());
        assert_eq!(refused, Err(Errno::INVAL), "{text:?}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert!(triggers.shared.armed.lock().is_empty());
}

#[test]
fn p4_the_text_needs_no_nul() {
    for text in [&b"some 150000 1000000"[..], b"some 150000 1000000\0", b"some 150000 1000000\0junk"] {
        assert_eq!(terminated(text), b"some 150000 1000000\0");
    }
    assert_eq!(terminated(&[b'1'; 100]).len(), LONGEST);
}

#[test]
fn p6_no_more_than_64_until_the_kernel_has_closed_one() {
    let group = Group::new("most");
    let triggers = Triggers::start().unwrap();
    let count = counter();
    let arm = || triggers.arm(group.file(), b"some 150000 2000000", Place::take(&count)?);
    let mut held: Vec<Trigger> = (0..MOST).map(|_| arm().unwrap()).collect();
    assert_eq!(arm().map(|_| ()), Err(Errno::NOSPC));
    held.pop();
    assert!(within(Duration::from_secs(10), || arm().map(|trigger| held.push(trigger)).is_ok()));
    held.clear();
    assert!(within(Duration::from_secs(60), || count.load(Ordering::Relaxed) == 0), "all are closed");
}

#[test]
fn p7_it_fires_while_tasks_wait_and_not_before() {
    let group = Group::new("fires");
    let triggers = Triggers::start().unwrap();
    let told = counter();
    let trigger =
        triggers.arm(group.file(), b"some 100000 2000000", Place::take(&counter()).unwrap()).unwrap();
    let of_kernel = Arc::clone(&told);
    let notify: Notify = Box::new(move || {
        of_kernel.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(trigger.poll(Some(notify)), Event::None);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(
        (trigger.poll(None), told.load(Ordering::Relaxed)),
        (Event::None, 0),
        "nobody is in the group"
    );
    let cpus = std::thread::available_parallelism().unwrap().get();
    let burners: Vec<_> = (0..cpus + 2).map(|_| group.burner()).collect();
    assert!(within(Duration::from_secs(20), || told.load(Ordering::Relaxed) > 0), "told");
    drop(burners);
    assert_eq!(trigger.poll(None), Event::Fired);
    assert_eq!(trigger.poll(None), Event::None, "once");
}

#[test]
fn p7_a_group_that_goes_breaks_its_triggers() {
    let group = Group::new("gone");
    let triggers = Triggers::start().unwrap();
    let trigger =
        triggers.arm(group.file(), b"some 100000 2000000", Place::take(&counter()).unwrap()).unwrap();
    let told = counter();
    let of_kernel = Arc::clone(&told);
    let notify: Notify = Box::new(move || {
        of_kernel.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(trigger.poll(Some(notify)), Event::None);
    drop(group);
    assert!(within(Duration::from_secs(10), || trigger.poll(None) == Event::Gone));
    assert_eq!(trigger.poll(None), Event::Gone, "and for ever");
    std::thread::sleep(Duration::from_millis(200));
    assert!(told.load(Ordering::Relaxed) <= 2, "not again and again: {told:?}");
}

/// `cgroup.pressure` takes a group's files away, also those that are open, and brings them back.
#[test]
fn p3_switched_off_for_the_group() {
    let group = Group::new("off");
    let switch = group.dir.join("cgroup.pressure");
    std::fs::write(&switch, "0").unwrap();
    assert_eq!(group.set.pressure(PressureResource::Cpu, <[u8]>::len), None);
    assert_eq!(group.set.open_pressure(PressureResource::Cpu).map(|_| ()), Err(Errno::OPNOTSUPP));
    assert_eq!((group.set.faults(), group.set.is_gone()), (0, false));
    std::fs::write(&switch, "1").unwrap();
    assert!(
        within(Duration::from_secs(2), || group.set.pressure(PressureResource::Cpu, <[u8]>::len) > Some(0))
    );
}
