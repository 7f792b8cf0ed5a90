use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};
use proptest::prelude::*;

use super::super::Write;
use super::program::{
    AND, EXIT, LOAD_WORD, MOVE, MOVE_REGISTER, SHIFT_RIGHT, SKIP_IF_EQUAL, SKIP_UNLESS_EQUAL,
};
use super::*;

fn rule(allow: bool, typ: LinuxDeviceType, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
    let rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).major(major).minor(minor);
    rule.access(access).build().unwrap()
}

/// What a container has usually: nothing, and then some.
fn usual() -> Vec<LinuxDeviceCgroup> {
    vec![
        rule(false, LinuxDeviceType::A, -1, -1, "rwm"),
        rule(true, LinuxDeviceType::C, 10, 229, "rw"),
        rule(true, LinuxDeviceType::B, 8, -1, "r"),
    ]
}

/// The kernel's answer, by the instructions that the program has.
fn run(code: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let kind = if kind == Kind::Block { 1 } else { 2 };
    let context = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0;
    loop {
        let instruction = code[at];
        let (target, source) = instruction.registers();
        let (target, source) = (usize::from(target), registers[usize::from(source)]);
        let immediate = i64::from(instruction.immediate) as u64;
        let skip = usize::try_from(instruction.offset).unwrap();
        at += 1;
        match instruction.operation {
            LOAD_WORD => registers[target] = u64::from(context[skip / 4]),
            MOVE => registers[target] = immediate,
            MOVE_REGISTER => registers[target] = source,
            AND => registers[target] &= immediate,
            SHIFT_RIGHT => registers[target] >>= immediate,
            SKIP_IF_EQUAL if registers[target] == immediate => at += skip,
            SKIP_UNLESS_EQUAL if registers[target] != immediate => at += skip,
            SKIP_IF_EQUAL | SKIP_UNLESS_EQUAL => {}
            EXIT => return registers[0] == 1,
            other => panic!("operation {other:#x}"),
        }
    }
}

/// The last rule that names an access to the device decides, for each access on its own.
fn naive(rules: &[LinuxDeviceCgroup], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let always = ALWAYS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    });
    let rules: Vec<Rule> = rules.iter().map(|rule| checked(0, rule).unwrap()).chain(always).collect();
    let decides = |rule: &&Rule, bit: u8| {
        rule.kind.is_none_or(|k| k == kind)
            && rule.major.is_none_or(|m| m == major)
            && rule.minor.is_none_or(|m| m == minor)
            && rule.access & bit != 0
    };
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| rules.iter().rev().find(|rule| decides(rule, bit)).is_some_and(|rule| rule.allow))
}

/// What the kernel's v1 controller does with the lines.
fn v1_answer(lines: &[Write], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let (reset, exceptions) = lines.split_first().unwrap();
    assert_eq!(reset.value, "a *:* rwm");
    let allow = reset.file == "devices.allow";
    let matching = |line: &&Write| {
        let words: Vec<&str> = line.value.split(' ').collect();
        let (first, second) = words[1].split_once(':').unwrap();
        words[0] == if kind == Kind::Block { "b" } else { "c" }
            && (first == "*" || first == major.to_string())
            && (second == "*" || second == minor.to_string())
    };
    let bits = |line: &Write| {
        let letters = line.value.rsplit(' ').next().unwrap();
        [('m', MKNOD), ('r', READ), ('w', WRITE)]
            .iter()
            .filter(|(l, _)| letters.contains(*l))
            .map(|b| b.1)
            .sum()
    };
    let mut matched = exceptions.iter().filter(matching).map(|line| -> u8 { bits(line) });
    if allow { !matched.any(|bits| bits & access != 0) } else { matched.any(|bits| bits & access == access) }
}

#[test]
fn usual_rules() {
    let code = program(&usual()).unwrap();
    for (expected, kind, access, major, minor) in [
        (true, Kind::Char, READ | WRITE, 1, 3),
        (true, Kind::Char, READ | WRITE, 136, 7),
        (true, Kind::Char, READ | WRITE, 10, 229),
        (false, Kind::Char, READ, 10, 200),
        (true, Kind::Char, MKNOD, 10, 200),
        (true, Kind::Block, READ, 8, 16),
        (false, Kind::Block, READ | WRITE, 8, 16),
        (false, Kind::Block, READ, 7, 0),
        (true, Kind::Block, MKNOD, 7, 0),
        (false, Kind::Block, READ, 1, 3),
    ] {
        assert_eq!(run(&code, kind, access, major, minor), expected, "{kind:?} {access} {major}:{minor}");
    }
}

#[test]
fn lines_of_v1() {
    let lines = v1(&usual()).unwrap();
    let lines: Vec<String> =
        lines.iter().map(|line| format!("{} {}", line.file.replace("devices.", ""), line.value)).collect();
    assert_eq!(lines[0], "deny a *:* rwm");
    for line in
        ["allow b 8:* r", "allow c 10:229 rw", "allow c *:* m", "allow c 1:3 rwm", "allow c 136:* rwm"]
    {
        assert!(lines.iter().any(|has| has == line), "{line} of {lines:?}");
    }
    // all, but one
    let lines =
        v1(&[rule(true, LinuxDeviceType::A, -1, -1, "rwm"), rule(false, LinuxDeviceType::C, 10, 200, "rwm")]);
    let lines: Vec<String> = lines.unwrap().into_iter().map(|line| line.file + " " + &line.value).collect();
    assert_eq!(lines, ["devices.allow a *:* rwm", "devices.deny c 10:200 rw"]);
    // a hole in an earlier rule
    let error =
        v1(&[rule(true, LinuxDeviceType::C, 10, -1, "rw"), rule(false, LinuxDeviceType::C, 10, 200, "w")]);
    assert!(error.unwrap_err().to_string().contains("is a part of c 10:* rw"));
}

#[test]
fn no_rules_allow_the_usual_devices_only() {
    let code = program(&[]).unwrap();
    assert!(run(&code, Kind::Char, READ | WRITE, 5, 1));
    assert!(!run(&code, Kind::Char, READ, 10, 1));
    assert_eq!(v1(&[]).unwrap()[0].file, "devices.deny");
}

#[test]
fn refused_rules() {
    for (rule, part) in [
        (rule(true, LinuxDeviceType::P, 1, 1, "r"), "linux.resources.devices[0].type"),
        (rule(true, LinuxDeviceType::C, 1, 1, ""), "devices[0].access"),
        (rule(true, LinuxDeviceType::C, 1, 1, "rx"), "devices[0].access"),
        (rule(true, LinuxDeviceType::C, -2, 1, "r"), "devices[0].major"),
        (rule(true, LinuxDeviceType::C, 1, 1 << 31, "r"), "devices[0].minor"),
    ] {
        assert!(program(std::slice::from_ref(&rule)).unwrap_err().to_string().contains(part));
        assert!(v1(&[rule]).unwrap_err().to_string().contains(part));
    }
}

fn any_rule() -> impl Strategy<Value = LinuxDeviceCgroup> {
    let typ = prop_oneof![Just(LinuxDeviceType::A), Just(LinuxDeviceType::B), Just(LinuxDeviceType::C)];
    let access =
        prop_oneof![Just("rwm"), Just("r"), Just("w"), Just("m"), Just("rw"), Just("rm"), Just("wm")];
    // few numbers, so that rules meet; 0 to 2 beside those always allowed
    (any::<bool>(), typ, -1i64..3, -1i64..4, access)
        .prop_map(|(allow, typ, major, minor, access)| rule(allow, typ, major, minor, access))
}

proptest! {
    #[test]
    fn program_is_last_rule_wins(rules in proptest::collection::vec(any_rule(), 0..12)) {
        let code = program(&rules).unwrap();
        let lines = v1(&rules);
        for kind in [Kind::Block, Kind::Char] {
            for (major, minor) in (0..6).flat_map(|major| (0..5).map(move |minor| (major, minor))) {
                for access in 1..=EVERY_ACCESS {
                    let expected = naive(&rules, kind, access, major, minor);
                    prop_assert_eq!(run(&code, kind, access, major, minor), expected);
                    if let Ok(lines) = &lines {
                        let v1 = v1_answer(lines, kind, access, major, minor);
                        // accesses from two lines: only ever less
                        prop_assert!(v1 == expected || (!v1 && access.count_ones() > 1));
                    }
                }
            }
        }
    }
}
