//! On the running kernel, whichever version it has.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::testing::{TestGroup, remove, wait_for};
use super::walk::WalkLimits;
use super::{Controller, GroupSet, Layout, Membership, Version};
use crate::model::{Bytes, CpuSet, CpuUsage, Quota, SwapLevel, Usec};

const MIB: u64 = 1 << 20;
const LIMITS: WalkLimits = WalkLimits { directories: 64, threads: 512 };

fn online() -> CpuSet {
    CpuSet::parse(&std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap()).unwrap()
}

#[test]
fn the_layout_has_the_controllers() {
    let layout = Layout::discover(Path::new("/")).unwrap();
    for controller in [Controller::Memory, Controller::Cpu, Controller::Cpuset] {
        let index = layout.hierarchy_of(controller).unwrap();
        assert!(layout.get(index).unwrap().controllers().contains(&controller));
        assert!(!layout.get(index).unwrap().top_is_group(), "{controller}");
    }
    assert!(layout.accounting().is_some());
}

#[test]
fn limits_of_every_level_the_root_left_out() {
    let group = TestGroup::new();
    group.make("a");
    group.make("a/leaf");
    group.set_memory("", 500 * MIB);
    group.set_memory("a", 600 * MIB);
    let reading = group.open("a/leaf").memory();
    let max: Vec<_> = reading.levels.iter().map(|level| level.max).collect();
    assert_eq!(max, [None, Some(Bytes(600 * MIB)), Some(Bytes(500 * MIB))]);
    group.set_memory("", 400 * MIB);
    let set = group.open("a/leaf");
    let _ = set.memory();
    group.set_memory("", 300 * MIB);
    assert_eq!(set.memory().levels[2].max, Some(Bytes(300 * MIB)), "a change shows at the next read");
    let file = set.memory_limit_file(2).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), (300 * MIB).to_string());
    assert_eq!(set.memory_limit_file(3), None);
    assert_eq!(set.faults(), 0);
}

#[test]
fn usage_and_stat_are_the_groups_own() {
    let group = TestGroup::new();
    group.make("leaf");
    group.set_memory("leaf", 200 * MIB);
    let set = group.open("leaf");
    assert!(set.memory().levels[0].usage.0 < 5 * MIB);
    // 40 MiB of shell variable: anonymous memory
    let shell =
        group.shell("leaf", "x=$(head -c 41943040 /dev/zero | tr '\\0' x); while :; do sleep 1; done");
    let mut found = set.memory();
    wait_for(|| {
        found = set.memory();
        found.stat.anon.0 >= 40 * MIB
    });
    drop(shell);
    assert!(found.levels[0].usage.0 >= 40 * MIB);
}

#[test]
fn quotas_and_throttling() {
    let group = TestGroup::new();
    group.make("leaf");
    let set = group.open("leaf");
    assert!(set.cpu(&online()).levels.iter().all(|level| level.quota.is_none()));
    group.set_quota("", 20_000);
    let reading = set.cpu(&online());
    assert_eq!(reading.levels[0].quota, None);
    assert_eq!(reading.levels[1].quota, Quota::new(Usec(20_000), Usec(100_000)));
    let burner = group.shell("leaf", "while :; do :; done");
    wait_for(|| set.cpu(&online()).levels[1].nr_throttled >= 5);
    drop(burner);
    let reading = set.cpu(&online());
    assert!(reading.levels[1].throttled >= Usec(50_000), "{reading:?}");
    assert_eq!(reading.levels[0].nr_throttled, 0, "the leaf has no quota of its own");
    let has_local = group.dirs("leaf").iter().any(|dir| dir.join("cpu.stat.local").exists());
    assert_eq!(reading.throttled_local.is_some(), has_local);
    assert!(reading.throttled_local.is_none_or(|local| local >= Usec(50_000)), "{reading:?}");
    assert!(set.cpu_quota_file(1).unwrap().parent().unwrap().parent().unwrap().join("cgroup.procs").exists());
}

#[test]
fn cpu_time_is_the_groups_own() {
    let group = TestGroup::new();
    group.make("a");
    group.make("b");
    let (a, b) = (group.open("a"), group.open("b"));
    let started = Instant::now();
    let burner = group.shell("a", "while :; do :; done");
    wait_for(|| a.cpu(&online()).usage.total() >= Usec(300_000));
    drop(burner);
    let most = Usec(u64::try_from(started.elapsed().as_micros()).unwrap());
    let (used, idle) = (a.cpu(&online()).usage, b.cpu(&online()).usage);
    assert!(used.total() >= Usec(300_000) && used.total() <= most, "{used:?} in {most:?}");
    assert!(idle.total() <= Usec(50_000), "{idle:?}");
    let v1 = group.layout.hierarchy_of(Controller::Cpuacct).is_some();
    assert_eq!(matches!(used, CpuUsage::PerCpu { .. }), v1);
    assert_eq!(matches!(used, CpuUsage::Total { .. }), !v1);
    assert_ne!(a.identity(), b.identity());
}

#[test]
fn the_effective_cpuset_of_the_nearest_level() {
    let group = TestGroup::new();
    group.make("leaf");
    group.make("leaf/below");
    group.set_cpuset("", "0");
    group.set_cpuset("leaf", "0");
    let set = group.open("leaf/below");
    assert_eq!(set.cpus(), Some(CpuSet::first(1)), "v1: the group's own is empty, v2: inherited");
    assert_eq!(set.mems().unwrap().iter().next(), Some(0));
    let last = online().last().unwrap();
    group.set_cpuset("", &format!("0,{last}"));
    group.set_cpuset("leaf", &last.to_string());
    assert_eq!(set.cpus().unwrap().iter().collect::<Vec<_>>(), [last]);
    let file = set.cpuset_file().unwrap();
    assert_eq!(CpuSet::parse(&std::fs::read_to_string(file).unwrap()).unwrap(), set.cpus().unwrap());
}

#[test]
fn a_group_that_vanishes_leaves_its_ancestors() {
    let group = TestGroup::new();
    group.make("leaf");
    group.set_memory("", 100 * MIB);
    group.set_memory("leaf", 50 * MIB);
    group.set_quota("", 50_000);
    let set = group.open("leaf");
    assert_eq!(set.memory().levels.len(), 2);
    assert_eq!(set.cpu(&online()).levels.len(), 2);
    assert!(!set.is_gone());
    for dir in group.dirs("leaf") {
        remove(&dir);
    }
    let memory = set.memory();
    assert_eq!(memory.levels.iter().map(|level| level.max).collect::<Vec<_>>(), [Some(Bytes(100 * MIB))]);
    let cpu = set.cpu(&online());
    assert_eq!(cpu.levels.len(), 1);
    assert_eq!(cpu.levels[0].quota, Quota::new(Usec(50_000), Usec(100_000)));
    assert_eq!(cpu.usage, CpuUsage::Unknown, "an ancestor's counters are not the container's");
    assert!(set.is_gone());
    assert!(set.gone_levels() >= 1);
    assert_eq!(set.faults(), 0);
    let mut threads = Vec::new();
    assert!(set.threads(LIMITS, &mut threads) && threads.is_empty());
    // a group of the same name is another one
    group.make("leaf");
    assert_eq!(set.memory().levels.len(), 1);
    assert_ne!(set.identity(), group.open("leaf").identity());
    // opened when it is not there at all
    assert_eq!(group.open("leaf/gone/long ago").memory().levels.len(), 2);
}

#[test]
fn directories_passed_in_are_the_same_groups() {
    let group = TestGroup::new();
    group.make("a");
    group.make("a/leaf");
    group.set_memory("a", 300 * MIB);
    let by_path = group.open("a/leaf");
    let open = |dir: &Path| OwnedFd::from(std::fs::File::open(dir).unwrap());
    let dirs = group.hierarchies().into_iter().zip(group.dirs("a/leaf").into_iter().map(|dir| open(&dir)));
    let by_fd = GroupSet::from_dirs(&group.layout, dirs.collect()).unwrap();
    for index in group.hierarchies() {
        let ids = |set: &GroupSet| {
            set.levels(index).iter().map(|l| (l.id(), l.path().to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(ids(&by_path), ids(&by_fd));
        assert_eq!(ids(&by_fd).len(), 3);
    }
    assert_eq!(by_fd.memory().levels[1].max, Some(Bytes(300 * MIB)));
    assert_eq!(by_path.identity(), by_fd.identity());
    let index = group.hierarchies()[0];
    let wrong = GroupSet::from_dirs(&group.layout, vec![(index, open(Path::new("/tmp")))]);
    assert!(wrong.unwrap_err().to_string().contains("not a group below"));
    let wrong = GroupSet::from_dirs(&group.layout, vec![(99, open(Path::new("/tmp")))]);
    assert_eq!(wrong.unwrap_err().to_string(), "there is no hierarchy number 99");
    let dir = open(&group.dirs("a")[0]);
    assert_eq!(group.layout.hierarchy_of_dir(std::os::fd::AsFd::as_fd(&dir)), Some(index));
}

#[test]
fn membership_and_tasks_of_a_process() {
    let group = TestGroup::new();
    group.make("a b:c");
    group.make("a b:c/below");
    let dirs = group.task_dirs("a b:c/below");
    let moves: String = dirs.iter().map(|d| format!("echo $$ > '{}/cgroup.procs'; ", d.display())).collect();
    let child = super::testing::Running(
        std::process::Command::new("sh").args(["-c", &format!("{moves} exec sleep 60")]).spawn().unwrap(),
    );
    let pid = child.0.id();
    wait_for(|| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n");
    let text = std::fs::read(format!("/proc/{pid}/cgroup")).unwrap();
    let membership = Membership::parse(&text, &group.layout);
    let expected = group.membership("a b:c/below");
    let cpuset = group.layout.hierarchy_of(Controller::Cpuset);
    let v1_cpuset = cpuset.filter(|_| group.version(Controller::Cpuset) == Version::V1);
    for index in group.hierarchies().into_iter().filter(|index| Some(*index) != v1_cpuset) {
        assert_eq!(membership.path(index), expected.path(index));
    }
    let set = group.open("a b:c");
    let mut threads = Vec::new();
    assert!(set.threads(LIMITS, &mut threads));
    assert_eq!(threads.iter().map(|t| t.get() as u32).collect::<Vec<_>>(), [pid]);
    assert!(!set.threads(WalkLimits { directories: 1, threads: 512 }, &mut threads), "cut short");
}

#[test]
fn swap_is_read_where_the_kernel_counts_it() {
    let group = TestGroup::new();
    group.make("leaf");
    let set = group.open("leaf");
    let reading = set.memory();
    let file = |name: &str| group.dirs("leaf").iter().any(|dir| dir.join(name).exists());
    match group.version(Controller::Memory) {
        Version::V1 if file("memory.memsw.limit_in_bytes") => {
            assert!(matches!(reading.levels[0].swap, SwapLevel::MemoryAndSwap { max: None, .. }));
            group.set(Controller::Memory, "leaf", "memory.swappiness", "", "0");
            assert!(set.memory().swappiness_zero);
        }
        Version::V2 if file("memory.swap.max") => {
            assert!(matches!(reading.levels[0].swap, SwapLevel::Swap { max: None, .. }));
            group.set(Controller::Memory, "leaf", "", "memory.swap.max", "1048576");
            assert!(matches!(
                set.memory().levels[0].swap,
                SwapLevel::Swap { max: Some(Bytes(1_048_576)), .. }
            ));
        }
        _ => assert_eq!(reading.levels[0].swap, SwapLevel::Unknown),
    }
    assert_eq!(set.memory_with(false).levels[0].swap, SwapLevel::Unknown);
}

/// cgroup v2 alone can take controllers away from a living group; v1 hierarchies have them for good.
#[test]
fn a_leaf_without_controllers_takes_its_ancestors() {
    let group = TestGroup::new();
    group.make("a");
    group.set_memory("a", 64 * MIB);
    let Some(v2) = group.layout.v2().filter(|_| group.version(Controller::Memory) == Version::V2) else {
        // Here the same must hold for a group that one v1 hierarchy does not have.
        let index = group.layout.hierarchy_of(Controller::Memory).unwrap();
        let membership = group
            .membership("a")
            .map(|at, path| if at == index { path.join("not/there") } else { path.to_owned() });
        let set = GroupSet::open(&group.layout, &membership).unwrap();
        assert_eq!(set.memory().levels[0].max, Some(Bytes(64 * MIB)));
        return;
    };
    let dir = group.layout.get(v2).unwrap().file_path(group.membership("a").path(v2), "");
    std::fs::create_dir(dir.join("leaf")).unwrap();
    let set = group.open("a/leaf");
    let reading = set.memory();
    assert_eq!((reading.levels.len(), reading.levels[0].max), (2, Some(Bytes(64 * MIB))));
    assert_eq!(set.memory_limit_file(0).unwrap(), dir.join("memory.max"));
    let cpu = set.cpu(&online());
    assert_eq!((cpu.levels.len(), cpu.throttled_local), (2, None));
    assert!(matches!(cpu.usage, CpuUsage::Total { .. }), "every v2 group accounts CPU time");
    assert!(!set.is_gone());
    // switched on, off and on again
    for _ in 0..2 {
        std::fs::write(dir.join("cgroup.subtree_control"), "+memory").unwrap();
        std::fs::write(dir.join("leaf/memory.max"), "33554432").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(set.memory().levels[0].max, Some(Bytes(32 * MIB)));
        std::fs::write(dir.join("cgroup.subtree_control"), "-memory").unwrap();
        assert_eq!(set.memory().levels[0].max, Some(Bytes(64 * MIB)));
    }
    assert!(!set.is_gone());
    assert_eq!(set.faults(), 0);
}
