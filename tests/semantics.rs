//! Holds SEMANTICS.md to the code: its tables against those in `src/render/`, both ways, and its rules
//! against the tests that are named after them.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ownproc::model::PolicyKey;
use ownproc::render::{
    CPU_COLUMNS, CPUINFO_LINES, DISK_COLUMNS, MEMINFO_LINES, PROC_FILES, REWRITTEN, Rewriting, STAT_LINES,
    SYS_CPU_FILES, SYS_CPU_PATHS, SYS_NODE_PATHS, VMSTAT_LINES, origin,
};

fn page() -> String {
    fs::read_to_string(root().join("SEMANTICS.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table below `heading` whose header's cells are `header`; back-ticks are taken off.
fn table(heading: &str, header: &[&str]) -> Vec<Vec<String>> {
    let page = page();
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let rows: Vec<_> = section
        .lines()
        .skip_while(|line| cells(line) != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "no table {header:?} in {heading}");
    rows
}

/// Every rule of the page: its id.
fn rules() -> BTreeSet<String> {
    let ids: Vec<String> = page()
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("** "))
        .map(|(id, _)| id.to_owned())
        .collect();
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), set.len(), "an id stands twice");
    set
}

/// The words of one rule.
fn page_rule(id: &str) -> BTreeSet<String> {
    let page = page();
    let (_, rule) = page.split_once(&format!("- **{id}** ")).unwrap();
    let rule = rule.split("\n\n").next().unwrap().split("\n- ").next().unwrap();
    rule.split([' ', ',', '.', ':', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Names of all test functions in `src/`.
fn tests(dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" {
                    let function = lines.next().and_then(|line| line.strip_prefix("fn ")).unwrap_or("");
                    names.push(function.split('(').next().unwrap_or("").to_owned());
                }
            }
        }
    }
}

#[test]
fn meminfo_lines_and_their_origins() {
    let page: Vec<_> = table("proc/meminfo", &["line", "v2", "v1"]);
    let code: Vec<Vec<String>> =
        MEMINFO_LINES.iter().map(|line| [line.key, line.v2, line.v1].map(str::to_owned).to_vec()).collect();
    assert_eq!(page, code);
}

#[test]
fn vmstat_lines_and_their_origins() {
    let page: Vec<_> = table("proc/vmstat", &["key", "v2", "v1"]);
    let code: Vec<Vec<String>> =
        VMSTAT_LINES.iter().map(|line| [line.key, line.v2, line.v1].map(str::to_owned).to_vec()).collect();
    assert_eq!(page, code);
    let page = page_rule("V8");
    for line in VMSTAT_LINES {
        assert_eq!(page.contains(line.key), line.swap, "{} in V8", line.key);
    }
}

#[test]
fn stat_lines_columns_and_cpuinfo_lines() {
    let pairs = |rows: Vec<Vec<String>>| -> Vec<(String, String)> {
        rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    };
    let code = |rows: Vec<(&str, &str)>| -> Vec<(String, String)> {
        rows.into_iter().map(|(key, rule)| (key.to_owned(), rule.to_owned())).collect()
    };
    assert_eq!(
        pairs(table("proc/stat", &["line", "from"])),
        code(STAT_LINES.iter().map(|(key, line)| (*key, line.rule())).collect())
    );
    assert_eq!(
        pairs(table("proc/stat", &["column", "from"])),
        code(CPU_COLUMNS.iter().map(|column| (column.name, column.rule)).collect())
    );
    assert_eq!(
        pairs(table("proc/cpuinfo", &["line", "from"])),
        code(CPUINFO_LINES.iter().map(|(key, line)| (*key, line.rule())).collect())
    );
    assert_eq!(
        pairs(table("proc/diskstats", &["column", "from"])),
        code(DISK_COLUMNS.iter().map(|column| (column.name, column.rule)).collect())
    );
    let form = |rewriting: &Rewriting| match rewriting {
        Rewriting::List => "list",
        Rewriting::Mask => "mask",
        Rewriting::Verbatim => "verbatim",
    };
    assert_eq!(
        pairs(table("sys/devices/system/cpu", &["file", "form"])),
        code(REWRITTEN.iter().map(|(name, rewriting)| (*name, form(rewriting))).collect())
    );
}

#[test]
fn paths_below_the_cpu_and_node_directories() {
    for (heading, list) in
        [("sys/devices/system/cpu", SYS_CPU_PATHS), ("sys/devices/system/node", SYS_NODE_PATHS)]
    {
        let page = table(heading, &["path", "shows"]);
        let code: Vec<Vec<String>> =
            list.iter().map(|(path, shows)| vec![(*path).to_owned(), (*shows).to_owned()]).collect();
        assert_eq!(page, code, "{heading}");
        for row in page.iter().filter(|row| row[1] != "host") {
            assert!(rules().contains(&row[1]), "{row:?}");
        }
    }
    // The files that are rendered, and those whose CPU lists are rewritten, are all on the list, as such.
    for (path, file) in SYS_CPU_FILES {
        let name = path.strip_prefix("sys/devices/system/cpu/").unwrap();
        assert_eq!(origin(SYS_CPU_PATHS, name), Some(file.rule()), "{name}");
    }
    let rewritten: BTreeSet<&str> = REWRITTEN.iter().map(|(name, _)| *name).collect();
    let listed: BTreeSet<&str> = SYS_CPU_PATHS
        .iter()
        .filter(|(_, shows)| *shows == "Y4")
        .filter_map(|(path, _)| path.rsplit('/').next())
        .collect();
    assert_eq!(listed, rewritten);
}

#[test]
fn files() {
    let page: BTreeMap<String, String> = table("Files", &["path", "made by"])
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let paths: BTreeSet<&str> =
        PROC_FILES.iter().map(|(path, _)| *path).chain(SYS_CPU_FILES.iter().map(|(path, _)| *path)).collect();
    assert_eq!(page.keys().map(String::as_str).collect::<BTreeSet<_>>(), paths);
    for (path, file) in SYS_CPU_FILES {
        assert_eq!(page[*path], file.rule(), "{path}");
    }
    for rule in page.values() {
        assert!(rules().contains(rule), "{rule}");
    }
}

#[test]
fn rules_that_lines_name_exist() {
    let rules = rules();
    let named = MEMINFO_LINES.iter().flat_map(|line| [line.v2, line.v1]).filter(|word| word.starts_with('M'));
    let named = named
        .chain(VMSTAT_LINES.iter().flat_map(|line| [line.v2, line.v1]).filter(|word| word.starts_with('V')))
        .chain(STAT_LINES.iter().map(|(_, line)| line.rule()))
        .chain(CPU_COLUMNS.iter().map(|column| column.rule).filter(|rule| *rule != "0"))
        .chain(DISK_COLUMNS.iter().map(|column| column.rule).filter(|rule| *rule != "0"))
        .chain(CPUINFO_LINES.iter().map(|(_, line)| line.rule()));
    for rule in named {
        assert!(rules.contains(rule), "{rule}");
    }
}

#[test]
fn every_rule_has_a_test_and_every_such_test_a_rule() {
    let mut names = Vec::new();
    for room in ["view", "render", "readings", "model", "config", "containers", "fs"] {
        tests(&root().join("src").join(room), &mut names);
    }
    let tested: BTreeSet<String> = names
        .iter()
        .filter_map(|name| name.split_once('_'))
        .map(|(id, _)| id.to_uppercase())
        .filter(|id| id.len() > 1 && id[1..].bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    assert_eq!(rules(), tested);
}

#[test]
fn policies_and_their_values() {
    let rows = table("Policies", &["policy", "values", "what it changes"]);
    let page: Vec<(String, Vec<String>)> = rows
        .iter()
        .map(|row| {
            (row[0].clone(), row[1].split(", ").map(|value| value.trim_matches('`').to_owned()).collect())
        })
        .collect();
    let code: Vec<(String, Vec<String>)> = PolicyKey::ALL
        .into_iter()
        .map(|key| (key.name().to_owned(), key.values().into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(page, code);
    let named = rows.iter().flat_map(|row| row[2].split(", "));
    assert!(named.into_iter().all(|rule| rules().contains(rule)));
}

#[test]
fn host_lines_that_remain() {
    let rows = table("Host lines that remain", &["file", "lines", "reason"]);
    let meminfo = rows.iter().find(|row| row[0] == "proc/meminfo").unwrap();
    let page: BTreeSet<&str> = meminfo[1].split(',').map(|key| key.trim().trim_matches('`')).collect();
    let code: BTreeSet<&str> = MEMINFO_LINES
        .iter()
        .filter(|line| line.v2 == "host" || line.v1 == "host")
        .map(|line| line.key)
        .collect();
    assert_eq!(page, code);
}
