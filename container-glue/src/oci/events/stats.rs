//! The `stats` event: what a container's groups count, in the form that runc gives it. Pure but for its [`Source`].
//!
//! Times are nanoseconds and sizes bytes. What a group has no file for is left out. As in runc, `memory.swap` is memory
//! and swap together on both versions of cgroup, and a `pids.limit` of 0 is none.

use ownproc::cgroup::Version;
use ownproc::cgroup::parse::{io as io_file, lines, pairs, scalar};
use ownproc::model::{CpuSet, DiskId};
use serde_json::{Map, Value, json};

/// Where the files of the groups are.
pub trait Source {
    /// On which side a controller is, by its name on v2; `cgroup` is the core of v2.
    fn version(&self, controller: &str) -> Option<Version>;
    /// A file of its group.
    fn read(&self, controller: &str, file: &str) -> Option<Vec<u8>>;
    /// The names of the group's files.
    fn names(&self, controller: &str) -> Vec<String>;
}

/// The `data` of a stats event.
pub fn stats(source: &dyn Source) -> Value {
    json!({
        "cpu": cpu(source),
        "cpuset": cpuset(source),
        "memory": memory(source),
        "pids": pids(source),
        "blkio": blkio(source),
        "hugetlb": hugetlb(source),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn number(source: &dyn Source, controller: &str, file: &str) -> Option<u64> {
    scalar::number(&source.read(controller, file)?)
}

/// A number, or `max` for none at all.
fn limit(source: &dyn Source, controller: &str, file: &str) -> Option<u64> {
    let text = source.read(controller, file)?;
    if text.trim_ascii() == b"max" { Some(u64::MAX) } else { scalar::number(&text) }
}

fn key(text: &[u8], wanted: &str) -> Option<u64> {
    pairs(text).find(|(key, _)| *key == wanted.as_bytes()).map(|(_, value)| value)
}

/// Sets a field where there is a value.
fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

fn cpu(source: &dyn Source) -> Value {
    let (mut usage, mut throttling) = (Map::new(), Map::new());
    if source.version("cpuacct") == Some(Version::V1) {
        let list = |file: &str| {
            let mut found = Vec::new();
            scalar::list_into(&source.read("cpuacct", file)?, &mut found).ok()?;
            Some(found.into_iter().map(|time| time.0).collect::<Vec<_>>())
        };
        put(&mut usage, "total", number(source, "cpuacct", "cpuacct.usage"));
        put(&mut usage, "percpu", list("cpuacct.usage_percpu"));
        put(&mut usage, "percpu_kernel", list("cpuacct.usage_percpu_sys"));
        put(&mut usage, "percpu_user", list("cpuacct.usage_percpu_user"));
        put(&mut usage, "kernel", number(source, "cpuacct", "cpuacct.usage_sys"));
        put(&mut usage, "user", number(source, "cpuacct", "cpuacct.usage_user"));
    } else if let Some(text) = source.read("cgroup", "cpu.stat") {
        let nanoseconds = |name: &str| key(&text, name).map(|time| time.saturating_mul(1000));
        put(&mut usage, "total", nanoseconds("usage_usec"));
        put(&mut usage, "kernel", nanoseconds("system_usec"));
        put(&mut usage, "user", nanoseconds("user_usec"));
    }
    if let Some(text) = source.read("cpu", "cpu.stat") {
        let time = key(&text, "throttled_time")
            .or_else(|| key(&text, "throttled_usec").map(|time| time.saturating_mul(1000)));
        put(&mut throttling, "periods", key(&text, "nr_periods"));
        put(&mut throttling, "throttledPeriods", key(&text, "nr_throttled"));
        put(&mut throttling, "throttledTime", time);
    }
    with_pressure(json!({ "usage": usage, "throttling": throttling }), source, "cpu.pressure")
}

/// Adds what v2 knows of waiting, also where the controller itself is on v1.
fn with_pressure(mut object: Value, source: &dyn Source, file: &str) -> Value {
    if let Some(text) = source.read("cgroup", file) {
        object["psi"] = pressure(&text);
    }
    object
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` likewise.
fn pressure(text: &[u8]) -> Value {
    let mut found = Map::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name @ ("some" | "full")) = words.next() else { continue };
        let mut row = Map::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            if key == "total" {
                put(&mut row, key, scalar::number(value.as_bytes()));
            } else {
                put(&mut row, key, value.parse::<f64>().ok().and_then(serde_json::Number::from_f64));
            }
        }
        found.insert(name.to_owned(), row.into());
    }
    found.into()
}

fn cpuset(source: &dyn Source) -> Value {
    let mut found = Map::new();
    for (name, file) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
        // the group's own setting is empty on v2 where it has what the one above has
        let list = [format!("{file}.effective"), file.replace('.', ".effective_"), file.to_owned()]
            .iter()
            .find_map(|file| source.read("cpuset", file));
        let set = list.and_then(|text| CpuSet::parse(std::str::from_utf8(&text).ok()?.trim()).ok());
        put(&mut found, name, set.map(|set| set.iter().collect::<Vec<_>>()));
    }
    for name in [
        "cpu_exclusive",
        "mem_exclusive",
        "mem_hardwall",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
    ] {
        put(&mut found, name, number(source, "cpuset", &format!("cpuset.{name}")));
    }
    // -1 by default
    let level = source.read("cpuset", "cpuset.sched_relax_domain_level");
    let level = level.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<i64>().ok());
    put(&mut found, "sched_relax_domain_level", level);
    found.into()
}

fn memory(source: &dyn Source) -> Value {
    let Some(version) = source.version("memory") else { return json!({}) };
    let raw: Map<String, Value> = source
        .read("memory", "memory.stat")
        .map(|text| {
            pairs(&text).map(|(key, value)| (String::from_utf8_lossy(key).into(), value.into())).collect()
        })
        .unwrap_or_default();
    let mut found = Map::new();
    match version {
        Version::V1 => {
            put(&mut found, "cache", raw.get("total_cache").or(raw.get("cache")).cloned());
            for (name, prefix) in [
                ("usage", "memory"),
                ("swap", "memory.memsw"),
                ("kernel", "memory.kmem"),
                ("kernelTCP", "memory.kmem.tcp"),
            ] {
                let file = |what: &str| number(source, "memory", &format!("{prefix}.{what}"));
                let Some(used) = file("usage_in_bytes") else { continue };
                let mut entry = Map::new();
                put(&mut entry, "limit", file("limit_in_bytes"));
                put(&mut entry, "usage", Some(used));
                put(&mut entry, "max", file("max_usage_in_bytes"));
                put(&mut entry, "failcnt", file("failcnt"));
                found.insert(name.to_owned(), entry.into());
            }
        }
        Version::V2 => {
            put(&mut found, "cache", raw.get("file").cloned());
            let file = |what: &str| limit(source, "memory", &format!("memory.{what}"));
            let failed = |file: &str| source.read("memory", file).and_then(|text| key(&text, "max"));
            let (used, most) = (file("current"), file("max"));
            let mut usage = Map::new();
            put(&mut usage, "limit", most);
            put(&mut usage, "usage", used);
            put(&mut usage, "max", file("peak"));
            put(&mut usage, "failcnt", failed("memory.events"));
            found.insert("usage".to_owned(), usage.into());
            if let Some(swapped) = file("swap.current") {
                let both = |memory: Option<u64>, swap: Option<u64>| Some(memory?.saturating_add(swap?));
                let mut swap = Map::new();
                put(&mut swap, "limit", both(most, file("swap.max")));
                put(&mut swap, "usage", both(used, Some(swapped)));
                put(&mut swap, "failcnt", failed("memory.swap.events"));
                found.insert("swap".to_owned(), swap.into());
            }
        }
    }
    found.insert("raw".to_owned(), raw.into());
    with_pressure(found.into(), source, "memory.pressure")
}

fn pids(source: &dyn Source) -> Value {
    let mut found = Map::new();
    put(&mut found, "current", number(source, "pids", "pids.current"));
    let most = limit(source, "pids", "pids.max");
    put(&mut found, "limit", most.map(|most| if most == u64::MAX { 0 } else { most }));
    found.into()
}

fn blkio(source: &dyn Source) -> Value {
    let entry = |disk: DiskId, operation: &str, value: u64| json!({ "major": disk.major, "minor": disk.minor, "op": operation, "value": value });
    let (mut bytes, mut served) = (Vec::new(), Vec::new());
    match source.version("io") {
        Some(Version::V1) => {
            for (file, found) in [
                ("blkio.throttle.io_service_bytes_recursive", &mut bytes),
                ("blkio.throttle.io_serviced_recursive", &mut served),
            ] {
                let text = source.read("io", file).unwrap_or_default();
                found.extend(
                    io_file::throttle(&text).map(|(disk, op, value)| entry(disk, &format!("{op:?}"), value)),
                );
            }
        }
        Some(Version::V2) => {
            let text = source.read("io", "io.stat").unwrap_or_default();
            for (disk, used) in io_file::stat(&text) {
                for (operation, transfer) in
                    [("Read", used.read), ("Write", used.write), ("Discard", used.discard)]
                {
                    bytes.push(entry(disk, operation, transfer.bytes.0));
                    served.push(entry(disk, operation, transfer.operations));
                }
            }
        }
        None => {}
    }
    let found = json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": served });
    with_pressure(found, source, "io.pressure")
}

/// By the size of a page, as the files spell it: 2MB.
fn hugetlb(source: &dyn Source) -> Value {
    let Some(version) = source.version("hugetlb") else { return json!({}) };
    let used = if version == Version::V1 { ".usage_in_bytes" } else { ".current" };
    let mut found = Map::new();
    for name in source.names("hugetlb") {
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(used));
        // hugetlb.2MB.rsvd.current counts reservations
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let file = |what: &str| number(source, "hugetlb", &format!("hugetlb.{size}.{what}"));
        let mut entry = Map::new();
        put(&mut entry, "usage", number(source, "hugetlb", &name));
        match version {
            Version::V1 => {
                put(&mut entry, "max", file("max_usage_in_bytes"));
                put(&mut entry, "failcnt", file("failcnt"));
            }
            Version::V2 => {
                let events = source.read("hugetlb", &format!("hugetlb.{size}.events"));
                put(&mut entry, "failcnt", events.and_then(|text| key(&text, "max")));
            }
        }
        found.insert(size.to_owned(), entry.into());
    }
    found.into()
}

/// How many processes the kernel has killed because memory was at its limit, from `memory.events` (v2).
pub fn oom_kills(text: &[u8]) -> u64 {
    lines(text).find_map(|line| scalar::number(line.strip_prefix(b"oom_kill ")?)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
