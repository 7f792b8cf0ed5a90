//! A profile's rules, sorted by the number of the call.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use super::SeccompError;
use super::abi::{self, Abi, X32_BIT};

/// What "the kernel has no such call" looks like.
const NEWER: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// The last argument of a call.
const LAST_ARGUMENT: usize = 5;

/// The largest error number that the kernel passes on (MAX_ERRNO of linux/err.h).
const MAX_ERRNO: u32 = 4095;

/// A profile that has been checked, its actions in the kernel's numbers.
pub struct Profile<'a> {
    entries: Vec<Entry<'a>>,
    default: u32,
    /// Whether calls newer than the profile get ENOSYS.
    newer: bool,
    /// Whether an entry has SCMP_ACT_NOTIFY.
    pub notify: bool,
}

struct Entry<'a> {
    names: &'a [String],
    action: u32,
    /// One of them must hold: all its conditions.
    alternatives: Vec<Vec<LinuxSeccompArg>>,
}

/// One comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// From 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub op: Operator,
    /// What it is compared with; the mask for MASKED_EQ.
    pub value: u64,
    /// For MASKED_EQ what the masked argument is compared with, no bits outside the mask.
    pub second: u64,
    /// Whether the argument has a high half.
    pub wide: bool,
}

/// An action for calls whose arguments meet all the conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// At least one.
    pub conditions: Vec<Condition>,
    /// A SECCOMP_RET_* with its data.
    pub action: u32,
}

/// What becomes of a call: the first rule that matches, or else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In order.
    pub rules: Vec<Rule>,
    /// A SECCOMP_RET_* with its data.
    pub otherwise: u32,
}

/// The calls of one architecture of the kernel's.
pub struct Kind {
    /// AUDIT_ARCH_* of linux/audit.h.
    pub audit: u32,
    /// From each number on, up to the next, what becomes of the call. Starts with 0, and neighbours differ.
    pub spans: Vec<(u32, Outcome)>,
}

impl<'a> Profile<'a> {
    /// Checks a profile.
    pub fn new(seccomp: &'a LinuxSeccomp) -> Result<Self, SeccompError> {
        let default = seccomp.default_action();
        if default == Action::ScmpActNotify {
            return Err(SeccompError::NotifyDefault);
        }
        let entries = seccomp.syscalls().as_deref().unwrap_or_default();
        Ok(Self {
            default: action(default, seccomp.default_errno_ret(), "default action")?,
            newer: !matches!(default, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace),
            notify: entries
                .iter()
                .any(|entry| entry.action() == Action::ScmpActNotify && !entry.names().is_empty()),
            entries: entries.iter().map(Entry::new).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> Entry<'a> {
    fn new(call: &'a LinuxSyscall) -> Result<Self, SeccompError> {
        let names = call.names();
        if names.iter().any(String::is_empty) {
            return Err(SeccompError::EmptyName);
        }
        if call.action() == Action::ScmpActNotify && names.iter().any(|name| name == "write") {
            return Err(SeccompError::NotifyWrite);
        }
        let first = names.first().map_or("", String::as_str);
        let arguments = call.args().as_deref().unwrap_or_default();
        let mut used = [0u32; LAST_ARGUMENT + 1];
        for argument in arguments {
            let index = argument.index();
            let unknown = || SeccompError::Argument { call: first.to_owned(), index };
            *used.get_mut(index).ok_or_else(unknown)? += 1;
        }
        let alternatives = if used.iter().any(|times| *times > 1) {
            arguments.iter().map(|argument| vec![*argument]).collect()
        } else {
            vec![arguments.to_vec()]
        };
        Ok(Self { names, action: action(call.action(), call.errno_ret(), first)?, alternatives })
    }
}

/// An action as the kernel has it. `at` is for the error.
fn action(action: Action, errno: Option<u32>, at: &str) -> Result<u32, SeccompError> {
    let with = |base: u32, most: u32| {
        let value = errno.unwrap_or(libc::EPERM.cast_unsigned());
        if value > most {
            return Err(SeccompError::Errno { at: at.to_owned(), action, value, most });
        }
        Ok(base | value)
    };
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActErrno => with(libc::SECCOMP_RET_ERRNO, MAX_ERRNO)?,
        Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
        Action::ScmpActTrace => with(libc::SECCOMP_RET_TRACE, libc::SECCOMP_RET_DATA)?,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    })
}

impl Condition {
    fn new(argument: LinuxSeccompArg, wide: bool) -> Self {
        let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
        let value = argument.value() & bits;
        Self {
            index: argument.index().min(LAST_ARGUMENT) as u32,
            op: argument.op(),
            value,
            second: argument.value_two().unwrap_or(0) & value,
            wide,
        }
    }
}

/// The calls of each of the kernel's architectures, in the order of the ABIs.
pub fn by_kernel_arch(profile: &Profile, abis: &[Abi]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for abi in abis {
        if kinds.iter().any(|kind| kind.audit == abi.audit) {
            continue;
        }
        let sharing: Vec<&Abi> = abis.iter().filter(|other| other.audit == abi.audit).collect();
        kinds.push(Kind { audit: abi.audit, spans: spans(profile, &sharing) });
    }
    kinds
}

/// The numbers of ABIs of which the kernel says the same architecture.
fn spans(profile: &Profile, abis: &[&Abi]) -> Vec<(u32, Outcome)> {
    let plain = |otherwise| Outcome { rules: Vec::new(), otherwise };
    // what holds from a number on where no rule is for the number itself
    let mut grounds = BTreeMap::from([(0, plain(profile.default))]);
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    if abis.iter().any(|abi| abi.arch == Arch::ScmpArchX86_64) {
        // in place of a call that a tracer cancelled the number is -1, which is no x32 call
        grounds.insert(u32::MAX, plain(profile.default));
        grounds.insert(X32_BIT, plain(libc::SECCOMP_RET_KILL_THREAD));
    }
    for abi in abis {
        if abi.arch == Arch::ScmpArchX32 {
            grounds.insert(X32_BIT, plain(profile.default));
        }
        collect(profile, abi, &mut calls);
        let Some(newest) = newest(profile, abi).filter(|_| profile.newer) else { continue };
        if abi.arch == Arch::ScmpArchX32 {
            grounds.remove(&u32::MAX);
        }
        grounds.insert(newest.saturating_add(1), plain(NEWER));
        if abi.arch == Arch::ScmpArchS390x {
            calls.insert(0, vec![Rule { conditions: Vec::new(), action: NEWER }]);
        }
    }
    let mut spans = grounds.clone();
    for (number, rules) in &calls {
        let next = number.saturating_add(1);
        if let Some((_, ground)) = grounds.range(..=next).next_back() {
            spans.entry(next).or_insert_with(|| ground.clone());
        }
        spans.insert(*number, outcome(rules, profile.default));
    }
    let mut spans: Vec<_> = spans.into_iter().collect();
    spans.dedup_by(|next, kept| next.1 == kept.1);
    spans
}

/// Adds the rules of one ABI, in the order of the profile; those that are for every call have no conditions.
fn collect(profile: &Profile, abi: &Abi, calls: &mut BTreeMap<u32, Vec<Rule>>) {
    for entry in profile.entries.iter().filter(|entry| entry.action != profile.default) {
        for name in entry.names {
            let direct = (abi.number)(name);
            let through = abi::through(name).and_then(|through| {
                Some(((abi.number)(through.call)?, Condition::selects(&through, abi.wide)))
            });
            for alternative in &entry.alternatives {
                if let Some(number) = direct {
                    let conditions =
                        alternative.iter().map(|argument| Condition::new(*argument, abi.wide)).collect();
                    calls.entry(number).or_default().push(Rule { conditions, action: entry.action });
                }
                if let Some((number, selected)) = through.filter(|_| alternative.is_empty()) {
                    let rule = Rule { conditions: vec![selected], action: entry.action };
                    calls.entry(number).or_default().push(rule);
                }
            }
        }
    }
}

impl Condition {
    fn selects(through: &abi::Through, wide: bool) -> Self {
        // a call of several things takes an int, whatever the register's high half is
        let value = through.mask & u64::from(u32::MAX);
        Self { index: 0, op: Operator::ScmpCmpMaskedEq, value, second: through.selector, wide }
    }
}

/// The largest number that the profile names, be it in an entry that says no more than the default action.
fn newest(profile: &Profile, abi: &Abi) -> Option<u32> {
    let names = profile.entries.iter().flat_map(|entry| entry.names);
    names.filter_map(|name| (abi.number)(name)).filter(|number| !abi.is_private(*number)).max()
}

/// The rules for one number without those that can change nothing.
fn outcome(rules: &[Rule], default: u32) -> Outcome {
    let decided = rules.iter().position(|rule| rule.conditions.is_empty());
    let otherwise = decided.and_then(|at| rules.get(at)).map_or(default, |rule| rule.action);
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules.iter().take(decided.unwrap_or(rules.len())) {
        if !kept.contains(rule) {
            kept.push(rule.clone());
        }
    }
    while kept.last().is_some_and(|rule| rule.action == otherwise) {
        kept.pop();
    }
    Outcome { rules: kept, otherwise }
}
