//! From rules to instructions.

use oci_spec::runtime::LinuxSeccompOperator as Operator;
use seccompiler::sock_filter;

use super::rules::{Condition, Kind, Outcome, Rule};

/// linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS
const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K
const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA
const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K
const EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K
const GREATER: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K
const AT_LEAST: u16 = 0x35;
/// BPF_RET | BPF_K
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` of linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Where the halves of an argument are.
const LOW: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };
const HIGH: u32 = 4 - LOW;

fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn result(action: u32) -> sock_filter {
    step(RETURN, action, 0, 0)
}

/// The whole program. It ends the thread for a call of an architecture that is not among `kinds`.
pub fn program(kinds: &[Kind]) -> Vec<sock_filter> {
    let mut program = vec![step(LOAD, ARCH, 0, 0)];
    for kind in kinds {
        let mut block = vec![step(LOAD, NUMBER, 0, 0)];
        block.extend(search(&kind.spans));
        either(&mut program, EQUAL, kind.audit, block, Vec::new());
    }
    program.push(result(libc::SECCOMP_RET_KILL_THREAD));
    program
}

/// A binary search for the span that the number in the accumulator is in.
fn search(spans: &[(u32, Outcome)]) -> Vec<sock_filter> {
    let (below, from) = spans.split_at(spans.len() / 2);
    let mut program = Vec::new();
    match (below, from) {
        ([], from) => from.iter().for_each(|(_, outcome)| decide(outcome, &mut program)),
        (below, [(start, _), ..]) => either(&mut program, AT_LEAST, *start, search(from), search(below)),
        (_, []) => {} // the second half is the longer one
    }
    program
}

/// Adds a test and what follows it: `yes` must not run into `no`, which goes on with what is added later.
fn either(program: &mut Vec<sock_filter>, test: u16, k: u32, yes: Vec<sock_filter>, no: Vec<sock_filter>) {
    match u8::try_from(yes.len()) {
        Ok(over) => program.push(step(test, k, 0, over)),
        // a conditional jump has 8 bits, an unconditional one 32; a program that needs more is refused for its length
        Err(_) => program.extend([step(test, k, 1, 0), step(JUMP, yes.len() as u32, 0, 0)]),
    }
    program.extend(yes);
    program.extend(no);
}

/// Adds the rules of one call; returns in every case.
fn decide(outcome: &Outcome, program: &mut Vec<sock_filter>) {
    for each in &outcome.rules {
        rule(each, program);
    }
    program.push(result(outcome.otherwise));
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// Behind the condition, which holds.
    Holds,
    /// Behind the rule, which does not match.
    Fails,
}

/// An instruction whose jumps are not numbers yet.
type Draft = (u16, u32, To, To);

/// Adds one rule: returns its action, or goes on behind it.
fn rule(rule: &Rule, program: &mut Vec<sock_filter>) {
    let drafts: Vec<Vec<Draft>> = rule.conditions.iter().map(condition).collect();
    // a rule has at most a condition for each of six arguments, of at most six instructions: all jumps have 8 bits
    let length: usize = drafts.iter().map(Vec::len).sum::<usize>() + 1;
    let (mut at, mut end) = (0, 0);
    for draft in drafts {
        end += draft.len();
        for (code, k, yes, no) in draft {
            at += 1;
            let distance = |to| match to {
                To::Next => 0,
                To::Holds => (end - at) as u8,
                To::Fails => (length - at) as u8,
            };
            program.push(step(code, k, distance(yes), distance(no)));
        }
    }
    program.push(result(rule.action));
}

/// One condition. Ends by falling out or with a jump.
fn condition(condition: &Condition) -> Vec<Draft> {
    use To::*;
    let Condition { index, op, value, second, wide } = *condition;
    let low = (LOAD, ARGUMENTS + 8 * index + LOW, Next, Next);
    let high = (LOAD, ARGUMENTS + 8 * index + HIGH, Next, Next);
    let (value_high, value_low) = halves(value);
    let (second_high, second_low) = halves(second);
    let mut draft = Vec::new();
    let (holds, fails, compare) = match op {
        Operator::ScmpCmpMaskedEq => {
            if wide && value_high != 0 {
                draft.extend([high, (AND, value_high, Next, Next), (EQUAL, second_high, Next, Fails)]);
            }
            draft.extend([low, (AND, value_low, Next, Next), (EQUAL, second_low, Holds, Fails)]);
            return draft;
        }
        Operator::ScmpCmpEq => (Holds, Fails, EQUAL),
        Operator::ScmpCmpNe => (Fails, Holds, EQUAL),
        Operator::ScmpCmpGt => (Holds, Fails, GREATER),
        Operator::ScmpCmpLe => (Fails, Holds, GREATER),
        Operator::ScmpCmpGe => (Holds, Fails, AT_LEAST),
        Operator::ScmpCmpLt => (Fails, Holds, AT_LEAST),
    };
    if wide {
        draft.push(high);
        if compare != EQUAL {
            draft.push((GREATER, value_high, holds, Next));
        }
        draft.push((EQUAL, value_high, Next, fails));
    }
    draft.extend([low, (compare, value_low, holds, fails)]);
    draft
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
