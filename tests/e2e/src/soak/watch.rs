//! What one reader saw last, and what must hold from one snapshot to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::case::{Doing, Outcome, check};
use crate::parse::{Meminfo, Stat, cpu_list, processors, uptime};

/// The highest value of every counter so far, by file and name.
#[derive(Default)]
pub struct Watch {
    last: BTreeMap<String, f64>,
}

impl Watch {
    /// Takes one snapshot in.
    pub fn look(&mut self, path: &Path, text: &str) -> Outcome {
        let name = path.file_name().and_then(|name| name.to_str()).doing("a name")?;
        let pressure = path.parent().is_some_and(|dir| dir.ends_with("pressure"));
        match name {
            _ if pressure => self.pressure(name, text),
            "meminfo" => Meminfo::parse(text)?.check_invariants(),
            "stat" => self.stat(text),
            "uptime" => {
                let (up, idle) = uptime(text)?;
                self.rises("uptime".to_owned(), up)?;
                self.rises("uptime idle".to_owned(), idle)
            }
            "cpuinfo" => {
                let shown = processors(text)?;
                check!(!shown.is_empty() && shown.is_sorted(), "processors {shown:?}");
                Ok(())
            }
            "online" => {
                check!(!cpu_list(text)?.is_empty(), "no CPU is online");
                Ok(())
            }
            "vmstat" => {
                // the policy swap = hide makes these 0
                let of_swap =
                    |key: &str| ["pswp", "swp", "zswp", "thp_swp"].iter().any(|it| key.starts_with(it));
                let gauge = |key: &str| key.starts_with("nr_") || key == "workingset_nodes";
                self.keyed(name, text, |key| !gauge(key) && !of_swap(key))
            }
            "diskstats" => self.columns(name, text, 3, &[11]),
            "schedstat" => self.columns(name, text, 1, &[]),
            "softirqs" | "interrupts" => Ok(()),
            "loadavg" => {
                let words: Vec<&str> = text.split_whitespace().collect();
                check!(words.len() == 5, "loadavg {text:?}");
                for word in words.iter().take(3) {
                    let load: f64 = word.parse().doing(text)?;
                    check!((0.0..1000.0).contains(&load), "loadavg {text:?}");
                }
                Ok(())
            }
            "swaps" => {
                for line in text.lines().skip(1) {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let number = |at: usize| -> Outcome<u64> { Ok(words.get(at).doing(line)?.parse()?) };
                    check!(number(3)? <= number(2)?, "more swap in use than there is: {line}");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn rises(&mut self, name: String, value: f64) -> Outcome {
        let before = self.last.get(&name).copied().unwrap_or(value);
        check!(value >= before, "{name} fell from {before} to {value}");
        self.last.insert(name, value);
        Ok(())
    }

    fn stat(&mut self, text: &str) -> Outcome {
        let stat = Stat::parse(text)?;
        let lines =
            std::iter::once((None, &stat.total)).chain(stat.cpus.iter().map(|(n, line)| (Some(*n), line)));
        for (cpu, line) in lines {
            for (column, value) in line.fields.iter().enumerate() {
                let cpu = cpu.map_or_else(String::new, |cpu: usize| cpu.to_string());
                self.rises(format!("stat cpu{cpu} column {column}"), *value as f64)?;
            }
        }
        for (key, value) in &stat.single {
            match key.as_str() {
                "procs_running" | "procs_blocked" => {}
                "btime" => {
                    let first = *self.last.entry("btime".to_owned()).or_insert(*value as f64);
                    check!((first - *value as f64).abs() <= 1.0, "btime moved from {first} to {value}");
                }
                _ => self.rises(format!("stat {key}"), *value as f64)?,
            }
        }
        Ok(())
    }

    fn keyed(&mut self, file: &str, text: &str, is_counter: impl Fn(&str) -> bool) -> Outcome {
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').doing(line)?;
            check!(seen.insert(key), "{key} stands twice");
            if is_counter(key) {
                self.rises(format!("{file} {key}"), value.parse().doing(line)?)?;
            }
        }
        Ok(())
    }

    /// Lines of numbers after `names` words; `gauges` are the columns (from 0, names included) that may fall.
    fn columns(&mut self, file: &str, text: &str, names: usize, gauges: &[usize]) -> Outcome {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words.get(..names).unwrap_or_default().join(" ");
            for (column, word) in words.iter().enumerate().skip(names) {
                if !gauges.contains(&column)
                    && let Ok(value) = word.parse()
                {
                    self.rises(format!("{file} {name} column {column}"), value)?;
                }
            }
        }
        Ok(())
    }

    fn pressure(&mut self, resource: &str, text: &str) -> Outcome {
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').doing(line)?;
            let total = rest.split(' ').find_map(|word| word.strip_prefix("total=")).doing(line)?;
            self.rises(format!("pressure {resource} {kind}"), total.parse().doing(line)?)?;
        }
        Ok(())
    }
}
