//! The table `Host lines that remain` of SEMANTICS.md, as it is written there.

use super::Finding;
use crate::case::{Doing, Outcome, check};

const PAGE: &str = include_str!("../../../../SEMANTICS.md");
const HEADING: &str = "\n## Host lines that remain\n";

/// One row: files, and which of their rows may be the host's.
#[derive(Debug)]
struct Row {
    files: Vec<String>,
    rows: Vec<String>,
    except: Vec<String>,
}

/// What may be the host's in a container with the default policies and a time namespace of its own.
#[derive(Debug)]
pub struct Listed(Vec<Row>);

/// What stands in back-ticks.
fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The paths below a directory that its section shows as the host's; `N` there is any number.
fn marked(page: &str, directory: &str) -> Outcome<Vec<String>> {
    let section =
        page.split("\n## ").find(|section| section.lines().next() == Some(directory)).doing(directory)?;
    let table = section.lines().skip_while(|line| *line != "| path | shows |").skip(2);
    let of_host = table.take_while(|line| line.starts_with('|')).filter(|line| line.ends_with("| host |"));
    let paths = of_host.flat_map(ticked).map(|path| format!("{directory}/{}", path.replace('N', "*")));
    let paths: Vec<String> = paths.collect();
    check!(!paths.is_empty(), "no path of {directory} is marked");
    Ok(paths)
}

impl Listed {
    /// From the page that this program was built with.
    pub fn of_page() -> Outcome<Self> {
        Self::parse(PAGE)
    }

    fn parse(page: &str) -> Outcome<Self> {
        let section = page.split(HEADING).nth(1).doing("`Host lines that remain`")?;
        let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let mut rows = Vec::new();
        for line in table.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let &[files, rows_cell, _reason] = cells.as_slice() else {
                crate::case::fail!("three cells in {line:?}");
            };
            // A row that needs another policy, or no time namespace, is none here.
            if rows_cell.contains(" under the policy ") || rows_cell.contains(" outside a time namespace") {
                continue;
            }
            if rows_cell.contains("marked `host` in its table") {
                for directory in ticked(files) {
                    rows.push(Row {
                        files: marked(page, &directory)?,
                        rows: vec!["*".into()],
                        except: vec![],
                    });
                }
                continue;
            }
            let (which, except) = rows_cell.split_once(" but not ").unwrap_or((rows_cell, ""));
            let row = Row { files: ticked(files), rows: ticked(which), except: ticked(except) };
            check!(!row.files.is_empty(), "no file in {line:?}");
            // Without back-ticks it speaks of words, which are no numbers.
            rows.extend((!row.rows.is_empty()).then_some(row));
        }
        check!(!rows.is_empty(), "an empty table");
        Ok(Self(rows))
    }

    /// Whether it may be the host's.
    pub fn has(&self, finding: &Finding) -> bool {
        let file = finding.file.trim_start_matches('/');
        // A row, or one column of it: `row[column]`.
        let column = format!("{}[{}]", finding.row, finding.column);
        let named = |patterns: &[String]| {
            patterns.iter().any(|pattern| glob(pattern, &finding.row) || glob(pattern, &column))
        };
        self.0.iter().any(|row| {
            row.files.iter().any(|pattern| glob(pattern, file)) && named(&row.rows) && !named(&row.except)
        })
    }
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && glob(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(file: &str, row: &str, column: &str) -> Finding {
        Finding { file: file.into(), row: row.into(), column: column.into(), text: "5".into() }
    }

    #[test]
    fn the_page_is_understood() {
        let listed = Listed::of_page().unwrap();
        assert!(listed.has(&finding("/proc/meminfo", "VmallocTotal", "1")));
        assert!(!listed.has(&finding("/proc/meminfo", "MemTotal", "1")));
        assert!(listed.has(&finding("/proc/cpuinfo", "cpu MHz", "1")));
        assert!(!listed.has(&finding("/proc/cpuinfo", "siblings", "1")));
        assert!(listed.has(&finding("/sys/devices/system/cpu/cpu3/cache/index2/size", "", "1")));
        assert!(!listed.has(&finding("/sys/devices/system/cpu/cpu3/topology/core_cpus_list", "", "1")));
        assert!(listed.has(&finding("/proc/sys/fs/file-nr", "", "3")));
        assert!(!listed.has(&finding("/proc/sys/fs/file-nr", "", "1")));
        assert!(!listed.has(&finding("/proc/stat", "intr", "1")), "under another policy only");
        assert!(!listed.has(&finding("/proc/stat", "btime", "1")), "outside a time namespace only");
    }

    #[test]
    fn globs_and_columns() {
        assert!(glob("a*c", "abc") && glob("*", "") && !glob("a*c", "abd") && glob("sys/*/x", "sys/a/b/x"));
        let page = "x\n## Host lines that remain\n\n| file | lines | reason |\n|---|---|---|\n| `proc/d*` | `*[1]`, `b` but not `c[1]` | y |\n";
        let listed = Listed::parse(page).unwrap();
        assert!(
            listed.has(&finding("/proc/disks", "a", "1")) && listed.has(&finding("/proc/disks", "b", "2"))
        );
        assert!(
            !listed.has(&finding("/proc/disks", "a", "2")) && !listed.has(&finding("/proc/disks", "c", "1"))
        );
    }
}
