//! Every parser has a target: a text check, as tests/semantics.rs does for rules.

#![allow(clippy::unwrap_used)] // helpers of tests are no #[test] functions

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of parsers: every `pub fn` in them must be called by a target.
const ROOMS: &[&str] = &["src/cgroup/parse", "src/host/parse"];

/// Parsers elsewhere, as a target calls them.
const OTHERS: &[&str] = &[
    "CpuSet::parse(",
    "ContainerName::new(",
    "Membership::parse(",
    "Layout::discover(",
    "rewrite_cpu_list(",
    "rewrite_cpu_mask(",
    "Place::from_ino(",
    "size::parse(",
    "Volume::parse(",
    "Spec::new(",
    "wire::receive(",
    "Config::parse(",
    "PolicyChange::parse_all(",
    "CpuAccount::decode(",
    "CounterAccount::decode(",
    "DiskAccount::decode(",
    "KeptLoad::decode(",
    "RecordKey::decode(",
    "mounts::parse(",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn targets() -> String {
    let files = rust_files(&root().join("tests/fuzz/src"));
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// `module::function(` of each function that a file of parsers gives to others; methods are reached through those.
fn parsers(file: &Path) -> Vec<String> {
    let module = file.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
    let functions = code.lines().filter_map(|line| line.strip_prefix("pub fn "));
    let name = |line: &str| line.split(['(', '<']).next().unwrap_or_default().to_owned();
    functions.map(|line| format!("{module}::{}(", name(line))).collect()
}

/// `function(` of each that renders a text of the host's, which it takes apart for that.
fn templates(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let functions = text.split("\npub fn ").skip(1).map(|rest| rest.split('{').next().unwrap_or_default());
    let of_host = |signature: &&str| {
        ["host: &str", "text: &str", "template: &str"].iter().any(|it| signature.contains(it))
    };
    let name = |signature: &str| signature.split(['(', '<']).next().unwrap_or_default().to_owned();
    functions.filter(of_host).map(name).collect()
}

#[test]
fn every_parser_has_a_target() {
    let targets = targets();
    let mut missing = Vec::new();
    let rendered: Vec<String> =
        rust_files(&root().join("src/render")).iter().flat_map(|file| templates(file)).collect();
    assert!(rendered.len() > 8, "{rendered:?}");
    missing.extend(
        rendered
            .into_iter()
            .filter(|name| ["(", ")", ","].iter().all(|after| !targets.contains(&format!("{name}{after}")))),
    );
    for room in ROOMS {
        let found: Vec<String> =
            rust_files(&root().join(room)).iter().flat_map(|file| parsers(file)).collect();
        assert!(found.len() > 4, "{room}: {found:?}");
        missing.extend(found.into_iter().filter(|parser| !targets.contains(parser.as_str())));
    }
    missing.extend(OTHERS.iter().filter(|parser| !targets.contains(**parser)).map(|p| (*p).to_owned()));
    assert!(missing.is_empty(), "no fuzz target in tests/fuzz/src/targets calls {missing:?}");
}
