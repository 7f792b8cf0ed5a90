//! `ownproc serve`: mount and serve, in the foreground.

use super::args::ServeArgs;
use super::failure::Failure;
use crate::config::ConfigFile;
use crate::control::Paths;
use crate::session::{self, Finish, Options, SessionError};

/// Exit code of a daemon that wants to be started again (EX_TEMPFAIL of sysexits.h): it was told to end while containers use
/// its files, and has left them with systemd for the next start; or its connection was lost, and it can make a new one. Our
/// unit does so, unless somebody asked systemd itself to stop it: else systemd would close what it keeps.
pub const AGAIN: u8 = 75;

pub(super) fn run(args: &ServeArgs) -> Result<std::process::ExitCode, Failure> {
    let given = args.mountpoint.as_deref().or(args.mount.as_deref());
    let options = Options {
        mountpoint: Paths::mount_from(given),
        config: args.config.as_deref().map(ConfigFile::named).unwrap_or_default(),
        flags: args.policies.choices().map_err(Failure::error)?,
        idle_exit: args.idle_exit,
        psi_triggers: args.psi_triggers,
        no_resend: args.no_resend,
        role: args.role,
    };
    let again = std::process::ExitCode::from(AGAIN);
    match session::serve(&options) {
        Ok(Finish::Done) => Ok(std::process::ExitCode::SUCCESS),
        Ok(Finish::Kept) => Ok(again),
        Err(error @ (SessionError::Later(_) | SessionError::Aborted(_))) => {
            super::output::complain(&error.to_string());
            Ok(again)
        }
        Err(SessionError::Config(error)) if error.is_io() => {
            Err(Failure::Error(format!("{error}; `serve --config FILE` names another file")))
        }
        Err(other) => Err(Failure::error(other)),
    }
}
