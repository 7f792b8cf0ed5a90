//! The cpuset controller: what the kernel really lets the group use, never what was asked for.

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::GroupSet;
use crate::cgroup::kept::KeptFile;
use crate::cgroup::parse::ParseError;
use crate::model::CpuSet;

/// The files of one level.
#[derive(Debug)]
pub(in crate::cgroup) struct Files {
    pub(in crate::cgroup) cpus: KeptFile,
    mems: KeptFile,
}

impl Files {
    pub(in crate::cgroup) fn new(version: Version, _: &GroupDir) -> Self {
        let [cpus, mems] = match version {
            Version::V1 => ["cpuset.effective_cpus", "cpuset.effective_mems"],
            Version::V2 => ["cpuset.cpus.effective", "cpuset.mems.effective"],
        };
        Self { cpus: KeptFile::new(cpus), mems: KeptFile::new(mems) }
    }
}

impl GroupSet {
    /// The effective CPUs of the nearest level where they are not empty; `None` where no cpuset controller
    /// covers the container. An empty set is a group that was never configured (v1) or whose CPUs all went to
    /// partitions (v2).
    #[must_use]
    pub fn cpus(&self) -> Option<CpuSet> {
        self.nearest_set(|files| &files.cpus).map(|(set, _)| set)
    }

    /// Likewise the effective NUMA nodes.
    #[must_use]
    pub fn mems(&self) -> Option<CpuSet> {
        self.nearest_set(|files| &files.mems).map(|(set, _)| set)
    }

    pub(in crate::cgroup) fn nearest_set(
        &self,
        file: impl Fn(&Files) -> &KeptFile,
    ) -> Option<(CpuSet, &GroupDir)> {
        let cpuset = self.cpuset.as_ref()?;
        self.each(cpuset).find_map(|(dir, files)| {
            let set = self.value(dir, file(files), list)?;
            (!set.is_empty()).then_some((set, dir))
        })
    }
}

/// A list of CPU or node numbers as the kernel prints it.
fn list(text: &[u8]) -> Result<CpuSet, ParseError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| CpuSet::parse(text).ok())
        .ok_or_else(|| ParseError::new("expected a list such as 0-3,8", text))
}
