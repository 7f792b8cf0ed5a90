//! The table, the same numbers as JSON, and whether the goal is met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Block, Cells, Key, Placement, Plan, WARM_PER_BATCH, WARM_UP};
use crate::reader::Way;
use crate::stage::{Stage, label};
use crate::stats::Summary;

/// A finished measurement with what is needed to read it.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was measured.
    pub plan: &'a Plan,
    /// The columns and their servers, still running.
    pub stage: &'a Stage,
    /// The numbers.
    pub cells: &'a Cells,
    /// Load average over 1 minute before the start.
    pub load_before: f64,
    /// Lines about machine and settings.
    pub head: Vec<(&'static str, String)>,
}

/// The goal: at most this many times the null server's p50 ...
const GOAL_NULL: f64 = 2.0;
/// ... and at most this share of LXCFS's.
const GOAL_LXCFS: f64 = 1.0 / 3.0;

impl Report<'_> {
    fn summary(&self, key: Key) -> Option<Summary> {
        self.cells.get(&key).map(crate::stats::Cell::summary)
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.stage.sources.iter().position(|source| source.name == name)
    }

    /// (title, p50 ratio) of each column of ownproc to the null server and to LXCFS.
    fn ratios(&self, key: Key) -> Vec<(String, f64)> {
        let mut found = Vec::new();
        for (top, short) in [("ownproc", "own"), ("ownproc/NAME", "NAME"), ("lxcfs", "lxcfs")] {
            for below in ["null", "lxcfs"] {
                let (Some(a), Some(b)) = (self.column(top), self.column(below)) else { continue };
                if a == b {
                    continue;
                }
                let pair = self.summary(Key { source: a, ..key }).zip(self.summary(Key { source: b, ..key }));
                let ratio = pair.map_or(f64::NAN, |(a, b)| a.p50 / b.p50);
                found.push((format!("{short}/{below}"), ratio));
            }
        }
        found
    }

    fn rows(&self, block: Block) -> impl Iterator<Item = (&str, Key)> {
        let names = self.plan.files.iter().map(|file| label(file));
        names.zip((0_usize..).map(move |file| Key { block, file, source: 0 }))
    }

    fn title(&self, block: Block) -> String {
        let cpu =
            |reader: usize| self.plan.cpus.get(reader % self.plan.cpus.len().max(1)).map_or(0, |cpu| *cpu);
        let place = match block.placement {
            Placement::Pinned => {
                let list: Vec<String> = (0..block.readers).map(|reader| cpu(reader).to_string()).collect();
                format!("on CPU {}, servers free", list.join(","))
            }
            Placement::OneCpu => format!("and all servers on CPU {}", cpu(0)),
            Placement::Free => "not pinned, servers free".to_owned(),
        };
        let what = match block.way {
            Way::Orc => "orc = open, read 64 KiB, close",
            Way::Fresh => "fresh = orc by a thread that never read before",
            Way::Cat => "cat = open, fstat, 128 KiB reads to the end, close",
        };
        let plural = if block.readers == 1 { "" } else { "s" };
        format!("{what}; {} reader{plural} {place}; us per read, p50 / p99", block.readers)
    }

    /// The table as plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.head {
            _ = writeln!(out, "{name:<10}{value}");
        }
        for &block in &self.plan.blocks {
            self.latency_block(&mut out, block);
        }
        self.cpu_block(&mut out);
        self.server_block(&mut out);
        _ = writeln!(out, "\n{}", self.noise());
        _ = writeln!(out, "{}", self.goal().1);
        out
    }

    fn latency_block(&self, out: &mut String, block: Block) {
        _ = write!(out, "\n{}\n{:<9}", self.title(block), "file");
        self.stage.sources.iter().for_each(|source| _ = write!(out, " {:>16}", source.name));
        for (row, (name, key)) in self.rows(block).enumerate() {
            if row == 0 {
                self.ratios(key).iter().for_each(|(title, _)| _ = write!(out, " {title:>10}"));
            }
            _ = write!(out, "\n{name:<9}");
            for source in 0..self.stage.sources.len() {
                let cell = self.summary(Key { source, ..key });
                let cell = cell.map_or("-".to_owned(), |cell| format!("{:.1} / {:.1}", cell.p50, cell.p99));
                _ = write!(out, " {cell:>16}");
            }
            self.ratios(key).iter().for_each(|(_, ratio)| _ = write!(out, " {:>10}", number(*ratio, 2)));
        }
        out.push('\n');
    }

    /// Daemon CPU per read and aggregate time per read, for each block.
    fn cpu_block(&self, out: &mut String) {
        for (title, pick) in [
            (
                "daemon CPU, us per read (user + system)",
                (|cell: Summary| cell.daemon_cpu) as fn(Summary) -> f64,
            ),
            ("aggregate, us of wall time per read", |cell| cell.aggregate),
        ] {
            _ = write!(out, "\n{title}\n{:<9} {:<14}", "file", "readers, way");
            let paid = title.starts_with("daemon");
            let shown = |source: &&crate::stage::Source| !paid || source.server.is_some();
            self.stage
                .sources
                .iter()
                .filter(shown)
                .for_each(|source| _ = write!(out, " {:>12}", source.name));
            for &block in &self.plan.blocks {
                for (name, key) in self.rows(block) {
                    _ = write!(out, "\n{name:<9} {:<14}", short(block));
                    for (source, column) in self.stage.sources.iter().zip(0_usize..) {
                        if shown(&source) {
                            let cell = self.summary(Key { source: column, ..key });
                            _ = write!(out, " {:>12}", number(cell.map_or(f64::NAN, pick), 1));
                        }
                    }
                }
            }
            out.push('\n');
        }
    }

    fn server_block(&self, out: &mut String) {
        _ = writeln!(out, "\n{:<9} {:>9} {:>8}  version", "server", "RSS kB", "threads");
        for server in &self.stage.servers {
            let (rss, threads) = server.process.size();
            _ = writeln!(out, "{:<9} {rss:>9} {threads:>8}  {}", server.name, server.version);
        }
    }

    /// How far the native reads' batches lie apart: (middle, worst) of p90/p50 over the cells.
    fn spreads(&self) -> (f64, f64) {
        let cells = self.cells.iter().filter(|(key, _)| key.source == 0);
        let mut spreads: Vec<f64> = cells.map(|(_, cell)| cell.summary().spread).collect();
        spreads.sort_by(f64::total_cmp);
        let at = |position: usize| spreads.get(position).copied().unwrap_or(f64::NAN);
        (at(spreads.len() / 2), at(spreads.len().saturating_sub(1)))
    }

    fn noise(&self) -> String {
        let (middle, worst) = self.spreads();
        // Native reads are too short to be interrupted often: the load tells of what they do not show.
        let busy = self.load_before > self.plan.server_cpus.len() as f64 / 2.0;
        let verdict = match middle {
            spread if spread >= 1.5 => "NOISY: other work ran on these CPUs; repeat before quoting",
            _ if busy => {
                "BUSY before the start: p50 and ratios hold, p99 and aggregate hold other people's work"
            }
            spread if spread >= 1.15 => "some noise: trust the ratios more than the microseconds",
            _ => "quiet",
        };
        format!(
            "noise     p90/p50 of the native batches' medians: {middle:.2} typical, {worst:.2} worst ({verdict})"
        )
    }

    /// Whether ownproc meets the goal in every row of every block, and a line that says so.
    #[must_use]
    pub fn goal(&self) -> (bool, String) {
        if self.column("ownproc").is_none() {
            return (false, "goal      not judged: ownproc was not measured".to_owned());
        }
        let (mut misses, mut floor, mut judged) = (Vec::new(), Vec::new(), 0_usize);
        for &block in self.plan.blocks.iter().filter(|block| block.way != Way::Fresh) {
            for (name, key) in self.rows(block) {
                let ratios = self.ratios(key);
                let null =
                    ratios.iter().find(|(title, _)| title == "lxcfs/null").map_or(f64::NAN, |(_, r)| 1.0 / r);
                for (title, ratio) in ratios {
                    let bound = match title.split_once('/') {
                        Some(("own" | "NAME", "null")) => GOAL_NULL,
                        Some(("own" | "NAME", "lxcfs")) => GOAL_LXCFS,
                        _ => continue,
                    };
                    judged = judged.saturating_add(1);
                    let met = ratio <= bound; // false for a ratio that is missing, too
                    let miss = format!("{name} {}: {title} {}", short(block), number(ratio, 2));
                    match (met, title.ends_with("/lxcfs") && null > GOAL_LXCFS) {
                        (true, _) => {}
                        (false, true) => floor.push(format!("{miss} (null {})", number(null, 2))),
                        (false, false) => misses.push(miss),
                    }
                }
            }
        }
        let absent = ["lxcfs", "ownproc/NAME"].into_iter().filter(|name| self.column(name).is_none());
        let absent: String = absent.map(|name| format!("; {name} NOT measured")).collect();
        let goal = format!("every p50 (orc, cat) at most {GOAL_NULL}x null and at most 1/3 of LXCFS{absent}");
        let all_met = misses.is_empty() && floor.is_empty();
        let verdict = if all_met { "met" } else { "MISSED" };
        let mut text = format!("goal      {verdict}, {judged} ratios judged: {goal}");
        let lists =
            [("missed", misses), ("missed where the null server itself is above 1/3 of LXCFS", floor)];
        for (title, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            _ = write!(text, "\n          {title} ({}): {}", list.len(), list.join("; "));
        }
        (all_met, text)
    }

    /// The same as JSON; times in microseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let cells: Vec<Value> = self
            .cells
            .iter()
            .map(|(key, cell)| {
                let cell = cell.summary();
                json!({
                    "source": self.stage.sources.get(key.source).map(|source| source.name),
                    "file": self.plan.files.get(key.file),
                    "way": key.block.way.name(),
                    "readers": key.block.readers,
                    "placement": place(key.block),
                    "reads": cell.reads,
                    "p50_us": cell.p50,
                    "p99_us": cell.p99,
                    "aggregate_us": cell.aggregate,
                    "daemon_cpu_us": cell.daemon_cpu,
                    "batch_spread": cell.spread,
                })
            })
            .collect();
        let server = |server: &crate::stage::Server| {
            let (rss, threads) = server.process.size();
            json!({"name": server.name, "version": server.version, "rss_kb": rss, "threads": threads})
        };
        let servers: Vec<Value> = self.stage.servers.iter().map(server).collect();
        let head: serde_json::Map<String, Value> =
            self.head.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let (middle, worst) = self.spreads();
        let (met, goal) = self.goal();
        json!({
            "version": 1,
            "head": head,
            "cpus": self.plan.cpus,
            "servers": servers,
            "cells": cells,
            "native_spread": {"typical": middle, "worst": worst},
            "goal": {"met": met, "text": goal.trim_start_matches("goal").trim()},
        })
    }
}

fn place(block: Block) -> &'static str {
    match block.placement {
        Placement::Pinned => "pinned",
        Placement::OneCpu => "one CPU",
        Placement::Free => "free",
    }
}

fn short(block: Block) -> String {
    format!("{} {} {}", block.readers, block.way.name(), place(block))
}

fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.digits$}") }
}

/// How a plan was carried out, in one line.
#[must_use]
pub fn describe(plan: &Plan) -> String {
    format!(
        "{} timed reads per cell in interleaved batches of {}; warm-up {WARM_UP} per file, {WARM_PER_BATCH} per batch",
        plan.reads, plan.batch
    )
}
