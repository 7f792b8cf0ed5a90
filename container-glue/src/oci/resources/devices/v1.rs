//! Lines for the devices controller of v1.
//!
//! The kernel keeps there whether all is allowed, and a set of exceptions without an order. So a rule that takes a
//! part out of an earlier, wider one cannot be said, and is an error. And a node is opened for reading and writing at
//! once only if one line has both: where they come from two lines of different width the kernel refuses, which is
//! the safe side.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::super::planner::{refuse, write};
use super::super::{ResourceError, Write};
use super::{Kind, MKNOD, READ, Rule, WRITE, evaluate};

type Numbers = (Kind, Option<u32>, Option<u32>);

/// The lines, for `devices.deny` and `devices.allow`. The first resets the group: the kernel takes it only before
/// there are groups below, and on a running container it forbids (or allows) everything for a moment. An update that
/// names no devices should not write any of this.
pub fn v1(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Write>, ResourceError> {
    let (allow, rules) = evaluate(rules)?;
    let mut exceptions: BTreeMap<Numbers, u8> = BTreeMap::new();
    for rule in &rules {
        let kinds = rule.kind.map_or(vec![Kind::Block, Kind::Char], |kind| vec![kind]);
        for kind in kinds {
            let numbers = (kind, rule.major, rule.minor);
            if rule.allow == allow {
                take_out(&mut exceptions, numbers, rule)?;
            } else {
                *exceptions.entry(numbers).or_default() |= rule.access;
            }
        }
    }
    let to = |allow: bool, line: String| {
        write("devices", "devices", if allow { "devices.allow" } else { "devices.deny" }, line)
    };
    let lines = exceptions.iter().filter(|(_, access)| **access != 0);
    let lines = lines.map(|(numbers, access)| to(!allow, line(*numbers, *access)));
    Ok(std::iter::once(to(allow, "a *:* rwm".to_owned())).chain(lines).collect())
}

/// Takes back what earlier rules said about these devices.
fn take_out(
    exceptions: &mut BTreeMap<Numbers, u8>,
    numbers: Numbers,
    rule: &Rule,
) -> Result<(), ResourceError> {
    for (earlier, access) in exceptions.iter_mut().filter(|(_, access)| **access & rule.access != 0) {
        if earlier.0 != numbers.0 || !meet(earlier.1, numbers.1) || !meet(earlier.2, numbers.2) {
            continue;
        }
        if !within(earlier.1, numbers.1) || !within(earlier.2, numbers.2) {
            let reason =
                format!("is a part of {}, and cgroup v1 has no such exceptions", line(*earlier, *access));
            return Err(refuse("devices", line(numbers, rule.access), reason));
        }
        *access &= !rule.access;
    }
    Ok(())
}

/// Some device has both numbers.
fn meet(one: Option<u32>, other: Option<u32>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Every device with the one number has the other.
fn within(one: Option<u32>, other: Option<u32>) -> bool {
    other.is_none() || one == other
}

fn line((kind, major, minor): Numbers, access: u8) -> String {
    let kind = if kind == Kind::Block { 'b' } else { 'c' };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [('r', READ), ('w', WRITE), ('m', MKNOD)];
    let letters: String =
        letters.iter().filter(|(_, bit)| access & bit != 0).map(|(letter, _)| letter).collect();
    format!("{kind} {}:{} {letters}", number(major), number(minor))
}
