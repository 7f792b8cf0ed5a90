//! Holds SECURITY.md to the code: its tables of capabilities and system calls against those in `src/session/confine`, and
//! the tests that it names against the sources.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ownproc::session::confine::calls::{ALLOWED, DEADLY, SCRIBE};
use ownproc::session::confine::rights::{RIGHTS, WORKER_ID};
use ownproc::session::confine::{WORKER_MEMORY, WorkerNeeds};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("SECURITY.md")).unwrap()
}

/// The rows of the table whose header is `header`.
fn table(header: &str) -> Vec<Vec<String>> {
    let page = page();
    let rows: Vec<_> = page
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "no table {header}");
    rows
}

#[test]
fn capabilities() {
    let (plain, triggers) = (WorkerNeeds { psi_triggers: false }, WorkerNeeds { psi_triggers: true });
    let code: Vec<_> = RIGHTS
        .iter()
        .map(|right| {
            let who = match ((right.worker)(&plain), (right.worker)(&triggers)) {
                (true, _) => "worker",
                (false, true) => "worker, with `--psi-triggers`",
                (false, false) => "holder",
            };
            let scribe = if right.scribe { "; scribe" } else { "" };
            [right.name.to_owned(), format!("{who}{scribe}")]
        })
        .collect();
    let rows = table("| capability | who | what for | without it |");
    let written: Vec<_> = rows.iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    assert_eq!(written, code);
}

#[test]
fn system_calls() {
    let lists =
        [("| class | calls | what for |", ALLOWED), ("| class | calls of a scribe | what for |", SCRIBE)];
    for (header, list) in lists {
        let code: Vec<_> = list
            .iter()
            .map(|class| {
                let calls: Vec<_> = class.calls().map(|call| call.name()).collect();
                [class.name.to_owned(), calls.join(" ")]
            })
            .collect();
        let rows = table(header);
        let written: Vec<_> = rows.iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
        assert_eq!(written, code);
        for row in &rows {
            assert!(!row[2].is_empty(), "{} has no reason", row[0]);
        }
    }

    let code: Vec<_> = DEADLY
        .iter()
        .map(|(name, calls)| {
            let calls: Vec<_> = calls.iter().copied().flatten().map(|call| call.name()).collect();
            vec![(*name).to_owned(), calls.join(" ")]
        })
        .collect();
    assert_eq!(table("| class | calls |"), code);
}

#[test]
fn numbers() {
    let page = page();
    assert_eq!(WORKER_MEMORY, 1 << 30);
    assert!(page.contains("RLIMIT_DATA 1 GiB"));
    assert!(page.contains(&format!("user and group {WORKER_ID},")));
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut files = Vec::new();
    for dir in ["src", "tests/e2e/src"] {
        sources(&root().join(dir), &mut files);
    }
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let page = page();
    let named: BTreeSet<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| {
            name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .filter(|name| !name.starts_with("hostless_"))
        .collect();
    assert!(named.len() > 8, "{named:?}");
    for name in named {
        let there = [format!("fn {name}("), format!("(\"{name}\",")].iter().any(|text| code.contains(text));
        assert!(there, "SECURITY.md names {name}, which is no test");
    }
}
