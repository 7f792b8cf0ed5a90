//! `/proc/cpuinfo`.

use super::number::push;
use crate::model::host::CpuinfoBlock;
use crate::model::{CpuSet, HostCpuinfo, Numbering};
use crate::view::ShownCpus;

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
            let value = match line.split_once(':').map_or("", |(key, _)| key.trim_end()) {
                "processor" if shown.numbering == Numbering::Compact => Some(number as u64),
                "siblings" => here.map(|package| package.siblings),
                "cpu cores" => here.map(|package| package.cores),
                _ => None,
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
