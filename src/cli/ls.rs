//! `ownproc ls`: registered containers, and every init of a pid namespace that the host sees.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::args::LsArgs;
use super::failure::Failure;
use super::host::Look;
use super::output::{self, NONE};
use super::runtime::identify;
use super::survey::{self, Init, ViewState};
use super::target::Target;
use crate::attach::mounts;
use crate::control::{Client, ContainerInfo};
use crate::model::{Bytes, HostPid};
use crate::readings;
use crate::view;

const HEADERS: [&str; 7] = ["NAME", "SOURCE", "PID", "CPUS", "MEMORY", "GROUP", "VIEW"];
/// Ids of 64 digits are cut to this in the table, as container managers do.
const SHORT_ID: usize = 12;
/// How long a daemon may take to answer before it counts as dead.
const PATIENCE: Duration = Duration::from_millis(500);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: Option<String>,
    source: Option<String>,
    pid: HostPid,
    registered: bool,
    #[serde(flatten)]
    limits: Limits,
    group: String,
    view: ViewState,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Limits {
    /// In thousandths of a CPU.
    millicpus: Option<u64>,
    #[serde(rename = "memory_bytes")]
    memory: Option<Bytes>,
}

#[derive(Serialize)]
struct Document<'a> {
    daemon: Option<&'a str>,
    containers: &'a [Row],
}

pub(super) fn run(args: &LsArgs) -> Result<(), Failure> {
    let look = Look::take(args.mount.paths())?;
    let living = living_devices();
    let rows =
        rows(&look.registered, &look.inits, |target| limits(&look, target), |pid| view_of(pid, &living));
    if args.format.json {
        let daemon = look.client.as_ref().map(|client| client.hello().build.as_str());
        return output::json(&Document { daemon, containers: &rows });
    }
    let cells: Vec<[String; 7]> = rows.iter().map(|row| row.cells(args.format.bytes)).collect();
    output::table(HEADERS, &cells, args.format)
}

/// Registered containers by name, then the others by pid.
fn rows(
    registered: &[ContainerInfo],
    inits: &[Init],
    limits: impl Fn(&Target) -> Limits,
    view: impl Fn(HostPid) -> ViewState,
) -> Vec<Row> {
    let group_of = |pid: HostPid| inits.iter().find(|init| init.pid == pid).map(|init| init.cgroup.as_str());
    let row = |name: Option<String>, target: &Target, pid: HostPid, group: &str| {
        let managed = identify(group);
        let registered = name.is_some();
        let source = managed.as_ref().map(|managed| managed.source.to_owned());
        Row {
            source: source.or_else(|| registered.then(|| "ownproc".to_owned())),
            name: name.or_else(|| managed.map(|managed| managed.name)),
            pid,
            registered,
            limits: limits(target),
            group: group.to_owned(),
            view: view(pid),
        }
    };
    let mut rows: Vec<Row> = registered
        .iter()
        .map(|info| {
            let recorded = info.groups.first().map(|path| path.to_string_lossy().into_owned());
            let current = group_of(info.pid).map(|text| survey::main_group(text).to_owned());
            let group = current.or(recorded).unwrap_or_else(|| "/".to_owned());
            row(Some(info.name.to_string()), &Target::Registered(info.clone()), info.pid, &group)
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows.extend(
        inits
            .iter()
            .filter(|init| !registered.iter().any(|info| info.pid == init.pid))
            .map(|init| row(None, &Target::Process(init.pid), init.pid, survey::main_group(&init.cgroup))),
    );
    rows
}

fn limits(look: &Look, target: &Target) -> Limits {
    let Some(contained) = look.contained(target) else { return Limits::default() };
    let memory = readings::memory(&contained.subject, &look.host)
        .map(|(reading, meminfo)| view::memory::effective_memory_limit(&reading.levels, &meminfo).value);
    let cpus =
        readings::cpus(&contained.subject, &look.host, &contained.policies()).map(|(reading, shown)| {
            let mask = (shown.mask.len() as u64).saturating_mul(1000);
            let quota = view::cpu::binding_quota(&reading.levels);
            quota.map_or(mask, |(_, quota)| quota.millicpus().min(mask))
        });
    Limits { millicpus: cpus.ok(), memory: memory.ok() }
}

impl Row {
    fn cells(&self, bytes: bool) -> [String; 7] {
        let none = || NONE.to_owned();
        let name = self.name.as_deref().map_or_else(none, |name| {
            let id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            name.chars().take(if id { SHORT_ID } else { usize::MAX }).collect()
        });
        [
            name,
            self.source.clone().unwrap_or_else(none),
            self.pid.to_string(),
            self.limits.millicpus.map_or_else(none, output::cpus),
            self.limits.memory.map_or_else(none, |size| output::size(size, bytes)),
            self.group.clone(),
            self.view.name().to_owned(),
        ]
    }
}

/// What lies over the process's `/proc/meminfo`.
fn view_of(pid: HostPid, living: &[String]) -> ViewState {
    let Ok(text) = std::fs::read(format!("/proc/{pid}/mountinfo")) else { return ViewState::No };
    match survey::bound(&mounts::parse(&text), living) {
        // The daemon may have its mount point in a mount namespace that is not ours.
        ViewState::Dead if answers(format!("/proc/{pid}/root/proc/meminfo").into()) => ViewState::Bound,
        state => state,
    }
}

/// Whether a file can be opened, that is whether its daemon answers, within [`PATIENCE`].
fn answers(path: PathBuf) -> bool {
    let (sender, receiver) = std::sync::mpsc::channel();
    let opened = std::thread::Builder::new().spawn(move || sender.send(std::fs::File::open(path).is_ok()));
    opened.is_ok() && receiver.recv_timeout(PATIENCE).unwrap_or(false)
}

/// The devices of our mounts on this host whose daemons answer.
fn living_devices() -> Vec<String> {
    let Ok(text) = std::fs::read("/proc/self/mountinfo") else { return Vec::new() };
    mounts::parse(&text)
        .into_iter()
        .filter(|mount| mount.is_ownproc() && !mount.point.starts_with(Path::new("/proc")))
        .filter(|mount| Client::connect(&mount.point).is_ok())
        .map(|mount| mount.device)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::survey::tests::process;
    use crate::model::{ContainerName, Nsec, Policies};

    #[test]
    fn registered_first_then_every_other_init() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef".repeat(4);
        process(dir.path(), 7, "7", "0::/x\n");
        process(dir.path(), 10, "10\t1", &format!("0::/system.slice/docker-{id}.scope\n"));
        process(dir.path(), 20, "20\t1", "3:memory:/ownproc/web\n0::/\n");
        process(dir.path(), 40, "40\t1", "0::/\n");
        let inits = survey::inits(dir.path()).unwrap();
        let info = |name: &str, pid: i32| ContainerInfo {
            name: ContainerName::new(name).unwrap(),
            pid: HostPid::new(pid).unwrap(),
            slot: 1,
            groups: vec!["/sys/fs/cgroup/memory/kept".into()],
            policies: Policies::default(),
            start: Nsec(0),
        };
        // 30 shares our pid namespace, so that it is no init.
        let registered = [info("web", 20), info("plain", 30)];
        let limits = |target: &Target| match target {
            Target::Registered(_) => Limits { millicpus: Some(1500), memory: Some(Bytes(256 << 20)) },
            _ => Limits::default(),
        };
        let view = |pid: HostPid| if pid.get() == 20 { ViewState::Bound } else { ViewState::No };
        let rows = rows(&registered, &inits, limits, view);
        let cells: Vec<String> = rows.iter().map(|row| row.cells(false).join(" ")).collect();
        assert_eq!(
            cells,
            [
                "plain ownproc 30 1.5 256M /sys/fs/cgroup/memory/kept no".to_owned(),
                "web ownproc 20 1.5 256M /ownproc/web bound".to_owned(),
                format!("0123456789ab docker 10 - - /system.slice/docker-{id}.scope no"),
                "- - 40 - - / no".to_owned(),
            ]
        );
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[1]["memory_bytes"], 256 << 20);
        assert_eq!(json[2]["name"], id.as_str());
        assert_eq!(json[3]["millicpus"], serde_json::Value::Null);
        assert_eq!(json[1]["view"], "bound");
    }
}
