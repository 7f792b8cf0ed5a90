use oci_spec::runtime::{Arch, LinuxSeccomp};
use proptest::prelude::*;
use seccompiler::sock_filter;
use serde_json::{Value, json};

use super::*;

mod profiles;
mod random;
mod real;
mod sysinfo;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// For an x86-64 machine, whatever runs the test.
fn compiled(value: Value) -> Filter {
    compile_for(&profile(value), Arch::ScmpArchX86_64).unwrap()
}

fn refused(value: Value) -> SeccompError {
    compile_for(&profile(value), Arch::ScmpArchX86_64).unwrap_err()
}

/// The kernel's machine, with its rules: jumps go forward and stay inside, loads are of whole words.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (place, argument) in data[16..].chunks_exact_mut(8).zip(arguments) {
        place.copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut value, mut steps) = (0usize, 0u32, 0);
    loop {
        let step = &program[at];
        at += 1;
        steps += 1;
        let test = match step.code {
            0x20 => {
                assert_eq!(step.k % 4, 0);
                let from = step.k as usize;
                value = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                value &= step.k;
                continue;
            }
            0x05 => {
                at += step.k as usize;
                continue;
            }
            0x06 => return (step.k, steps),
            0x15 => value == step.k,
            0x25 => value > step.k,
            0x35 => value >= step.k,
            other => panic!("code {other:#x}"),
        };
        at += usize::from(if test { step.jt } else { step.jf });
    }
}

/// What a filter says of a call on x86-64.
fn says(filter: &Filter, number: u32, arguments: [u64; 6]) -> u32 {
    run(&filter.program, X86_64, number, arguments).0
}

fn holds(op: &str, argument: u64, value: u64, second: u64) -> bool {
    match op {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        "SCMP_CMP_MASKED_EQ" => argument & value == second & value,
        other => panic!("{other}"),
    }
}

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Values at which a comparison in halves can go wrong.
const BORDERS: [u64; 13] = [
    0,
    1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0x2_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

#[test]
fn operators_at_the_borders() {
    for op in OPERATORS {
        for value in BORDERS {
            for second in [0, 1, value, u64::MAX, 0x1_0000_0000] {
                let filter = compiled(json!({
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "architectures": ["SCMP_ARCH_X86"],
                    "syscalls": [{
                        "names": ["getppid"],
                        "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 5, "op": op, "value": value, "valueTwo": second}],
                    }],
                }));
                for argument in BORDERS {
                    let arguments = [7, 7, 7, 7, 7, argument];
                    let wanted = |yes| if yes { ALLOW } else { errno(libc::EPERM) };
                    let shown = format!("{argument:#x} {op} {value:#x} {second:#x}");
                    let yes = holds(op, argument, value, second);
                    assert_eq!(says(&filter, 110, arguments), wanted(yes), "{shown}");
                    let low = |value: u64| value & 0xffff_ffff;
                    let yes = holds(op, low(argument), low(value), low(second));
                    assert_eq!(run(&filter.program, X86, 64, arguments).0, wanted(yes), "x86 {shown}");
                }
            }
        }
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let args = |first: u32, second: u32| {
        compiled(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{
                "names": ["getppid"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    {"index": first, "op": "SCMP_CMP_EQ", "value": 1},
                    {"index": second, "op": "SCMP_CMP_EQ", "value": 2},
                ],
            }],
        }))
    };
    let (both, one) = (args(0, 1), args(1, 1));
    assert_eq!(says(&both, 110, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&both, 110, [1, 0, 0, 0, 0, 0]), errno(libc::EPERM));
    assert_eq!(says(&both, 110, [0, 2, 0, 0, 0, 0]), errno(libc::EPERM));
    assert_eq!(says(&one, 110, [0, 1, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&one, 110, [0, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&one, 110, [0, 3, 0, 0, 0, 0]), errno(libc::EPERM));
}

#[test]
fn the_first_entry_that_matches_decides() {
    let entry = |action: &str, args: Value| json!({"names": ["getppid"], "action": action, "args": args});
    let zero = || json!([{"index": 0, "op": "SCMP_CMP_EQ", "value": 0}]);
    let filter =
        |entries: [Value; 2]| compiled(json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": entries}));
    let special = filter([entry("SCMP_ACT_ERRNO", zero()), entry("SCMP_ACT_ALLOW", json!([]))]);
    assert_eq!(says(&special, 110, [0; 6]), errno(libc::EPERM));
    assert_eq!(says(&special, 110, [1; 6]), ALLOW);
    let general = filter([entry("SCMP_ACT_ALLOW", json!([])), entry("SCMP_ACT_ERRNO", zero())]);
    assert_eq!(says(&general, 110, [0; 6]), ALLOW);
    // conditions that change nothing cost nothing
    let same = filter([entry("SCMP_ACT_ALLOW", zero()), entry("SCMP_ACT_ALLOW", json!([]))]);
    assert_eq!(same.program, general.program);
    // as the default action: not there
    let default = filter([entry("SCMP_ACT_KILL_THREAD", json!([])), entry("SCMP_ACT_ALLOW", zero())]);
    assert_eq!(says(&default, 110, [0; 6]), ALLOW);
    assert_eq!(says(&default, 110, [1; 6]), KILL);
}
