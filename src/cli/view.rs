//! `ownproc view TARGET [KEY=VALUE]...`: the policies of a container's view, and their change.

use serde::Serialize;

use super::args::ViewArgs;
use super::failure::{self, Failure};
use super::host::Look;
use super::output;
use super::target::Target;
use crate::config::{Origin, Setting};
use crate::control::{Client, ControlError, RefusalKind, ShowTarget, ViewInfo};
use crate::model::{Policy, PolicyChange, PolicyKey, UptimePolicy};

const HEADERS: [&str; 3] = ["KEY", "VALUE", "FROM"];

#[derive(Serialize)]
struct Document<'a> {
    target: &'a str,
    #[serde(flatten)]
    view: &'a ViewInfo,
}

pub(super) fn run(args: &ViewArgs) -> Result<(), Failure> {
    // What is wrong with the words is said before anything is looked for.
    let changes = PolicyChange::parse_all(&args.changes).map_err(Failure::error)?;
    let client = Client::at(args.mount.paths()).map_err(|error| failure::not_running(&error))?;
    let look = Look::take(args.mount.paths())?;
    let target = look.find(&args.target)?;
    let refused = |error: ControlError| refused(error, &args.target, &client);
    let mut view = client.view(target.ask()).map_err(refused)?;
    if !changes.is_empty() {
        let Some(name) = &view.container else {
            return Err(Failure::Error(format!(
                "{} is not registered, so it has no choices of its own: `ownproc-run launch --view` gives a container \
                 some, [defaults] of the configuration is for those that nobody registered",
                args.target
            )));
        };
        view = client.choose(name, changes).map_err(refused)?;
    }
    if args.format.json {
        output::json(&Document { target: &args.target, view: &view })?;
    } else {
        let rows: Vec<[String; 3]> = view.settings.iter().map(cells).collect();
        output::table(HEADERS, &rows, args.format)?;
    }
    let host = |setting: &Setting| {
        setting.key == PolicyKey::Uptime.name() && setting.value == UptimePolicy::Host.name()
    };
    if view.time_namespace && view.settings.iter().any(host) {
        output::complain(&format!(
            "note: {} has a time namespace, so its uptime is that of the namespace all the same",
            args.target
        ));
    }
    Ok(())
}

/// KEY, VALUE, FROM.
pub(super) fn cells(setting: &Setting) -> [String; 3] {
    let from = match &setting.origin {
        Origin::Container => "container".to_owned(),
        Origin::Config { file, line, section } => format!("{file}:{line} [{section}]"),
        Origin::Flag => format!("serve --{}", setting.key),
        Origin::Default => PolicyChange::DEFAULT.to_owned(),
    };
    [setting.key.clone(), setting.value.clone(), from]
}

/// A daemon that is older than the question does not understand it.
pub(super) fn refused(error: ControlError, target: &str, client: &Client) -> Failure {
    let hello = client.hello();
    match error {
        ControlError::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            Failure::NoTarget(format!("{target}: {}", refusal.message))
        }
        ControlError::Refused(refusal)
            if refusal.kind == RefusalKind::Malformed && hello.build != crate::control::build_id() =>
        {
            Failure::Error(format!(
                "the daemon of {} (pid {}, build {}) is of another build and does not know this request; end its \
                 containers and start it anew",
                hello.mount.display(),
                hello.pid,
                hello.build
            ))
        }
        ControlError::Refused(refusal) => Failure::Error(format!("{target}: {}", refusal.message)),
        other => Failure::error(other),
    }
}

impl Target {
    /// The same in the words of the control socket.
    pub(super) fn ask(&self) -> ShowTarget {
        match self {
            Self::Registered(info) => ShowTarget::Name(info.name.clone()),
            Self::Process(pid) => ShowTarget::Pid(*pid),
            Self::Group(dirs) => ShowTarget::Group(dirs.first().cloned().unwrap_or_default()),
        }
    }
}
