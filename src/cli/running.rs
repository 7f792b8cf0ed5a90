//! Running containers that a command enters: which processes stand for them, and what is said of each.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use super::args::Format;
use super::failure::Failure;
use super::host::Known;
use super::output;
use super::runtime::identify;
use super::survey::{self, Init};
use super::target::Target;
use crate::attach::report::Report;
use crate::attach::{AttachError, Namespace, Order, Subject, carry_out};
use crate::cgroup::deep;
use crate::cgroup::kept::{open_beneath, read_fd};
use crate::control::ContainerInfo;
use crate::host::clocks::ticks_to_nsec;
use crate::host::parse::process;
use crate::model::{ContainerName, HostPid, Nsec};

/// Groups below one are looked at up to this number, and so are the processes in them.
const MOST_GROUPS: usize = 4096;
const MOST_PROCESSES: usize = 1 << 16;
/// Paths that are named where many share one fate.
const NAMED: usize = 4;

/// A process that stands for a container, and is held.
pub(super) struct Chosen {
    /// What it is called in messages.
    pub label: String,
    /// Under which name it is registered.
    pub name: Option<ContainerName>,
    pub subject: Subject,
}

/// How to tell that a number still is the process that was meant, once it is held.
#[derive(Clone, Debug)]
enum Identity {
    /// The number is what was asked for.
    Typed,
    /// It started then.
    Started(Nsec),
    /// It is an init whose `/proc/PID/cgroup` said this.
    Init(String),
    /// It is in this group or below.
    Member(PathBuf),
}

/// Those that TARGETs name; all containers, where there is none.
pub(super) struct Selection {
    pub chosen: Vec<Chosen>,
    /// Inits among all containers whose mounts are the host's.
    pub hosts: usize,
}

/// The processes that stand for the targets, each mount namespace once.
pub(super) fn select(known: &Known, targets: &[String]) -> Result<Selection, Failure> {
    let own = Namespace::own("mnt").map_err(|errno| Failure::Error(format!("/proc/self/ns/mnt: {errno}")))?;
    let mut selection = Selection { chosen: Vec::new(), hosts: 0 };
    if targets.is_empty() {
        // The outermost first: one container can hold any number of others that make us wait, each for its seconds.
        let mut inits: Vec<&Init> = known.inits.iter().collect();
        inits.sort_by_key(|init| init.depth);
        for init in inits {
            let Ok(chosen) = hold(known, init.pid, &Identity::Init(init.cgroup.clone()), None) else {
                continue;
            };
            match chosen.subject.namespace("mnt") {
                Ok(namespace) if namespace == own => selection.hosts += 1,
                _ => add(&mut selection.chosen, chosen),
            }
        }
        return Ok(selection);
    }
    for text in targets {
        for (pid, identity) in processes(known, &known.find(text)?, text, own)? {
            let chosen = hold(known, pid, &identity, Some(text)).map_err(|error| match error {
                AttachError::Gone(_) => {
                    Failure::NoTarget(format!("{text}: {error}; `ownproc ls` lists containers"))
                }
                other => Failure::Error(format!("{text}: {other}")),
            })?;
            add(&mut selection.chosen, chosen);
        }
    }
    Ok(selection)
}

fn add(chosen: &mut Vec<Chosen>, one: Chosen) {
    let namespace = |chosen: &Chosen| chosen.subject.namespace("mnt").ok();
    if namespace(&one).is_none() || !chosen.iter().any(|other| namespace(other) == namespace(&one)) {
        chosen.push(one);
    }
}

/// The processes that stand for a target. A group's are the outermost inits in it; where it has none, one process of
/// each mount namespace that is not the host's, as a service of systemd has it.
fn processes(
    known: &Known,
    target: &Target,
    text: &str,
    own: Namespace,
) -> Result<Vec<(HostPid, Identity)>, Failure> {
    let dirs = match target {
        Target::Registered(info) => return Ok(vec![(info.pid, Identity::Started(info.start))]),
        Target::Process(pid) => {
            let init = known.inits.iter().find(|init| init.pid == *pid);
            let typed = text == pid.to_string() || text.starts_with("pid:");
            let identity = match init {
                Some(init) if !typed => Identity::Init(init.cgroup.clone()),
                _ => Identity::Typed,
            };
            return Ok(vec![(*pid, identity)]);
        }
        Target::Group(dirs) => dirs,
    };
    let found = dirs.iter().map(|dir| (dir, members(dir))).find(|(_, pids)| !pids.is_empty());
    let Some((dir, pids)) = found else {
        return Err(Failure::NoTarget(format!("no process is in the group {text}")));
    };
    let inits: Vec<&Init> = known.inits.iter().filter(|init| pids.contains(&init.pid)).collect();
    let outermost = inits.iter().map(|init| init.depth).min();
    let mut chosen: Vec<HostPid> =
        inits.iter().filter(|init| Some(init.depth) == outermost).map(|init| init.pid).collect();
    if chosen.is_empty() {
        let mut seen = vec![own];
        for &pid in &pids {
            let namespace = Subject::open(pid).ok().and_then(|subject| subject.namespace("mnt").ok());
            if let Some(namespace) = namespace.filter(|namespace| !seen.contains(namespace)) {
                seen.push(namespace);
                chosen.push(pid);
            }
        }
    }
    if chosen.is_empty() {
        // All of them share the host's mounts: it is said of one.
        chosen.extend(pids.first());
    }
    Ok(chosen.into_iter().map(|pid| (pid, Identity::Member(dir.clone()))).collect())
}

/// The processes in a cgroup and below it.
fn members(top: &Path) -> Vec<HostPid> {
    let mut list = Members { looked: 0, pids: Vec::new() };
    // one that goes meanwhile has no processes
    let _ = deep::open(top).and_then(|top| deep::walk(&top, &mut list));
    list.pids.sort_unstable();
    list.pids
}

struct Members {
    looked: usize,
    pids: Vec<HostPid>,
}

impl deep::Visit for Members {
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> ControlFlow<()> {
        self.looked += 1;
        if self.looked > MOST_GROUPS || self.pids.len() > MOST_PROCESSES {
            return ControlFlow::Break(());
        }
        let file = open_beneath(cgroup, "cgroup.procs", OFlags::RDONLY);
        let _ = file.and_then(|file| {
            read_fd(file.as_fd(), |text| {
                let text = String::from_utf8_lossy(text);
                self.pids.extend(text.lines().filter_map(|line| HostPid::new(line.parse().ok()?)));
            })
        });
        ControlFlow::Continue(())
    }
}

/// Takes hold of a process, then looks whether it still is the one that was meant.
fn hold(known: &Known, pid: HostPid, identity: &Identity, text: Option<&str>) -> Result<Chosen, AttachError> {
    let subject = Subject::open(pid)?;
    if !is_still(&subject, identity) {
        return Err(AttachError::Gone(pid));
    }
    let name = registered(known, &subject).map(|info| info.name.clone());
    let group = subject.read("cgroup").unwrap_or_default();
    let managed = identify(survey::main_group(&String::from_utf8_lossy(&group)));
    let label = match (&name, managed, text) {
        (Some(name), _, _) => name.to_string(),
        (None, Some(managed), _) => managed.name,
        (None, None, Some(text)) => text.to_owned(),
        (None, None, None) => format!("pid:{pid}"),
    };
    Ok(Chosen { label, name, subject })
}

fn is_still(subject: &Subject, identity: &Identity) -> bool {
    let read = |file: &str| subject.read(file).unwrap_or_default();
    match identity {
        Identity::Typed => true,
        Identity::Started(start) => {
            process::stat(&read("stat")).is_some_and(|stat| ticks_to_nsec(stat.start) == *start)
        }
        Identity::Init(cgroup) => {
            survey::init_depth(&String::from_utf8_lossy(&read("status"))).is_some()
                && read("cgroup") == cgroup.as_bytes()
        }
        Identity::Member(dir) => members(dir).contains(&subject.pid()),
    }
}

/// The registered container that a process is in: the mounts and the pids of its init.
fn registered<'a>(known: &'a Known, subject: &Subject) -> Option<&'a ContainerInfo> {
    let both = |subject: &Subject| Some((subject.namespace("mnt").ok()?, subject.namespace("pid").ok()?));
    let own = both(subject)?;
    known.registered.iter().find(|info| {
        info.pid == subject.pid() || Subject::open(info.pid).ok().as_ref().and_then(both) == Some(own)
    })
}

/// What was done in one container.
#[derive(Serialize)]
pub(super) struct Row {
    pub label: String,
    pub name: Option<ContainerName>,
    pub pid: HostPid,
    #[serde(flatten)]
    pub report: Report,
}

/// Does it in one container.
pub(super) fn enter(chosen: &Chosen, order: &Order) -> Result<Row, Failure> {
    let order = Order { name: chosen.name.clone(), ..order.clone() };
    let report = carry_out(&order, &chosen.subject).map_err(Failure::error)?;
    Ok(Row { label: chosen.label.clone(), name: order.name, pid: chosen.subject.pid(), report })
}

#[derive(Serialize)]
struct Document<'a> {
    action: &'static str,
    containers: &'a [Row],
    /// Inits among all whose mounts are the host's: nothing was done for them.
    in_host_mounts: usize,
}

const HEADERS: [&str; 6] = ["NAME", "PID", "DONE", "ALREADY", "LEFT", "MS"];

/// Prints what was done; [`Failure::Findings`] where not all of it was.
pub(super) fn tell(action: &'static str, rows: &[Row], hosts: usize, format: Format) -> Result<(), Failure> {
    use crate::attach::report::State;
    if format.json {
        output::json(&Document { action, containers: rows, in_host_mounts: hosts })?;
    } else {
        let cells: Vec<[String; 6]> = rows
            .iter()
            .map(|row| {
                let count = |is: fn(&State) -> bool| row.report.count(is).to_string();
                [
                    row.label.clone(),
                    row.pid.to_string(),
                    count(|state| {
                        matches!(
                            state,
                            State::Attached | State::Repaired | State::Replaced(_) | State::Detached
                        )
                    }),
                    count(|state| matches!(state, State::Already)),
                    count(|state| !state.is_done()),
                    format!("{}.{:03}", row.report.micros / 1000, row.report.micros % 1000),
                ]
            })
            .collect();
        output::table(HEADERS, &cells, format)?;
    }
    for row in rows {
        complaints(row).iter().for_each(|line| output::complain(line));
    }
    if hosts > 0 {
        output::complain(&format!(
            "{hosts} pid namespace(s) share the mounts of the host: there is nothing of their own to change"
        ));
    }
    match rows.iter().filter(|row| !row.report.is_done()).count() {
        0 => Ok(()),
        some => Err(Failure::Findings(format!(
            "{action}: not all could be done in {some} of {} container(s): see above",
            rows.len()
        ))),
    }
}

/// What could not be done, by reason.
fn complaints(row: &Row) -> Vec<String> {
    use crate::attach::report::State;
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for file in &row.report.files {
        let State::Left(why) = &file.state else { continue };
        let path = file.path.display().to_string();
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, paths)) => paths.push(path),
            None => reasons.push((why, vec![path])),
        }
    }
    let said = reasons.into_iter().map(|(why, paths)| {
        let more = paths.len().saturating_sub(NAMED);
        let named = paths.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}: {named}{more}: {why}", row.label)
    });
    said.chain(row.report.failure.iter().map(|why| format!("{}: {why}", row.label))).collect()
}

/// Names of containers for one line, the first few of them.
pub(super) fn names(labels: &[String]) -> String {
    let more = labels.len().saturating_sub(NAMED);
    let named = labels.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::report::{FileReport, State};

    fn own() -> Subject {
        Subject::open(HostPid::new(std::process::id() as i32).unwrap()).unwrap()
    }

    /// A number that was given to another process is not the container that was meant.
    #[test]
    fn who_it_was_is_looked_at_again() {
        let subject = own();
        let start =
            process::stat(&subject.read("stat").unwrap()).map(|stat| ticks_to_nsec(stat.start)).unwrap();
        let group = tempfile::tempdir().unwrap();
        std::fs::create_dir(group.path().join("below")).unwrap();
        std::fs::write(group.path().join("below/cgroup.procs"), format!("1\n{}\n", subject.pid())).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let cgroup = String::from_utf8(subject.read("cgroup").unwrap()).unwrap();
        for (identity, still) in [
            (Identity::Typed, true),
            (Identity::Started(start), true),
            (Identity::Started(Nsec(start.0 + 10_000_000)), false),
            (Identity::Member(group.path().to_owned()), true),
            (Identity::Member(empty.path().to_owned()), false),
            // A test is no init of a pid namespace.
            (Identity::Init(cgroup), false),
        ] {
            assert_eq!(is_still(&subject, &identity), still, "{identity:?}");
        }
    }

    #[test]
    fn reasons_are_told_once() {
        let file = |path: &str, state| FileReport { path: path.into(), state };
        let left = |path: &str| file(path, State::Left("in the way".to_owned()));
        let mut files: Vec<FileReport> = (0..6).map(|n| left(&format!("/proc/{n}"))).collect();
        files.push(file("/proc/a", State::Attached));
        files.push(file("/proc/b", State::Left("other".to_owned())));
        let report = Report { files, failure: Some("gone".to_owned()), ..Report::default() };
        assert!(!report.is_done());
        let row = Row { label: "web".to_owned(), name: None, pid: HostPid::new(7).unwrap(), report };
        assert_eq!(
            complaints(&row),
            [
                "web: /proc/0, /proc/1, /proc/2, /proc/3 and 2 more: in the way",
                "web: /proc/b: other",
                "web: gone"
            ]
        );
        assert_eq!(names(&["a".to_owned(), "b".to_owned()]), "a, b");
    }

    #[test]
    fn each_mount_namespace_once() {
        let chosen = || Chosen { label: "x".to_owned(), name: None, subject: own() };
        let mut all = Vec::new();
        add(&mut all, chosen());
        add(&mut all, chosen());
        assert_eq!(all.len(), 1);
    }
}
