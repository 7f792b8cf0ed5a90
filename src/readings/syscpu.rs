//! `sys/devices/system/cpu`: some files are rendered, the rest is the host's with its CPU lists cut to the CPUs
//! that are shown. Paths are relative to that directory.

use std::path::{Component, Path, PathBuf};

use super::files::cpus;
use super::subject::Subject;
use super::sysnode::{node_number, node_of_cpu};
use crate::host::{Host, HostError, SysEntry, SysKind};
use crate::model::Policies;
use crate::render::{self, Rewriting, SYS_CPU_FILES, SysCpuFile};
use crate::view::ShownCpus;

const PREFIX: &str = "sys/devices/system/cpu/";

/// The bytes of one file, appended to `out`. ENOENT for a CPU that is not shown.
pub fn sys_cpu_file(
    relative: &Path,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    if subject.init.is_none() && subject.groups.is_cpu_root() {
        return host.cpus().read(relative, |text| out.extend_from_slice(text));
    }
    if let Some(file) = rendered(relative) {
        if file == SysCpuFile::NohzFull {
            return host.cpus().read(relative, |text| render::nohz_full(text, out));
        }
        let kernel_max = if file == SysCpuFile::KernelMax { host.kernel_max()? } else { 0 };
        let (_, shown) = cpus(subject, host, policies)?;
        render::sys_cpu(file, &shown, kernel_max, out);
        return Ok(());
    }
    if cpu_of(relative).is_none() {
        return host.cpus().read(relative, |text| out.extend_from_slice(text));
    }
    let (_, shown) = cpus(subject, host, policies)?;
    let name = relative.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if is_hidden_online(relative, &shown) {
        out.extend_from_slice(b"0\n");
        return Ok(());
    }
    let path = physical(relative, &shown)?;
    host.cpus().read(&path, |text| match (render::rewriting(name), std::str::from_utf8(text)) {
        (Rewriting::List, Ok(text)) => render::rewrite_cpu_list(text, &shown, out),
        (Rewriting::Mask, Ok(text)) => render::rewrite_cpu_mask(text, &shown, out),
        _ => out.extend_from_slice(text),
    })
}

/// The entries of a directory: of the CPUs only those that are shown, in the numbers they are shown under.
pub fn sys_cpu_list_dir(
    relative: &Path,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<Vec<SysEntry>, HostError> {
    let (_, shown) = cpus(subject, host, policies)?;
    if cpu_of(relative).is_some() {
        let path = physical(relative, &shown)?;
        let mut entries = host.cpus().list(&path)?;
        if relative.components().count() == 1 {
            let node = cpu_of(&path).and_then(|cpu| node_of_cpu(cpu, subject, host, policies));
            entries.retain(|entry| entry.name.to_str().and_then(node_number).is_none());
            entries.extend(
                node.map(|node| SysEntry { name: format!("node{node}").into(), kind: SysKind::Link }),
            );
            entries.sort();
        }
        return Ok(entries);
    }
    let mut entries = host.cpus().list(relative)?;
    if relative.components().next().is_none() {
        entries.retain(|entry| entry.name.to_str().and_then(cpu_number).is_none());
        let cpu = |number| SysEntry { name: format!("cpu{number}").into(), kind: SysKind::Directory };
        entries.extend(shown.numbers().iter().map(cpu));
        entries.sort();
    }
    Ok(entries)
}

/// Where a link inside the tree points, as the host has it.
pub fn sys_cpu_link(
    relative: &Path,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<PathBuf, HostError> {
    if cpu_of(relative).is_none() {
        return host.cpus().link(relative);
    }
    let (_, shown) = cpus(subject, host, policies)?;
    let path = physical(relative, &shown)?;
    let name = relative.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match node_number(name) {
        None => host.cpus().link(&path),
        Some(node)
            if cpu_of(&path).and_then(|cpu| node_of_cpu(cpu, subject, host, policies)) == Some(node) =>
        {
            Ok(format!("../../node/node{node}").into())
        }
        Some(_) => Err(HostError::io(relative, rustix::io::Errno::NOENT)),
    }
}

/// Which of the rendered files it is, if any.
fn rendered(relative: &Path) -> Option<SysCpuFile> {
    let name = relative.to_str()?;
    SYS_CPU_FILES.iter().find(|(path, _)| path.strip_prefix(PREFIX) == Some(name)).map(|(_, file)| *file)
}

/// N where the path begins with `cpuN`.
fn cpu_of(relative: &Path) -> Option<usize> {
    match relative.components().next()? {
        Component::Normal(name) => cpu_number(name.to_str()?),
        _ => None,
    }
}

/// `cpuN/online` of a CPU that is not shown: the one file that says so.
fn is_hidden_online(relative: &Path, shown: &ShownCpus) -> bool {
    let hidden = cpu_of(relative).is_some_and(|number| shown.physical_of(number).is_none());
    hidden && relative.components().count() == 2 && relative.ends_with("online")
}

/// N of `cpuN`; none for `cpufreq`, `cpuidle`, `cpu01`.
#[must_use]
pub fn cpu_number(name: &str) -> Option<usize> {
    numbered("cpu", name)
}

/// The decimal number after a prefix; none where it is not written as the kernel writes it.
pub(super) fn numbered(prefix: &str, name: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    let plain = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

/// The host's path of a shown CPU's file.
fn physical(relative: &Path, shown: &ShownCpus) -> Result<PathBuf, HostError> {
    let cpu = cpu_of(relative).and_then(|number| shown.physical_of(number));
    let cpu = cpu.ok_or_else(|| HostError::io(relative, rustix::io::Errno::NOENT))?;
    let mut path = PathBuf::from(format!("cpu{cpu}"));
    path.extend(relative.components().skip(1));
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y6_a_hidden_cpu_is_not_online() {
        let physical = crate::model::CpuSet::first(1);
        let shown = ShownCpus { mask: physical.clone(), physical, ..ShownCpus::default() };
        assert!(is_hidden_online(Path::new("cpu1/online"), &shown));
        for other in ["cpu0/online", "cpu1/topology/online", "cpu1", "online"] {
            assert!(!is_hidden_online(Path::new(other), &shown), "{other}");
        }
    }

    #[test]
    fn cpu_directories_are_told_from_others() {
        assert_eq!(cpu_of(Path::new("cpu12/topology/core_id")), Some(12));
        for other in ["cpufreq", "cpuidle/x", "cpu", "cpu01", "cpu1x", "", "online"] {
            assert_eq!(cpu_of(Path::new(other)), None, "{other}");
        }
        assert_eq!(rendered(Path::new("online")), Some(SysCpuFile::Online));
        assert_eq!(rendered(Path::new("cpu0/online")), None);
    }
}
