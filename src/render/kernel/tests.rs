//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;

fn rendered(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn z7_slabs_are_counted_for_no_group() {
    let head = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs>\n";
    let host =
        format!("{head}ext4_inode_cache      56     56   1168   28    8 : tunables    0\n# name again\n");
    assert_eq!(rendered(|out| slabinfo(&host, out)), head);
    assert_eq!(rendered(|out| slabinfo("kmalloc-8 1 2 3\n", out)), "");
}

#[test]
fn k1_no_disk_belongs_to_a_container() {
    assert_eq!(rendered(partitions), "major minor  #blocks  name\n\n");
}

#[test]
fn k2_modules_without_users_and_addresses() {
    let host = "ext4 1138688 1 - Live 0xffffffffc0363000\nvirtio_blk 32768 2 9p,ext4, Loading 0xffffffffc0308000 (OE)\n\
        fixed 4096 - - Live 0xbf000000\n";
    let expected = "ext4 1138688 0 - Live 0x0000000000000000\nvirtio_blk 32768 0 - Live 0x0000000000000000\n\
        fixed 4096 - - Live 0x00000000\n";
    assert_eq!(rendered(|out| modules(host, out)), expected);
    for line in ["", "ext4", " 5", "ext4 x", "ext4 -5 1"] {
        assert_eq!(rendered(|out| modules(line, out)), "", "{line:?}");
    }
    assert_eq!(rendered(|out| modules("a 5", out)), "a 5 0 - Live 0x0000000000000000\n");
}

#[test]
fn k2_the_hosts_own_modules_without_addresses() {
    let host = "ext4 1138688 1 - Live 0xffffffffc0363000\ncrc16 12288 1 ext4, Live 0xffffffffc035d000 (E)\n0x 0xg 1\n";
    let expected = "ext4 1138688 1 - Live 0x0000000000000000\ncrc16 12288 1 ext4, Live 0x0000000000000000 (E)\n0x 0xg 1\n";
    assert_eq!(rendered(|out| host_modules(host, out)), expected);
}

#[test]
fn k3_how_many_groups_the_host_has_is_not_shown() {
    let host = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t32\t1\nrdma\t0\t0\t0\nodd\n";
    let expected =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t1\t1\nrdma\t0\t0\t0\n";
    assert_eq!(rendered(|out| cgroups(host, out)), expected);
}

#[test]
fn k4_counters_are_0_and_settings_remain() {
    let text = |file, host: &str| rendered(|out| fs_counters(file, host, out));
    assert_eq!(text(ProcFile::FileNr, "873\t0\t2466183\n"), "0\t0\t2466183\n");
    assert_eq!(text(ProcFile::FileNr, "873\t0\t9223372036854775807\n"), "0\t0\t9223372036854775807\n");
    assert_eq!(text(ProcFile::InodeNr, "485657\t30519\n"), "0\t0\n");
    assert_eq!(text(ProcFile::InodeState, "485658\t30519\t9\t0\t0\t0\t0\n"), "0\t0\t0\t0\t0\t0\t0\n");
    assert_eq!(text(ProcFile::DentryState, "486561\t457616\t45\t0\t30740\t0\n"), "0\t0\t45\t0\t0\t0\n");
    assert_eq!(text(ProcFile::AioNr, "5\n"), "0\n");
    assert_eq!(text(ProcFile::FileNr, "a b c\nd\n"), "0\t0\t0\n");
}

#[test]
fn k5_the_kernels_form() {
    let id = std::array::from_fn(|i| i as u8 * 17);
    assert_eq!(rendered(|out| boot_id(id, out)), "00112233-4455-6677-8899-aabbccddeeff\n");
}
