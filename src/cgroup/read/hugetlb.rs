//! The hugetlb controller: one pair of files per page size and level.

use rustix::fs::{Dir, Mode, OFlags};

use crate::cgroup::chain::GroupDir;
use crate::cgroup::controller::Version;
use crate::cgroup::group::GroupSet;
use crate::cgroup::kept::KeptFile;
use crate::cgroup::parse::scalar;
use crate::model::{Bytes, HugetlbLevel};

/// The files of one level; the sizes are those that the kernel offered when the group was opened (they do not
/// change while it runs).
#[derive(Debug)]
pub(in crate::cgroup) struct Files {
    sizes: Vec<(Bytes, KeptFile, KeptFile)>,
}

impl Files {
    pub(in crate::cgroup) fn new(version: Version, dir: &GroupDir) -> Self {
        let (max, usage) = match version {
            Version::V1 => (".limit_in_bytes", ".usage_in_bytes"),
            Version::V2 => (".max", ".current"),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(dir.fd(), ".", flags, Mode::empty()).and_then(Dir::new);
        let names = listing.into_iter().flatten().filter_map(Result::ok);
        let mut sizes: Vec<_> = names
            .filter_map(|entry| {
                let name = entry.file_name().to_str().ok()?;
                let size = name.strip_prefix("hugetlb.")?.strip_suffix(max)?;
                let usage = KeptFile::new(format!("hugetlb.{size}{usage}"));
                Some((page_size(size)?, KeptFile::new(name.to_owned()), usage))
            })
            .collect();
        sizes.sort_by_key(|(size, _, _)| *size);
        Self { sizes }
    }
}

/// `2MB`, `1GB`, `64KB`: the kernel's names (`mem_fmt` in mm/hugetlb_cgroup.c).
fn page_size(name: &str) -> Option<Bytes> {
    let (digits, unit) = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, unit)))?;
    Some(Bytes(scalar::number(digits.as_bytes())?).times(unit))
}

impl GroupSet {
    /// One entry per level and page size, the group first; empty where the controller is missing.
    #[must_use]
    pub fn hugetlb(&self) -> Vec<HugetlbLevel> {
        let Some(hugetlb) = &self.hugetlb else { return Vec::new() };
        let levels = self.each(hugetlb).flat_map(|(dir, files)| {
            files.sizes.iter().filter_map(move |(page_size, max, usage)| {
                let max = self.value(dir, max, scalar::limit)?;
                let usage = Bytes(self.value(dir, usage, scalar::counter)?);
                Some(HugetlbLevel { page_size: *page_size, max, usage })
            })
        });
        levels.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(page_size("2MB"), Some(Bytes(2 << 20)));
        assert_eq!(page_size("1GB"), Some(Bytes(1 << 30)));
        assert_eq!(page_size("64KB"), Some(Bytes(64 << 10)));
        assert_eq!(page_size("rsvd.2MB"), None);
        assert_eq!(page_size("MB"), None);
    }
}
