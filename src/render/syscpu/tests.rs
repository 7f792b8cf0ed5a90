//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::Numbering;

fn shown(cpus: &str, numbering: Numbering) -> ShownCpus {
    let physical = CpuSet::parse(cpus).unwrap();
    ShownCpus { mask: physical.clone(), physical, numbering }
}

fn text(render: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    render(&mut out);
    String::from_utf8(out).unwrap()
}

fn file(file: SysCpuFile, shown: &ShownCpus) -> String {
    text(|out| sys_cpu(file, shown, 255, out))
}

fn list(host: &str, cpus: &str, numbering: Numbering) -> String {
    text(|out| rewrite_cpu_list(host, &shown(cpus, numbering), out))
}

fn mask(host: &str, cpus: &str, numbering: Numbering) -> String {
    text(|out| rewrite_cpu_mask(host, &shown(cpus, numbering), out))
}

#[test]
fn y1_every_set_is_the_shown_one() {
    for this in [SysCpuFile::Online, SysCpuFile::Present, SysCpuFile::Possible, SysCpuFile::Enabled] {
        assert_eq!(file(this, &shown("1,4-6", Numbering::Physical)), "1,4-6\n");
        assert_eq!(file(this, &shown("1,4-6", Numbering::Compact)), "0-3\n");
    }
}

#[test]
fn y2_no_cpu_is_missing_or_set_apart() {
    for this in [SysCpuFile::Offline, SysCpuFile::Isolated, SysCpuFile::NohzFull] {
        assert_eq!(file(this, &shown("1", Numbering::Physical)), "\n");
    }
}

#[test]
fn y2_nohz_full_without_the_option() {
    for (host, expected) in [("(null)\n", "(null)\n"), ("\n", "\n"), ("4-7\n", "\n"), ("", "\n")] {
        let mut out = Vec::new();
        nohz_full(host.as_bytes(), &mut out);
        assert_eq!(out, expected.as_bytes(), "{host:?}");
    }
}

#[test]
fn y3_kernel_max_is_the_kernels() {
    assert_eq!(file(SysCpuFile::KernelMax, &shown("1", Numbering::Physical)), "255\n");
}

#[test]
fn y4_lists_in_mirrored_files() {
    assert_eq!(list("0-3,8\n", "1,3,5", Numbering::Physical), "1,3\n");
    assert_eq!(list("0-3,8\n", "1,3,8", Numbering::Compact), "0-2\n");
    assert_eq!(list("0\n", "1", Numbering::Physical), "\n");
    for bad in ["", "x", "0-99999999\n"] {
        assert_eq!(list(bad, "0-3", Numbering::Physical), "\n", "{bad}");
    }
}

#[test]
fn y4_masks_keep_the_hosts_width() {
    assert_eq!(mask("3\n", "1", Numbering::Physical), "2\n");
    assert_eq!(mask("3\n", "1", Numbering::Compact), "1\n");
    assert_eq!(mask("ff,0000ffff,ffffffff\n", "0-3,33,64", Numbering::Physical), "01,00000002,0000000f\n");
    assert_eq!(mask("ff,0000ffff,ffffffff\n", "32,64", Numbering::Compact), "00,00000000,00000003\n");
    for bad in ["", "g", "0,,1", "123456789", "-1"] {
        assert_eq!(mask(bad, "0-3", Numbering::Physical), "\n", "{bad}");
    }
    let long = vec!["ffffffff"; 300].join(",");
    assert_eq!(mask(&long, "0", Numbering::Physical).len(), long.len() + 1, "beyond what a set can hold");
}

#[test]
fn y4_which_files_are_rewritten() {
    assert_eq!(rewriting("core_cpus"), Rewriting::Mask);
    assert_eq!(rewriting("core_cpus_list"), Rewriting::List);
    assert_eq!(rewriting("shared_cpu_map"), Rewriting::Mask);
    assert_eq!(rewriting("core_id"), Rewriting::Verbatim);
}
