//! The numbers of each launcher, as a table in Markdown and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::spawn::Sample;
use crate::stats::percentile;

/// The row that all are compared with.
pub const FLOOR: &str = "floor";
/// The row that the goals are about.
pub const OWN: &str = "ownproc-run run";
/// The other launcher that the goals name.
pub const CRUN: &str = "crun run";

/// Goals: at most this many times the floor ...
const GOAL_FLOOR: f64 = 1.5;
/// ... and at most this share of crun.
const GOAL_CRUN: f64 = 0.5;

/// One launcher's.
#[derive(Debug)]
pub struct Row {
    name: &'static str,
    warm: Vec<u64>,
    cold: Vec<u64>,
    peaks: Vec<u64>,
}

impl Row {
    /// Without numbers yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, warm: Vec::new(), cold: Vec::new(), peaks: Vec::new() }
    }

    /// One more start.
    pub fn add(&mut self, sample: Sample, cold: bool) {
        let times = if cold { &mut self.cold } else { &mut self.warm };
        times.push(sample.nanos);
        self.peaks.push(sample.peak);
    }

    /// Milliseconds.
    fn warm(&self, percent: u32) -> f64 {
        percentile(&mut self.warm.clone(), percent) as f64 / 1e6
    }

    fn cold(&self, percent: u32) -> f64 {
        percentile(&mut self.cold.clone(), percent) as f64 / 1e6
    }

    /// MiB, the median over the starts.
    fn peak(&self) -> f64 {
        percentile(&mut self.peaks.clone(), 50) as f64 / 1024.0
    }

    /// By how much of it the medians of the first and the second half of the warm starts differ.
    fn drift(&self) -> f64 {
        let (first, second) = self.warm.split_at(self.warm.len() / 2);
        let (first, second) =
            (percentile(&mut first.to_vec(), 50) as f64, percentile(&mut second.to_vec(), 50) as f64);
        (first - second).abs() / first.max(1.0)
    }
}

/// All of them.
#[derive(Debug)]
pub struct Table {
    /// In the order in which they are printed.
    pub rows: Vec<Row>,
    /// Lines about machine and settings.
    pub head: Vec<(&'static str, String)>,
}

impl Table {
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How many times `below`, by medians.
    fn ratio(&self, row: &Row, below: &str, of: impl Fn(&Row) -> f64) -> Option<f64> {
        self.row(below).map(|below| of(row) / of(below)).filter(|ratio| ratio.is_finite())
    }

    /// Whether each goal is met, in words.
    fn goals(&self) -> Vec<(bool, String)> {
        let Some(own) = self.row(OWN) else { return Vec::new() };
        let mut found = Vec::new();
        if let Some(ratio) = self.ratio(own, FLOOR, |row| row.warm(50)) {
            found.push((ratio <= GOAL_FLOOR, format!("{ratio:.2} times the floor (goal {GOAL_FLOOR})")));
        }
        if let Some(ratio) = self.ratio(own, CRUN, |row| row.warm(50)) {
            found.push((ratio <= GOAL_CRUN, format!("{ratio:.2} times crun (goal {GOAL_CRUN})")));
        }
        if let Some(ratio) = self.ratio(own, CRUN, Row::peak) {
            found.push((ratio < 1.0, format!("{ratio:.2} times crun's memory (goal: less than 1)")));
        }
        found
    }

    /// Whether all are met.
    pub fn goal(&self) -> bool {
        self.goals().iter().all(|(met, _)| *met)
    }

    fn drift(&self) -> f64 {
        self.rows.iter().map(Row::drift).fold(0.0, f64::max)
    }

    /// For people, and for the README.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, line) in &self.head {
            let _ = writeln!(text, "{name}: {line}");
        }
        let _ = writeln!(
            text,
            "noise: medians of the first and the second half of the warm rounds differ by up to {:.0} %\n",
            self.drift() * 100.0
        );
        text.push_str(
            "| milliseconds | median | p10 | p90 | / floor | / crun | cold | cold / floor | peak MiB |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {} | {} | {:.1} | {} | {:.1} |",
                row.name,
                row.warm(50),
                row.warm(10),
                row.warm(90),
                ratio(self.ratio(row, FLOOR, |row| row.warm(50))),
                ratio(self.ratio(row, CRUN, |row| row.warm(50))),
                row.cold(50),
                ratio(self.ratio(row, FLOOR, |row| row.cold(50))),
                row.peak(),
            );
        }
        text.push('\n');
        for (met, what) in self.goals() {
            let _ = writeln!(text, "{}: {OWN}: {what}", if met { "met" } else { "MISSED" });
        }
        text
    }

    /// For programs; milliseconds and MiB.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let three = |of: &dyn Fn(u32) -> f64| json!({ "p10": of(10), "p50": of(50), "p90": of(90) });
                json!({
                    "name": row.name,
                    "warm": three(&|percent| row.warm(percent)),
                    "cold": three(&|percent| row.cold(percent)),
                    "starts": [row.warm.len(), row.cold.len()],
                    "peak": row.peak(),
                    "to_floor": self.ratio(row, FLOOR, |row| row.warm(50)),
                    "to_crun": self.ratio(row, CRUN, |row| row.warm(50)),
                    "cold_to_floor": self.ratio(row, FLOOR, |row| row.cold(50)),
                })
            })
            .collect();
        let head: serde_json::Map<String, Value> =
            self.head.iter().map(|(name, line)| ((*name).to_owned(), json!(line))).collect();
        json!({ "machine": head, "drift": self.drift(), "rows": rows, "goals_met": self.goal() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, millis: u64, peak: u64) -> Row {
        let mut row = Row::new(name);
        for extra in 0..10 {
            row.add(Sample { nanos: millis * 1_000_000 + extra, peak }, false);
            row.add(Sample { nanos: millis * 3_000_000, peak }, true);
        }
        row
    }

    #[test]
    fn goals_are_of_medians() {
        let head = vec![("kernel", "x".to_owned())];
        let good = Table { rows: vec![row(FLOOR, 4, 1024), row(OWN, 5, 2048), row(CRUN, 12, 4096)], head };
        assert!(good.goal());
        let ratio = good.json()["rows"][1]["to_floor"].as_f64().unwrap();
        assert!((ratio - 1.25).abs() < 1e-5, "{ratio}"); // the samples are some nanoseconds apart
        assert!(
            good.text()
                .contains("| ownproc-run run | 5.00 | 5.00 | 5.00 | 1.25 | 0.42 | 15.0 | 1.25 | 2.0 |")
        );
        for (own, crun, peak) in [(7, 15, 2048), (5, 9, 2048), (5, 12, 4096)] {
            let rows = vec![row(FLOOR, 4, 1024), row(OWN, own, peak), row(CRUN, crun, 4096)];
            assert!(!Table { rows, head: Vec::new() }.goal(), "{own} {crun} {peak}");
        }
    }
}
