use std::collections::BTreeSet;

use super::*;

const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

#[test]
fn actions() {
    for (action, number, value) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(4095), 0x0005_0fff),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", Some(5), 0x7fff_0000),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
    ] {
        let entry = json!({"names": ["getppid"], "action": action, "errnoRet": number});
        let filter = compiled(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 77, "syscalls": [entry],
        }));
        assert_eq!(says(&filter, 110, [0; 6]), value, "{action}");
        assert_eq!(says(&filter, 109, [0; 6]), errno(77));
        assert_eq!(filter.notify, action == "SCMP_ACT_NOTIFY");
        if action != "SCMP_ACT_NOTIFY" {
            let filter = compiled(json!({"defaultAction": action, "defaultErrnoRet": number}));
            assert_eq!(says(&filter, 110, [0; 6]), value, "{action}");
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let entry = |entry: Value| refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}));
    let error = entry(json!({
        "names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}],
    }));
    assert_eq!(error.to_string(), "seccomp: rule for read: no argument 6, the last is 5");
    let error = entry(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}));
    assert_eq!(error.to_string(), "seccomp: read: errnoRet 4096 of SCMP_ACT_ERRNO is more than 4095");
    let error = refused(json!({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}));
    assert_eq!(
        error.to_string(),
        "seccomp: default action: errnoRet 65536 of SCMP_ACT_TRACE is more than 65535"
    );
    assert_eq!(entry(json!({"names": ["read", ""], "action": "SCMP_ACT_KILL"})), SeccompError::EmptyName);
    assert_eq!(
        entry(json!({"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"})),
        SeccompError::NotifyWrite
    );
    assert_eq!(refused(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), SeccompError::NotifyDefault);
}

#[test]
fn too_many_rules() {
    let entries: Vec<Value> = (0..2000)
        .map(|value| {
            let args = json!([{"index": 0, "op": "SCMP_CMP_EQ", "value": value}]);
            json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args})
        })
        .collect();
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}));
    assert!(matches!(error, SeccompError::TooLong(10_000..)), "{error}");
}

#[test]
fn architectures() {
    let named = |list: Value, host| {
        let value = json!({
            "defaultAction": "SCMP_ACT_TRAP", "architectures": list,
            "syscalls": [{"names": ["getppid", "set_tls", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
        });
        compile_for(&profile(value), host)
    };
    let only = named(json!([]), Arch::ScmpArchX86_64).unwrap();
    let with_native = json!(["SCMP_ARCH_NATIVE", "SCMP_ARCH_X86_64", "SCMP_ARCH_MIPS", "SCMP_ARCH_S390"]);
    assert_eq!(named(with_native, Arch::ScmpArchX86_64).unwrap(), only);
    assert_eq!(run(&only.program, X86_64, 110, [0; 6]).0, ALLOW);
    assert_eq!(run(&only.program, X86_64, 109, [0; 6]).0, libc::SECCOMP_RET_TRAP);
    assert_eq!(run(&only.program, X86_64, X32_BIT | 110, [0; 6]).0, KILL);
    assert_eq!(run(&only.program, X86_64, X32_BIT, [0; 6]).0, KILL);
    assert_eq!(run(&only.program, X86_64, u32::MAX - 1, [0; 6]).0, KILL);
    assert_eq!(run(&only.program, X86_64, u32::MAX, [0; 6]).0, libc::SECCOMP_RET_TRAP);
    assert_eq!(run(&only.program, X86, 64, [0; 6]).0, KILL);

    let all = named(json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]), Arch::ScmpArchX86_64).unwrap();
    assert_eq!(run(&all.program, X86_64, 110, [0; 6]).0, ALLOW);
    assert_eq!(run(&all.program, X86_64, X32_BIT | 110, [0; 6]).0, ALLOW);
    assert_eq!(run(&all.program, X86_64, X32_BIT | 109, [0; 6]).0, libc::SECCOMP_RET_TRAP);
    assert_eq!(run(&all.program, X86, 64, [0; 6]).0, ALLOW);
    assert_eq!(run(&all.program, AARCH64, 173, [0; 6]).0, KILL);

    let arm = named(json!(["SCMP_ARCH_ARM", "SCMP_ARCH_X86"]), Arch::ScmpArchAarch64).unwrap();
    assert_eq!(run(&arm.program, AARCH64, 173, [0; 6]).0, ALLOW);
    assert_eq!(run(&arm.program, ARM, 64, [0; 6]).0, ALLOW);
    assert_eq!(run(&arm.program, ARM, 0xf_0005, [0; 6]).0, ALLOW);
    assert_eq!(run(&arm.program, ARM, 65, [0; 6]).0, errno(libc::ENOSYS));
    assert_eq!(run(&arm.program, X86, 64, [0; 6]).0, KILL);

    let error = named(json!(["SCMP_ARCH_S390"]), Arch::ScmpArchS390x).unwrap_err();
    assert_eq!(error.to_string(), "seccomp: the system calls of architecture SCMP_ARCH_S390 are not known");
    let s390x = named(json!([]), Arch::ScmpArchS390x).unwrap();
    assert_eq!(run(&s390x.program, 0x8000_0016, 0, [0; 6]).0, errno(libc::ENOSYS));
}

#[test]
fn x32_has_numbers_of_its_own() {
    let filter = compiled(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32"],
        "syscalls": [{"names": ["ioctl", "pwritev2", "uselib", "statx"], "action": "SCMP_ACT_ERRNO"}],
    }));
    for (number, hit) in [(514, true), (547, true), (332, true), (16, false), (134, false), (328, false)] {
        assert_eq!(says(&filter, X32_BIT | number, [0; 6]) != ALLOW, hit, "x32 {number}");
    }
    for (number, hit) in [(514, false), (332, true), (16, true), (134, true), (328, true)] {
        assert_eq!(says(&filter, number, [0; 6]) != ALLOW, hit, "{number}");
    }
}

#[test]
fn newer_calls_get_enosys() {
    let filter = |default: &str| {
        compiled(json!({
            "defaultAction": default, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                {"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["faccessat2"], "action": default},
            ],
        }))
    };
    for (default, value) in [("SCMP_ACT_ERRNO", errno(libc::EPERM)), ("SCMP_ACT_KILL", KILL)] {
        let filter = filter(default);
        for bit in [0, X32_BIT] {
            assert_eq!(says(&filter, bit | 437, [0; 6]), ALLOW);
            // 439 is named, though with the default action
            assert_eq!(says(&filter, bit | 439, [0; 6]), value);
            assert_eq!(says(&filter, bit | 438, [0; 6]), value);
            assert_eq!(says(&filter, bit | 440, [0; 6]), errno(libc::ENOSYS));
        }
        assert_eq!(says(&filter, X32_BIT - 1, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(run(&filter.program, X86, 439, [0; 6]).0, value);
        assert_eq!(run(&filter.program, X86, 440, [0; 6]).0, errno(libc::ENOSYS));
        assert_eq!(run(&filter.program, X86, u32::MAX, [0; 6]).0, errno(libc::ENOSYS));
    }
    for (default, value) in [("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG), ("SCMP_ACT_TRACE", 0x7ff0_0001)] {
        assert_eq!(says(&filter(default), 440, [0; 6]), value);
    }
    // nothing named, nothing newer
    assert_eq!(says(&compiled(json!({"defaultAction": "SCMP_ACT_ERRNO"})), 440, [0; 6]), errno(libc::EPERM));
}

#[test]
fn socketcall_and_ipc() {
    let filter = compiled(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["socket", "shmget"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["bind"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 2}]},
        ],
    }));
    let x86 = |number, first| run(&filter.program, X86, number, [first, 0, 0, 0, 0, 0]).0;
    assert_eq!(x86(359, 9), errno(libc::EPERM)); // socket
    assert_eq!(x86(102, 1), errno(libc::EPERM)); // socketcall(SYS_SOCKET)
    assert_eq!(x86(102, 2), ALLOW); // SYS_BIND: its arguments cannot be read
    assert_eq!(x86(361, 2), errno(libc::EPERM)); // bind
    assert_eq!(x86(395, 0), errno(libc::EPERM)); // shmget
    assert_eq!(x86(117, 23), errno(libc::EPERM)); // ipc(SHMGET)
    assert_eq!(x86(117, 0x1_0017), errno(libc::EPERM)); // a version, which changes nothing
    assert_eq!(x86(117, 24), ALLOW);
    assert_eq!(says(&filter, 102, [1, 0, 0, 0, 0, 0]), ALLOW); // getuid on x86-64
}

#[test]
fn flags_as_the_kernel_takes_them() {
    let flags = |listed: &[&str], action: &str| {
        compiled(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": listed, "listenerPath": "/run/agent",
            "listenerMetadata": "words", "syscalls": [{"names": ["mkdir"], "action": action}],
        }))
    };
    let (tsync, log) = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG");
    let all = [tsync, log, "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];
    assert_eq!(flags(&[], "SCMP_ACT_ERRNO").flags, 0);
    assert_eq!(flags(&all, "SCMP_ACT_ERRNO").flags, 0b00_0111);
    assert_eq!(flags(&[], "SCMP_ACT_NOTIFY").flags, 0b00_1000);
    assert_eq!(flags(&[log], "SCMP_ACT_NOTIFY").flags, 0b00_1010);
    assert_eq!(flags(&[tsync], "SCMP_ACT_NOTIFY").flags, 0b01_1001);
    let filter = flags(&all, "SCMP_ACT_NOTIFY");
    assert_eq!(filter.flags, 0b11_1111);
    assert_eq!(filter.listener_path.unwrap().to_str(), Some("/run/agent"));
    assert_eq!(filter.listener_metadata.as_deref(), Some("words"));
}

/// As the profiles that engines come with: all calls but some dozens, some with conditions.
#[test]
fn a_large_profile() {
    let refused =
        ["mount", "umount2", "ptrace", "bpf", "reboot", "swapon", "kexec_load", "init_module", "setns"];
    let special = ["personality", "clone", "socket"];
    let mut names = BTreeSet::new();
    for number in 0..600usize {
        names.extend(syscalls::x86_64::Sysno::new(number).map(|call| call.name()));
        names.extend(syscalls::x86::Sysno::new(number).map(|call| call.name()));
    }
    // with holes all over, so that the spans are as short as in no real profile
    let names: Vec<_> = names
        .into_iter()
        .enumerate()
        .filter(|(place, name)| place % 11 != 0 && !refused.contains(name) && !special.contains(name))
        .map(|(_, name)| name)
        .collect();
    assert!(names.len() > 380, "{}", names.len());
    let condition = |name: &str, op: &str, value: u64| {
        json!({"names": [name], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 0, "op": op, "value": value, "valueTwo": 0}]})
    };
    let mut entries = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    entries.extend(
        [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].map(|it| condition("personality", "SCMP_CMP_EQ", it)),
    );
    entries.push(condition("clone", "SCMP_CMP_MASKED_EQ", 0x7e02_0000));
    entries.push(condition("socket", "SCMP_CMP_NE", 40));
    let filter = compiled(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": entries,
    }));
    assert!(filter.program.len() < 1500, "{} instructions", filter.program.len());
    let mut longest = 0;
    for number in 0..600usize {
        let result = |arguments| run(&filter.program, X86_64, number as u32, arguments);
        let (action, steps) = result([0; 6]);
        longest = longest.max(steps);
        let Some(call) = syscalls::x86_64::Sysno::new(number) else { continue };
        if special.contains(&call.name()) {
            assert_eq!(action, ALLOW);
            assert_eq!(result([40 | 0x1000_0000; 6]).0 == ALLOW, call.name() == "socket");
        } else if number < 460 {
            let listed = names.contains(&call.name());
            assert_eq!(action, if listed { ALLOW } else { errno(libc::EPERM) }, "{call}");
        }
    }
    assert!(longest < 40, "{longest} steps"); // personality, with five conditions
    assert!(run(&filter.program, X86_64, 0, [0; 6]).1 < 18);
}
