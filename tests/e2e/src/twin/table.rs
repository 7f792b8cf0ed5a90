//! The table of the verdicts, and its place in SEMANTICS.md. Pure.

use std::fmt::Write;

use super::compare::{Report, Row};
use super::rules::{Rule, Verdict};

const BEGIN: &str = "<!-- twin: begin -->";
const END: &str = "<!-- twin: end -->";

/// The table as text. Its numbers count lines by the rules that cover them, so that they are the same in every run.
pub fn render(report: &Report, rules: &[Rule], kernel: &str) -> String {
    let mut text = format!(
        "Linux {kernel}\n\n| file | lines | equal | within tolerance | differing, and why |\n|---|---|---|---|---|\n"
    );
    for (name, row) in &report.rows {
        let differing = match reasons(row, rules, false) {
            why if why.is_empty() => "0".to_owned(),
            why => format!("{}: {why}", row.differing),
        };
        let within = match reasons(row, rules, true) {
            why if why.is_empty() => "0".to_owned(),
            why => format!("{}: {why}", row.within),
        };
        let _ = writeln!(text, "| `{name}` | {} | {} | {within} | {differing} |", row.lines, row.equal);
    }
    text
}

/// The reasons of a row, each once, with the lines that it is given for.
fn reasons(row: &Row, rules: &[Rule], within: bool) -> String {
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for rule in row.rules.iter().filter_map(|at| rules.get(*at)) {
        let reason = match rule.verdict {
            Verdict::Within { .. } if within => tolerance(rule.verdict),
            Verdict::Within { .. } => continue,
            _ if within => continue,
            Verdict::OnlyMachine(reason) => format!(" only in the machine: {reason}"),
            Verdict::OnlyContainer(reason) => format!(" only in the container: {reason}"),
            verdict => format!(": {}", verdict.reason()),
        };
        let lines = rule.lines.split('|').filter(|lines| !["", "*"].contains(lines));
        match said.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => known.extend(lines),
            None => said.push((reason, lines.collect())),
        }
    }
    let one = |(reason, lines): &(String, Vec<&str>)| {
        let names: Vec<String> = lines.iter().map(|name| format!("`{name}`")).collect();
        format!("{}{reason}", names.join(", ")).trim_start_matches([':', ' ']).to_owned()
    };
    said.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// ` 10 % or 4096 kB: why`.
fn tolerance(verdict: Verdict) -> String {
    let Verdict::Within { percent, plus, unit, reason } = verdict else { return String::new() };
    let amount = format!("{plus} {unit}");
    let how = match (percent > 0.0, plus > 0.0) {
        (true, true) => format!("{percent} % or {}", amount.trim_end()),
        (true, false) => format!("{percent} %"),
        _ => amount.trim_end().to_owned(),
    };
    if reason.is_empty() { format!(" {how}") } else { format!(" {how}: {reason}") }
}

/// The page's table; `None` without the marks.
pub fn in_page(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(BEGIN)?;
    Some(rest.split_once(END)?.0.trim())
}

/// The page with another table.
pub fn replace(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
}

/// The lines in which two tables differ. With another kernel than the page's the counts are not compared: other kernels
/// have other lines.
pub fn differences(page: &str, now: &str) -> Vec<String> {
    let kernel = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let same = kernel(page) == kernel(now);
    let rows = |text: &str| -> Vec<String> {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        rows.map(|row| if same { row.to_owned() } else { without_counts(row) }).collect()
    };
    let (page, now) = (rows(page), rows(now));
    let missing =
        page.iter().filter(|row| !now.contains(row)).map(|row| format!("SEMANTICS.md says   {row}"));
    let new = now.iter().filter(|row| !page.contains(row)).map(|row| format!("the test found      {row}"));
    missing.chain(new).collect()
}

fn without_counts(row: &str) -> String {
    let cells = row.split('|').map(|cell| cell.trim().trim_start_matches(|c: char| c.is_ascii_digit()));
    cells.collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests;
