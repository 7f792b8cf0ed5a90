use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::super::apply::apply_with;
use super::*;

/// A directory with one group and these files, "FILE=VALUE".
fn group(files: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        let (name, value) = file.split_once('=').unwrap();
        std::fs::write(directory.path().join(name), value).unwrap();
    }
    directory
}

fn applied(json: &str, on: Host, group: &Path) -> Result<(), String> {
    let plan = planned(json, on).unwrap();
    apply(&plan.writes, &|_| Some(group.to_owned())).map_err(|error| error.to_string())
}

fn read(group: &Path, file: &str) -> String {
    std::fs::read_to_string(group.join(file)).unwrap()
}

#[test]
fn into_a_tree() {
    let tree = group(&["memory.max=", "memory.swap.max=", "cpu.weight=", "io.weight="]);
    let json = r#"{"memory":{"limit":100,"swap":300},"cpu":{"shares":2},"blockIO":{"weight":10}}"#;
    applied(json, v2, tree.path()).unwrap();
    assert_eq!(read(tree.path(), "memory.max"), "100");
    assert_eq!(read(tree.path(), "memory.swap.max"), "200");
    assert_eq!(read(tree.path(), "cpu.weight"), "1");
    assert_eq!(read(tree.path(), "io.weight"), "1");

    let tree = group(&["blkio.bfq.weight="]);
    applied(r#"{"blockIO":{"weight":500}}"#, v1, tree.path()).unwrap();
    assert_eq!(read(tree.path(), "blkio.bfq.weight"), "500");
    assert!(!tree.path().join("blkio.weight").exists());
}

#[test]
fn missing_files() {
    let tree = group(&["memory.max=", "memory.limit_in_bytes="]);
    // without accounting of swap: all or none of it is what holds anyway
    applied(r#"{"memory":{"limit":-1}}"#, v2, tree.path()).unwrap();
    applied(r#"{"memory":{"limit":5,"swap":5}}"#, v2, tree.path()).unwrap();
    applied(r#"{"memory":{"limit":-1}}"#, v1, tree.path()).unwrap();
    let error = applied(r#"{"memory":{"limit":5,"swap":6}}"#, v2, tree.path()).unwrap_err();
    let path = tree.path().join("memory.swap.max");
    let start = format!("linux.resources.memory.swap: cannot write 1 to {}: No such file", path.display());
    assert!(error.starts_with(&start), "{error}");
    let error = applied(r#"{"blockIO":{"weight":500}}"#, v2, tree.path()).unwrap_err();
    assert!(error.contains("io.weight: No such file"), "{error}");
    // no group for the controller
    let plan = planned(r#"{"pids":{"limit":5}}"#, v2).unwrap();
    assert!(matches!(apply(&plan.writes, &|_| None), Err(ResourceError::NoController { .. })));
}

#[test]
fn not_below_the_use() {
    let json = r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#;
    for (host, used, limit) in
        [(v1 as Host, "memory.usage_in_bytes", "memory.limit_in_bytes"), (v2, "memory.current", "memory.max")]
    {
        let tree = group(&[&format!("{used}=101\n"), &format!("{limit}=max")]);
        let error = applied(json, host, tree.path()).unwrap_err();
        assert!(error.contains("linux.resources.memory.limit: 100 is below what is in use: 101"), "{error}");
        assert_eq!(read(tree.path(), limit), "max");
        std::fs::write(tree.path().join(used), "100\n").unwrap();
        applied(json, host, tree.path()).unwrap();
        assert_eq!(read(tree.path(), limit), "100");
        std::fs::write(tree.path().join(used), "?").unwrap();
        assert!(applied(json, host, tree.path()).unwrap_err().contains("cannot read"));
    }
}

/// The kernel's rules of v1 about values that depend on each other.
struct Kernel(RefCell<HashMap<String, i64>>);

impl Kernel {
    fn new(values: &[(&str, i64)]) -> Self {
        Self(RefCell::new(values.iter().map(|(file, value)| ((*file).to_owned(), *value)).collect()))
    }

    fn get(&self, file: &str) -> i64 {
        self.0.borrow()[file]
    }

    fn holds(&self) -> bool {
        let unlimited = |value: i64| if value < 0 { i64::MAX } else { value };
        let values = self.0.borrow();
        let get = |file: &str| values.get(file).copied();
        let memory = match (get("memory.limit_in_bytes"), get("memory.memsw.limit_in_bytes")) {
            (Some(memory), Some(sum)) => unlimited(memory) <= unlimited(sum),
            _ => true,
        };
        let bandwidth = match (get("cpu.cfs_quota_us"), get("cpu.cfs_period_us")) {
            // the group above has one CPU
            (Some(quota), Some(period)) => {
                quota <= period && (quota < 0 || get("cpu.cfs_burst_us").unwrap_or(0) <= quota)
            }
            _ => true,
        };
        memory && bandwidth
    }

    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let old = self.0.borrow_mut().insert(file.clone(), value.parse().unwrap()).unwrap();
        if self.holds() {
            return Ok(());
        }
        self.0.borrow_mut().insert(file, old);
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn apply(&self, json: &str) -> Result<(), ResourceError> {
        let plan = planned(json, v1).unwrap();
        apply_with(&plan.writes, &|_| Some("/group".into()), &mut |path, value| self.write(path, value))
    }
}

#[test]
fn memory_up_and_down() {
    let sizes = [(100, 100), (100, 200), (1000, 1000), (300, 5000), (50, 60), (50, -1)];
    for (memory, sum) in sizes {
        for (new_memory, new_sum) in sizes {
            let kernel =
                Kernel::new(&[("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", sum)]);
            kernel.apply(&format!(r#"{{"memory":{{"limit":{new_memory},"swap":{new_sum}}}}}"#)).unwrap();
            assert_eq!(kernel.get("memory.limit_in_bytes"), new_memory);
            assert_eq!(kernel.get("memory.memsw.limit_in_bytes"), new_sum);
        }
        let kernel = Kernel::new(&[("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", sum)]);
        kernel.apply(r#"{"memory":{"limit":-1}}"#).unwrap();
        assert_eq!(kernel.get("memory.limit_in_bytes"), -1);
    }
}

#[test]
fn bandwidth_up_and_down() {
    let settings = [
        (50_000, 100_000, 0),
        (1000, 1000, 1000),
        (900_000, 1_000_000, 800_000),
        (5000, 10_000, 10),
        (-1, 2000, 0),
    ];
    let get = |kernel: &Kernel| {
        ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"].map(|file| kernel.get(file))
    };
    for (quota, period, burst) in settings {
        for (new_quota, new_period, new_burst) in settings {
            let values =
                [("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", period), ("cpu.cfs_burst_us", burst)];
            let kernel = Kernel::new(&values);
            let json =
                format!(r#"{{"cpu":{{"quota":{new_quota},"period":{new_period},"burst":{new_burst}}}}}"#);
            kernel.apply(&json).unwrap();
            assert_eq!(get(&kernel), [new_quota, new_period, new_burst], "from {values:?}");
        }
    }
}

#[test]
fn a_value_that_stays_refused_is_an_error() {
    let kernel =
        Kernel::new(&[("cpu.cfs_quota_us", 1000), ("cpu.cfs_period_us", 1000), ("cpu.cfs_burst_us", 0)]);
    let error = kernel.apply(r#"{"cpu":{"quota":1000,"burst":2000}}"#).unwrap_err().to_string();
    assert!(
        error.starts_with("linux.resources.cpu.burst: cannot write 2000 to /group/cpu.cfs_burst_us: "),
        "{error}"
    );
}

/// The kernel takes the word, and says behind it that it does not hold.
#[test]
fn partitions() {
    let tree = group(&["cpuset.cpus=", "cpuset.cpus.partition=member\n"]);
    let json = r#"{"unified":{"cpuset.cpus.partition":"root","cpuset.cpus":"1"}}"#;
    let plan = planned(json, v2).unwrap();
    let order: Vec<&str> = plan.writes.iter().map(|write| write.file.as_str()).collect();
    assert_eq!(order, ["cpuset.cpus", "cpuset.cpus.partition"]);
    let with = |said: &'static str| {
        let written = RefCell::new(Vec::new());
        let mut to_file = |path: &Path, value: &str| {
            written.borrow_mut().push(value.to_owned());
            let value = if value == "root" { said } else { value };
            std::fs::write(path, format!("{value}\n"))
        };
        let done = apply_with(&plan.writes, &|_| Some(tree.path().to_owned()), &mut to_file);
        (done.map_err(|error| error.to_string()), written.into_inner())
    };
    let (done, written) = with("root invalid (Parent is not a partition root)");
    let error = done.unwrap_err();
    assert!(error.contains("root does not hold: Parent is not a partition root (/"), "{error}");
    assert!(error.contains("cpuset.cpus.partition"), "{error}");
    assert_eq!(written, ["1", "root", "member"]);
    assert_eq!(read(tree.path(), "cpuset.cpus.partition"), "member\n");
    assert!(with("root invalid").0.unwrap_err().contains("no reason"));
    let (done, written) = with("root");
    assert_eq!((done, written.len()), (Ok(()), 2));
    for bad in ["", "threaded", "root invalid", "Root"] {
        let json = format!(r#"{{"unified":{{"cpuset.cpus.partition":"{bad}"}}}}"#);
        let said = planned(&json, v2).map(|plan| plan.writes.len());
        assert!(if bad.is_empty() { said == Ok(0) } else { said.is_err() }, "{bad}: {said:?}");
    }
}
