//! The eBPF program that decides about devices on v2.
//!
//! It keeps the accesses not decided yet in a register and goes through the rules from the last to the first: a rule
//! that denies one of them ends with no, one that allows some takes them out, and when none is left the answer is
//! yes.

use oci_spec::runtime::LinuxDeviceCgroup;

use super::super::ResourceError;
use super::{EVERY_ACCESS, Kind, Rule, evaluate};

/// Registers: what the kernel passes is in 1, and the answer in 0.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const PENDING: u8 = 2;
const SCRATCH: u8 = 3;

/// Places in `struct bpf_cgroup_dev_ctx`, bytes: kind and accesses in the halves of one word, then the numbers.
const KIND_AND_ACCESSES: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Operations, as `linux/bpf.h` puts them together: class, size or operation, and the immediate as operand.
pub(super) const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
pub(super) const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
pub(super) const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
pub(super) const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
pub(super) const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
pub(super) const SKIP_IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const SKIP_UNLESS_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
pub(super) const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// One instruction, as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    pub(super) operation: u8,
    /// Two numbers of four bits; which is where depends on the machine's byte order.
    registers: u8,
    /// Instructions to skip, or bytes into the context.
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

impl Instruction {
    const fn new(operation: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Self {
        let registers =
            if cfg!(target_endian = "little") { target | source << 4 } else { target << 4 | source };
        Self { operation, registers, offset, immediate }
    }

    /// Numbers of the target and the source register.
    #[cfg(test)]
    pub(super) const fn registers(self) -> (u8, u8) {
        let (low, high) = (self.registers & 0xf, self.registers >> 4);
        if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
    }
}

/// The program for these rules: it answers 1 where all accesses asked for are allowed, and 0 elsewhere.
pub fn program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>, ResourceError> {
    let (allow, rules) = evaluate(rules)?;
    let mut code = vec![
        Instruction::new(LOAD_WORD, PENDING, CONTEXT, KIND_AND_ACCESSES, 0),
        Instruction::new(SHIFT_RIGHT, PENDING, 0, 0, 16),
        Instruction::new(AND, PENDING, 0, 0, i32::from(EVERY_ACCESS)),
    ];
    for rule in rules.iter().rev() {
        add_rule(&mut code, rule);
    }
    code.extend(answer(allow));
    Ok(code)
}

/// Each rule loads anew what it compares. Kept in registers, what a comparison has shown would tell the kernel's
/// verifier the paths apart, and it would walk each of them to the end: more than it does for some hundred rules.
fn add_rule(code: &mut Vec<Instruction>, rule: &Rule) {
    let mut block = verdict(rule);
    let mut put_before = |load: &[Instruction], wanted: i32| {
        let skip = i16::try_from(block.len()).unwrap_or(i16::MAX); // 9 at most
        let skip = Instruction::new(SKIP_UNLESS_EQUAL, SCRATCH, 0, skip, wanted);
        block.splice(..0, load.iter().copied().chain([skip]));
    };
    let load = |place| Instruction::new(LOAD_WORD, SCRATCH, CONTEXT, place, 0);
    if let Some(minor) = rule.minor {
        put_before(&[load(MINOR)], minor.cast_signed());
    }
    if let Some(major) = rule.major {
        put_before(&[load(MAJOR)], major.cast_signed());
    }
    if let Some(kind) = rule.kind {
        let low_half = Instruction::new(AND, SCRATCH, 0, 0, 0xffff);
        let number = if kind == Kind::Block { 1 } else { 2 };
        put_before(&[load(KIND_AND_ACCESSES), low_half], number);
    }
    code.extend(block);
}

/// What a rule does about a device that it names.
fn verdict(rule: &Rule) -> Vec<Instruction> {
    let mut verdict = if rule.allow {
        let rest = i32::from(EVERY_ACCESS & !rule.access);
        vec![
            Instruction::new(AND, PENDING, 0, 0, rest),
            Instruction::new(SKIP_UNLESS_EQUAL, PENDING, 0, 2, 0),
        ]
    } else {
        vec![
            Instruction::new(MOVE_REGISTER, SCRATCH, PENDING, 0, 0),
            Instruction::new(AND, SCRATCH, 0, 0, i32::from(rule.access)),
            Instruction::new(SKIP_IF_EQUAL, SCRATCH, 0, 2, 0),
        ]
    };
    verdict.extend(answer(rule.allow));
    verdict
}

fn answer(allow: bool) -> [Instruction; 2] {
    [Instruction::new(MOVE, ANSWER, 0, 0, i32::from(allow)), Instruction::new(EXIT, 0, 0, 0, 0)]
}
