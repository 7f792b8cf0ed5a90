//! One test or more per rule of `SEMANTICS.md`, named after it.

use super::*;
use crate::model::{CpuReading, CpuSet, Numbering, Policies};
use crate::view::shown;

const SOFTIRQS: &str = "                    CPU0       CPU1       CPU2       CPU3       \n\
\x20         HI:          1          2          3          4\n\
\x20      TIMER:     286766     320769 12345678901         44\n\
\x20   IRQ_POLL:          0          0          0          0\n";
const INTERRUPTS: &str = "           CPU0       CPU1       CPU2       CPU3       \n\
\x20 0:         10         11         12         13  IO-APIC   2-edge      timer\n\
\x2026:          0         15          0          0  IO-APIC   4-edge      ttyS0\n\
NMI:          0          7          0          9   Non-maskable interrupts\n\
LOC:    2751928    2870237 1234567890 12345678901   Local timer interrupts\n\
ERR:          5\n\
MIS:          6\n\
PIN:          0          0          0          0   Posted-interrupt notification event\n";
/// arm64 of a kernel with more than 1000 interrupt numbers: four places for the label, one blank more.
const ARM: &str = "            CPU0       CPU1       \n\
\x20 13:          8          9     GICv3  27 Level     arch_timer\n\
IPI0:          3          4       Rescheduling interrupts\n\
\x20Err:          0\n";

fn cpus(cpus: &str, numbering: Numbering) -> ShownCpus {
    let reading =
        CpuReading { cpuset: CpuSet::parse(cpus).ok(), online: CpuSet::first(9), ..Default::default() };
    shown(&reading, &Policies { numbering, ..Policies::default() })
}

fn text(
    table: fn(&str, &ShownCpus, CountersPolicy, &mut Vec<u8>),
    template: &str,
    set: &str,
    counters: CountersPolicy,
) -> String {
    let mut out = Vec::new();
    table(template, &cpus(set, Numbering::Physical), counters, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn q1_softirqs_of_the_shown_cpus() {
    let expected = "                    CPU1       CPU3       \n\
        \x20         HI:          0          0\n\
        \x20      TIMER:          0          0\n\
        \x20   IRQ_POLL:          0          0\n";
    assert_eq!(text(softirqs, SOFTIRQS, "1,3", CountersPolicy::Zero), expected);
}

#[test]
fn q1_policy_host_passes_their_columns_through() {
    assert_eq!(text(softirqs, SOFTIRQS, "0-3", CountersPolicy::Host), SOFTIRQS);
    let expected = "                    CPU2       CPU8       \n\
        \x20         HI:          3          0\n\
        \x20      TIMER: 12345678901          0\n\
        \x20   IRQ_POLL:          0          0\n";
    assert_eq!(
        text(softirqs, SOFTIRQS, "2,8", CountersPolicy::Host),
        expected,
        "one that is not in the file: 0"
    );
}

#[test]
fn q1_compact_numbers_and_wide_ones() {
    let mut out = Vec::new();
    softirqs(SOFTIRQS, &cpus("1,3", Numbering::Compact), CountersPolicy::Host, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("                    CPU0       CPU1       \n          HI:          2          4\n"),
        "{text}"
    );
    let reading = CpuReading { online: CpuSet::parse("10,255").unwrap(), ..Default::default() };
    let mut out = Vec::new();
    softirqs(SOFTIRQS, &shown(&reading, &Policies::default()), CountersPolicy::Zero, &mut out);
    assert!(out.starts_with(b"                    CPU10      CPU255     \n"));
}

#[test]
fn q2_no_device_of_the_host() {
    let expected = "           CPU1       CPU3       \n\
        NMI:          0          0   Non-maskable interrupts\n\
        LOC:          0          0   Local timer interrupts\n\
        ERR:          0\n\
        MIS:          0\n\
        PIN:          0          0   Posted-interrupt notification event\n";
    assert_eq!(text(interrupts, INTERRUPTS, "1,3", CountersPolicy::Zero), expected);
    let arm = "            CPU1       \nIPI0:          0       Rescheduling interrupts\n Err:          0\n";
    assert_eq!(text(interrupts, ARM, "1", CountersPolicy::Zero), arm);
}

#[test]
fn q2_policy_host_shows_every_row() {
    assert_eq!(text(interrupts, INTERRUPTS, "0-3", CountersPolicy::Host), INTERRUPTS);
    assert_eq!(text(interrupts, ARM, "0-1", CountersPolicy::Host), ARM);
    let one = text(interrupts, INTERRUPTS, "1", CountersPolicy::Host);
    assert!(one.contains("\n 26:         15  IO-APIC   4-edge      ttyS0\n"), "{one}");
}

#[test]
fn q3_what_is_not_counted_per_cpu_has_one_column() {
    for counters in [CountersPolicy::Zero, CountersPolicy::Host] {
        let text = text(interrupts, INTERRUPTS, "2,3", counters);
        let number = if counters == CountersPolicy::Host { 5 } else { 0 };
        assert!(text.contains(&format!("\nERR:          {number}\nMIS:")), "{text}");
    }
}

#[test]
fn q2_any_text_is_survived() {
    for template in [
        "",
        "\n",
        "CPU0",
        ":",
        "CPU0\n:\n: 5\nx:y\n7",
        "CPU0 CPU0 CPUx\nA: 99999999999999999999999 1\n\u{e9}:\u{a0}5 5",
    ] {
        for counters in [CountersPolicy::Zero, CountersPolicy::Host] {
            text(interrupts, template, "0-1", counters);
            text(softirqs, template, "0-1", counters);
        }
    }
}
