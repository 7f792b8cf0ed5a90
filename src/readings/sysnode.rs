//! `sys/devices/system/node`: the nodes that a container is shown, and what each says. Paths are relative to that
//! directory.

use std::path::PathBuf;
use std::sync::Arc;

use super::files::{cpus, memory};
use super::pages::counted;
use super::subject::Subject;
use super::syscpu::numbered;
use crate::host::{Host, HostError, SysEntry, SysKind};
use crate::model::{HostNodes, Policies};
use crate::render::{self, SYS_NODE_FILES, SYS_NODE_PATHS};
use crate::view::{self, ShownCpus, ShownNodes};

/// A path taken apart: which node, as the container sees it, and the path below its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePath<'a> {
    /// N of `nodeN`; `None` for the directory that holds the nodes.
    pub node: Option<usize>,
    /// The rest; empty for the directory itself.
    pub below: &'a str,
}

/// N of `nodeN`; none for `node`, `node01`.
#[must_use]
pub fn node_number(name: &str) -> Option<usize> {
    numbered("node", name)
}

impl<'a> NodePath<'a> {
    /// Takes a path apart.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match node_number(first) {
            Some(number) => Self { node: Some(number), below: rest },
            None => Self { node: None, below: path },
        }
    }
}

/// The nodes of the host, and those of the container with the CPUs that it is shown.
struct Nodes {
    host: Arc<HostNodes>,
    shown: ShownNodes,
    cpus: ShownCpus,
}

fn nodes(subject: &Subject, host: &Host, policies: &Policies) -> Result<Nodes, HostError> {
    let all = host.nodes()?;
    let (_, cpus) = cpus(subject, host, policies)?;
    let shown = view::shown_nodes(subject.groups.mems().as_ref(), &cpus, &all);
    Ok(Nodes { host: all, shown, cpus })
}

/// The nodes that a container is shown; ENOENT on a host without NUMA.
pub fn shown_nodes(subject: &Subject, host: &Host, policies: &Policies) -> Result<ShownNodes, HostError> {
    nodes(subject, host, policies).map(|nodes| nodes.shown)
}

/// Whether the path is the host's: see [`super::files::render`].
fn is_hosts(path: &str, subject: &Subject) -> bool {
    let of_memory = matches!(render::origin(SYS_NODE_PATHS, path), Some("N5" | "N7" | "N8"));
    let is_root = if of_memory { subject.groups.is_memory_root() } else { subject.groups.is_cpu_root() };
    subject.init.is_none() && is_root
}

/// The bytes of one file, appended to `out`. ENOENT for a node that is not shown.
pub fn sys_node_file(
    path: &str,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    if is_hosts(path, subject) {
        out.extend_from_slice(host.node_file(path)?.as_bytes());
        return Ok(());
    }
    let NodePath { node, below } = NodePath::of(path);
    let nodes = nodes(subject, host, policies)?;
    let Some(number) = node else {
        let text = host.node_file(path)?;
        match SYS_NODE_FILES.iter().find(|(name, _)| *name == below) {
            Some((_, file)) => render::sys_node(*file, &nodes.shown, &text, out),
            None => out.extend_from_slice(text.as_bytes()),
        }
        return Ok(());
    };
    let node = nodes.shown.physical_of(number).ok_or_else(|| missing(path))?;
    let text = host.node_file(&host_path(node, below))?;
    match below {
        "cpulist" => render::node_cpulist(&text, &nodes.cpus, out),
        "cpumap" => render::node_cpumap(&text, &nodes.cpus, out),
        "distance" => render::node_distance(&text, &nodes.host.online, &nodes.shown, out),
        "numastat" => render::node_numastat(&text, out),
        "vmstat" => {
            let share = nodes.shown.share(node, &nodes.host);
            render::node_vmstat(&text, &counted(subject, host, policies)?, &share, out);
        }
        "meminfo" => {
            let (reading, meminfo) = memory(subject, host)?;
            let view = view::memory::memory(&reading, &meminfo, policies);
            render::node_meminfo(&text, number, &view, &nodes.shown.share(node, &nodes.host), out);
        }
        _ if below.starts_with("hugepages/") => {
            let (reading, meminfo) = memory(subject, host)?;
            let view = view::memory::memory(&reading, &meminfo, policies);
            let (directory, name) = below.rsplit_once('/').unwrap_or_default();
            let is_default = default_size(&meminfo.text)
                .is_some_and(|kib| directory == format!("hugepages/hugepages-{kib}kB"));
            let share = nodes.shown.share(node, &nodes.host);
            render::node_hugepages(name, is_default, &view, &share, out);
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// The default size of a huge page in kB, from the host's `/proc/meminfo`.
fn default_size(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().rev().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The entries of a directory: of the nodes only those that are shown, in each a link for each shown CPU.
pub fn sys_node_list_dir(
    path: &str,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<Vec<SysEntry>, HostError> {
    let tree = host.node_tree().ok_or_else(|| missing(path))?;
    let NodePath { node, below } = NodePath::of(path);
    let nodes = nodes(subject, host, policies)?;
    let Some(number) = node else {
        let mut entries = tree.list(path.as_ref())?;
        entries.retain(|entry| entry.name.to_str().and_then(node_number).is_none());
        let node = |number| SysEntry { name: format!("node{number}").into(), kind: SysKind::Directory };
        entries.extend(nodes.shown.numbers().iter().map(node));
        entries.sort();
        return Ok(entries);
    };
    let node = nodes.shown.physical_of(number).ok_or_else(|| missing(path))?;
    let mut entries = tree.list(host_path(node, below).as_ref())?;
    if below.is_empty() {
        entries.retain(|entry| entry.name.to_str().and_then(super::cpu_number).is_none());
        let own = nodes.host.nodes.iter().find(|known| known.number == node);
        let cpus = own.into_iter().flat_map(|own| own.cpus.iter());
        entries.extend(
            cpus.filter_map(|cpu| nodes.cpus.displayed(cpu))
                .map(|cpu| SysEntry { name: format!("cpu{cpu}").into(), kind: SysKind::Link }),
        );
        entries.sort();
    }
    Ok(entries)
}

/// Where a link inside the tree points.
pub fn sys_node_link(
    path: &str,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<PathBuf, HostError> {
    let tree = host.node_tree().ok_or_else(|| missing(path))?;
    let NodePath { node, below } = NodePath::of(path);
    let Some(number) = node else { return tree.link(path.as_ref()) };
    let nodes = nodes(subject, host, policies)?;
    let node = nodes.shown.physical_of(number).ok_or_else(|| missing(path))?;
    let Some(cpu) = super::cpu_number(below) else {
        return tree.link(host_path(node, below).as_ref());
    };
    let physical = nodes.cpus.physical_of(cpu).ok_or_else(|| missing(path))?;
    let own = nodes.host.nodes.iter().find(|known| known.number == node);
    if own.is_some_and(|own| own.cpus.contains(physical)) {
        Ok(format!("../../cpu/cpu{cpu}").into())
    } else {
        Err(missing(path))
    }
}

/// Under which number the container sees the node that a link of the CPU directory names: `cpuN/nodeM`. `None` where
/// that CPU, as shown, does not belong to it.
pub(super) fn node_of_cpu(
    physical: usize,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Option<usize> {
    let nodes = nodes(subject, host, policies).ok()?;
    let own = nodes.host.nodes.iter().find(|node| node.cpus.contains(physical))?;
    nodes.shown.displayed(own.number)
}

/// The host's path of what is below one of its nodes.
fn host_path(node: usize, below: &str) -> String {
    if below.is_empty() { format!("node{node}") } else { format!("node{node}/{below}") }
}

fn missing(path: &str) -> HostError {
    HostError::io(path, rustix::io::Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(NodePath::of("node12/a/b"), NodePath { node: Some(12), below: "a/b" });
        assert_eq!(NodePath::of("node3"), NodePath { node: Some(3), below: "" });
        assert_eq!(NodePath::of("has_cpu"), NodePath { node: None, below: "has_cpu" });
        assert_eq!(NodePath::of(""), NodePath { node: None, below: "" });
        assert_eq!(NodePath::of("node01/x").node, None);
        assert_eq!(default_size("A: 1 kB\nHugepagesize:       2048 kB\nHugetlb: 0 kB\n"), Some(2048));
        assert_eq!(default_size(""), None);
    }
}
