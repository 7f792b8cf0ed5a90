//! `/proc/cpuinfo`.

use super::number::push;
use crate::model::host::CpuinfoBlock;
use crate::model::{CpuSet, HostCpuinfo, Numbering};
use crate::view::ShownCpus;

/// A line of a CPU's block that is not the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuinfoLine {
    /// The CPU's number as shown.
    Number,
    /// Shown CPUs of the package.
    Siblings,
    /// Cores of the package with a shown CPU.
    Cores,
}

impl CpuinfoLine {
    /// The rule in `SEMANTICS.md`.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Number => "I3",
            Self::Siblings | Self::Cores => "I2",
        }
    }
}

/// The lines that are rewritten; all others of a shown block describe the physical CPU and stay the host's.
pub const CPUINFO_LINES: &[(&str, CpuinfoLine)] = &[
    ("processor", CpuinfoLine::Number),
    ("cpu number", CpuinfoLine::Number),
    ("siblings", CpuinfoLine::Siblings),
    ("cpu cores", CpuinfoLine::Cores),
];

/// The host's blocks of the shown CPUs, each with a blank line after it, and the lines of no CPU.
pub fn cpuinfo(host: &HostCpuinfo, shown: &ShownCpus, out: &mut Vec<u8>) {
    out.extend_from_slice(host.global_before.as_bytes());
    // Blocks of one package mostly stand together: count each run of them once.
    let mut package: Option<(u64, Package)> = None;
    for block in &host.blocks {
        let Some(number) = shown.displayed(block.cpu) else { continue };
        let here = block.physical_id.map(|id| match package {
            Some((last, counts)) if last == id => counts,
            _ => {
                let counts = Package::count(host, shown, id);
                package = Some((id, counts));
                counts
            }
        });
        if here.is_none() && shown.numbering == Numbering::Physical {
            out.extend_from_slice(block.text.as_bytes());
            out.push(b'\n');
            continue;
        }
        for line in block.text.split_inclusive('\n') {
            let key = line.split_once(':').map_or("", |(key, _)| key.trim());
            let known = CPUINFO_LINES.iter().find(|(known, _)| *known == key).map(|(_, known)| *known);
            let value = match known {
                Some(CpuinfoLine::Number) => Some(number as u64),
                Some(CpuinfoLine::Siblings) => here.map(|package| package.siblings),
                Some(CpuinfoLine::Cores) => here.map(|package| package.cores),
                None => None,
            };
            match (value, line.find(':')) {
                (Some(value), Some(colon)) => {
                    out.extend_from_slice(&line.as_bytes()[..=colon]);
                    out.push(b' ');
                    push(out, value);
                    out.push(b'\n');
                }
                _ => out.extend_from_slice(line.as_bytes()),
            }
        }
        out.push(b'\n');
    }
    out.extend_from_slice(host.global_after.as_bytes());
}

/// Shown CPUs and cores of one package.
#[derive(Clone, Copy)]
struct Package {
    siblings: u64,
    cores: u64,
}

impl Package {
    fn count(host: &HostCpuinfo, shown: &ShownCpus, id: u64) -> Self {
        let blocks =
            || host.blocks.iter().filter(|b| b.physical_id == Some(id) && shown.physical.contains(b.cpu));
        let mut small = CpuSet::EMPTY;
        let mut others = 0u64;
        for (index, block) in blocks().enumerate() {
            let Some(core) = block.core_id else { continue };
            match usize::try_from(core) {
                Ok(core) if core < crate::model::cpuset::MAX_CPUS => small.insert(core),
                _ => {
                    let known = |earlier: &CpuinfoBlock| earlier.core_id == Some(core);
                    others += u64::from(!blocks().take(index).any(known));
                }
            }
        }
        Self { siblings: blocks().count() as u64, cores: small.len() as u64 + others }
    }
}

#[cfg(test)]
mod tests;
