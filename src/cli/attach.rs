//! `ownproc attach`: the virtual files into containers that run.

use std::path::Path;

use super::args::AttachArgs;
use super::failure::Failure;
use super::host::Known;
use super::output;
use super::running::{self, Chosen, Row};
use crate::attach::report::{Action, State};
use crate::attach::{Namespace, Order, mounts};
use crate::control::{Client, Paths, ShowTarget};
use crate::model::{HostPid, Policy, PolicyKey, UptimePolicy};

pub(super) fn run(args: &AttachArgs) -> Result<(), Failure> {
    let paths = args.mount.paths();
    let client = Client::at(paths.clone()).map_err(Failure::error)?;
    let action = match args.repair {
        true => Action::Repair,
        false => Action::Attach { replace: args.replace },
    };
    let order = Order {
        action,
        device: Some(device(&paths)?),
        daemon: HostPid::new(client.hello().pid),
        mount: paths.mount,
        name: None,
    };
    let known = Known::take(Some(&client))?;
    let selection = running::select(&known, &args.targets)?;
    let mut rows = Vec::new();
    let mut aged = Vec::new();
    for chosen in &selection.chosen {
        let mut row = running::enter(chosen, &order)?;
        check(&client, &mut row);
        if shows_age(&client, chosen, &row) {
            aged.push(row.label.clone());
        }
        rows.push(row);
    }
    let told =
        running::tell(if args.repair { "repair" } else { "attach" }, &rows, selection.hosts, args.format);
    if !aged.is_empty() {
        output::complain(&format!(
            "{}: without a time namespace /proc/uptime is the container's age but btime the host's, so that `ps -o etime` \
             and %CPU are wrong there; the policy uptime = host shows the host's (SEMANTICS.md, T2 to T4)",
            running::names(&aged)
        ));
    }
    told
}

/// `MAJ:MIN` of the daemon's mount.
pub(super) fn device(paths: &Paths) -> Result<String, Failure> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| Failure::Error(format!("/proc/self/mountinfo: {error}")))?;
    let table = mounts::parse(&text);
    mounts::visible(&table, &paths.mount)
        .filter(|mount| mount.is_ownproc() && mount.point == paths.mount && mount.root == Path::new("/"))
        .map(|mount| mount.device.clone())
        .ok_or_else(|| {
            Failure::Error(format!(
                "the daemon of {0} answers but its mount is not to be seen here; run this in its mount namespace, where {0} is mounted",
                paths.mount.display()
            ))
        })
}

/// What was read back must be what the daemon says that this container is shown.
fn check(client: &Client, row: &mut Row) {
    let (Some(read), Some(name)) = (row.report.read_back_kib, &row.name) else { return };
    // Through the top-level tree the child reads its own view: there is nothing to compare.
    let Ok(shown) = client.show(ShowTarget::Name(name.clone()), "proc/meminfo".to_owned()) else { return };
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let total = shown.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    if total.and_then(|total| total.trim().parse().ok()) != Some(read) {
        row.report.failure = Some(format!(
            "/proc/meminfo there holds MemTotal {read} kB, but the daemon says {}",
            total.unwrap_or("nothing").trim()
        ));
    }
}

/// Whether its uptime is the container's age, in a place where the kernel's clocks are the host's.
fn shows_age(client: &Client, chosen: &Chosen, row: &Row) -> bool {
    let bound = row.report.files.iter().any(|file| {
        file.path == Path::new("/proc/uptime")
            && matches!(file.state, State::Attached | State::Repaired | State::Replaced(_))
    });
    let Ok(own) = Namespace::own("time") else { return false };
    if !bound || chosen.subject.namespace("time").is_ok_and(|namespace| namespace != own) {
        return false;
    }
    let target = row.name.clone().map_or(ShowTarget::Pid(row.pid), ShowTarget::Name);
    let host = UptimePolicy::Host.name();
    client.view(target).is_ok_and(|view| {
        view.settings.iter().any(|setting| setting.key == PolicyKey::Uptime.name() && setting.value != host)
    })
}
