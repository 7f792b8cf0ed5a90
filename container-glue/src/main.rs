//! `ownproc-run`: starts containers whose `/proc` is their own.
//!
//! `launch`: `args` (what was typed) -> `spec` (checked) -> `preflight` (can this host do it) -> `launch` (an OCI
//! configuration of it) -> `oci::create`, which bundles go through as well; in the container `reaper` is process 1.

mod args;
mod command;
mod daemon;
mod groups;
mod launch;
mod namespaces;
mod oci;
mod pins;
mod preflight;
mod reaper;
mod reexec;
mod rootfs;
mod spec;
mod supervise;
mod sync;
mod title;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Verb};

/// The launcher itself failed (Docker's convention; 126 and 127 are the command's).
pub const LAUNCHER_FAILED: u8 = 125;

/// Verbs that start processes of a container.
const MAKES_PROCESSES: &[&str] = &["launch", "create", "run", "exec"];

fn main() -> ExitCode {
    ownproc::cli::abort_on_panic();
    // before anything that is lost with it: what goes wrong is said by the verb, which tries it again
    if std::env::args_os().any(|word| MAKES_PROCESSES.iter().any(|verb| word == *verb)) {
        let _ = reexec::from_read_only();
    }
    env_logger::Builder::from_env(
        env_logger::Env::default().filter_or("OWNPROC_LOG", "warn,fuser=error,fuser::reply=off"),
    )
    .init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = error.print();
                return ExitCode::from(LAUNCHER_FAILED);
            }
            if !error.use_stderr() {
                let _ = error.print(); // help and version; a closed stdout is no error
                return ExitCode::SUCCESS;
            }
            eprintln!("ownproc-run: {}", ownproc::cli::usage_line(&error, &help_for(std::env::args())));
            return ExitCode::from(LAUNCHER_FAILED);
        }
    };
    match &cli.verb {
        Verb::Launch(args) => {
            title::set(&format!("ownproc-run launch {}", args.name.as_deref().unwrap_or_default()))
        }
        Verb::Exec(args) => title::set(&format!("ownproc-run exec {}", args.id)),
        _ => {}
    }
    let result = match &cli.verb {
        Verb::Launch(args) => launch(&cli.global.root, args),
        Verb::Serve(args) => daemon::serve(args).map_err(|error| error.to_string()),
        verb => {
            return match oci::main(&cli.global, verb) {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    oci::log::error(&cli.global, &error);
                    eprintln!("ownproc-run: {error}");
                    ExitCode::from(1) // as runc does
                }
            };
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("ownproc-run: {message}");
            ExitCode::from(LAUNCHER_FAILED)
        }
    }
}

/// The command whose help says more: that of the verb that was meant, else the one for all.
fn help_for(words: impl Iterator<Item = String>) -> String {
    use clap::CommandFactory;
    let verbs = Cli::command();
    let known =
        |word: &String| verbs.get_subcommands().any(|verb| verb.get_name() == word && !verb.is_hide_set());
    match words.skip(1).find(known) {
        Some(verb) => format!("ownproc-run {verb}"),
        None => "ownproc-run".to_owned(),
    }
}

fn launch(root: &std::path::Path, args: &args::LaunchArgs) -> Result<u8, String> {
    reexec::from_read_only()
        .map_err(|error| format!("cannot run from a read-only mount of its own binary: {error}"))?;
    // a variable that is not UTF-8 is as good as not set
    let caller =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let spec = spec::Spec::new(args, &caller.collect()).map_err(|error| error.to_string())?;
    launch::run(root, &spec).map_err(|error| error.to_string())
}
