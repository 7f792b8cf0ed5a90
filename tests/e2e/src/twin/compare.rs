//! Holds what the container showed to what the machine showed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::Collected;
use super::rules::{Rule, Verdict, matches};
use super::text::{Keyed, ahead, format, growth, keyed, layout, used};

/// What was compared in one row of the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Lines of the container.
    pub lines: usize,
    /// Lines that no rule covers: equal but for what the problems name.
    pub equal: usize,
    /// Lines with numbers that may be some way apart.
    pub within: usize,
    /// Lines that differ for a reason.
    pub differing: usize,
    /// The rules that were used, by their place in the table of rules.
    pub rules: BTreeSet<usize>,
}

/// The outcome.
#[derive(Debug, Default)]
pub struct Report {
    /// By file, or by directory below `sys/devices/system`.
    pub rows: BTreeMap<String, Row>,
    /// Differences that no rule covers.
    pub problems: Vec<String>,
    /// Rules that covered nothing, or whose values were all equal.
    pub stale: Vec<String>,
    /// Rules for files that are not served.
    pub unserved: Vec<String>,
}

/// Compares everything.
pub fn compare(machine: &Collected, container: &Collected, rules: &[Rule]) -> Report {
    let mut comparison = Comparison {
        rules,
        used: vec![Used::default(); rules.len()],
        files: BTreeSet::new(),
        report: Report::default(),
    };
    let paths: BTreeSet<&String> = machine.files.keys().chain(container.files.keys()).collect();
    for path in paths {
        match (machine.files.get(path), container.files.get(path)) {
            (Some(theirs), Some(ours)) => comparison.file(path, path, theirs, ours, true),
            (Some(text), None) => comparison.file_alone(path, text, true),
            (None, Some(text)) => comparison.file_alone(path, text, false),
            (None, None) => {}
        }
    }
    for (path, (before, after)) in &machine.growth {
        if let Some((old, new)) = container.growth.get(path) {
            let theirs = grown(path, before, after, machine.took);
            let ours = grown(path, old, new, container.took);
            comparison.file(&format!("{path} (growth)"), path, &theirs, &ours, false);
        }
    }
    comparison.finish()
}

/// What a file grew by; what it says of time is held to the program's own clocks.
fn grown(path: &str, before: &str, after: &str, took: (f64, f64)) -> String {
    let text = growth(path, before, after);
    match path {
        "proc/stat" => text.clone() + &used(&text, took),
        "proc/uptime" => ahead(&text, took),
        _ => text,
    }
}

#[derive(Clone, Default)]
struct Used {
    covered: bool,
    differed: bool,
}

struct Comparison<'a> {
    rules: &'a [Rule],
    used: Vec<Used>,
    files: BTreeSet<String>,
    report: Report,
}

/// The row of the table that a file belongs to: all of a directory below `sys/devices/system` is one.
fn row_of(path: &str) -> String {
    match path.strip_prefix("sys/devices/system/") {
        Some(below) => format!("sys/devices/system/{}/", below.split('/').next().unwrap_or_default()),
        None => path.to_owned(),
    }
}

impl Comparison<'_> {
    /// Compares one file; `path` says how its lines are told apart.
    fn file(&mut self, name: &str, path: &str, machine: &str, container: &str, padding: bool) {
        let (ours, theirs) = (keyed(path, container), keyed(path, machine));
        self.report.rows.entry(row_of(name)).or_default();
        self.files.insert(name.to_owned());
        let by_key: BTreeMap<&str, &Keyed> = ours.iter().map(|line| (line.key.as_str(), line)).collect();
        let known: BTreeSet<&str> = theirs.iter().map(|line| line.key.as_str()).collect();
        for line in &theirs {
            match by_key.get(line.key.as_str()) {
                Some(own) => self.line(name, line, own, padding),
                None => self.alone(name, line, true),
            }
        }
        for line in ours.iter().filter(|line| !known.contains(line.key.as_str())) {
            self.alone(name, line, false);
        }
        let common = |lines: &[Keyed]| -> Vec<String> {
            lines
                .iter()
                .map(|l| l.key.clone())
                .filter(|key| known.contains(key.as_str()) && by_key.contains_key(key.as_str()))
                .collect()
        };
        let orders = common(&theirs).into_iter().zip(common(&ours)).find(|(one, other)| one != other);
        if let Some((one, other)) = orders {
            self.report
                .problems
                .push(format!("{name}: the machine has {one:?} where the container has {other:?}"));
        }
        let both = !machine.is_empty() && !container.is_empty();
        if both && machine.ends_with('\n') != container.ends_with('\n') {
            self.report.problems.push(format!("{name}: a line end at the end, or none"));
        }
    }

    /// A file that only one side has.
    fn file_alone(&mut self, name: &str, text: &str, machine: bool) {
        // an empty one too
        self.files.insert(name.to_owned());
        let text = if text.is_empty() { "(empty)\n" } else { text };
        for line in keyed(name, text) {
            self.alone(name, &line, machine);
        }
    }

    /// A line that only one side has.
    fn alone(&mut self, name: &str, line: &Keyed, machine: bool) {
        let found = self.rules.iter().position(|rule| {
            let side = match rule.verdict {
                Verdict::OnlyMachine(_) => machine,
                Verdict::OnlyContainer(_) => !machine,
                _ => false,
            };
            side && rule.covers_line(name, &line.key)
        });
        if !machine {
            let row = self.report.rows.entry(row_of(name)).or_default();
            row.lines += 1;
            row.differing += usize::from(found.is_some());
        }
        match found {
            Some(rule) => {
                self.use_rule(name, rule);
            }
            None => {
                let side = if machine { "machine" } else { "container" };
                self.report.problems.push(format!(
                    "{name}: only the {side} has the line {:?}: {}",
                    line.key,
                    line.line.words.join(" ")
                ));
            }
        }
    }

    /// A line that both have.
    fn line(&mut self, name: &str, machine: &Keyed, container: &Keyed, padding: bool) {
        let mut problems = Vec::new();
        let (mut within, mut differing) = (false, false);
        // the kernel pads the names of zoneinfo, not its numbers
        let columns = !name.starts_with("proc/zoneinfo");
        let count = (machine.values.len(), container.values.len());
        let why = match count {
            (theirs, ours) if theirs != ours => Some(format!("{theirs} values against {ours}")),
            _ if padding => layout(&machine.line, &container.line, columns),
            _ => None,
        };
        if let Some(why) = why {
            match self.width_rule(name, &machine.key) {
                Some(rule) => differing = self.use_rule(name, rule),
                None => problems.push(why),
            }
        }
        for (column, (at, own)) in machine.values.iter().zip(&container.values).enumerate() {
            let (theirs, ours) = (machine.line.words[*at], container.line.words[*own]);
            let found = self
                .rules
                .iter()
                .position(|rule| rule.verdict.is_about_values() && rule.covers(name, &machine.key, column));
            let Some(index) = found else {
                if theirs != ours {
                    problems.push(format!("value {column}: {theirs:?} against {ours:?}"));
                }
                continue;
            };
            let verdict = self.rules[index].verdict;
            self.used[index].covered = true;
            self.used[index].differed |= theirs != ours;
            match verdict {
                Verdict::Within { percent, plus, .. } => {
                    within = true;
                    if !near(theirs, ours, percent, plus) {
                        problems.push(format!(
                            "value {column}: {theirs} against {ours}: more than {percent} % or {plus} apart"
                        ));
                    }
                }
                _ => differing = true,
            }
            if padding && !same_format(theirs, ours) {
                problems.push(format!("value {column}: {theirs:?} is written otherwise than {ours:?}"));
            }
            if padding
                && machine.line.words.last() == Some(&"kB")
                && whole_pages(theirs)
                && !whole_pages(ours)
            {
                problems.push(format!("value {column}: {ours} kB is no number of pages, as {theirs} kB is"));
            }
            self.report.rows.entry(row_of(name)).or_default().rules.insert(index);
        }
        let row = self.report.rows.entry(row_of(name)).or_default();
        row.lines += 1;
        match (differing, within) {
            (true, _) => row.differing += 1,
            (false, true) => row.within += 1,
            (false, false) => row.equal += 1,
        }
        for problem in problems {
            self.report.problems.push(format!("{name}: {:?}: {problem}", machine.key));
        }
    }

    /// The rule by which a line may have more values on one side.
    fn width_rule(&self, name: &str, key: &str) -> Option<usize> {
        self.rules
            .iter()
            .position(|rule| matches!(rule.verdict, Verdict::Width(_)) && rule.covers_line(name, key))
    }

    fn use_rule(&mut self, name: &str, rule: usize) -> bool {
        self.used[rule] = Used { covered: true, differed: true };
        self.report.rows.entry(row_of(name)).or_default().rules.insert(rule);
        true
    }

    fn finish(mut self) -> Report {
        for (rule, used) in self.rules.iter().zip(&self.used) {
            if !self.files.iter().any(|name| matches(rule.file, name)) {
                self.report.unserved.push(format!("{}: {}", rule.file, rule.lines));
                continue;
            }
            let why = match (used.covered, rule.verdict) {
                (false, _) => "covers nothing",
                (true, Verdict::Differs(_)) if !used.differed => "covers only what is equal",
                _ => continue,
            };
            self.report.stale.push(format!("{}: {}: {:?}: {why}", rule.file, rule.lines, rule.verdict));
        }
        self.report
    }
}

/// Numbers must keep their decimals; addresses are hexadecimal, with letters or not.
fn same_format(one: &str, other: &str) -> bool {
    let hex = |text: &str| text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    format(one) == format(other) || hex(one) && hex(other)
}

/// Whether so many kB are pages of 4 kB.
fn whole_pages(kib: &str) -> bool {
    kib.parse::<u64>().is_ok_and(|kib| kib % 4 == 0)
}

fn near(one: &str, other: &str, percent: f64, plus: f64) -> bool {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => {
            let apart = (one - other).abs();
            apart <= plus || apart <= one.abs().max(other.abs()) * percent / 100.0
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests;
