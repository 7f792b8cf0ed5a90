//! `CLIENTS.md`: the tables for people, made from the rows and from what was printed on two machines.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

use super::TABLES;
use super::record::{Answer, read};
use super::table::{Container, Program, Row};
use crate::case::{Outcome, check};

const HEAD: &str = "\
# Clients: what real programs print in a container

Each program ran in a container with `-m 512M --memory-swap 768M --cpus 1`, and where CPUs are counted also in one with
`--cpuset-cpus 1` in addition; on a machine with cgroup v1 (hybrid) and on one with v2. The columns v1 and v2 say whether the
answer was right:

- `yes`: right;
- `with a cpuset`: right with a cpuset of as many CPUs as the quota (`launch --pin` or `--cpuset-cpus`); under the quota alone it is
  what stands first in the column \"printed\";
- `from 0`: right where the container's CPUs are numbered from 0: `--cpuset-cpus 0`, or the policy `numbering = compact`. With CPU 1
  alone it is what stands last in the column \"printed\";
- `no`: no file makes it right. The test holds the program to this wrong answer too, so that the page changes when it does.

Made by the `clients` cases of `tests/run` with `OWNPROC_UPDATE_CLIENTS=1`; the rows are in `tests/e2e/src/cases/clients/`, and a
test compares both. Printed numbers and versions are those of the last update.
";

/// The columns that do not depend on the machine.
fn verdict(row: &Row) -> [&'static str; 4] {
    let (one, two) = (row.v1.why(), row.v2.why());
    // Where the verdicts differ, the one on v2 tells of both.
    let why = if one.is_empty() || row.v1.words() != row.v2.words() { two } else { one };
    [row.want.words(), row.v1.words(), row.v2.words(), why]
}

/// What was printed on machines of one kind: under the quota, and with a cpuset where that differs.
fn printed(answers: &[Answer], program: &Program, row: &Row, v2: bool) -> String {
    let of = |container: Container| {
        answers
            .iter()
            .rfind(|answer| {
                answer.program == program.name
                    && answer.asked == row.asked
                    && (answer.v2, answer.container.as_str()) == (v2, container.name())
            })
            .map(|answer| answer.printed.as_str())
    };
    match (of(Container::Quota), of(Container::Cpuset)) {
        (Some(quota), Some(cpuset)) if quota != cpuset => format!("{quota}; {cpuset}"),
        (Some(one), _) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::new(),
    }
}

/// The programs, each once, though some are asked about several things.
fn names() -> BTreeSet<&'static str> {
    let programs = TABLES.iter().flat_map(|(_, programs)| programs.iter());
    programs.map(|program| program.name.split(" (").next().unwrap_or_default()).collect()
}

/// The whole page.
fn page(answers: &[Answer]) -> String {
    let mut page = HEAD.to_owned();
    let programs = names().len();
    let rows: Vec<&Row> =
        TABLES.iter().flat_map(|(_, programs)| programs.iter()).flat_map(|program| program.rows).collect();
    let count = |words: &str| rows.iter().filter(|row| row.v1.words() == words).count();
    let _ = writeln!(
        page,
        "\n{programs} programs, {} questions; on v1 {} are answered right, {} where there is a cpuset, {} where\nCPUs are numbered from 0, {} never.",
        rows.len(),
        count("yes"),
        count("with a cpuset"),
        count("from 0"),
        count("no"),
    );
    for (title, programs) in TABLES {
        let _ = writeln!(page, "\n## {title}\n");
        page += "| program | asked | printed, v1 | printed, v2 | right is | v1 | v2 | why |\n|---|---|---|---|---|---|---|---|\n";
        for program in *programs {
            let version = answers.iter().rfind(|answer| answer.program == program.name);
            let version = version.map(|answer| answer.version.as_str()).unwrap_or_default();
            for row in program.rows {
                let [want, v1, v2, why] = verdict(row);
                let name = [program.name, version].join(" ");
                let (here, there) =
                    (printed(answers, program, row, false), printed(answers, program, row, true));
                let _ = writeln!(
                    page,
                    "| {} | {} | {here} | {there} | {want} | {v1} | {v2} | {why} |",
                    name.trim(),
                    row.asked
                );
            }
        }
    }
    page
}

/// `clients RECORD...`: prints the page from the records of both machines.
pub fn main(records: &[&str]) -> ExitCode {
    let write = || -> Outcome {
        let mut answers = Vec::new();
        for path in records {
            answers.extend(read(path)?);
        }
        for (_, programs) in TABLES {
            for program in *programs {
                for row in program.rows {
                    for v2 in [false, true] {
                        check!(
                            !printed(&answers, program, row, v2).is_empty(),
                            "{}, {}: no answer from a machine with {}",
                            program.name,
                            row.asked,
                            if v2 { "v2" } else { "v1" }
                        );
                    }
                }
            }
        }
        print!("{}", page(&answers));
        Ok(())
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ownproc-e2e: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../CLIENTS.md");

    /// Rows of a page without what the machine decides: the first word of the program, question, right answer, verdicts.
    fn stable(page: &str) -> Vec<String> {
        let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
        rows.map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 8, "{row}");
            let program =
                cells[0].rsplit_once(' ').filter(|(_, last)| last.starts_with(|c: char| c.is_ascii_digit()));
            let program = program.map_or(cells[0], |(name, _)| name);
            [program, cells[1], cells[4], cells[5], cells[6], cells[7]].join(" | ")
        })
        .collect()
    }

    #[test]
    fn the_page_says_what_the_tables_say() {
        let written = std::fs::read_to_string(PATH).unwrap();
        assert_eq!(
            stable(&written),
            stable(&page(&[])),
            "run tests/run e2e vm with OWNPROC_UPDATE_CLIENTS=1"
        );
        for row in written.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert!(!cells[2].is_empty() && !cells[3].is_empty(), "nothing printed: {row}");
        }
    }

    #[test]
    fn questions_are_unique_and_answers_have_reasons() {
        let mut seen = BTreeSet::new();
        for program in TABLES.iter().flat_map(|(_, programs)| programs.iter()) {
            assert!(!program.rows.is_empty(), "{}", program.name);
            for row in program.rows {
                assert!(seen.insert((program.name, row.asked)), "twice: {}, {}", program.name, row.asked);
                for text in [program.name, row.asked, row.want.words(), row.v1.why(), row.v2.why()] {
                    assert!(!text.contains('|'), "{text}");
                }
                for verdict in [row.v1, row.v2] {
                    assert!(
                        verdict.words() == "yes" || !verdict.why().is_empty(),
                        "{}: no reason",
                        row.asked
                    );
                }
            }
        }
    }

    #[test]
    fn at_least_25_programs() {
        assert!(names().len() >= 25, "{:?}", names());
    }
}
