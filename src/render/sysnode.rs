//! `sys/devices/system/node`: which nodes there are, and what each says of its CPUs and its memory.

use std::io::Write;

use super::meminfo::{self, Layout};
use super::number::push;
use super::syscpu::{push_list, rewrite_cpu_list, rewrite_cpu_mask};
use super::vmstat::{self, keys};
use crate::model::{Bytes, CpuSet};
use crate::view::{MemoryView, PagesView, Share, ShownCpus, ShownNodes};

/// The files right below `sys/devices/system/node` (drivers/base/node.c). A file is there where the host has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // the kernel's own names: Documentation/ABI/stable/sysfs-devices-node
pub enum SysNodeFile {
    Online,
    Possible,
    HasCpu,
    HasMemory,
    HasNormalMemory,
    HasHighMemory,
    HasGenericInitiator,
}

/// All of them, by name.
pub const SYS_NODE_FILES: &[(&str, SysNodeFile)] = &[
    ("has_cpu", SysNodeFile::HasCpu),
    ("has_generic_initiator", SysNodeFile::HasGenericInitiator),
    ("has_high_memory", SysNodeFile::HasHighMemory),
    ("has_memory", SysNodeFile::HasMemory),
    ("has_normal_memory", SysNodeFile::HasNormalMemory),
    ("online", SysNodeFile::Online),
    ("possible", SysNodeFile::Possible),
];

/// One of the files; `host` is the host's text, which says which of its nodes have which kind of memory.
pub fn sys_node(file: SysNodeFile, nodes: &ShownNodes, host: &str, out: &mut Vec<u8>) {
    let set = match file {
        SysNodeFile::Online | SysNodeFile::Possible => nodes.numbers(),
        SysNodeFile::HasCpu => nodes.translate(&nodes.with_cpus),
        SysNodeFile::HasMemory | SysNodeFile::HasNormalMemory | SysNodeFile::HasHighMemory => {
            let host = CpuSet::parse(host).unwrap_or_default();
            nodes.translate(&host.and(&nodes.with_memory))
        }
        SysNodeFile::HasGenericInitiator => CpuSet::EMPTY,
    };
    push_list(&set, out);
}

/// `cpulist` of a node: the host's, cut to the shown CPUs.
pub fn node_cpulist(host: &str, shown: &ShownCpus, out: &mut Vec<u8>) {
    rewrite_cpu_list(host, shown, out);
}

/// `cpumap` of a node: likewise, in the host's width.
pub fn node_cpumap(host: &str, shown: &ShownCpus, out: &mut Vec<u8>) {
    rewrite_cpu_mask(host, shown, out);
}

/// `distance` of a node: the columns of the shown nodes. The host's text has one column for each node that is `online`
/// there, in order; each but that of node 0 begins with a blank (`node_read_distance`).
pub fn node_distance(host: &str, online: &CpuSet, nodes: &ShownNodes, out: &mut Vec<u8>) {
    for (node, distance) in online.iter().zip(host.split_ascii_whitespace()) {
        let Some(number) = nodes.displayed(node) else { continue };
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(distance.as_bytes());
    }
    out.push(b'\n');
}

/// What a line shows.
type Size = fn(&MemoryView) -> Bytes;

/// The lines of `nodeN/meminfo` that `/proc/meminfo` has not, or has under another name.
const NODE_MEMINFO_LINES: &[(&str, Size)] = &[
    // NR_FILE_PAGES: /proc/meminfo takes swap cache and buffers out of it for its line Cached.
    ("FilePages", |view| view.stat.file.plus(view.stat.swapcached)),
];

/// As `/proc/meminfo` has it: whole pages, in kB.
fn kib(size: Bytes) -> u64 {
    size.whole_pages().kib()
}

fn size(key: &str) -> Option<Size> {
    let own = NODE_MEMINFO_LINES.iter().find(|(known, _)| *known == key).map(|(_, size)| *size);
    own.or_else(|| meminfo::size(key))
}

/// `meminfo` of the node that is shown as `number`: the host's lines in the host's order, with this node's share of
/// each number of the container's `/proc/meminfo`. A line that is not of the kernel's form is left out.
pub fn node_meminfo(host: &str, number: usize, view: &MemoryView, share: &Share, out: &mut Vec<u8>) {
    // divided in pages, as the kernel counts
    let pages_of = |size: Bytes| size.kib() / 4;
    let memory = share.of_total(pages_of(view.total));
    let part = |size: Bytes| memory.of(pages_of(size)).saturating_mul(4);
    let share = share.of_total(view.total.kib());
    let pages = share.of_total(view.hugetlb.pages_total);
    for line in host.lines() {
        // `Node 0 MemTotal:       24684096 kB`
        let mut words = line.splitn(3, ' ');
        let (Some("Node"), Some(_), Some(rest)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Some(layout) = Layout::of(rest) else { continue };
        let value = match layout.key {
            "MemUsed" => part(view.total).saturating_sub(part(view.free)),
            "HugePages_Total" => share.of(view.hugetlb.pages_total),
            "HugePages_Free" => pages.of(view.hugetlb.pages_free),
            key => size(key).map_or(0, |size| part(size(view))),
        };
        out.extend_from_slice(b"Node ");
        push(out, number as u64);
        out.push(b' ');
        layout.write_in(rest, value, Layout::NODE_COUNT_BEGIN, out);
    }
}

/// `vmstat` of a node: the host's keys, with this node's share of each number of the container's `/proc/vmstat`; events
/// are 0, since a share of a counter could fall when the nodes or the limit change.
pub fn node_vmstat(host: &str, view: &PagesView, share: &Share, out: &mut Vec<u8>) {
    let share = share.of_total(view.total());
    for key in keys(host) {
        out.extend_from_slice(key.as_bytes());
        out.push(b' ');
        push(out, if vmstat::is_counter(key) { 0 } else { share.of(vmstat::number(key, view)) });
        out.push(b'\n');
    }
}

/// `numastat` of a node: the host's keys with 0. No group counts where its pages were allocated.
pub fn node_numastat(host: &str, out: &mut Vec<u8>) {
    for key in keys(host) {
        let _ = writeln!(out, "{key} 0"); // writing to a Vec cannot fail
    }
}

/// A file of `nodeN/hugepages/hugepages-SIZEkB`, by its name: this node's share of the pages of the default size;
/// of other sizes it has none.
pub fn node_hugepages(name: &str, is_default: bool, view: &MemoryView, share: &Share, out: &mut Vec<u8>) {
    let share = share.of_total(kib(view.total));
    let pages = share.of_total(view.hugetlb.pages_total);
    let value = match name {
        "nr_hugepages" if is_default => share.of(view.hugetlb.pages_total),
        "free_hugepages" if is_default => pages.of(view.hugetlb.pages_free),
        _ => 0,
    };
    push(out, value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
