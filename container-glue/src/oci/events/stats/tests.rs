use std::collections::HashMap;

use super::*;

/// Files by controller and name.
struct Made {
    version: Version,
    files: HashMap<(&'static str, &'static str), &'static str>,
}

impl Made {
    fn new(version: Version, files: &[(&'static str, &'static str, &'static str)]) -> Self {
        Self { version, files: files.iter().map(|(a, b, text)| ((*a, *b), *text)).collect() }
    }
}

impl Source for Made {
    fn version(&self, controller: &str) -> Option<Version> {
        self.files.keys().any(|(name, _)| *name == controller).then_some(self.version)
    }
    fn read(&self, controller: &str, file: &str) -> Option<Vec<u8>> {
        self.files
            .iter()
            .find(|((name, at), _)| *name == controller && *at == file)
            .map(|(_, text)| text.as_bytes().to_vec())
    }
    fn names(&self, controller: &str) -> Vec<String> {
        let of =
            |(name, file): &(&'static str, &'static str)| (*name == controller).then(|| (*file).to_owned());
        self.files.keys().filter_map(of).collect()
    }
}

#[test]
fn version_1() {
    let made = Made::new(
        Version::V1,
        &[
            ("cpuacct", "cpuacct.usage", "300\n"),
            ("cpuacct", "cpuacct.usage_percpu", "100 200 \n"),
            ("cpuacct", "cpuacct.usage_sys", "60\n"),
            ("cpuacct", "cpuacct.usage_user", "240\n"),
            ("cpu", "cpu.stat", "nr_periods 7\nnr_throttled 2\nthrottled_time 5000\n"),
            ("memory", "memory.usage_in_bytes", "4096\n"),
            ("memory", "memory.max_usage_in_bytes", "8192\n"),
            ("memory", "memory.limit_in_bytes", "67108864\n"),
            ("memory", "memory.failcnt", "3\n"),
            ("memory", "memory.memsw.usage_in_bytes", "5000\n"),
            ("memory", "memory.stat", "cache 1\nrss 2\ntotal_cache 9\n"),
            ("pids", "pids.current", "4\n"),
            ("pids", "pids.max", "max\n"),
            ("io", "blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Sync 10\nTotal 10\n"),
            ("io", "blkio.throttle.io_serviced_recursive", "8:0 Read 1\nTotal 1\n"),
            ("hugetlb", "hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb", "hugetlb.2MB.rsvd.usage_in_bytes", "1\n"),
            ("hugetlb", "hugetlb.2MB.failcnt", "1\n"),
            ("cpuset", "cpuset.cpus", "0,2-3\n"),
            ("cpuset", "cpuset.sched_relax_domain_level", "-1\n"),
        ],
    );
    let found = stats(&made);
    assert_eq!(
        found["cpu"],
        json!({
            "usage": {"total": 300, "percpu": [100, 200], "kernel": 60, "user": 240},
            "throttling": {"periods": 7, "throttledPeriods": 2, "throttledTime": 5000},
        })
    );
    assert_eq!(
        found["memory"],
        json!({
            "cache": 9,
            "usage": {"limit": 67_108_864, "usage": 4096, "max": 8192, "failcnt": 3},
            "swap": {"usage": 5000},
            "raw": {"cache": 1, "rss": 2, "total_cache": 9},
        })
    );
    assert_eq!(found["pids"], json!({"current": 4, "limit": 0}));
    assert_eq!(
        found["blkio"],
        json!({
            "ioServiceBytesRecursive": [{"major": 8, "minor": 0, "op": "Read", "value": 10}],
            "ioServicedRecursive": [{"major": 8, "minor": 0, "op": "Read", "value": 1}],
        })
    );
    assert_eq!(found["hugetlb"], json!({"2MB": {"usage": 2_097_152, "failcnt": 1}}));
    assert_eq!(found["cpuset"], json!({"cpus": [0, 2, 3], "sched_relax_domain_level": -1}));
}

#[test]
fn version_2() {
    let made = Made::new(
        Version::V2,
        &[
            ("cgroup", "cpu.stat", "usage_usec 3\nuser_usec 2\nsystem_usec 1\n"),
            ("cpu", "cpu.stat", "nr_periods 7\nnr_throttled 2\nthrottled_usec 5\n"),
            ("cgroup", "cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n"),
            ("memory", "memory.current", "100\n"),
            ("memory", "memory.max", "max\n"),
            ("memory", "memory.peak", "120\n"),
            ("memory", "memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n"),
            ("memory", "memory.swap.current", "50\n"),
            ("memory", "memory.swap.max", "1000\n"),
            ("memory", "memory.stat", "anon 60\nfile 40\n"),
            ("pids", "pids.current", "4\n"),
            ("pids", "pids.max", "99\n"),
            ("io", "io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("hugetlb", "hugetlb.1GB.current", "0\n"),
            ("hugetlb", "hugetlb.1GB.events", "max 8\n"),
            ("cpuset", "cpuset.cpus", "\n"),
            ("cpuset", "cpuset.cpus.effective", "0-1\n"),
        ],
    );
    let found = stats(&made);
    assert_eq!(found["cpu"]["usage"], json!({"total": 3000, "user": 2000, "kernel": 1000}));
    assert_eq!(found["cpu"]["throttling"]["throttledTime"], json!(5000));
    assert_eq!(
        found["cpu"]["psi"],
        json!({"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 77}})
    );
    assert_eq!(found["memory"]["usage"], json!({"limit": u64::MAX, "usage": 100, "max": 120, "failcnt": 6}));
    assert_eq!(found["memory"]["swap"], json!({"limit": u64::MAX, "usage": 150}));
    assert_eq!(found["memory"]["cache"], json!(40));
    assert_eq!(found["pids"], json!({"current": 4, "limit": 99}));
    assert_eq!(found["blkio"]["ioServicedRecursive"][1]["value"], json!(4));
    assert_eq!(found["hugetlb"], json!({"1GB": {"usage": 0, "failcnt": 8}}));
    assert_eq!(found["cpuset"]["cpus"], json!([0, 1]));
    assert_eq!(oom_kills(b"oom 5\noom_kill 2\noom_group_kill 1\n"), 2);
}

/// Groups that are gone, or that say what nobody expects.
#[test]
fn nothing_is_there() {
    let found = stats(&Made::new(Version::V2, &[]));
    assert_eq!(found["cpu"], json!({"usage": {}, "throttling": {}}));
    assert_eq!(found["memory"], json!({}));
    let odd = "some avg10=NaN total=x\nfull\nx \u{0}\n-1 -1\n";
    let files = ["cpu.stat", "cpu.pressure", "memory.stat", "memory.max", "io.stat", "pids.max"];
    let made: Vec<_> = ["cgroup", "cpu", "memory", "io", "pids"]
        .iter()
        .flat_map(|of| files.map(|file| (*of, file, odd)))
        .collect();
    assert_eq!(stats(&Made::new(Version::V2, &made))["cpu"]["psi"], json!({"some": {}, "full": {}}));
}
