//! `update`: other limits for a container that runs.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{Global, UpdateArgs};
use super::store::{Status, Store};
use super::{Doing, OciError, bundle, limits};

/// Largest document that is read from stdin, in bytes.
const LARGEST: u64 = 1 << 20;

/// `update`.
pub fn update(global: &Global, args: &UpdateArgs) -> Result<(), OciError> {
    let entry = Store::open(&global.root)?.entry(&args.id)?;
    let mut record = entry.read()?;
    let status = entry.status(&record);
    if status == Status::Stopped {
        let hint = "only one that was not stopped has limits";
        return Err(OciError::Status { id: args.id.clone(), is: status.name(), hint });
    }
    let change = asked(args)?;
    let names_devices = change.get("devices").is_some_and(|devices| !devices.is_null());
    let path = Path::new("--resources");
    let linux = record.spec.linux().as_ref();
    let now = serde_json::to_value(linux.and_then(|linux| linux.resources().as_ref()));
    let json = |source| OciError::Json { path: path.to_owned(), source };
    let mut merged = now.map_err(json)?;
    merge(&mut merged, change);
    let wanted: oci_spec::runtime::LinuxResources = serde_json::from_value(merged).map_err(json)?;
    if let Some(scope) = &record.scope {
        scope.change(&limits::of_systemd(Some(&wanted), &record.groups)?)?;
    }
    limits::change(&wanted, &record.groups, names_devices)?;
    if let Some(linux) = record.spec.linux_mut() {
        linux.set_resources(Some(wanted));
    }
    entry.write(&record)
}

/// What is asked for, as a part of `linux.resources`.
fn asked(args: &UpdateArgs) -> Result<Value, OciError> {
    if let Some(path) = &args.resources {
        if path != Path::new("-") {
            return bundle::read(path);
        }
        let mut text = Vec::new();
        std::io::stdin().take(LARGEST).read_to_end(&mut text).doing("read stdin")?;
        return bundle::parse(&text, Path::new("stdin"));
    }
    let mut change = json!({});
    let mut set = |part: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            change[part][key] = value;
        }
    };
    set("memory", "limit", args.memory.map(Value::from));
    set("memory", "swap", args.memory_swap.map(Value::from));
    set("memory", "reservation", args.memory_reservation.map(Value::from));
    set("cpu", "quota", args.cpu_quota.map(Value::from));
    set("cpu", "period", args.cpu_period.map(Value::from));
    set("cpu", "shares", args.cpu_share.map(Value::from));
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Value::from));
    set("cpu", "mems", args.cpuset_mems.clone().map(Value::from));
    set("pids", "limit", args.pids_limit.map(Value::from));
    if change == json!({}) {
        return Err(OciError::Setup(
            "nothing to change: give --resources FILE, or a limit such as --memory".to_owned(),
        ));
    }
    Ok(change)
}

/// Puts `change` over `into`, object by object. Nulls say nothing.
fn merge(into: &mut Value, change: Value) {
    match change {
        Value::Null => {}
        Value::Object(fields) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            for (key, value) in fields {
                merge(&mut into[key], value);
            }
        }
        other => *into = other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut now = json!({"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}});
        merge(&mut now, json!({"memory": {"limit": 5, "swap": null}, "cpu": {"quota": 7}}));
        assert_eq!(
            now,
            json!({"memory": {"limit": 5, "swap": 2}, "pids": {"limit": 3}, "cpu": {"quota": 7}})
        );
        let mut none = Value::Null;
        merge(&mut none, json!({"a": null}));
        assert_eq!(none, json!({"a": null}));
    }
}
