mod applied;
mod fields;
mod hostile;

use ownproc::cgroup::Version::{self, V1, V2};

use super::*;

/// All controllers on v1, with or without an empty v2 beside them.
fn v1(_: &str) -> Option<Version> {
    Some(V1)
}

fn v2(controller: &str) -> Option<Version> {
    (!matches!(controller, "net_cls" | "net_prio")).then_some(V2)
}

/// v1, but with what a boot option moved to v2; no hugetlb, no rdma.
fn hybrid(controller: &str) -> Option<Version> {
    match controller {
        "memory" | "cgroup" => Some(V2),
        "hugetlb" | "rdma" => None,
        _ => Some(V1),
    }
}

fn nothing(_: &str) -> Option<Version> {
    None
}

type Host = fn(&str) -> Option<Version>;

/// The plan for a JSON object in `linux.resources`' place.
fn planned(json: &str, on: Host) -> Result<Plan, String> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    plan(&resources, &on).map_err(|error| error.to_string())
}

/// "FILE=VALUE" for each write.
fn files(json: &str, on: Host) -> Vec<String> {
    let plan = planned(json, on).unwrap_or_else(|error| panic!("{json}: {error}"));
    plan.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
}

fn refused(json: &str, on: Host) -> String {
    planned(json, on).map(|plan| format!("{plan:?}")).expect_err(json)
}
