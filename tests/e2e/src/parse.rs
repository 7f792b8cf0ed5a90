//! Reading what the virtual files say, in the way a strict client would.

use std::collections::BTreeMap;

use crate::case::{Doing, Outcome, check, fail};

/// `/proc/meminfo`: key to kB (or pages, for `HugePages_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meminfo(pub BTreeMap<String, u64>);

impl Meminfo {
    /// Every line must be `Key: NUMBER[ kB]`.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut map = BTreeMap::new();
        for line in text.lines() {
            let (key, value) = line.split_once(':').doing(format!("meminfo line {line:?}"))?;
            let value =
                value.trim().trim_end_matches(" kB").parse().doing(format!("meminfo line {line:?}"))?;
            check!(map.insert(key.to_owned(), value).is_none(), "meminfo has {key} twice");
        }
        check!(map.contains_key("MemTotal"), "no MemTotal in {text:?}");
        Ok(Self(map))
    }

    /// A value in kB; 0 where there is no such line.
    pub fn get(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// The invariants of every container's view.
    pub fn check_invariants(&self) -> Outcome {
        let (free, available, total) = (self.get("MemFree"), self.get("MemAvailable"), self.get("MemTotal"));
        check!(free <= available, "MemFree {free} > MemAvailable {available}");
        check!(available <= total, "MemAvailable {available} > MemTotal {total}");
        check!(self.get("SwapFree") <= self.get("SwapTotal"), "SwapFree > SwapTotal");
        Ok(())
    }
}

/// The host's own meminfo.
pub fn host_meminfo() -> Outcome<Meminfo> {
    Meminfo::parse(&std::fs::read_to_string("/proc/meminfo")?)
}

/// One cpu line of `/proc/stat`, in USER_HZ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuLine {
    /// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
    pub fields: [u64; 10],
}

impl CpuLine {
    fn parse(fields: &[&str]) -> Outcome<Self> {
        let mut line = Self::default();
        check!(fields.len() == 10, "a cpu line has 10 numbers, not {fields:?}");
        for (to, from) in line.fields.iter_mut().zip(fields) {
            *to = from.parse().doing(format!("cpu line {fields:?}"))?;
        }
        Ok(line)
    }

    /// user + nice + system.
    pub fn used(&self) -> u64 {
        self.fields[..3].iter().sum()
    }

    /// Time without work.
    pub fn idle(&self) -> u64 {
        self.fields[3]
    }

    /// Time taken away.
    pub fn steal(&self) -> u64 {
        self.fields[7]
    }

    /// What happened since an earlier reading; no counter may have gone down.
    pub fn since(&self, earlier: &Self) -> Outcome<Self> {
        let mut delta = Self::default();
        for (i, to) in delta.fields.iter_mut().enumerate() {
            let (old, new) = (earlier.fields[i], self.fields[i]);
            *to = new
                .checked_sub(old)
                .doing(format!("field {} of a cpu line went down from {old} to {new}", i + 1))?;
        }
        Ok(delta)
    }

    /// Shares of a delta in percent: used, idle, steal.
    pub fn percent(&self) -> (f64, f64, f64) {
        let all: u64 = self.fields[..8].iter().sum();
        let share = |part: u64| 100.0 * part as f64 / all.max(1) as f64;
        (share(self.used()), share(self.idle()), share(self.steal()))
    }
}

/// `/proc/stat`.
#[derive(Clone, Debug)]
pub struct Stat {
    /// The `cpu` line.
    pub total: CpuLine,
    /// The `cpuN` lines by number.
    pub cpus: BTreeMap<usize, CpuLine>,
    /// The lines with one number: btime, ctxt, processes, ...
    pub single: BTreeMap<String, u64>,
}

impl Stat {
    /// Every line must have a known shape.
    pub fn parse(text: &str) -> Outcome<Self> {
        let (mut total, mut cpus, mut single) = (None, BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().doing("empty line in stat")?;
            let values: Vec<&str> = words.collect();
            match name.strip_prefix("cpu") {
                Some("") => total = Some(CpuLine::parse(&values)?),
                Some(number) => {
                    cpus.insert(number.parse().doing(line)?, CpuLine::parse(&values)?);
                }
                None => {
                    single.insert(name.to_owned(), values.first().doing(line)?.parse().doing(line)?);
                }
            }
        }
        Ok(Self { total: total.doing("`cpu` line of stat")?, cpus, single })
    }

    /// Numbers of the shown CPUs.
    pub fn numbers(&self) -> Vec<usize> {
        self.cpus.keys().copied().collect()
    }
}

/// The processor numbers of `/proc/cpuinfo`, in order.
pub fn processors(cpuinfo: &str) -> Outcome<Vec<usize>> {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let numbers = lines.filter(|(key, _)| key.trim() == "processor").map(|(_, value)| value.trim().parse());
    let numbers: Result<Vec<usize>, _> = numbers.collect();
    numbers.doing("cpuinfo")
}

/// A list such as `0-2,5`.
pub fn cpu_list(text: &str) -> Outcome<Vec<usize>> {
    let mut all = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().doing(text)?, last.parse().doing(text)?);
        all.extend(first..=last);
    }
    Ok(all)
}

/// The two numbers of `/proc/uptime`.
pub fn uptime(text: &str) -> Outcome<(f64, f64)> {
    let line = text.strip_suffix('\n').doing(format!("line end of uptime {text:?}"))?;
    let (up, idle) = line.split_once(' ').doing(format!("two numbers in uptime {text:?}"))?;
    for number in [up, idle] {
        let decimals = number.split_once('.').map(|(_, d)| d.len());
        if decimals != Some(2) {
            fail!("uptime {text:?}: two decimals each");
        }
    }
    Ok((up.parse()?, idle.parse()?))
}

/// The value behind a key in `key: value` or `key value` lines; the key must be exact.
pub fn value<'a>(text: &'a str, key: &str) -> Outcome<&'a str> {
    let found = text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(key)?;
        rest.starts_with([':', ' ', '\t', '=']).then(|| rest.trim_start_matches([':', ' ', '\t', '=']).trim())
    });
    found.doing(format!("{key} in {text:?}"))
}
