//! `state`, `list` and `ps`.

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::args::{Format, Global, ListArgs, PsArgs};
use super::store::{Record, Status, Store};
use super::{Doing, OciError, freezer, log};

/// The specification that this runtime follows.
pub const OCI_VERSION: &str = "1.2.0";

/// The state document of the OCI runtime specification, with runc's further fields.
pub fn state(record: &Record, status: Status) -> Value {
    let stopped = status == Status::Stopped;
    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "id": record.id,
        "status": status.name(),
        "bundle": record.bundle,
        "rootfs": record.spec.root().as_ref().map(|root| record.bundle.join(root.path())),
        "created": log::rfc3339(record.created),
        "owner": owner(),
    });
    if record.pid != 0 {
        document["pid"] = json!(if stopped { 0 } else { record.pid });
    }
    if let Some(annotations) = record.spec.annotations() {
        document["annotations"] = json!(annotations);
    }
    document
}

/// Whose containers these are: those of `--root`, which is the caller's alone. Asked once, so that a process in a user
/// namespace knows what its maker was called.
pub fn owner() -> &'static str {
    static OWNER: OnceLock<String> = OnceLock::new();
    OWNER.get_or_init(|| {
        let uid = nix::unistd::geteuid();
        if uid.is_root() {
            return "root".to_owned(); // to ask the system takes half a millisecond of each start
        }
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        user.map_or_else(|| uid.to_string(), |user| user.name)
    })
}

/// Prints, and does without where nobody reads any more.
pub fn print(text: &str) -> Result<(), OciError> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).doing("write to stdout"),
        _ => Ok(()),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// `state`.
pub fn show(global: &Global, id: &str) -> Result<(), OciError> {
    let entry = Store::open(&global.root)?.look(id)?;
    let record = entry.read()?;
    print(&pretty(&state(&record, entry.status(&record))))
}

/// `list`.
pub fn list(global: &Global, args: &ListArgs) -> Result<(), OciError> {
    let store = Store::open(&global.root)?;
    let mut found = Vec::new();
    for id in store.ids()? {
        // deleted meanwhile
        let Ok(entry) = store.look(&id) else { continue };
        let Ok(record) = entry.read() else { continue };
        found.push(state(&record, entry.status(&record)));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if args.quiet {
        return found.iter().try_for_each(|one| print(&text(&one["id"])));
    }
    if args.format == Format::Json {
        return print(&Value::Array(found).to_string());
    }
    let columns = ["id", "pid", "status", "bundle", "created", "owner"];
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|name| name.to_uppercase()).collect()];
    rows.extend(found.iter().map(|one| columns.iter().map(|name| text(&one[*name])).collect()));
    for row in &rows {
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 2;
        let cells =
            row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        print(cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

/// `ps`.
pub fn ps(global: &Global, args: &PsArgs) -> Result<(), OciError> {
    let entry = Store::open(&global.root)?.look(&args.id)?;
    let record = entry.read()?;
    let pids = freezer::processes(&record.groups)?;
    if args.format == Format::Json {
        return print(&json!(pids).to_string());
    }
    let options = if args.options.is_empty() { vec!["-ef".to_owned()] } else { args.options.clone() };
    let output = Command::new("ps").args(&options).output().doing("run ps (is procps installed?)")?;
    if !output.status.success() {
        return Err(OciError::Setup(format!(
            "ps {}: {}",
            options.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let Some(column) = head.split_whitespace().position(|word| word == "PID") else {
        return Err(OciError::Setup(format!("ps {} prints no column PID: add it", options.join(" "))));
    };
    print(head)?;
    let ours = |line: &&str| {
        let number = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        number.is_some_and(|number| pids.contains(&number))
    };
    lines.filter(ours).try_for_each(print)
}
