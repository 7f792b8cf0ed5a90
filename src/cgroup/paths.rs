//! Which file imposes a limit, for people to read. The index is that of a reading's `levels`.

use std::path::PathBuf;

use super::controller::Version;
use super::group::GroupSet;
use super::parse::{cpu, scalar};

impl GroupSet {
    /// The file that holds the memory limit of a level of [`GroupSet::memory`].
    #[must_use]
    pub fn memory_limit_file(&self, level: usize) -> Option<PathBuf> {
        self.memory_file(level, |files| files.max.name())
    }

    /// The file that holds `memory.high` of such a level; `None` on v1.
    #[must_use]
    pub fn memory_high_file(&self, level: usize) -> Option<PathBuf> {
        self.memory.as_ref().filter(|memory| memory.version == Version::V2)?;
        self.memory_file(level, |files| files.high.as_ref().map_or("", |file| file.name()))
    }

    /// The file that holds the swap limit of such a level (v1: of memory and swap together).
    #[must_use]
    pub fn swap_limit_file(&self, level: usize) -> Option<PathBuf> {
        self.memory_file(level, |files| files.swap_max.name())
    }

    fn memory_file(
        &self,
        level: usize,
        name: impl Fn(&super::read::memory::Files) -> &str,
    ) -> Option<PathBuf> {
        let memory = self.memory.as_ref()?;
        let mut there =
            self.each(memory).filter(|(dir, files)| self.value(dir, &files.max, scalar::limit).is_some());
        let (dir, files) = there.nth(level)?;
        Some(self.display(memory.hierarchy, dir.path(), name(files)))
    }

    /// The file that holds the quota of a level of [`GroupSet::cpu`].
    #[must_use]
    pub fn cpu_quota_file(&self, level: usize) -> Option<PathBuf> {
        let resource = self.cpu.as_ref()?;
        let mut there = self.each(resource).filter(|(dir, files)| match resource.version {
            Version::V1 => self.value(dir, &files.quota, scalar::cfs_quota).is_some(),
            Version::V2 => self.value(dir, &files.quota, cpu::max).is_some(),
        });
        let (dir, files) = there.nth(level)?;
        Some(self.display(resource.hierarchy, dir.path(), files.quota.name()))
    }

    /// The file that the CPU set of [`GroupSet::cpu`] came from.
    #[must_use]
    pub fn cpuset_file(&self) -> Option<PathBuf> {
        let resource = self.cpuset.as_ref()?;
        let (_, dir) = self.nearest_set(|files| &files.cpus)?;
        let (_, files) = self.each(resource).next()?;
        Some(self.display(resource.hierarchy, dir.path(), files.cpus.name()))
    }
}
