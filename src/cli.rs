//! The command line: one file per command, and what they share.
//!
//! Exit codes: 0 done, 1 done and there are findings, 2 wrong usage or an I/O error, 3 no such target. A reader
//! that closes our output early (`| head`) is no error.

pub mod args;
pub mod failure;
pub mod output;

mod attach;
mod config;
mod detach;
mod doctor;
mod host;
mod limits;
mod ls;
mod running;
mod runtime;
mod serve;
mod show;
mod survey;
mod target;
mod umount;
mod view;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

/// Runs the command line of `ownproc`.
#[must_use]
pub fn main() -> ExitCode {
    abort_on_panic();
    run(Args::try_parse())
}

/// From now on a panic of any thread ends the process, also in builds whose panics unwind.
///
/// A thread that unwinds would leave a request unanswered for ever.
pub fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

fn run(args: Result<Args, clap::Error>) -> ExitCode {
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            return usage(&error);
        }
    };
    env_logger::Builder::from_env(
        env_logger::Env::default().filter_or("OWNPROC_LOG", "warn,fuser=error,fuser::reply=off"),
    )
    .init();
    let done = match &args.command {
        Command::Doctor(args) if !args.probe.is_empty() => return doctor::probe(&args.probe),
        Command::Doctor(args) => as_root("doctor").and_then(|()| doctor::run(args)),
        Command::Serve(args) => match serve::run(args) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Umount(args) => umount::run(args),
        Command::Ls(args) => as_root("ls").and_then(|()| ls::run(args)),
        Command::Limits(args) => as_root("limits").and_then(|()| limits::run(args)),
        Command::Attach(args) => as_root("attach").and_then(|()| attach::run(args)),
        Command::Detach(args) => as_root("detach").and_then(|()| detach::run(args)),
        Command::Show(args) => as_root("show").and_then(|()| show::run(args)),
        Command::View(args) => as_root("view").and_then(|()| view::run(args)),
        Command::Config(args) if args.check.is_some() => config::run(args),
        Command::Config(args) => as_root("config").and_then(|()| config::run(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// All parsers of this room over one text, for fuzzing: none panics, whatever a container or a user wrote.
#[doc(hidden)]
pub fn parse_any(text: &str) {
    let mounts = crate::attach::mounts::parse(text.as_bytes());
    let _ = survey::bound(&mounts, &["0:7".to_owned()]);
    let _ = mounts.iter().filter_map(|mount| crate::attach::mounts::served_path(&mount.root)).count();
    let _ = (survey::main_group(text), survey::init_depth(text));
    let _ = (runtime::identify(text), args::seconds(text));
}

/// Without root neither the daemon nor other users' namespaces can be asked, and the answer would be half of it.
fn as_root(command: &str) -> Result<(), Failure> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failure::error(format!(
            "{command} needs root, to ask the daemon and to look at other users' processes; try sudo"
        ))),
    }
}

/// Help and the version go to stdout with code 0. A wrong usage is one line on stderr with code 2.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let code = if error.use_stderr() { 2 } else { 0 };
        return match error.print() {
            Err(io) if io.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(2),
            _ => ExitCode::from(code),
        };
    }
    output::complain(&usage_line(error, "ownproc"));
    ExitCode::from(2)
}

/// A usage error of clap's in one line, with the way to the help of `program`.
#[must_use]
pub fn usage_line(error: &clap::Error, program: &str) -> String {
    let text = error.to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        // Clap's advice how to pass an unknown flag on as a value is never what was meant.
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"))
        .collect();
    let said = said.join("; ");
    format!("{}; see `{program} --help`", said.strip_prefix("error: ").unwrap_or(&said))
}
