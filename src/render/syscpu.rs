//! `sys/devices/system/cpu`: the files that list CPUs, and the CPU lists inside the mirrored ones.

use std::io::Write;

use super::number::push;
use crate::model::CpuSet;
use crate::view::ShownCpus;

/// The files right below `sys/devices/system/cpu` that are rendered. A file is there where the host has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // the kernel's own names: Documentation/admin-guide/cputopology.rst
pub enum SysCpuFile {
    Online,
    Present,
    Possible,
    Enabled,
    Offline,
    Isolated,
    NohzFull,
    KernelMax,
}

impl SysCpuFile {
    /// The rule in `SEMANTICS.md`.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Online | Self::Present | Self::Possible | Self::Enabled => "Y1",
            Self::Offline | Self::Isolated | Self::NohzFull => "Y2",
            Self::KernelMax => "Y3",
        }
    }
}

/// All of them: the path below the tree's root, and which file it is.
pub const SYS_CPU_FILES: &[(&str, SysCpuFile)] = &[
    ("sys/devices/system/cpu/enabled", SysCpuFile::Enabled),
    ("sys/devices/system/cpu/isolated", SysCpuFile::Isolated),
    ("sys/devices/system/cpu/kernel_max", SysCpuFile::KernelMax),
    ("sys/devices/system/cpu/nohz_full", SysCpuFile::NohzFull),
    ("sys/devices/system/cpu/offline", SysCpuFile::Offline),
    ("sys/devices/system/cpu/online", SysCpuFile::Online),
    ("sys/devices/system/cpu/possible", SysCpuFile::Possible),
    ("sys/devices/system/cpu/present", SysCpuFile::Present),
];

/// One of the files. `kernel_max` is the host's: the largest CPU number its kernel was built for.
pub fn sys_cpu(file: SysCpuFile, shown: &ShownCpus, kernel_max: u64, out: &mut Vec<u8>) {
    match file {
        SysCpuFile::Online | SysCpuFile::Present | SysCpuFile::Possible | SysCpuFile::Enabled => {
            push_list(&shown.numbers(), out);
        }
        SysCpuFile::Offline | SysCpuFile::Isolated | SysCpuFile::NohzFull => out.push(b'\n'),
        SysCpuFile::KernelMax => {
            push(out, kernel_max);
            out.push(b'\n');
        }
    }
}

/// `nohz_full`, whatever CPUs the host set apart: `(null)` on a kernel that knows the option and was not given it, as a
/// machine of the container's own would say too; else empty.
pub fn nohz_full(host: &[u8], out: &mut Vec<u8>) {
    const NONE: &[u8] = b"(null)\n";
    out.extend_from_slice(if host == NONE { NONE } else { b"\n" });
}

/// How a mirrored file inside `cpuN/` is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rewriting {
    /// The host's text.
    Verbatim,
    /// A list such as `0-3`: [`rewrite_cpu_list`].
    List,
    /// A mask such as `f`: [`rewrite_cpu_mask`].
    Mask,
}

/// The files that name CPUs (Documentation/admin-guide/cputopology.rst, ABI/testing/sysfs-devices-system-cpu).
pub const REWRITTEN: &[(&str, Rewriting)] = &[
    ("book_siblings", Rewriting::Mask),
    ("book_siblings_list", Rewriting::List),
    ("cluster_cpus", Rewriting::Mask),
    ("cluster_cpus_list", Rewriting::List),
    ("core_cpus", Rewriting::Mask),
    ("core_cpus_list", Rewriting::List),
    ("core_siblings", Rewriting::Mask),
    ("core_siblings_list", Rewriting::List),
    ("die_cpus", Rewriting::Mask),
    ("die_cpus_list", Rewriting::List),
    ("drawer_siblings", Rewriting::Mask),
    ("drawer_siblings_list", Rewriting::List),
    ("package_cpus", Rewriting::Mask),
    ("package_cpus_list", Rewriting::List),
    ("shared_cpu_list", Rewriting::List),
    ("shared_cpu_map", Rewriting::Mask),
    ("thread_siblings", Rewriting::Mask),
    ("thread_siblings_list", Rewriting::List),
];

/// What must happen to the file `name` (without its path) below `cpuN/topology` or `cpuN/cache/indexM`.
#[must_use]
pub fn rewriting(name: &str) -> Rewriting {
    REWRITTEN
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(Rewriting::Verbatim, |(_, rewriting)| *rewriting)
}

/// A CPU list of the host with the CPUs that are not shown left out and the others in shown numbers. A text
/// that is no list gives an empty one.
pub fn rewrite_cpu_list(text: &str, shown: &ShownCpus, out: &mut Vec<u8>) {
    let host = CpuSet::parse(text).unwrap_or_default();
    push_list(&translate(&host, shown), out);
}

/// The same for a mask: hexadecimal words of up to 32 bits, the highest first, separated by commas. The
/// host's width stays. A text that is no mask gives an empty line.
pub fn rewrite_cpu_mask(text: &str, shown: &ShownCpus, out: &mut Vec<u8>) {
    let text = text.trim();
    let words = text.split(',').count();
    let mut host = CpuSet::EMPTY;
    for (index, word) in text.split(',').enumerate() {
        if word.is_empty() || word.len() > 8 || !word.bytes().all(|b| b.is_ascii_hexdigit()) {
            out.push(b'\n');
            return;
        }
        let bits = u32::from_str_radix(word, 16).unwrap_or(0);
        let low = (words - 1 - index) * 32;
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            host.insert(low + bit);
        }
    }
    let set = translate(&host, shown);
    for (index, word) in text.split(',').enumerate() {
        let low = (words - 1 - index) * 32;
        let bits = (0..32).filter(|bit| set.contains(low + bit)).fold(0u32, |bits, bit| bits | 1 << bit);
        if index > 0 {
            out.push(b',');
        }
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{bits:0width$x}", width = word.len());
    }
    out.push(b'\n');
}

fn translate(host: &CpuSet, shown: &ShownCpus) -> CpuSet {
    host.iter().filter_map(|cpu| shown.displayed(cpu)).collect()
}

pub(super) fn push_list(set: &CpuSet, out: &mut Vec<u8>) {
    let _ = writeln!(out, "{set}");
}

#[cfg(test)]
mod tests;
