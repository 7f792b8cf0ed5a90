//! What a group says.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use ownproc::cgroup::parse::proc_cgroup::{self, LineHierarchy};
use ownproc::cgroup::parse::{self, cpu, io, memory, mountinfo, scalar};
use ownproc::cgroup::{GroupSet, Layout, Membership, Version};
use ownproc::model::{Bytes, CpuSet, MemoryCounter, MemoryStat, Nsec, Usec};

use crate::fixture::{Arch, Fixture, Flavour, Group};
use crate::input::head;

/// The simplest reading of "one decimal number" that there is.
fn plain_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// One number, a limit, a quota, a list of numbers.
pub fn cgroup_scalar(data: &[u8]) {
    let number = scalar::number(data);
    assert_eq!(number, plain_number(data));
    assert_eq!(scalar::counter(data).ok(), number);
    if let Ok(limit) = scalar::limit(data) {
        assert!(limit.is_none_or(|Bytes(n)| n < scalar::V1_UNLIMITED && Some(n) == number));
        assert!(limit.is_some() || number.is_none_or(|n| n >= scalar::V1_UNLIMITED));
    }
    if let Ok(quota) = scalar::cfs_quota(data) {
        assert!(quota.is_none_or(|Usec(n)| n > 0 && Some(n) == number));
    }
    let mut list = vec![Nsec(77)];
    if scalar::list_into(data, &mut list).is_ok() {
        let mut again = vec![Nsec(77)];
        let printed: String = list[1..].iter().fold(String::new(), |mut text, Nsec(n)| {
            let _ = write!(text, "{n} ");
            text
        });
        assert_eq!(scalar::list_into(printed.as_bytes(), &mut again), Ok(()));
        assert_eq!(again, list);
    }
    assert_eq!(list[0], Nsec(77), "what is there stays");
    assert!(parse::lines(data).all(|line| !line.is_empty() && !line.contains(&b'\n')));
    for (key, value) in parse::pairs(data) {
        let line = [key, b" ", value.to_string().as_bytes()].concat();
        assert_eq!(parse::pairs(&line).next(), Some((key, value)));
    }
}

type StatKey = (&'static str, fn(&MemoryStat) -> Bytes);

const V1_KEYS: &[StatKey] = &[
    ("total_cache", |s| s.file),
    ("total_rss", |s| s.anon),
    ("total_rss_huge", |s| s.anon_thp),
    ("total_shmem", |s| s.shmem),
    ("total_mapped_file", |s| s.file_mapped),
    ("total_dirty", |s| s.file_dirty),
    ("total_writeback", |s| s.file_writeback),
    ("total_swapcached", |s| s.swapcached),
    ("total_inactive_anon", |s| s.inactive_anon),
    ("total_active_anon", |s| s.active_anon),
    ("total_inactive_file", |s| s.inactive_file),
    ("total_active_file", |s| s.active_file),
    ("total_unevictable", |s| s.unevictable),
];

const V2_KEYS: &[StatKey] = &[
    ("anon", |s| s.anon),
    ("file", |s| s.file),
    ("shmem", |s| s.shmem),
    ("file_mapped", |s| s.file_mapped),
    ("file_dirty", |s| s.file_dirty),
    ("file_writeback", |s| s.file_writeback),
    ("swapcached", |s| s.swapcached),
    ("inactive_anon", |s| s.inactive_anon),
    ("active_anon", |s| s.active_anon),
    ("inactive_file", |s| s.inactive_file),
    ("active_file", |s| s.active_file),
    ("unevictable", |s| s.unevictable),
    ("anon_thp", |s| s.anon_thp),
    ("shmem_thp", |s| s.shmem_thp),
    ("file_thp", |s| s.file_thp),
    ("slab", |s| s.slab),
    ("slab_reclaimable", |s| s.slab_reclaimable),
    ("slab_unreclaimable", |s| s.slab_unreclaimable),
    ("kernel_stack", |s| s.kernel_stack),
    ("pagetables", |s| s.pagetables),
    ("sec_pagetables", |s| s.sec_pagetables),
    ("percpu", |s| s.percpu),
    ("vmalloc", |s| s.vmalloc),
    ("zswap", |s| s.zswap),
    ("zswapped", |s| s.zswapped),
];

/// `memory.stat` of both versions: each value is that of the last line with exactly its key.
pub fn cgroup_memory_stat(data: &[u8]) {
    for (version, keys) in [(Version::V1, V1_KEYS), (Version::V2, V2_KEYS)] {
        let stat = memory::stat(data, version);
        for (key, value) in keys {
            let line = |line: &&[u8]| line.split(|&b| b == b' ').next() == Some(key.as_bytes());
            let said = data.split(|&b| b == b'\n').filter(line);
            let said = said.filter_map(|line| plain_number(&line[key.len()..])).next_back();
            if *key != "slab" {
                assert_eq!(value(&stat).0, said.unwrap_or(0), "{key}");
            }
        }
        let counters = memory::counters(data, version);
        let prefix = if version == Version::V1 { "total_" } else { "" };
        let printed = MemoryCounter::ALL.iter().fold(String::new(), |mut text, counter| {
            let _ = writeln!(text, "{prefix}{} {}", counter.key(), counters.get(*counter));
            text
        });
        assert_eq!(memory::counters(printed.as_bytes(), version), counters);
        assert!(stat.slab >= stat.slab_reclaimable.max(stat.slab_unreclaimable));
        assert!(memory::reclaimable(&stat) >= stat.active_file.max(stat.inactive_file));
        let printed = keys.iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key} {}", value(&stat).0);
            text
        });
        assert_eq!(memory::stat(printed.as_bytes(), version), stat);
    }
    if let Some(kills) = memory::oom_kills(data) {
        assert_eq!(memory::oom_kills(format!("oom_kill {kills}\n").as_bytes()), Some(kills));
    }
}

/// `cpu.stat`, `cpu.stat.local`, `cpu.max`.
pub fn cgroup_cpu(data: &[u8]) {
    let stat = cpu::stat(data);
    let printed = format!(
        "usage_usec {}\nuser_usec {}\nsystem_usec {}\nnice_usec {}\nnr_throttled {}\nthrottled_usec {}\n",
        stat.usage.0, stat.user.0, stat.system.0, stat.nice.0, stat.nr_throttled, stat.throttled.0
    );
    assert_eq!(cpu::stat(printed.as_bytes()), stat);
    if let Some(Usec(local)) = cpu::stat_local(data) {
        assert_eq!(cpu::stat_local(format!("throttled_usec {local}\n").as_bytes()), Some(Usec(local)));
    }
    match cpu::max(data) {
        Ok(Some(quota)) => {
            assert!(
                quota.quota.0 > 0 && quota.period.0 > 0 && quota.millicpus() > 0 && quota.ceil_cpus() > 0
            );
            let printed = format!("{} {}\n", quota.quota.0, quota.period.0);
            assert_eq!(cpu::max(printed.as_bytes()), Ok(Some(quota)));
        }
        Ok(None) => {}
        Err(error) => assert!(error.line.chars().count() <= 200),
    }
}

/// Writes every byte that is no letter or digit as the kernel writes a blank.
fn escape(text: &[u8]) -> String {
    text.iter().fold(String::new(), |mut out, &byte| {
        if byte.is_ascii_alphanumeric() || byte == b'/' {
            out.push(byte.into());
        } else {
            let _ = write!(out, "\\{byte:03o}");
        }
        out
    })
}

/// The cgroup mounts of a mountinfo.
pub fn cgroup_mountinfo(data: &[u8]) {
    let mounts = match mountinfo::cgroup_mounts(data) {
        Ok(mounts) => mounts,
        Err(error) => return assert!(error.line.chars().count() <= 200),
    };
    assert!(mounts.len() <= parse::lines(data).count());
    let printed = mounts.iter().fold(String::new(), |mut text, mount| {
        let kind = if mount.version == Version::V1 { "cgroup" } else { "cgroup2" };
        let mut options = "rw".to_owned();
        for controller in &mount.controllers {
            let _ = write!(options, ",{controller}");
        }
        if let Some(name) = &mount.name {
            let _ = write!(options, ",name={}", escape(name.as_bytes()));
        }
        let (major, minor) = mount.device;
        let root = escape(mount.root.as_os_str().as_bytes());
        let point = escape(mount.mountpoint.as_os_str().as_bytes());
        let _ = writeln!(text, "1 2 {major}:{minor} {root} {point} rw shared:1 - {kind} x {options}");
        text
    });
    assert_eq!(mountinfo::cgroup_mounts(printed.as_bytes()).as_ref(), Ok(&mounts), "{printed}");
}

/// `/proc/PID/cgroup`, line by line.
pub fn cgroup_proc_cgroup(data: &[u8]) {
    for line in proc_cgroup::parse(data) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                assert!(error.line.chars().count() <= 200);
                continue;
            }
        };
        assert!(line.path.starts_with(b"/"));
        let list = match line.hierarchy {
            LineHierarchy::V2 => Vec::new(),
            LineHierarchy::Named(name) => [b"name=", name].concat(),
            LineHierarchy::Controllers(list) => list.to_vec(),
        };
        let printed = [b"4:", &*list, b":", line.path].concat();
        assert_eq!(proc_cgroup::parse(&printed).next(), Some(Ok(line)));
    }
}

/// One host of each flavour with two nested groups, made once.
fn hosts() -> &'static [(Fixture, Layout)] {
    static HOSTS: OnceLock<Vec<(Fixture, Layout)>> = OnceLock::new();
    HOSTS.get_or_init(|| {
        [Flavour::V1, Flavour::Hybrid, Flavour::V2]
            .map(|flavour| {
                let host = Fixture::new(flavour, 2, Arch::X86);
                host.group("/a", &Group { memory: Some(64 << 20), cpus: "0-1".into(), ..Group::default() });
                host.group("/a/b", &Group { usage: 1 << 20, cpus: "1".into(), ..Group::default() });
                let layout = Layout::discover(host.root()).unwrap();
                (host, layout)
            })
            .into()
    })
}

/// `/proc/PID/cgroup` over real hierarchies: whatever it says, no group outside of them is opened, and every group
/// that is can be read.
pub fn cgroup_membership(data: &[u8]) {
    for (_, layout) in hosts() {
        let membership = Membership::parse(data, layout);
        assert_eq!(membership.paths().len(), layout.hierarchies().len());
        assert!(membership.paths().iter().all(|path| path.has_root() && !path.starts_with("/..")));
        assert_eq!(membership.map(|_, path| path.to_owned()), membership);
        if membership.is_root() {
            continue;
        }
        let Ok(groups) = GroupSet::open(layout, &membership) else { continue };
        let below = |path: &Path| ["/", "/a", "/a/b"].iter().any(|known| path == Path::new(known));
        for index in 0..layout.hierarchies().len() {
            assert!(below(groups.path(index)), "{}", groups.path(index).display());
        }
        let memory = groups.memory();
        assert!(memory.levels.len() <= 2 && memory.levels.iter().all(|level| level.usage.0 <= 1 << 20));
        assert_eq!(groups.cpu(&CpuSet::first(2)).online, CpuSet::first(2));
    }
}

/// A mountinfo over a directory tree that has the mount points of every flavour.
pub fn cgroup_layout(data: &[u8]) {
    let (option, text) = head(data);
    let (host, _) = &hosts()[usize::from(option) % hosts().len()];
    // The layout of this host was found already; its mountinfo is not read again.
    let path = host.root().join("proc/self/mountinfo");
    std::fs::write(path, text).unwrap();
    let Ok(layout) = Layout::discover(host.root()) else { return };
    assert!(!layout.hierarchies().is_empty());
    for (index, hierarchy) in layout.hierarchies().iter().enumerate() {
        assert!(
            hierarchy.version() == Version::V2
                || hierarchy.name().is_some()
                || !hierarchy.controllers().is_empty()
        );
        assert!(layout.get(index).is_some());
        assert!(hierarchy.file_path(Path::new("/a/../.."), "x").ends_with("x"));
    }
    assert!(layout.accounting().is_none_or(|index| index < layout.hierarchies().len()));
    assert_eq!(Membership::parse("0::/a\n2:cpu:/a\n", &layout).paths().len(), layout.hierarchies().len());
}

/// v2 `io.stat` and v1 `blkio.throttle.*`.
pub fn cgroup_io(data: &[u8]) {
    for (disk, used) in io::stat(data) {
        let printed = format!(
            "{}:{} rbytes={} wbytes={} rios={} wios={} dbytes={} dios={}\n",
            disk.major,
            disk.minor,
            used.read.bytes.0,
            used.write.bytes.0,
            used.read.operations,
            used.write.operations,
            used.discard.bytes.0,
            used.discard.operations
        );
        assert_eq!(io::stat(printed.as_bytes()).collect::<Vec<_>>(), [(disk, used)]);
    }
    for (disk, operation, number) in io::throttle(data) {
        let printed = format!("{}:{} {operation:?} {number}\n", disk.major, disk.minor);
        assert_eq!(io::throttle(printed.as_bytes()).collect::<Vec<_>>(), [(disk, operation, number)]);
    }
}
