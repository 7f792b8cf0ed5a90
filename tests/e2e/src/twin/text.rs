//! A file's text as lines of words: what is a key, what a value, how each is written and padded. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::matches;

/// Between words.
const SEPARATORS: &[char] = &[' ', '\t', '=', ':', ',', '/'];

/// One line: `gaps[n]` stands before `words[n]`, and one more gap at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Numbers and other words.
    pub words: Vec<&'a str>,
    /// What stands before, between and after them.
    pub gaps: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// Splits one line.
    pub fn split(text: &'a str) -> Self {
        let mut line = Self { words: Vec::new(), gaps: Vec::new() };
        let mut rest = text;
        loop {
            let word = rest.find(|c| !SEPARATORS.contains(&c)).unwrap_or(rest.len());
            let (gap, after) = rest.split_at(word);
            line.gaps.push(gap);
            if after.is_empty() {
                return line;
            }
            let end = after.find(SEPARATORS).unwrap_or(after.len());
            let (word, after) = after.split_at(end);
            line.words.push(word);
            rest = after;
        }
    }
}

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A number with that many decimals.
    Number(usize),
    /// Zeros in front: digits are counted.
    Digits(usize),
    /// Anything else.
    Word,
}

/// The format of a word.
pub fn format(word: &str) -> Format {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    match unsigned.split_once('.') {
        Some((whole, part)) if digits(whole) && digits(part) => Format::Number(part.len()),
        None if digits(unsigned) && unsigned.len() > 1 && unsigned.starts_with('0') => {
            Format::Digits(unsigned.len())
        }
        None if digits(unsigned) => Format::Number(0),
        _ => Format::Word,
    }
}

/// Which words of a line say what it is about.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// All in front of the first number.
    Lead,
    /// The first so many.
    Words(usize),
    /// This one, counted from 0.
    Word(usize),
    /// None: the file holds values only.
    Nothing,
}

/// How the lines of a file are told apart, where [`Key::Lead`] does not do it: file, start of the lines, their key. The
/// listing of a directory has its path with a slash behind it.
const KEYS: &[(&str, &str, Key)] = &[
    ("proc/buddyinfo", "", Key::Words(4)),
    ("proc/zoneinfo", "Node ", Key::Words(4)),
    ("proc/zoneinfo", "    cpu:", Key::Words(2)),
    ("proc/diskstats", "", Key::Words(3)),
    ("proc/partitions", " ", Key::Word(3)),
    ("proc/interrupts", "", Key::Words(1)),
    ("proc/cpuinfo", "processor", Key::Words(2)),
    ("proc/sys/*", "", Key::Nothing),
    ("*/", "", Key::Words(usize::MAX)),
    ("sys/*/uevent", "", Key::Lead),
    ("sys/*/meminfo", "", Key::Words(3)),
    ("sys/*/vmstat", "", Key::Lead),
    ("sys/*/numastat", "", Key::Lead),
    ("sys/*", "", Key::Nothing),
];

/// Lines that start a section: those below it belong to it, up to the next of the same kind. Deeper ones come later.
const SECTIONS: &[(&str, &[&str])] = &[
    ("proc/cpuinfo", &["processor"]),
    ("proc/zoneinfo", &["Node ", "  pagesets", "    cpu:"]),
    ("proc/schedstat", &["cpu"]),
];

/// A line with its key.
#[derive(Clone, Debug)]
pub struct Keyed<'a> {
    /// Unique in its file.
    pub key: String,
    /// The line.
    pub line: Line<'a>,
    /// Which words are values: those that do not belong to the key.
    pub values: Vec<usize>,
}

/// The lines of a file. What follows the last line end is a line too, unless it is empty.
pub fn keyed<'a>(path: &str, text: &'a str) -> Vec<Keyed<'a>> {
    let sections = SECTIONS.iter().find(|(file, _)| *file == path).map_or(&[][..], |(_, starts)| *starts);
    let mut open: Vec<String> = vec![String::new(); sections.len()];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for text in text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line)) {
        let line = Line::split(text);
        let rule = KEYS.iter().find(|(file, start, _)| matches(file, path) && text.starts_with(start));
        let words: BTreeSet<usize> = match rule.map_or(Key::Lead, |(_, _, key)| *key) {
            Key::Lead => {
                (0..line.words.iter().take_while(|word| format(word) == Format::Word).count()).collect()
            }
            Key::Words(count) => (0..count.min(line.words.len())).collect(),
            Key::Word(at) => BTreeSet::from([at]),
            Key::Nothing => BTreeSet::new(),
        };
        let own: Vec<&str> = words.iter().filter_map(|at| line.words.get(*at).copied()).collect();
        let mut key = own.join(" ");
        if let Some(level) = sections.iter().position(|start| text.starts_with(start)) {
            open[level].clone_from(&key);
            open[level + 1..].iter_mut().for_each(String::clear);
            key = open[..level]
                .iter()
                .chain([&key])
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" > ");
        } else if open.iter().any(|part| !part.is_empty()) {
            let parts = open.iter().filter(|part| !part.is_empty()).map(String::as_str);
            key = parts.chain([key.as_str()]).collect::<Vec<_>>().join(" > ");
        }
        let times = seen.entry(key.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times > 1 {
            key = format!("{key} #{times}");
        }
        let values = (0..line.words.len()).filter(|at| !words.contains(at)).collect();
        lines.push(Keyed { key, line, values });
    }
    lines
}

/// Why two lines of the same key are laid out differently; `None` where they are alike. Where values differ in length,
/// a padded column must give or take as many blanks, in front (right-aligned) or behind (left-aligned). Not `columns`: the
/// file has none, all blanks stay.
pub fn layout(one: &Line, other: &Line, columns: bool) -> Option<String> {
    if one.words.len() != other.words.len() {
        return Some(format!("{} words against {}", one.words.len(), other.words.len()));
    }
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let bare = |gap: &str| gap.replace(' ', "");
    let blanks = |gap: &str| gap.len() - bare(gap).len();
    let growth: Vec<i64> = one.words.iter().zip(&other.words).map(|(a, b)| length(b) - length(a)).collect();
    for (at, (a, b)) in one.gaps.iter().zip(&other.gaps).enumerate() {
        if bare(a) != bare(b) {
            return Some(format!("{a:?} against {b:?} before word {at}"));
        }
        let gap = length(b) - length(a);
        let before = if at == 0 { 0 } else { growth[at - 1] };
        let own = growth.get(at).copied().unwrap_or(0);
        // the sum of the CPUs in /proc/stat has two blanks behind its name, and no columns
        let fixed = at == 1 && one.words[0] == "cpu";
        let padded = blanks(a).max(blanks(b)) > 1 && !fixed && columns;
        // a value that is too long for its column leaves one blank, or none
        let full = |growth: i64, wide: &str, narrow: &str| {
            growth != 0 && blanks(wide) <= 1 && blanks(narrow) as i64 - blanks(wide) as i64 <= growth.abs()
        };
        let overflow = if own > 0 { full(own, b, a) } else { full(own, a, b) };
        let aligned = if padded {
            [-own, -before - own].contains(&gap) || (gap == 0 && left_aligned(one, other, at)) || overflow
        } else {
            [0, -own, -before, -before - own].contains(&gap)
        };
        if !aligned {
            return Some(format!(
                "{a:?} against {b:?} before {:?} and {:?}",
                one.words.get(at),
                other.words.get(at)
            ));
        }
    }
    None
}

/// What `/proc/stat` says was used, in percent of all time, less what the program used by its own clocks (seconds of the
/// wall and of CPU time). The ticks themselves do not compare: an emulated machine loses some, a group's time is exact.
pub fn used(growth: &str, took: (f64, f64)) -> String {
    let values: Vec<f64> = numbers(growth.lines().next().unwrap_or_default());
    let cpus = growth.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1);
    // Guest time is in user already.
    let all: f64 = values.iter().take(8).sum();
    // user, nice, system, irq, softirq
    let used: f64 = [0, 1, 2, 5, 6].iter().filter_map(|at| values.get(*at)).sum();
    let own = took.1 / (took.0 * cpus as f64).max(0.01);
    format!("used {:.1}\n", 100.0 * (used / all.max(1.0) - own))
}

/// How much faster than the program's own clock `/proc/uptime` went, in seconds; and its second number.
pub fn ahead(growth: &str, took: (f64, f64)) -> String {
    match numbers(growth).as_slice() {
        [up, idle] => format!("ahead {:.2}\nidle {idle:.2}\n", up - took.0),
        _ => growth.to_owned(),
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether the gap after a word makes up for the word's length.
fn left_aligned(one: &Line, other: &Line, at: usize) -> bool {
    let (Some(a), Some(b)) = (one.words.get(at), other.words.get(at)) else { return false };
    a.len() + one.gaps[at + 1].len() == b.len() + other.gaps[at + 1].len()
}

/// The lines of `after` with each number less that of `before` in the line of the same key. New lines stay, as do words.
pub fn growth(path: &str, before: &str, after: &str) -> String {
    let old = keyed(path, before);
    let old: BTreeMap<&str, &Line> = old.iter().map(|line| (line.key.as_str(), &line.line)).collect();
    let mut text = String::new();
    for Keyed { key, line, values } in keyed(path, after) {
        for (at, word) in line.words.iter().enumerate() {
            text += line.gaps[at];
            let old = old.get(key.as_str()).and_then(|line| line.words.get(at));
            match (format(word), old.and_then(|old| old.parse::<f64>().ok()), word.parse::<f64>()) {
                (Format::Number(decimals), Some(old), Ok(new)) if values.contains(&at) => {
                    text += &format!("{:.decimals$}", new - old);
                }
                _ => text += word,
            }
        }
        text += line.gaps.last().copied().unwrap_or_default();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
