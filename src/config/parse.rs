//! Text -> [`Config`]. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use crate::model::choices::shortened;
use crate::model::{ContainerName, DaemonChoices, PolicyChoices, PolicyError, PolicyKey};

/// The longest line, in bytes: a section's name has 128 letters at most, a setting fewer. It bounds how deep dotted
/// keys can be nested.
pub const MOST_LINE: usize = 512;

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[defaults]`.
    pub defaults: Section,
    /// `[containers.NAME]`, the most specific first.
    pub containers: Vec<(Pattern, Section)>,
}

/// One section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// What it chooses.
    pub choices: DaemonChoices,
    /// The line on which each choice stands, from 1.
    pub lines: BTreeMap<PolicyKey, usize>,
}

/// Which containers a section is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// The one of that name.
    Exact(ContainerName),
    /// All whose names begin so: `PREFIX*`.
    Prefix(String),
}

impl Pattern {
    fn new(text: &str) -> Result<Self, Problem> {
        match text.strip_suffix('*') {
            Some(prefix) => {
                // What can begin a name is one itself but for digits alone, which a letter makes good.
                let probe = format!("{prefix}a");
                let named = !text.ends_with("**") && ContainerName::new(&probe).is_ok();
                let why = "a name of letters, digits, `_`, `.` and `-` may end in one star";
                named
                    .then(|| Self::Prefix(prefix.to_owned()))
                    .ok_or_else(|| Problem::Name(shortened(text), why.to_owned()))
            }
            None => ContainerName::new(text)
                .map(Self::Exact)
                .map_err(|error| Problem::Name(shortened(text), error.to_string())),
        }
    }

    /// Whether it is for a container of this name.
    #[must_use]
    pub fn fits(&self, name: &ContainerName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.as_str().starts_with(prefix),
        }
    }

    /// How much of a name it fixes: an exact name more than any prefix, a longer prefix more than a shorter one.
    fn weight(&self) -> (bool, usize) {
        match self {
            Self::Exact(_) => (true, 0),
            Self::Prefix(prefix) => (false, prefix.len()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Config {
    /// Reads the bytes of a configuration file; `file` is named in errors.
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Self, ConfigError> {
        let at = |line, problem| ConfigError { file: file.to_owned(), line, problem };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            at(Some(line_of(before)), Problem::NotUtf8)
        })?;
        if let Some(index) = text.lines().position(|line| line.len() > MOST_LINE) {
            return Err(at(Some(index + 1), Problem::LongLine));
        }
        let document = Document { text };
        document.config().map_err(|(offset, problem)| {
            let before = bytes.get(..offset.min(bytes.len())).unwrap_or_default();
            at(Some(line_of(before)), problem)
        })
    }
}

/// The line on which the byte after `before` stands.
fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A problem and the byte where it is.
type Located = (usize, Problem);

struct Document<'a> {
    text: &'a str,
}

impl Document<'_> {
    fn config(&self) -> Result<Config, Located> {
        let table = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        let mut config = Config::default();
        // In the order of the file, so that the first mistake is the one that is told.
        for (span, name, value) in in_order(table.get_ref()) {
            let problem = |problem| Err((span.start, problem));
            match (name, value) {
                ("defaults", DeValue::Table(section)) => {
                    config.defaults = self.section(section, &PolicyKey::ALL, "defaults")?;
                }
                ("containers", DeValue::Table(sections)) => {
                    config.containers = self.containers(sections)?;
                }
                ("defaults" | "containers", _) => return problem(Problem::NotASection(name.to_owned())),
                (other, DeValue::Table(_) | DeValue::Array(_)) => {
                    return problem(Problem::UnknownSection(one_line(other)));
                }
                (other, _) => return problem(Problem::NoSection(one_line(other))),
            }
        }
        Ok(config)
    }

    fn containers(&self, sections: &DeTable<'_>) -> Result<Vec<(Pattern, Section)>, Located> {
        let mut containers = Vec::new();
        for (span, name, value) in in_order(sections) {
            let DeValue::Table(section) = value else {
                return Err((span.start, Problem::NotASection(format!("containers.{}", one_line(name)))));
            };
            let pattern = Pattern::new(name).map_err(|problem| (span.start, problem))?;
            containers.push((pattern, self.section(section, &PolicyKey::CONTAINER, name)?));
        }
        containers.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        Ok(containers)
    }

    fn section(
        &self,
        table: &DeTable<'_>,
        known: &'static [PolicyKey],
        name: &str,
    ) -> Result<Section, Located> {
        let mut section = Section::default();
        for (span, key, value) in in_order(table) {
            let found = PolicyKey::ALL.into_iter().find(|known| known.name() == key);
            if found.is_none() && matches!(value, DeValue::Table(_)) && known.len() < PolicyKey::ALL.len() {
                return Err((span.start, Problem::Unquoted(one_line(&format!("{name}.{key}")))));
            }
            let key = found.ok_or_else(|| (span.start, PolicyError::unknown_key(key, known).into()))?;
            let DeValue::String(text) = value else {
                let text = self.text.get(span.value.clone()).unwrap_or_default();
                let text = one_line(text.lines().next().unwrap_or_default());
                return Err((span.start, Problem::Type { key, text, found: type_name(value) }));
            };
            if known.contains(&key) {
                section.choices.set(key, text)
            } else {
                PolicyChoices::default().set(key, Some(text))
            }
            .map_err(|error| (span.start, error.into()))?;
            section.lines.insert(key, line_of(self.text.as_bytes().get(..span.start).unwrap_or_default()));
        }
        Ok(section)
    }

    /// What the parser says, in our words where it is a common mistake.
    fn syntax(&self, error: &toml::de::Error) -> Located {
        let span = error.span().unwrap_or_default();
        let bytes = self.text.as_bytes();
        let start = bytes.get(..span.start.min(bytes.len())).unwrap_or_default();
        let line = self.text.lines().nth(line_of(start) - 1).unwrap_or_default().trim();
        let unquoted = line.strip_prefix("[containers.").and_then(|rest| rest.split(']').next());
        let problem = match unquoted {
            _ if error.message() == "duplicate key" => {
                let key = self.text.get(span.clone()).unwrap_or_default();
                Problem::Duplicate(one_line(if line.starts_with('[') { line } else { key }))
            }
            Some(name) if name.contains(['*', '.']) && !name.contains(['"', '\'']) => {
                Problem::Unquoted(one_line(name))
            }
            _ => {
                let said = error.message().replace(char::is_control, " ");
                Problem::Syntax(format!("{said} in `{}`", one_line(line)))
            }
        };
        (span.start, problem)
    }
}

/// What somebody wrote, for a message of one line: quoted keys can hold line breaks.
fn one_line(text: &str) -> String {
    shortened(text).replace(char::is_control, "?")
}

/// Where a setting is: its key's first byte, and its value.
struct Spot {
    start: usize,
    value: Range<usize>,
}

/// The entries of a table as they stand in the file.
fn in_order<'t>(table: &'t DeTable<'_>) -> Vec<(Spot, &'t str, &'t DeValue<'t>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let spot = Spot { start: key.span().start, value: value.span() };
            (spot, &**key.get_ref(), value.get_ref())
        })
        .collect();
    entries.sort_by_key(|(spot, ..)| spot.start);
    entries
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

#[cfg(test)]
mod tests;
