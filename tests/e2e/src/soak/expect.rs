//! What a container's files must say, whichever worker answers.

use std::collections::BTreeMap;

use super::reader::Moment;
use super::tally::Fault;
use crate::case::Outcome;
use crate::parse::{Meminfo, Stat, processors, uptime};

/// The container's own numbers.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Its limit of memory in MiB lies between these, both ends in.
    pub mib: (u64, u64),
    /// CPUs that it has.
    pub cpus: usize,
}

/// uptime has hundredths of a second, cut.
const HUNDREDTH: f64 = 0.01;

/// What one reader has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    counters: BTreeMap<String, u64>,
    btime: Option<u64>,
    /// Within which bounds the container's clock and this process's differ, by all that was read so far.
    clocks: Option<(f64, f64)>,
}

/// Faults of one text.
pub type Faults = Vec<(Fault, String)>;

impl Seen {
    /// Looks at one text.
    pub fn look(&mut self, expect: &Expect, name: &str, text: &[u8], moment: &Moment) -> Faults {
        let Ok(text) = std::str::from_utf8(text) else { return vec![(Fault::Torn, "no text".to_owned())] };
        let mut faults = Vec::new();
        let result = match name {
            "stat" => self.stat(expect, text, &mut faults),
            "meminfo" => meminfo(expect, text, moment, &mut faults),
            "uptime" => self.uptime(text, moment, &mut faults),
            "cpuinfo" => cpuinfo(expect, text, &mut faults),
            _ => Ok(()),
        };
        if let Err(what) = result {
            faults.push((Fault::Torn, format!("{what} in {} bytes", text.len())));
        }
        faults
    }

    fn stat(&mut self, expect: &Expect, text: &str, faults: &mut Faults) -> Outcome {
        let stat = Stat::parse(text)?;
        if stat.cpus.len() != expect.cpus {
            faults.push((Fault::Wrong, format!("{} CPUs, not {}", stat.cpus.len(), expect.cpus)));
            return Ok(());
        }
        // The first line is the sum of those that follow: where one piece is of another moment, they disagree.
        for (column, total) in stat.total.fields.iter().enumerate() {
            let sum: u64 = stat.cpus.values().filter_map(|line| line.fields.get(column)).sum();
            if sum.abs_diff(*total) > expect.cpus as u64 {
                faults.push((Fault::Torn, format!("column {column}: the CPUs' sum is {sum}, not {total}")));
            }
        }
        for (line, key) in stat
            .cpus
            .iter()
            .map(|(n, line)| (line, format!("cpu{n}")))
            .chain([(&stat.total, "cpu".to_owned())])
        {
            for (column, value) in line.fields.iter().enumerate() {
                self.rises(&format!("{key} {column}"), *value, faults);
            }
        }
        for (key, value) in &stat.single {
            match key.as_str() {
                "procs_running" | "procs_blocked" => {}
                "btime" => {
                    let first = *self.btime.get_or_insert(*value);
                    if first.abs_diff(*value) > 1 {
                        faults.push((Fault::Wrong, format!("btime {value} after {first}")));
                    }
                }
                _ => self.rises(key, *value, faults),
            }
        }
        Ok(())
    }

    fn rises(&mut self, key: &str, value: u64, faults: &mut Faults) {
        let before = self.counters.get(key).copied().unwrap_or(0);
        if value < before {
            faults.push((Fault::Fell, format!("{key} from {before} to {value}")));
        }
        self.counters.insert(key.to_owned(), value.max(before));
    }

    fn uptime(&mut self, text: &str, moment: &Moment, faults: &mut Faults) -> Outcome {
        let (up, idle) = uptime(text)?;
        self.rises("idle", (idle * 100.0).round() as u64, faults);
        // The difference of the clocks never changes: a text of another moment, or of another's clock, is outside of the
        // bounds that all texts before it left.
        let after = moment.after.map_or(moment.before.0, |after| after.0);
        let (low, high) = (up - after, up + HUNDREDTH - moment.before.0);
        let (lowest, highest) = self.clocks.unwrap_or((low, high));
        if low > highest + 0.001 || high < lowest - 0.001 {
            faults.push((
                Fault::Wrong,
                format!("{up}: {low:.3} to {high:.3} off this clock, not {lowest:.3} to {highest:.3}"),
            ));
        } else {
            self.clocks = Some((lowest.max(low), highest.min(high)));
        }
        Ok(())
    }
}

fn meminfo(expect: &Expect, text: &str, moment: &Moment, faults: &mut Faults) -> Outcome {
    let meminfo = Meminfo::parse(text)?;
    let (total, swap) = (meminfo.get("MemTotal"), meminfo.get("SwapTotal"));
    let (least, most) = expect.mib;
    if !(least * 1024..=most * 1024).contains(&total) || total % 1024 != 0 {
        faults.push((Fault::Wrong, format!("MemTotal {total} kB, not {least} to {most} MiB")));
        return Ok(());
    }
    // Thirty lines further down, and of the same number (rule M8).
    if meminfo.get("CommitLimit") != total / 2 + swap {
        faults
            .push((Fault::Torn, format!("CommitLimit {} with MemTotal {total}", meminfo.get("CommitLimit"))));
    }
    meminfo.check_invariants()?;
    // Which change of the limit this is: the n-th of a cycle.
    if let (Some(made), Some((_, Some(begun)))) = (moment.before.1, moment.after) {
        let cycle = most - least + 1;
        let shown = (total / 1024 - least) % cycle;
        let may_be = (made..=begun).any(|change| change % cycle == shown);
        if !may_be && begun - made < cycle {
            faults.push((
                Fault::Wrong,
                format!("the limit of change {shown}, read while it was {made} to {begun} of {cycle}"),
            ));
        }
    }
    Ok(())
}

fn cpuinfo(expect: &Expect, text: &str, faults: &mut Faults) -> Outcome {
    let shown = processors(text)?;
    if shown.len() != expect.cpus {
        faults.push((Fault::Wrong, format!("processors {shown:?}, not {} of them", expect.cpus)));
    }
    Ok(())
}
