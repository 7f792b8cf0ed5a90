//! "Nothing of the host": every number of every virtual file beside the host's number at the same place.
//!
//! A place is a file, a row (its words, and which of the rows with the same words it is) and a column. A number of a
//! container that is the host's at every one of several moments, between which the host has changed, is a finding, unless
//! the table `Host lines that remain` of SEMANTICS.md lists it. 0 and 1 say nothing.

mod listed;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::case::{Doing, Outcome};
pub use listed::Listed;
use places::{Number, Place, places};

/// The daemon keeps a host's file for a second at most: an earlier number of the host's is older than that.
const KEPT: Duration = Duration::from_millis(1200);

/// A number of the container that is the host's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root.
    pub file: String,
    /// The row's words.
    pub row: String,
    /// Counted from 1.
    pub column: String,
    /// What both show, at the last moment.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, row, column, text } = self;
        write!(f, "{file}: `{row}` column {column}: {text}, as the host")
    }
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Comparison {
    /// By file and place: how often the container's number was the host's, and the last one.
    equal: BTreeMap<(String, Place), (usize, String)>,
    moments: usize,
    /// Files that were read at every moment.
    pub files: BTreeSet<String>,
    /// Numbers of the container that were looked at.
    pub numbers: usize,
}

/// All files below the tree of a container, as paths from the root of what the container sees.
pub fn files_below(tree: &Path) -> Outcome<Vec<String>> {
    let mut files = Vec::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).doing(directory.display())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(format!("/{}", entry.path().strip_prefix(tree)?.display()));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &str) -> Option<String> {
    std::fs::read(path).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
}

impl Comparison {
    /// Reads every file outside, inside and outside again. `inside` gives what the container reads; `None` where that
    /// fails, as the host's own reads of some files of sysfs do.
    pub fn moment(
        &mut self,
        files: &[String],
        mut inside: impl FnMut(&str) -> Outcome<Option<String>>,
    ) -> Outcome {
        let before: Vec<Option<String>> = files.iter().map(|file| read(file)).collect();
        std::thread::sleep(KEPT);
        for (file, earliest) in files.iter().zip(before) {
            let first = read(file);
            let Some(shown) = inside(file)? else { continue };
            let hosts: Vec<BTreeMap<Place, Number>> =
                [earliest, first, read(file)].into_iter().flatten().map(|text| places(file, &text)).collect();
            for (place, number) in places(file, &shown) {
                self.numbers += 1;
                let there: Vec<&Number> = hosts.iter().filter_map(|host| host.get(&place)).collect();
                if number.tells() && number.is_among(&there) {
                    let (count, text) = self.equal.entry((file.clone(), place)).or_default();
                    *count += 1;
                    number.text.clone_into(text);
                }
            }
            self.files.insert(file.clone());
        }
        self.moments += 1;
        Ok(())
    }

    /// The numbers that were the host's at every moment.
    pub fn all(&self) -> Vec<Finding> {
        let equal = self.equal.iter().filter(|(_, (count, _))| *count == self.moments);
        let finding = |((file, place), (_, text)): (&(String, Place), &(usize, String))| Finding {
            file: file.clone(),
            row: place.row.clone(),
            column: place.column.clone(),
            text: text.clone(),
        };
        let mut all: Vec<Finding> = equal.map(finding).collect();
        all.dedup();
        all
    }

    /// Those of them that nothing lists.
    pub fn findings(&self, listed: &Listed) -> Vec<Finding> {
        self.all().into_iter().filter(|finding| !listed.has(finding)).collect()
    }
}
