//! `ownproc serve`: mount and serve, in the foreground.

use super::args::ServeArgs;
use super::failure::Failure;
use crate::control::Paths;
use crate::session::{self, Options};

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let given = args.mountpoint.as_deref().or(args.mount.as_deref());
    let options = Options { mountpoint: Paths::mount_from(given), idle_exit: args.idle_exit };
    session::serve(&options).map_err(Failure::error)
}
