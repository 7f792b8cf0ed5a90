//! `linux.resources.unified`: files of cgroup v2 by their names.

use std::collections::HashMap;

use ownproc::cgroup::Version;

use super::planner::{Planner, line, path_of, refuse, write};
use super::{ResourceError, Write};

/// The core's files, `cgroup.*`, that may be written. The others are no limits but the launcher's own means: they
/// move, freeze and kill processes, hand controllers down, or (`cgroup.pressure`) stop the kernel from counting what
/// the container's `/proc/pressure` shows.
const CORE: [&str; 2] = ["cgroup.max.depth", "cgroup.max.descendants"];

/// Whether the group has CPUs that no other has, and its own balancing of load. Sorted behind `cpuset.cpus` and
/// `cpuset.cpus.exclusive`, which it depends on.
const PARTITION: &str = "cpuset.cpus.partition";
const PARTITIONS: [&str; 3] = ["member", "root", "isolated"];

/// Plans all keys, by name. A value of several lines is written line by line: the kernel takes one at a time.
pub fn plan(unified: &HashMap<String, String>, planner: &mut Planner) -> Result<(), ResourceError> {
    let mut sorted: Vec<_> = unified.iter().collect();
    sorted.sort();
    for (key, value) in sorted {
        let field = format!("unified[{key:?}]");
        let Some(controller) = controller(key) else {
            return Err(refuse("unified", key, "is not a name of a cgroup v2 file, such as memory.high"));
        };
        if controller == "cgroup" && !CORE.contains(&key.as_str()) {
            let reason = format!("cannot be set: of the core's files only {} may", CORE.join(" and "));
            return Err(refuse("unified", key, reason));
        }
        if planner.side(&field, controller, false)? == Some(Version::V1) {
            return Err(ResourceError::Side {
                field: path_of(&field),
                controller: controller.to_owned(),
                needs: "cgroup v2",
                has: "cgroup v1",
            });
        }
        for one in value.split('\n') {
            let one = line(&field, one)?;
            if !one.is_empty() {
                let partition = key == PARTITION;
                if partition && !PARTITIONS.contains(&one) {
                    let reason = format!("is not one of {}", PARTITIONS.join(", "));
                    return Err(refuse(&field, one, reason));
                }
                let write = write(&field, controller, key, one);
                planner.write(Write { may_be_invalid: partition, ..write });
            }
        }
    }
    Ok(())
}

/// The part of a file's name before the first dot, if it is such a name.
fn controller(key: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let (controller, rest) = key.split_once('.')?;
    let fine = !controller.is_empty() && !rest.is_empty() && !key.contains("..") && key.chars().all(plain);
    fine.then_some(controller)
}
