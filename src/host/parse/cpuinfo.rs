//! `/proc/cpuinfo`: blocks of lines, one per online CPU, separated by blank lines.

use crate::model::HostCpuinfo;
use crate::model::host::CpuinfoBlock;

/// Splits the text into the blocks of CPUs and the lines around them.
///
/// A CPU's block is one whose first line is `processor : N` (x86, arm, riscv, powerpc and most others). Any
/// other block belongs to no CPU. s390x lists its CPUs in lines `processor N: ...` without blocks: its whole
/// text becomes `global_before`.
#[must_use]
pub fn cpuinfo(text: &[u8]) -> HostCpuinfo {
    let text = String::from_utf8_lossy(text);
    let mut host = HostCpuinfo::default();
    for block in text.split_inclusive("\n\n") {
        // A global line may stand right before a block, without a blank line between.
        let start = processor_line(block);
        let (before, block) = block.split_at(start.unwrap_or(block.len()));
        let global = if host.blocks.is_empty() { &mut host.global_before } else { &mut host.global_after };
        global.push_str(before);
        if start.is_some() {
            host.blocks.extend(cpu_block(block));
        }
    }
    host
}

/// Where the `processor : N` line begins.
fn processor_line(block: &str) -> Option<usize> {
    let mut at = 0;
    for line in block.split_inclusive('\n') {
        if key_value(line).is_some_and(|(key, value)| key == "processor" && value.parse::<usize>().is_ok()) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn cpu_block(block: &str) -> Option<CpuinfoBlock> {
    let text = block.trim_end_matches('\n');
    let number = |wanted: &str| {
        text.lines()
            .filter_map(key_value)
            .find(|(key, _)| *key == wanted)
            .and_then(|(_, value)| value.parse().ok())
    };
    Some(CpuinfoBlock {
        cpu: usize::try_from(number("processor")?).ok()?,
        physical_id: number("physical id"),
        core_id: number("core id"),
        text: format!("{text}\n"),
    })
}

fn key_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    Some((key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86() {
        let text = b"processor\t: 0\nphysical id\t: 0\ncore id\t\t: 3\nflags\t\t: a b\npower management:\n\n\
            processor\t: 5\nphysical id\t: 1\ncore id\t\t: 4\n\n";
        let host = cpuinfo(text);
        assert_eq!(host.blocks.iter().map(|b| b.cpu).collect::<Vec<_>>(), [0, 5]);
        assert_eq!((host.blocks[1].physical_id, host.blocks[1].core_id), (Some(1), Some(4)));
        assert!(host.blocks[0].text.ends_with("power management:\n"));
        assert_eq!((host.global_before.as_str(), host.global_after.as_str()), ("", ""));
    }

    #[test]
    fn arm_with_global_lines() {
        let text =
            b"Processor\t: ARMv7\nprocessor\t: 0\nBogoMIPS\t: 50.00\n\nHardware\t: BCM2835\nSerial\t\t: 0\n";
        let host = cpuinfo(text);
        assert_eq!(host.blocks.len(), 1);
        assert_eq!(host.global_before, "Processor\t: ARMv7\n");
        assert_eq!(host.global_after, "Hardware\t: BCM2835\nSerial\t\t: 0\n");
    }

    #[test]
    fn no_blocks_at_all() {
        let text = b"vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = FF\n";
        let host = cpuinfo(text);
        assert!(host.blocks.is_empty());
        assert_eq!(host.global_before.as_bytes(), text);
        assert_eq!(cpuinfo(b""), HostCpuinfo::default());
    }
}
