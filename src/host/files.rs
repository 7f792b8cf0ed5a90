//! The host's files, kept open.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::clocks::{ClockSource, Clocks};
use super::error::HostError;
use super::parse;
use super::process::Process;
use super::syscpu::SysTree;
use crate::cgroup::ParseError;
use crate::cgroup::kept::{KeptFile, read_fd};
use crate::model::{
    Bytes, CpuSet, DiskId, HostCpuinfo, HostDisks, HostMeminfo, HostNodes, HostPid, HostStat, Nsec,
    PageSizes, PressureResource,
};
use crate::render::{SYS_CPU_PATHS, SYS_NODE_PATHS};

/// How long the parsed `/proc/cpuinfo` and the shape of `/proc/stat` serve: both cost the kernel microseconds
/// per CPU, and nothing in them but clock rates and host counters changes without a CPU going on- or offline.
const SERVES_FOR: Nsec = Nsec(1_000_000_000);
/// Files whose layout is the template of a container's: `/proc` names.
const TEMPLATES: &[&str] = &[
    "vmstat",
    "zoneinfo",
    "buddyinfo",
    "slabinfo",
    "schedstat",
    "softirqs",
    "interrupts",
    "cgroups",
    "modules",
    "pressure/cpu",
    "pressure/memory",
    "pressure/io",
    "pressure/irq",
];

/// How long `/proc/meminfo` serves. The kernel itself folds the counters behind it once a second
/// (`vm.stat_interval`), so this adds nothing that could be noticed, and it spares a burst of reads a third of
/// their cost.
const MEMINFO_SERVES_FOR: Nsec = Nsec(10_000_000);

/// The host as one root directory shows it.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    proc: OwnedFd,
    cpus: SysTree,
    nodes: Option<SysTree>,
    clock: ClockSource,
    meminfo: KeptFile,
    stat: KeptFile,
    cpuinfo: KeptFile,
    uptime: KeptFile,
    online: KeptFile,
    possible: KeptFile,
    present: KeptFile,
    kernel_max: KeptFile,
    cached_cpuinfo: Cached<HostCpuinfo>,
    cached_stat: Cached<HostStat>,
    cached_meminfo: Cached<HostMeminfo>,
    cached_nodes: Cached<HostNodes>,
    diskstats: KeptFile,
    cached_disks: Cached<HostDisks>,
    templates: Vec<(KeptFile, Cached<String>)>,
    own_timens: Option<u64>,
    page_sizes: PageSizes,
    boot_id: OnceLock<[u8; 16]>,
    jiffies_rate: OnceLock<u64>,
}

/// A parsed file with the time it was read at and the CPUs online then.
#[derive(Debug)]
struct Cached<T> {
    serves_for: Nsec,
    value: RwLock<Option<(Nsec, CpuSet, Arc<T>)>>,
    refresh: Mutex<()>,
}

impl<T> Cached<T> {
    const fn new(serves_for: Nsec) -> Self {
        Self { serves_for, value: RwLock::new(None), refresh: Mutex::new(()) }
    }

    fn get(
        &self,
        now: Nsec,
        online: &CpuSet,
        read: impl FnOnce() -> Result<T, HostError>,
    ) -> Result<Arc<T>, HostError> {
        let fresh = |held: &Option<(Nsec, CpuSet, Arc<T>)>| {
            let (at, cpus, value) = held.as_ref()?;
            let fresh = now.minus(*at) < self.serves_for && now >= *at && cpus == online;
            fresh.then(|| value.clone())
        };
        if let Some(value) = fresh(&self.value.read()) {
            return Ok(value);
        }
        // One thread reads; those that come meanwhile wait for its result instead of reading too.
        let _one = self.refresh.lock();
        if let Some(value) = fresh(&self.value.read()) {
            return Ok(value);
        }
        let value = Arc::new(read()?);
        *self.value.write() = Some((now, online.clone(), value.clone()));
        Ok(value)
    }
}

impl Host {
    /// Opens `ROOT/proc` and `ROOT/sys/devices/system/cpu`; `/` is the real host.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        Self::open_with(root, ClockSource::Kernel)
    }

    /// The same with other clocks.
    pub fn open_with(root: &Path, clock: ClockSource) -> Result<Self, HostError> {
        let path = root.join("proc");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| HostError::io(&path, e))?;
        let cpus = SysTree::open(&root.join("sys/devices/system/cpu"), SYS_CPU_PATHS)?;
        let nodes = match SysTree::open(&root.join("sys/devices/system/node"), SYS_NODE_PATHS) {
            Ok(nodes) => Some(nodes),
            Err(error) if error.errno() == libc::ENOENT => None, // a kernel without NUMA
            Err(error) => return Err(error),
        };
        let mut host = Self {
            root: root.to_owned(),
            proc,
            cpus,
            nodes,
            clock,
            meminfo: KeptFile::new("meminfo"),
            stat: KeptFile::new("stat"),
            cpuinfo: KeptFile::new("cpuinfo"),
            uptime: KeptFile::new("uptime"),
            online: KeptFile::new("online"),
            possible: KeptFile::new("possible"),
            present: KeptFile::new("present"),
            kernel_max: KeptFile::new("kernel_max"),
            cached_cpuinfo: Cached::new(SERVES_FOR),
            cached_stat: Cached::new(SERVES_FOR),
            cached_meminfo: Cached::new(MEMINFO_SERVES_FOR),
            cached_nodes: Cached::new(SERVES_FOR),
            diskstats: KeptFile::new("diskstats"),
            cached_disks: Cached::new(SERVES_FOR),
            templates: TEMPLATES.iter().map(|name| (KeptFile::new(*name), Cached::new(SERVES_FOR))).collect(),
            own_timens: None,
            page_sizes: page_sizes(root),
            boot_id: OnceLock::new(),
            jiffies_rate: OnceLock::new(),
        };
        host.own_timens = Process::open_self(&host).and_then(|own| own.namespace("time"));
        Ok(host)
    }

    /// The root that was given.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `ROOT/proc`.
    pub(super) const fn proc(&self) -> &OwnedFd {
        &self.proc
    }

    /// The inode of the daemon's own time namespace; `None` on kernels without (before 5.6).
    #[must_use]
    pub const fn own_timens(&self) -> Option<u64> {
        self.own_timens
    }

    /// How large pages are: constants of the running kernel.
    #[must_use]
    pub const fn page_sizes(&self) -> PageSizes {
        self.page_sizes
    }

    /// `/proc/sys/kernel/random/boot_id`: the same until the next boot.
    pub fn boot_id(&self) -> Result<[u8; 16], HostError> {
        if let Some(id) = self.boot_id.get() {
            return Ok(*id);
        }
        let id = self.proc_file(&KeptFile::new("sys/kernel/random/boot_id"), parse::boot_id::boot_id)?;
        Ok(*self.boot_id.get_or_init(|| id))
    }

    /// `ROOT/sys/devices/system/cpu`.
    #[must_use]
    pub const fn cpus(&self) -> &SysTree {
        &self.cpus
    }

    /// `ROOT/sys/devices/system/node`; `None` where the kernel has no such directory.
    #[must_use]
    pub const fn node_tree(&self) -> Option<&SysTree> {
        self.nodes.as_ref()
    }

    /// The nodes as `read` gives them, or as it gave them less than a second ago for the same online CPUs.
    pub(super) fn cached_nodes(
        &self,
        read: impl FnOnce() -> Result<HostNodes, HostError>,
    ) -> Result<Arc<HostNodes>, HostError> {
        let online = self.online()?;
        self.cached_nodes.get(self.clocks().monotonic, &online, read)
    }

    /// The clocks now.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        self.clock.now()
    }

    /// `/proc/meminfo`, at most 10 ms old.
    pub fn meminfo(&self) -> Result<Arc<HostMeminfo>, HostError> {
        self.cached_meminfo.get(self.clocks().monotonic, &CpuSet::EMPTY, || {
            self.proc_file(&self.meminfo, parse::meminfo::meminfo)
        })
    }

    /// `/proc/stat` as it is now, all counters fresh.
    pub fn stat(&self) -> Result<HostStat, HostError> {
        self.proc_file(&self.stat, parse::stat::stat)
    }

    /// `/proc/stat` at most one second old (its shape does not change, and `btime` only when the clock is
    /// set): for views that show none of its counters.
    pub fn stat_shape(&self) -> Result<Arc<HostStat>, HostError> {
        self.cached_stat.get(self.clocks().monotonic, &CpuSet::EMPTY, || self.stat())
    }

    /// `/proc/cpuinfo`, at most one second old and never older than the last change of the online CPUs.
    pub fn cpuinfo(&self) -> Result<Arc<HostCpuinfo>, HostError> {
        let online = self.online()?;
        self.cached_cpuinfo.get(self.clocks().monotonic, &online, || {
            self.proc_file(&self.cpuinfo, |text| Ok(parse::cpuinfo::cpuinfo(text)))
        })
    }

    /// The text of one of the files that are laid out as the host's (see `TEMPLATES`), at most one second old and never
    /// older than the last change of the online CPUs. ENOENT for any other name.
    pub fn template(&self, name: &str) -> Result<Arc<String>, HostError> {
        let missing = || HostError::io(self.root.join("proc").join(name), rustix::io::Errno::NOENT);
        let (file, cached) =
            self.templates.iter().find(|(file, _)| file.name() == name).ok_or_else(missing)?;
        let online = self.online()?;
        cached.get(self.clocks().monotonic, &online, || {
            self.proc_file(file, |text| Ok(String::from_utf8_lossy(text).into_owned()))
        })
    }

    /// The disks in `/proc/diskstats`, at most one second old.
    pub fn disks(&self) -> Result<Arc<HostDisks>, HostError> {
        self.cached_disks.get(self.clocks().monotonic, &CpuSet::EMPTY, || {
            self.proc_file(&self.diskstats, |text| Ok(parse::diskstats::diskstats(text)))
        })
    }

    /// The name of a disk that is not in [`Self::disks`] (yet), by its link in `/sys/dev/block`.
    #[must_use]
    pub fn disk_name(&self, disk: DiskId) -> Option<String> {
        let path = self.root.join("sys/dev/block").join(format!("{}:{}", disk.major, disk.minor));
        let target = std::fs::read_link(path).ok()?;
        // sysfs has no slash within a name: cciss!c0d0 is cciss/c0d0 elsewhere
        Some(target.file_name()?.to_str()?.replace('!', "/"))
    }

    /// Opens `/proc/pressure/RESOURCE` for a trigger.
    pub fn open_pressure(&self, resource: PressureResource) -> Result<OwnedFd, rustix::io::Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        crate::cgroup::kept::open_beneath(self.proc.as_fd(), resource.host_file(), flags)
    }

    /// How many jiffies a second has (CONFIG_HZ), as far as its schedstat and clock tell. Once known it stays: a constant
    /// of the kernel, while each look at it may come at a bad moment.
    #[must_use]
    pub fn jiffies_rate(&self) -> Option<u64> {
        if let Some(known) = self.jiffies_rate.get() {
            return Some(*known);
        }
        let rate = crate::render::jiffies_rate(&self.template("schedstat").ok()?, self.clocks().monotonic)?;
        Some(*self.jiffies_rate.get_or_init(|| rate))
    }

    /// Takes over what another process has found out with [`Self::jiffies_rate`].
    pub fn know_jiffies_rate(&self, rate: u64) {
        let _ = self.jiffies_rate.set(rate); // what it found out itself is the same
    }

    /// The second since 1970 in which the host booted.
    pub fn btime(&self) -> Result<u64, HostError> {
        self.stat_shape().map(|stat| stat.btime)
    }

    /// CPUs that are online.
    pub fn online(&self) -> Result<CpuSet, HostError> {
        self.cpu_list(&self.online)
    }

    /// CPUs that could ever come online without a reboot.
    pub fn possible(&self) -> Result<CpuSet, HostError> {
        self.cpu_list(&self.possible)
    }

    /// CPUs that are in the machine.
    pub fn present(&self) -> Result<CpuSet, HostError> {
        self.cpu_list(&self.present)
    }

    /// The highest CPU number that the kernel is built for.
    pub fn kernel_max(&self) -> Result<u64, HostError> {
        self.sys_file(&self.kernel_max, crate::cgroup::parse::scalar::counter)
    }

    /// Whether there is such a file below `ROOT/proc`. It is not opened: for some the kernel works long before the first
    /// byte comes.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let found = rustix::fs::statat(&self.proc, name, AtFlags::empty());
        !matches!(found, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
    }

    /// The text of a file below `ROOT/proc` as it is now, appended to `out`, for those whose container is the
    /// host. The four files of the tree are kept open, any other is opened each time.
    pub fn raw(&self, name: &str, out: &mut Vec<u8>) -> Result<(), HostError> {
        let kept = [&self.meminfo, &self.stat, &self.cpuinfo, &self.uptime];
        match kept.into_iter().find(|file| file.name() == name) {
            Some(file) => self.proc_file(file, |text| {
                out.extend_from_slice(text);
                Ok(())
            }),
            None => {
                let io = |e| HostError::io(self.root.join("proc").join(name), e);
                let fd =
                    crate::cgroup::kept::open_beneath(self.proc.as_fd(), name, OFlags::RDONLY).map_err(io)?;
                read_fd(fd.as_fd(), |text| out.extend_from_slice(text)).map_err(io)
            }
        }
    }

    /// The inode of a namespace of a thread that is known to live: one that waits for our answer. One system
    /// call, where holding the thread takes three.
    #[must_use]
    pub fn namespace_of(&self, pid: HostPid, kind: &str) -> Option<u64> {
        let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); 64];
        let path = format!("{pid}/ns/{kind}");
        let (link, _) = rustix::fs::readlinkat_raw(&self.proc, path, &mut buffer).ok()?;
        parse::process::namespace(link)
    }

    /// A process by its id.
    #[must_use]
    pub fn process(&self, pid: HostPid) -> Option<Process> {
        Process::open(self, pid)
    }

    fn cpu_list(&self, file: &KeptFile) -> Result<CpuSet, HostError> {
        self.sys_file(file, |text| {
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| CpuSet::parse(text).ok())
                .ok_or_else(|| ParseError::new("expected a CPU list such as 0-3,8", text))
        })
    }

    fn proc_file<R>(
        &self,
        file: &KeptFile,
        parse: impl FnOnce(&[u8]) -> Result<R, ParseError>,
    ) -> Result<R, HostError> {
        self.file(&self.proc, "proc", file, parse)
    }

    fn sys_file<R>(
        &self,
        file: &KeptFile,
        parse: impl FnOnce(&[u8]) -> Result<R, ParseError>,
    ) -> Result<R, HostError> {
        self.file(self.cpus.dir(), "sys/devices/system/cpu", file, parse)
    }

    fn file<R>(
        &self,
        dir: &OwnedFd,
        below: &str,
        file: &KeptFile,
        parse: impl FnOnce(&[u8]) -> Result<R, ParseError>,
    ) -> Result<R, HostError> {
        let path = || self.root.join(below).join(file.name());
        file.read(dir.as_fd(), parse)
            .map_err(|miss| HostError::io(path(), miss.errno()))?
            .map_err(|source| HostError::Parse { path: path(), source })
    }
}

/// Page sizes do not depend on the root but for the one that is read below it; a kernel without transparent huge pages
/// has no such file.
fn page_sizes(root: &Path) -> PageSizes {
    let huge = std::fs::read(root.join("sys/kernel/mm/transparent_hugepage/hpage_pmd_size"));
    let huge = huge.ok().and_then(|text| crate::cgroup::parse::scalar::number(&text)).map(Bytes);
    PageSizes::new(Bytes(rustix::param::page_size() as u64), huge)
}
