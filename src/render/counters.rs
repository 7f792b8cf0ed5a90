//! Tables with one column per CPU: `/proc/interrupts` and `/proc/softirqs`, laid out as the host's.

use super::number::{push, width};
use crate::model::CountersPolicy;
use crate::view::ShownCpus;

/// Digits of a number, and of `CPUn`, without the blank between two columns (`%10u`, `CPU%-8d`).
const WIDTH: usize = 10;

/// `/proc/softirqs`: every row of the host's.
pub fn softirqs(template: &str, shown: &ShownCpus, counters: CountersPolicy, out: &mut Vec<u8>) {
    table(template, shown, counters, |_| true, out);
}

/// `/proc/interrupts`: the rows of the architecture. Rows whose label is a number are devices of the host, left out unless
/// its counters are asked for.
pub fn interrupts(template: &str, shown: &ShownCpus, counters: CountersPolicy, out: &mut Vec<u8>) {
    let devices = counters == CountersPolicy::Host;
    table(template, shown, counters, |label| devices || !label.bytes().all(|b| b.is_ascii_digit()), out);
}

fn table(
    template: &str,
    shown: &ShownCpus,
    counters: CountersPolicy,
    keep: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    let mut lines = template.lines();
    let header = lines.next().unwrap_or_default();
    let cpus: Vec<usize> =
        header.split_ascii_whitespace().filter_map(|word| word.strip_prefix("CPU")?.parse().ok()).collect();
    let indent = header.len() - header.trim_start().len();
    out.extend(std::iter::repeat_n(b' ', indent));
    for number in shown.numbers().iter() {
        out.extend_from_slice(b"CPU");
        push(out, number as u64);
        pad(out, (WIDTH - 2).saturating_sub(width(number as u64)));
    }
    out.push(b'\n');
    // Where in a row the shown CPUs stand; one that the host's file has not yet shows 0.
    let columns: Vec<Option<usize>> =
        shown.physical.iter().map(|cpu| cpus.iter().position(|column| *column == cpu)).collect();
    for line in lines {
        let Some((label, rest)) = line.split_once(':') else { continue };
        if !keep(label.trim()) {
            continue;
        }
        let row = Row::parse(rest, cpus.len());
        out.extend_from_slice(label.as_bytes());
        out.push(b':');
        let value = |column: Option<usize>| match (counters, column) {
            (CountersPolicy::Host, Some(column)) => row.values.get(column).copied().unwrap_or_default(),
            _ => 0,
        };
        if row.values.len() < cpus.len() {
            // ERR and MIS are counted once, not per CPU.
            for column in 0..row.values.len() {
                number(out, value(Some(column)), row.lead);
            }
        } else {
            let mut lead = row.lead;
            for column in &columns {
                number(out, value(*column), lead);
                lead = 1;
            }
        }
        // No description of the kernel's begins with a digit but a device's: this would be a number of another form.
        let is_number = row.rest.trim_start().starts_with(|first: char| first.is_ascii_digit());
        if counters == CountersPolicy::Host || !is_number {
            out.extend_from_slice(row.rest.as_bytes());
        }
        out.push(b'\n');
    }
}

fn number(out: &mut Vec<u8>, value: u64, lead: usize) {
    pad(out, lead + WIDTH.saturating_sub(width(value)));
    push(out, value);
}

fn pad(out: &mut Vec<u8>, count: usize) {
    out.extend(std::iter::repeat_n(b' ', count));
}

/// What follows the label of a row.
struct Row<'a> {
    /// The numbers, one per CPU, or fewer where they are not counted per CPU.
    values: Vec<u64>,
    /// Blanks before the first column: two where arm64 pads its labels, else one.
    lead: usize,
    /// What the numbers are followed by, with its blanks.
    rest: &'a str,
}

impl<'a> Row<'a> {
    fn parse(text: &'a str, most: usize) -> Self {
        let mut row = Self { values: Vec::new(), lead: 1, rest: text };
        while row.values.len() < most {
            let word = row.rest.trim_start_matches(' ');
            let end = word.find(' ').unwrap_or(word.len());
            let Some(value) = word.get(..end).and_then(|digits| digits.parse().ok()) else { break };
            if row.values.is_empty() {
                let blanks = row.rest.len() - word.len();
                row.lead = (blanks + end).saturating_sub(end.max(WIDTH)).clamp(1, 4);
            }
            row.values.push(value);
            row.rest = word.get(end..).unwrap_or_default();
        }
        row
    }
}

#[cfg(test)]
mod tests;
