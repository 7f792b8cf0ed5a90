//! Groups above the container's that allow less than was asked for: said at launch, since no file inside the
//! container's own group shows it.

use std::path::Path;

use ownproc::cgroup::Controller;
use ownproc::model::CpuSet;

use super::{Groups, Hierarchy};
use crate::spec::Limits;
use crate::spec::limits::{Max, PERIOD_US};
use crate::spec::size;

/// One line for each limit that a group above makes tighter.
pub fn tighter(groups: &Groups, limits: &Limits) -> Vec<String> {
    let mut notes = Vec::new();
    if let (Some(asked), Some((leaf, hierarchy))) = (limits.memory, groups.of(Controller::Memory)) {
        let file = if hierarchy.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        let least = least(leaf, hierarchy, |level| number(&level.join(file)));
        if let Some((least, level)) = least.filter(|(least, _)| *least < asked) {
            notes.push(format!(
                "{level} allows {} of memory, less than -m {}",
                size::show(least),
                size::show(asked)
            ));
        }
    }
    if let (Some(asked), Some((leaf, hierarchy))) = (limits.cpus, groups.of(Controller::Cpu))
        && let Some((least, level)) = quota(leaf, hierarchy).filter(|(least, _)| *least < asked)
    {
        notes.push(format!("{level} allows {} CPUs, fewer than --cpus {}", cpus(least), cpus(asked)));
    }
    if let (Some(asked), Some((leaf, hierarchy))) = (&limits.cpuset_cpus, groups.of(Controller::Cpuset)) {
        // the kernel has taken the levels together already; v1 has refused the write
        let file = leaf.join(if hierarchy.v2 { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" });
        let effective = std::fs::read_to_string(file).ok().and_then(|text| CpuSet::parse(&text).ok());
        if let Some(effective) = effective.filter(|effective| !asked.without(effective).is_empty()) {
            notes.push(format!(
                "the groups above allow CPUs {effective} only, not all of --cpuset-cpus {asked}"
            ));
        }
    }
    if let (Some(Max::At(asked)), Some((leaf, hierarchy))) = (limits.pids, groups.of(Controller::Pids)) {
        let least = least(leaf, hierarchy, |level| number(&level.join("pids.max")));
        if let Some((least, level)) = least.filter(|(least, _)| *least < asked) {
            notes.push(format!("{level} allows {least} tasks, fewer than --pids-limit {asked}"));
        }
    }
    notes
}

/// The least CPU quota of the levels above `leaf`, in microseconds per [`PERIOD_US`], with that level's path.
pub fn quota(leaf: &Path, hierarchy: &Hierarchy) -> Option<(u64, String)> {
    least(leaf, hierarchy, |level| if hierarchy.v2 { quota_v2(level) } else { quota_v1(level) })
}

/// The least value over the levels above `leaf`, with that level's path.
fn least(leaf: &Path, hierarchy: &Hierarchy, read: impl Fn(&Path) -> Option<u64>) -> Option<(u64, String)> {
    leaf.ancestors()
        .skip(1)
        .take_while(|level| level.starts_with(&hierarchy.mount))
        .filter_map(|level| Some((read(level)?, level.display().to_string())))
        .min_by_key(|(value, _)| *value)
}

/// A file of one number; `None` for `max`, -1 and a file that is not there.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn quota_v1(level: &Path) -> Option<u64> {
    per_period(number(&level.join("cpu.cfs_quota_us"))?, number(&level.join("cpu.cfs_period_us"))?)
}

fn quota_v2(level: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(level.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    per_period(quota.parse().ok()?, period.parse().ok()?)
}

/// A quota scaled to [`PERIOD_US`].
fn per_period(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(PERIOD_US).checked_div(period)
}

/// Microseconds per period as a number of CPUs.
fn cpus(quota: u64) -> String {
    let text = format!("{}.{:05}", quota / PERIOD_US, quota % PERIOD_US);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas() {
        assert_eq!(per_period(50_000, 200_000), Some(25_000));
        assert_eq!(per_period(1, 0), None);
        assert_eq!(cpus(150_000), "1.5");
        assert_eq!(cpus(100_000), "1");
        assert_eq!(cpus(1), "0.00001");
    }

    #[test]
    fn the_least_level_is_named() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b/leaf");
        std::fs::create_dir_all(&leaf).unwrap();
        let write = |dir: &str, text: &str| std::fs::write(root.path().join(dir).join("f"), text).unwrap();
        write("", "900\n");
        write("a", "300\n");
        write("a/b", "max\n");
        write("a/b/leaf", "1\n");
        let hierarchy =
            Hierarchy { mount: root.path().to_owned(), v2: true, controllers: Vec::new(), names: Vec::new() };
        let found = least(&leaf, &hierarchy, |level| number(&level.join("f")));
        assert_eq!(found, Some((300, root.path().join("a").display().to_string())));
    }
}
