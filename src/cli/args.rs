//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::control::Paths;

/// Gives every container its own truthful /proc.
#[derive(Debug, Parser)]
#[command(
    name = "ownproc",
    version,
    after_help = "Exit codes: 0 done, 1 findings, 2 usage or I/O error, 3 no such target.\n\
                  TARGET is a container's name or the beginning of its id, a pid, a group's path or a systemd unit; \
                  name:X, pid:X and group:X force a kind."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount and serve the virtual files, in the foreground
    Serve(ServeArgs),
    /// Unmount and end the daemon of a mount point
    Umount(UmountArgs),
    /// List containers, registered or not, with their effective limits
    Ls(LsArgs),
    /// Show the effective limits of a container, and what imposes them
    Limits(LimitsArgs),
    /// Print the bytes that a container reads from a virtual file
    Show(ShowArgs),
}

/// Which daemon.
#[derive(Debug, ClapArgs)]
pub struct MountArg {
    /// Mount point of the daemon to talk to [default: $OWNPROC_MOUNT, else /var/lib/ownproc]
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
}

impl MountArg {
    /// The daemon's files.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths::new(&Paths::mount_from(self.mount.as_deref()))
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct Format {
    /// Print JSON, with a version field
    #[arg(long)]
    pub json: bool,
    /// Leave the headings out
    #[arg(long)]
    pub no_headers: bool,
    /// Print sizes in plain bytes
    #[arg(long)]
    pub bytes: bool,
}

/// `serve`.
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Where to mount [default: $OWNPROC_MOUNT, else /var/lib/ownproc]
    pub mountpoint: Option<PathBuf>,
    /// The same as MOUNTPOINT
    #[arg(long, value_name = "DIR", conflicts_with = "mountpoint")]
    pub mount: Option<PathBuf>,
    /// Unmount and end this many seconds after the last container went
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub idle_exit: Option<Duration>,
}

/// `umount`.
#[derive(Debug, ClapArgs)]
pub struct UmountArgs {
    /// Mount point [default: $OWNPROC_MOUNT, else /var/lib/ownproc]
    pub mountpoint: Option<PathBuf>,
    /// The same as MOUNTPOINT
    #[arg(long, value_name = "DIR", conflicts_with = "mountpoint")]
    pub mount: Option<PathBuf>,
    /// Also while containers hold files: their /proc files break
    #[arg(long)]
    pub force: bool,
}

/// `ls`.
#[derive(Debug, ClapArgs)]
pub struct LsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// `limits`.
#[derive(Debug, ClapArgs)]
pub struct LimitsArgs {
    /// Whose
    #[arg(value_name = "TARGET")]
    pub target: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// `show`.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// meminfo, cpuinfo, stat, uptime, or a path such as sys/devices/system/cpu/online
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Who would read
    #[arg(value_name = "TARGET")]
    pub target: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    /// Print JSON, with a version field
    #[arg(long)]
    pub json: bool,
}

/// Whole or fractional seconds, up to a year.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|value| (0.0..=31_536_000.0).contains(value))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds between 0 and 31536000".to_owned())
}
