//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;

fn x86(cpu: usize, package: u64, core: u64) -> CpuinfoBlock {
    CpuinfoBlock {
        cpu,
        text: format!(
            "processor\t: {cpu}\nmodel name\t: X\nphysical id\t: {package}\nsiblings\t: 8\n\
             core id\t\t: {core}\ncpu cores\t: 4\nflags\t\t: a siblings\npower management:\n"
        ),
        physical_id: Some(package),
        core_id: Some(core),
    }
}

/// Two packages of two cores of two threads: CPUs 0-7, thread siblings 0 and 4, 1 and 5, ...
fn machine() -> HostCpuinfo {
    let blocks = (0..8).map(|cpu| x86(cpu, (cpu as u64 % 4) / 2, cpu as u64 % 2)).collect();
    HostCpuinfo { blocks, ..Default::default() }
}

fn rendered(host: &HostCpuinfo, cpus: &str, numbering: Numbering) -> String {
    let physical = CpuSet::parse(cpus).unwrap();
    let mut out = Vec::new();
    cpuinfo(host, &ShownCpus { mask: physical.clone(), physical, numbering }, &mut out);
    String::from_utf8(out).unwrap()
}

fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim())
        .collect()
}

#[test]
fn i1_the_blocks_of_the_shown_cpus() {
    let text = rendered(&machine(), "1,6", Numbering::Physical);
    let expected = "processor\t: 1\nmodel name\t: X\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 1\n\
        cpu cores\t: 1\nflags\t\t: a siblings\npower management:\n\n\
        processor\t: 6\nmodel name\t: X\nphysical id\t: 1\nsiblings\t: 1\ncore id\t\t: 0\n\
        cpu cores\t: 1\nflags\t\t: a siblings\npower management:\n\n";
    assert_eq!(text, expected);
    assert_eq!(rendered(&machine(), "9", Numbering::Physical), "", "a CPU that the host's file lacks");
}

#[test]
fn i2_siblings_and_cores_count_the_shown_ones() {
    let text = rendered(&machine(), "0,1,4,2", Numbering::Physical);
    assert_eq!(values(&text, "processor"), ["0", "1", "2", "4"]);
    assert_eq!(values(&text, "siblings"), ["3", "3", "1", "3"]);
    assert_eq!(values(&text, "cpu cores"), ["2", "2", "1", "2"]);
}

#[test]
fn i2_core_ids_of_any_size() {
    let blocks = vec![x86(0, 0, u64::MAX), x86(1, 0, u64::MAX), x86(2, 0, 9000), x86(3, 0, 1)];
    let text = rendered(&HostCpuinfo { blocks, ..Default::default() }, "0-3", Numbering::Physical);
    assert_eq!(values(&text, "cpu cores"), ["3"; 4]);
}

#[test]
fn i3_compact_numbering_renumbers() {
    let text = rendered(&machine(), "3,6", Numbering::Compact);
    assert_eq!(values(&text, "processor"), ["0", "1"]);
    assert_eq!(values(&text, "core id"), ["1", "0"]);
}

#[test]
fn i4_lines_of_no_cpu_stay() {
    let block = |cpu: usize| CpuinfoBlock {
        cpu,
        text: format!("processor\t: {cpu}\nBogoMIPS\t: 48.00\nCPU part\t: 0xd0c\n"),
        physical_id: None,
        core_id: None,
    };
    let host = HostCpuinfo {
        blocks: vec![block(0), block(1)],
        global_before: "Serial\t: 1\n\n".into(),
        global_after: "Hardware\t: Y\n".into(),
    };
    let expected = "Serial\t: 1\n\nprocessor\t: 1\nBogoMIPS\t: 48.00\nCPU part\t: 0xd0c\n\nHardware\t: Y\n";
    assert_eq!(rendered(&host, "1", Numbering::Physical), expected);
    assert_eq!(values(&rendered(&host, "1", Numbering::Compact), "processor"), ["0"]);
}
