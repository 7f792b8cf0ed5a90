use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Files and values of the write and of those that may take its place.
fn each(write: &Write) -> Vec<&Write> {
    let mut all = vec![write];
    if let Missing::Else(other) = &write.missing {
        all.extend(each(other));
    }
    all
}

/// Text that could break out of a file name or a line, or be taken.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z]{0,8}[./\n ]{0,3}[a-z0-9.\n/]{0,8}",
        "(memory|io|cgroup|cpu)[./][a-z./\n]{0,10}",
        "[0-9/.\n]{0,3}[KMGT]?B?",
    ]
}

/// Numbers around the bounds that matter.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3i64..2000, Just(i64::MAX), Just(i64::MIN)]
}

proptest! {
    #[test]
    fn only_plain_files_and_single_lines(
        texts in proptest::collection::vec(text(), 6),
        numbers in proptest::collection::vec(number(), 12),
        host in 0usize..4,
    ) {
        let n = |index: usize| numbers[index];
        let unsigned = |index: usize| numbers[index].cast_unsigned();
        let all = [
            json!({"memory": {"limit": n(0), "swap": n(1), "reservation": n(2), "kernelTCP": n(3),
                "swappiness": unsigned(4)}}),
            json!({"cpu": {"shares": unsigned(0), "quota": n(1), "period": unsigned(2), "burst": unsigned(3),
                "idle": n(4), "cpus": texts[0], "mems": texts[1]}}),
            json!({"cpu": {"realtimeRuntime": n(5), "realtimePeriod": unsigned(6)}, "pids": {"limit": n(7)}}),
            json!({"blockIO": {"weight": unsigned(0) as u16,
                "weightDevice": [{"major": n(1), "minor": n(2), "weight": unsigned(3) as u16}],
                "throttleReadBpsDevice": [{"major": n(4), "minor": n(5), "rate": unsigned(6)}]}}),
            json!({"hugepageLimits": [{"pageSize": texts[0], "limit": n(0)}]}),
            json!({"network": {"classID": unsigned(0) as u32,
                "priorities": [{"name": texts[0], "priority": unsigned(1) as u32}]}}),
            json!({"rdma": {texts[0].as_str(): {"hcaHandles": 1}, texts[1].as_str(): {}}}),
            json!({"unified": {texts[0].as_str(): texts[1], texts[2].as_str(): texts[3]}}),
            json!({"unified": {texts[4].as_str(): texts[5]}}),
        ];
        let host: Host = [v1, v2, hybrid, nothing][host];
        for json in all {
            let resources: LinuxResources = serde_json::from_value(json).unwrap();
            match plan(&resources, &host) {
                Ok(plan) => for write in plan.writes.iter().flat_map(each) {
                    prop_assert!(!write.file.contains(['/', '\n', '\0']) && !write.file.starts_with('.'), "{:?}", write);
                    prop_assert!(!write.file.is_empty() && !write.value.is_empty(), "{:?}", write);
                    prop_assert!(!write.value.contains(['\n', '\0']), "{:?}", write);
                    let core = write.file.starts_with("cgroup.");
                    prop_assert!(!core || write.file.starts_with("cgroup.max."), "{:?}", write);
                },
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
    }
}
