//! The cpu controller and CPU accounting over all levels.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::{GroupSet, Resource};
use crate::cgroup::kept::KeptFile;
use crate::cgroup::parse::cpu::{self as parse, CpuStat};
use crate::cgroup::parse::scalar;
use crate::model::{CpuLevel, CpuReading, CpuSet, CpuUsage, Nsec, Quota, Usec};

/// The files of one level of the cpu controller.
#[derive(Debug)]
pub(in crate::cgroup) struct Files {
    /// v1 `cpu.cfs_quota_us`, v2 `cpu.max`.
    pub(in crate::cgroup) quota: KeptFile,
    /// v1 only; v2 has it in `cpu.max`.
    period: Option<KeptFile>,
    stat: KeptFile,
    local: KeptFile,
    /// Whether the level had a quota, or was ever throttled by one, when last read.
    throttles: AtomicBool,
}

impl Files {
    pub(in crate::cgroup) fn new(version: Version, _: &GroupDir) -> Self {
        let v1 = version == Version::V1;
        Self {
            quota: KeptFile::new(if v1 { "cpu.cfs_quota_us" } else { "cpu.max" }),
            period: v1.then(|| KeptFile::new("cpu.cfs_period_us")),
            stat: KeptFile::new("cpu.stat"),
            local: KeptFile::new("cpu.stat.local"),
            throttles: AtomicBool::new(true),
        }
    }
}

/// The files that account CPU time at one level.
#[derive(Debug)]
pub(in crate::cgroup) struct AccountingFiles {
    /// v1 `cpuacct.usage`, v2 `cpu.stat`.
    usage: KeptFile,
    /// v1 only: `cpuacct.usage_percpu`, `.usage_user`, `.usage_sys`.
    percpu: Option<[KeptFile; 3]>,
}

impl AccountingFiles {
    pub(in crate::cgroup) fn new(version: Version, _: &GroupDir) -> Self {
        match version {
            Version::V1 => Self {
                usage: KeptFile::new("cpuacct.usage"),
                percpu: Some(
                    ["cpuacct.usage_percpu", "cpuacct.usage_user", "cpuacct.usage_sys"].map(KeptFile::new),
                ),
            },
            Version::V2 => Self { usage: KeptFile::new("cpu.stat"), percpu: None },
        }
    }
}

impl GroupSet {
    /// Everything about CPUs: quotas, throttling, time used and the cpuset. `online` is the host's set.
    #[must_use]
    pub fn cpu(&self, online: &CpuSet) -> CpuReading {
        self.read_cpu(online, true)
    }

    /// Quotas and the cpuset alone: enough to say which CPUs are shown. No time used, no throttling.
    #[must_use]
    pub fn cpu_limits(&self, online: &CpuSet) -> CpuReading {
        self.read_cpu(online, false)
    }

    /// CPU time used, and time its tasks waited for a quota as the group itself counts it; `None` where nothing accounts the
    /// group. Two or three reads, where [`Self::cpu`] takes many.
    #[must_use]
    pub fn cpu_demand(&self) -> Option<Usec> {
        let accounting = self.accounting.as_ref()?;
        let (dir, files) = self.each(accounting).next()?;
        let used = self.used(accounting.version, dir, files)?;
        let Some((dir, files)) = self.cpu.as_ref().and_then(|cpu| self.each(cpu).next()) else {
            return Some(used);
        };
        let local = self.value(dir, &files.local, |text| Ok(parse::stat_local(text))).flatten();
        Some(used.plus(local.unwrap_or_else(|| self.cpu_stat(dir, &files.stat).throttled)))
    }

    fn read_cpu(&self, online: &CpuSet, counters: bool) -> CpuReading {
        let mut reading = CpuReading {
            levels: Vec::new(),
            throttled_local: None,
            usage: if counters { self.cpu_usage() } else { CpuUsage::Unknown },
            cpuset: self.cpus(),
            online: online.clone(),
        };
        let Some(cpu) = &self.cpu else { return reading };
        for (index, (dir, files)) in self.each(cpu).enumerate() {
            let Some(quota) = self.quota(cpu, dir, files) else { continue };
            let mut level = CpuLevel { quota, is_ancestor: index > 0, ..CpuLevel::default() };
            if counters {
                if index == 0 {
                    reading.throttled_local =
                        self.value(dir, &files.local, |text| Ok(parse::stat_local(text))).flatten();
                }
                self.throttling(cpu, dir, files, &mut level, reading.throttled_local.is_none());
            }
            reading.levels.push(level);
        }
        reading
    }

    /// The level's throttling and, where the group has no count of its own waiting, its usage.
    ///
    /// A level that never had a quota has nothing to say and is not read again until it gets one; its counters
    /// were 0 until then, so the first delta is right.
    fn throttling(
        &self,
        cpu: &Resource<Files>,
        dir: &GroupDir,
        files: &Files,
        level: &mut CpuLevel,
        usage: bool,
    ) {
        let limited = level.quota.is_some();
        if !limited && !files.throttles.load(Ordering::Relaxed) {
            return;
        }
        let stat = self.cpu_stat(dir, &files.stat);
        level.nr_throttled = stat.nr_throttled;
        level.throttled = stat.throttled;
        level.usage = stat.usage;
        files.throttles.store(limited || stat.nr_throttled > 0, Ordering::Relaxed);
        if cpu.version == Version::V1 && limited && usage {
            level.usage = self.accounted_at(dir);
        }
    }

    /// The level's quota; the outer `None` where the level has no cpu controller.
    fn quota(&self, cpu: &Resource<Files>, dir: &GroupDir, files: &Files) -> Option<Option<Quota>> {
        match (&files.period, cpu.version) {
            (Some(period), Version::V1) => {
                let Some(quota) = self.value(dir, &files.quota, scalar::cfs_quota)? else {
                    return Some(None);
                };
                let period = Usec(self.value(dir, period, scalar::counter)?);
                Some(Quota::new(quota, period))
            }
            _ => self.value(dir, &files.quota, parse::max),
        }
    }

    fn cpu_stat(&self, dir: &GroupDir, file: &KeptFile) -> CpuStat {
        self.value(dir, file, |text| Ok(parse::stat(text))).unwrap_or_default()
    }

    /// v1: the time accounted at the group of the same path in the cpuacct hierarchy.
    fn accounted_at(&self, dir: &GroupDir) -> Usec {
        let Some(accounting) = &self.accounting else { return Usec::ZERO };
        let same = self.each(accounting).find(|(group, _)| group.path() == dir.path());
        same.and_then(|(dir, files)| self.used(accounting.version, dir, files)).unwrap_or_default()
    }

    fn used(&self, version: Version, dir: &GroupDir, files: &AccountingFiles) -> Option<Usec> {
        match version {
            Version::V1 => self.value(dir, &files.usage, scalar::counter).map(|nanos| Nsec(nanos).usec()),
            Version::V2 => self.value(dir, &files.usage, |text| Ok(parse::stat(text).usage)),
        }
    }

    /// The group's own CPU time. No ancestor stands in where the group is gone: its counters would make the
    /// container's jump, so they are said to be unknown and the last good ones serve.
    fn cpu_usage(&self) -> CpuUsage {
        let Some(accounting) = &self.accounting else { return CpuUsage::Unknown };
        let Some((dir, files)) = self.each(accounting).next() else { return CpuUsage::Unknown };
        self.usage_of(dir, files).unwrap_or(CpuUsage::Unknown)
    }

    fn usage_of(&self, dir: &GroupDir, files: &AccountingFiles) -> Option<CpuUsage> {
        let Some([percpu, user, system]) = &files.percpu else {
            let stat = self.value(dir, &files.usage, |text| Ok(parse::stat(text)))?;
            return Some(CpuUsage::Total { user: stat.user, system: stat.system, nice: stat.nice });
        };
        let mut per = Vec::new();
        self.value(dir, percpu, |text| scalar::list_into(text, &mut per))?;
        let split = |file| Nsec(self.value(dir, file, scalar::counter).unwrap_or_default());
        Some(CpuUsage::PerCpu { percpu: per, user: split(user), system: split(system) })
    }
}
