use super::*;
use crate::oci::seccomp::sysinfo::with_sysinfo_for;

const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

fn with(value: Value) -> Option<Filter> {
    with_sysinfo_for(Some(&profile(value)), Arch::ScmpArchX86_64)
}

fn answer(filter: &Filter, arch: u32, number: u32) -> u32 {
    run(&filter.program, arch, number, [7; 6]).0
}

#[test]
fn without_a_profile_nothing_else_is_changed() {
    let filter = with_sysinfo_for(None, Arch::ScmpArchX86_64).unwrap();
    assert!(filter.notify);
    for (arch, number) in [(X86_64, 99), (X86_64, X32_BIT | 99), (X86, 116)] {
        assert_eq!(answer(&filter, arch, number), NOTIFY, "{arch:x} {number}");
    }
    for (arch, number) in
        [(X86_64, 98), (X86_64, 116), (X86_64, 0), (X86, 99), (X86, 120), (X86_64, u32::MAX), (1, 99)]
    {
        assert_eq!(answer(&filter, arch, number), ALLOW, "{arch:x} {number}");
    }
    // architecture, its test, the number, its test
    assert!(run(&filter.program, X86_64, 0, [0; 6]).1 <= 6, "few steps for any other call");
    let filter = with_sysinfo_for(None, Arch::ScmpArchAarch64).unwrap();
    assert_eq!(answer(&filter, 0xc000_00b7, 179), NOTIFY);
    assert_eq!(answer(&filter, 0x4000_0028, 116), NOTIFY);
    assert_eq!(answer(&filter, 0xc000_00b7, 116), ALLOW);
}

#[test]
fn a_profile_that_allows_it_keeps_all_else() {
    let value = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["read", "sysinfo", "getpid", "uname"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["kexec_load"], "action": "SCMP_ACT_KILL" },
        ],
    });
    let (plain, filter) = (compiled(value.clone()), with(value).unwrap());
    assert_eq!(filter.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    for arch in [X86_64, X86, 1] {
        for number in (0..500).chain([X32_BIT | 99, u32::MAX]) {
            let is_it = (arch, number) == (X86_64, 99) || (arch, number) == (X86, 116);
            let wanted = if is_it { NOTIFY } else { answer(&plain, arch, number) };
            assert_eq!(answer(&filter, arch, number), wanted, "{arch:x} {number}");
        }
    }
}

#[test]
fn a_profile_that_says_otherwise_is_left_alone() {
    let allow = |calls: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls });
    let entry = |action: &str| json!([{ "names": ["sysinfo"], "action": action }]);
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"] {
        assert!(with(allow(entry(action))).is_none(), "{action}");
    }
    let own = json!([{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }]);
    assert!(with(allow(own)).is_none(), "a listener of its own");
    assert!(with(json!({ "defaultAction": "SCMP_ACT_ERRNO" })).is_none(), "not allowed");
    let conditional = json!([{ "names": ["sysinfo"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] }]);
    assert!(with(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": conditional })).is_none());
    assert!(with(json!({ "defaultAction": "SCMP_ACT_ALLOW" })).is_some());
    assert!(with(allow(json!([{ "names": ["mount"], "action": "SCMP_ACT_ERRNO" }]))).is_some());
}
