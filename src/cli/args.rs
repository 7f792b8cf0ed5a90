//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::control::Paths;
use crate::model::{DaemonChoices, PolicyError, PolicyKey};

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
    /// Give running containers the virtual files, without a restart
    Attach(AttachArgs),
    /// Take the virtual files away from running containers
    Detach(DetachArgs),
    /// Print the bytes that a container reads from a virtual file
    Show(ShowArgs),
    /// Show the policies of a container's view and where they come from, or change them
    View(ViewArgs),
    /// Show the configuration in force, or check a file
    Config(ConfigArgs),
    /// Look for what is wrong, and say what to do
    Doctor(DoctorArgs),
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
    /// Let programs write triggers to proc/pressure/* and poll them for POLLPRI, as on the kernel's own files
    ///
    /// The mount is writable then (writes to all other files are still refused), and the kernel asks the daemon for a
    /// file's attributes at the first fstat after each read of it: one more round trip.
    #[arg(long)]
    pub psi_triggers: bool,
    /// Which process of the daemon this one is: given by the daemon to itself
    #[arg(long, hide = true, default_value = "holder")]
    pub role: crate::session::Role,
    /// Behave as on a kernel that cannot send requests again
    #[arg(long, hide = true)]
    pub no_resend: bool,
    /// Read the policies from this file, and again at SIGHUP [default: /etc/ownproc/config.toml where it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub policies: PolicyArgs,
}

/// The policies of a daemon: these go before `[defaults]` of the configuration, after its sections for names and
/// what a container chose itself.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Policies, for containers that have not chosen")]
pub struct PolicyArgs {
    /// CPUs shown: as many as the quota fills, or the whole cpuset
    #[arg(long, value_name = "quota|cpuset", hide_possible_values = true, value_parser = values(PolicyKey::Cpus))]
    pub cpus: Option<String>,
    /// Numbers of the CPUs: the kernel's, or from 0
    #[arg(long, value_name = "physical|compact", hide_possible_values = true, value_parser = values(PolicyKey::Numbering))]
    pub numbering: Option<String>,
    /// Whether swap is shown
    #[arg(long, value_name = "show|hide", hide_possible_values = true, value_parser = values(PolicyKey::Swap))]
    pub swap: Option<String>,
    /// Uptime outside a time namespace
    #[arg(long, value_name = "container|host", hide_possible_values = true, value_parser = values(PolicyKey::Uptime))]
    pub uptime: Option<String>,
    /// intr, ctxt and softirq of stat
    #[arg(long, value_name = "zero|host", hide_possible_values = true, value_parser = values(PolicyKey::Counters))]
    pub counters: Option<String>,
    /// What readers outside the daemon's pid namespace get: the host's files, or an error
    #[arg(long, value_name = "host|error", hide_possible_values = true, value_parser = values(PolicyKey::OnUnreadable))]
    pub on_unreadable: Option<String>,
}

impl PolicyArgs {
    /// What was chosen.
    pub fn choices(&self) -> Result<DaemonChoices, PolicyError> {
        let mut choices = DaemonChoices::default();
        for (key, value) in [
            (PolicyKey::Cpus, &self.cpus),
            (PolicyKey::Numbering, &self.numbering),
            (PolicyKey::Swap, &self.swap),
            (PolicyKey::Uptime, &self.uptime),
            (PolicyKey::Counters, &self.counters),
            (PolicyKey::OnUnreadable, &self.on_unreadable),
        ] {
            if let Some(value) = value {
                choices.set(key, value)?;
            }
        }
        Ok(choices)
    }
}

fn values(key: PolicyKey) -> clap::builder::PossibleValuesParser {
    key.values().into()
}

/// `view`.
#[derive(Debug, ClapArgs)]
pub struct ViewArgs {
    /// Whose
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Change these at once; KEY=default takes the container's own choice back
    #[arg(value_name = "KEY=VALUE")]
    pub changes: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// `config`.
#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    /// Check a file instead, as `serve --config FILE` would; no daemon is needed
    #[arg(long, value_name = "FILE", conflicts_with = "mount")]
    pub check: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// `doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
    /// Only whether a file opens, for the command itself
    #[arg(long, hide = true)]
    pub probe: Vec<String>,
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

/// `attach`.
#[derive(Debug, ClapArgs)]
pub struct AttachArgs {
    /// Whose files
    #[arg(value_name = "TARGET", required_unless_present_any = ["all", "repair"])]
    pub targets: Vec<String>,
    /// Every container that `ownproc ls` lists
    #[arg(long, conflicts_with = "targets")]
    pub all: bool,
    /// Only replace mounts whose daemon is gone, wherever they lie [without TARGET: in every container]
    #[arg(long)]
    pub repair: bool,
    /// Also where somebody else's file lies, such as that of LXCFS
    #[arg(long, conflicts_with = "repair")]
    pub replace: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mount: MountArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub format: Format,
}

/// `detach`.
#[derive(Debug, ClapArgs)]
pub struct DetachArgs {
    /// Whose files
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    pub targets: Vec<String>,
    /// Every container that `ownproc ls` lists
    #[arg(long, conflicts_with = "targets")]
    pub all: bool,
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
    /// meminfo, pressure/cpu, ..., or a path such as sys/devices/system/cpu/online; `ls` below the mount point lists all
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
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|value| (0.0..=31_536_000.0).contains(value))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds between 0 and 31536000".to_owned())
}
