//! `ownproc doctor`: looks at everything that has to be right, and says what is not and what to do. Works without a daemon,
//! and waits for nobody who may not answer.

mod daemon;
mod machine;
mod mounts;
mod probe;

use std::process::ExitCode;

use serde::Serialize;

use super::args::DoctorArgs;
use super::failure::Failure;
use super::host::Known;
use super::output;
use crate::config::ConfigFile;
use crate::control::{Client, ControlError};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and something is to be known or done.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What, for programs: stable.
    check: &'static str,
    level: Level,
    /// What was found.
    message: String,
    /// What to do, where there is something.
    advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), advice: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, message: message.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, message: message.into(), advice: Some(advice.into()) }
    }

    fn cells(&self) -> [String; 3] {
        let text = match &self.advice {
            Some(advice) => format!("{}: {advice}", self.message),
            None => self.message.clone(),
        };
        [self.level.name().to_owned(), self.check.to_owned(), text]
    }
}

/// Names in one line.
const MOST_NAMES: usize = 10;

/// The first of them, and how many more there are.
fn names(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let first = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

#[derive(Serialize)]
struct Document<'a> {
    findings: usize,
    checks: &'a [Check],
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let paths = args.mount.paths();
    let mut checks = machine::checks();
    let client = Client::at(paths.clone());
    checks.push(daemon::running(&client, &paths));
    if let Ok(client) = &client {
        checks.extend(daemon::checks(client));
    }
    checks.push(configuration(&client));
    // Without the daemon's list there is still what /proc says.
    let known = Known::take(client.as_ref().ok()).or_else(|_| Known::take(None))?;
    checks.extend(mounts::checks(&known, client.as_ref().ok(), &paths));
    checks.push(machine::old_states(crate::control::paths::RUN_DIR, &paths));
    let findings = checks.iter().filter(|check| check.level != Level::Ok).count();
    if args.format.json {
        output::json(&Document { findings, checks: &checks })?;
    } else {
        let rows: Vec<[String; 3]> = checks.iter().map(Check::cells).collect();
        output::table(["LEVEL", "CHECK", "WHAT"], &rows, args.format)?;
    }
    match findings {
        0 => Ok(()),
        n => Err(Failure::Findings(format!("{n} finding(s)"))),
    }
}

/// The configuration: what the daemon says of its own, else what a start would say.
fn configuration(client: &Result<Client, ControlError>) -> Check {
    let said = client.as_ref().ok().and_then(|client| client.config().ok());
    match said {
        Some(config) => of_daemon(&config.file.display().to_string(), config.error),
        None => {
            let file = ConfigFile::default();
            let place = file.path().display().to_string();
            match file.load() {
                Ok(Some(_)) => Check::ok("config", format!("{place} can be read")),
                Ok(None) => Check::ok("config", format!("{place} is not there: what is built in counts")),
                Err(error) => Check::fail(
                    "config",
                    error.to_string(),
                    "mend it: `ownproc serve` does not start with it",
                ),
            }
        }
    }
}

fn of_daemon(file: &str, error: Option<String>) -> Check {
    match error {
        None => Check::ok("config", format!("{file} is in force")),
        Some(error) => Check::fail(
            "config",
            format!("what was in force before stays so: {error}"),
            "mend it, then SIGHUP (systemctl reload ownproc)",
        ),
    }
}

/// The child of this command that opens a file which may not answer: see [`probe`].
pub(super) fn probe(arguments: &[String]) -> ExitCode {
    probe::main(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_what_to_do() {
        assert_eq!(Check::ok("fuse", "it is there").cells(), ["ok", "fuse", "it is there"]);
        assert_eq!(Check::warn("a", "odd", "look").cells(), ["warn", "a", "odd: look"]);
        assert!(Level::Fail > Level::Warn && Level::Warn > Level::Ok);
        let json = serde_json::to_value(Check::fail("a", "gone", "get one")).unwrap();
        assert_eq!(json["level"], "fail");
        assert_eq!(json["advice"], "get one");
    }

    #[test]
    fn the_daemon_tells_of_its_configuration() {
        assert_eq!(of_daemon("/x", None).level, Level::Ok);
        let check = of_daemon("/x", Some("/x:3: no such key".to_owned()));
        assert_eq!(check.level, Level::Fail);
        assert!(check.message.ends_with("/x:3: no such key"), "{check:?}");
    }
}
