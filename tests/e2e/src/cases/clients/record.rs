//! What was printed on one machine, kept for the page: one JSON object a line in the file that `OWNPROC_CLIENTS_RECORD`
//! names.

use std::fs::{File, OpenOptions};
use std::io::Write;

use super::facts::Facts;
use super::table::{Program, Row};
use crate::case::{Doing, Outcome};

/// Answers, told apart by what was asked.
pub struct Record(Option<File>);

/// One answer.
pub struct Answer {
    pub program: String,
    pub version: String,
    pub asked: String,
    pub v2: bool,
    pub container: String,
    pub printed: String,
}

impl Record {
    /// The file to append to, if one is asked for.
    pub fn open() -> Outcome<Self> {
        let Some(path) = std::env::var_os("OWNPROC_CLIENTS_RECORD") else { return Ok(Self(None)) };
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self(Some(file.doing(path.to_string_lossy())?)))
    }

    /// Adds an answer that is as it should be, and how long the program took for all of its answers.
    pub fn add(
        &mut self,
        program: &Program,
        row: &Row,
        facts: &Facts,
        seconds: f64,
        printed: &str,
    ) -> Outcome {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let line = serde_json::json!({
            "program": program.name,
            "version": version(program.package),
            "asked": row.asked,
            "v2": facts.v2,
            "container": facts.container.name(),
            "printed": printed,
            "seconds": seconds,
        });
        writeln!(file, "{line}").doing("the record of answers")
    }
}

/// Version of an installed package, without the epoch; empty where there is none.
fn version(package: &str) -> String {
    let mut query = std::process::Command::new("dpkg-query");
    let Ok(output) = query.args(["-W", "-f=${Version}", package]).output() else { return String::new() };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    version.split_once(':').map_or(version.clone(), |(_, version)| version.to_owned())
}

/// Reads a record.
pub fn read(path: &str) -> Outcome<Vec<Answer>> {
    let mut all = Vec::new();
    for line in std::fs::read_to_string(path).doing(path)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line).doing(path)?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        all.push(Answer {
            program: text("program"),
            version: text("version"),
            asked: text("asked"),
            v2: value["v2"].as_bool().doing(line)?,
            container: text("container"),
            printed: text("printed"),
        });
    }
    Ok(all)
}
