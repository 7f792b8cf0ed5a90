//! Programs against a plain reading of the rules, for profiles of all kinds.

use super::*;

type Call = (&'static str, Option<u32>, Option<u32>, Option<u32>);

/// Names and their numbers in the kernel's tables, for a check that does not use ours: x86-64, x86, x32.
const CALLS: [Call; 14] = [
    ("read", Some(0), Some(3), Some(0)),
    ("write", Some(1), Some(4), Some(1)),
    ("open", Some(2), Some(5), Some(2)),
    ("ioctl", Some(16), Some(54), Some(514)),
    ("readv", Some(19), Some(145), Some(515)),
    ("getpid", Some(39), Some(20), Some(39)),
    ("clone", Some(56), Some(120), Some(56)),
    ("waitpid", None, Some(7), None),
    ("uselib", Some(134), Some(86), None),
    ("setns", Some(308), Some(346), Some(308)),
    ("pwritev2", Some(328), Some(379), Some(547)),
    ("openat2", Some(437), Some(437), Some(437)),
    ("mseal", Some(462), Some(462), Some(462)),
    ("socketcall", None, Some(102), None),
];

const ACTIONS: [&str; 7] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
];

fn value(action: &str, number: Option<u32>) -> u32 {
    let number = number.unwrap_or(1);
    match action {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 + number,
        "SCMP_ACT_KILL" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 + number,
        other => panic!("{other}"),
    }
}

#[derive(Debug, Clone)]
struct Entry {
    names: Vec<usize>,
    action: &'static str,
    number: Option<u32>,
    args: Vec<(usize, &'static str, u64, u64)>,
}

#[derive(Debug, Clone)]
struct Plain {
    default: (&'static str, Option<u32>),
    x86: bool,
    x32: bool,
    entries: Vec<Entry>,
}

impl Plain {
    fn json(&self) -> Value {
        let names = |entry: &Entry| entry.names.iter().map(|at| CALLS[*at].0).collect::<Vec<_>>();
        let args = |entry: &Entry| {
            let arg = |(index, op, value, second): &(usize, &str, u64, u64)| json!({"index": index, "op": op, "value": value, "valueTwo": second});
            entry.args.iter().map(arg).collect::<Vec<_>>()
        };
        let entry = |entry: &Entry| json!({"names": names(entry), "action": entry.action, "errnoRet": entry.number, "args": args(entry)});
        let mut architectures = vec!["SCMP_ARCH_X86_64"];
        architectures.extend(self.x86.then_some("SCMP_ARCH_X86"));
        architectures.extend(self.x32.then_some("SCMP_ARCH_X32"));
        json!({
            "defaultAction": self.default.0, "defaultErrnoRet": self.default.1, "architectures": architectures,
            "syscalls": self.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    }

    /// The rules as the documentation of the module has them, one after the other.
    fn says(&self, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let default = value(self.default.0, self.default.1);
        let x32 = arch == X86_64 && number >= X32_BIT;
        let own: fn(usize) -> Option<u32> = match arch {
            X86_64 if x32 && !self.x32 => return if number == u32::MAX { default } else { KILL },
            X86_64 if x32 => |at| CALLS[at].3.map(|number| number | X32_BIT),
            X86_64 => |at| CALLS[at].1,
            X86 if self.x86 => |at| CALLS[at].2,
            _ => return KILL,
        };
        let newest = self.entries.iter().flat_map(|entry| entry.names.iter().filter_map(|at| own(*at))).max();
        let lenient = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&self.default.0);
        if !lenient && newest.is_some_and(|newest| number > newest) {
            return errno(libc::ENOSYS);
        }
        for entry in &self.entries {
            let action = value(entry.action, entry.number);
            if action == default || !entry.names.iter().any(|at| own(*at) == Some(number)) {
                continue;
            }
            let bits = if arch == X86 || x32 { 0xffff_ffff } else { u64::MAX };
            let mut hits = entry.args.iter().map(|(index, op, value, second)| {
                holds(op, arguments[*index] & bits, value & bits, second & bits)
            });
            let mut indices: Vec<_> = entry.args.iter().map(|arg| arg.0).collect();
            indices.sort_unstable();
            if if indices.windows(2).any(|pair| pair[0] == pair[1]) {
                hits.any(|hit| hit)
            } else {
                hits.all(|hit| hit)
            } {
                return action;
            }
        }
        default
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => proptest::sample::select(BORDERS.to_vec()),
        1 => any::<u64>(),
        2 => 0u64..4,
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let names = prop::collection::vec(0..CALLS.len(), 0..6);
    let arg = (0usize..6, proptest::sample::select(OPERATORS.to_vec()), number(), number());
    let args = prop_oneof![Just(Vec::new()), prop::collection::vec(arg, 0..4)];
    (names, proptest::sample::select(ACTIONS.to_vec()), prop::option::of(0u32..3), args)
        .prop_map(|(names, action, number, args)| Entry { names, action, number, args })
}

fn plain() -> impl Strategy<Value = Plain> {
    let default = (proptest::sample::select(ACTIONS.to_vec()), prop::option::of(0u32..3));
    let entries =
        prop_oneof![6 => prop::collection::vec(entry(), 0..12), 1 => prop::collection::vec(entry(), 60..90)];
    (default, any::<bool>(), any::<bool>(), entries).prop_map(|(default, x86, x32, entries)| Plain {
        default,
        x86,
        x32,
        entries,
    })
}

fn call() -> impl Strategy<Value = (u32, u32)> {
    let arch = prop_oneof![4 => Just(X86_64), 2 => Just(X86), 1 => Just(0xc000_00b7)];
    let known = (0..CALLS.len(), 0..3usize, -1i32..=1).prop_map(|(at, column, off)| {
        let (_, first, second, third) = CALLS[at];
        let columns = [first, second, third.map(|number| number | X32_BIT)];
        let number: u32 = columns[column].unwrap_or(0);
        number.wrapping_add_signed(off)
    });
    let number = prop_oneof![
        8 => known,
        1 => any::<u32>(),
        1 => proptest::sample::select(vec![X32_BIT - 1, X32_BIT, u32::MAX, u32::MAX - 1, 470]),
    ];
    (arch, number)
}

proptest! {
    #[test]
    fn program_is_the_rules(
        plain in plain(),
        calls in prop::collection::vec((call(), prop::array::uniform6(number())), 60),
    ) {
        let filter = compiled(plain.json());
        for ((arch, number), arguments) in calls {
            let (result, _) = run(&filter.program, arch, number, arguments);
            let wanted = plain.says(arch, number, arguments);
            prop_assert_eq!(result, wanted, "{:#x} {:#x} {:x?}", arch, number, arguments);
        }
    }
}
