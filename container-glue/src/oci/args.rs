//! The command line that OCI runtimes share: the verbs and flags of runc and crun, as they are typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The default of `--root`; root's alone.
pub const DEFAULT_ROOT: &str = "/run/ownproc-run";

/// Flags before the verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Directory of the containers' states.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    pub root: PathBuf,
    /// File that errors are written to as well.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How they are written there.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Say more.
    #[arg(long)]
    pub debug: bool,
    /// cgroupsPath is SLICE:PREFIX:NAME: systemd makes that scope, and is told of the limits.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// crun's spelling: cgroupfs or systemd.
    #[arg(long, value_enum, hide = true)]
    pub cgroup_manager: Option<CgroupManager>,
    /// Containers of an ordinary user: auto and true where the caller is one, false for none.
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = ["true", "false", "auto"]
    )]
    pub rootless: Option<String>,
}

impl Global {
    /// Whether cgroupsPath is written in systemd's way.
    pub fn of_systemd(&self) -> bool {
        self.systemd_cgroup || self.cgroup_manager == Some(CgroupManager::Systemd)
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="..." level=error msg="..."`
    Text,
    /// One object a line, as podman and containerd read it.
    Json,
}

/// `--cgroup-manager`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the words themselves
pub enum CgroupManager {
    Cgroupfs,
    Systemd,
}

/// What `create` and `run` have in common.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Directory that holds config.json.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket that gets the terminal's master side; needed where the process has a terminal.
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File that gets the number of the container's process.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Enter the root by moving its mount instead of pivot_root (a root in an initramfs).
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass on this many descriptors beside the first three.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Name of the container.
    pub id: String,
}

/// `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// As for `create`.
    #[command(flatten)]
    pub create: CreateArgs,
    /// Leave it running and return.
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete it when it has ended.
    #[arg(long)]
    pub keep: bool,
}

/// A verb that needs the name alone.
#[derive(Clone, Debug, Args)]
pub struct OneArgs {
    /// Name of the container.
    pub id: String,
}

/// `kill`.
#[derive(Clone, Debug, Args)]
pub struct KillArgs {
    /// Every process of the container, not its first alone.
    #[arg(short, long)]
    pub all: bool,
    /// Name of the container.
    pub id: String,
    /// TERM, SIGTERM or 15.
    #[arg(default_value = "TERM")]
    pub signal: String,
}

/// `delete`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// Kill it first; one that is not there is no error.
    #[arg(short, long)]
    pub force: bool,
    /// Names of containers.
    #[arg(required = true)]
    pub ids: Vec<String>,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the words themselves
pub enum Format {
    Table,
    Json,
}

/// `list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// Names alone.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `ps`.
#[derive(Clone, Debug, Args)]
pub struct PsArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// Name of the container.
    pub id: String,
    /// Options of ps(1); -ef by default.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// What it uses now, and no more.
    #[arg(long)]
    pub stats: bool,
    /// Time between two lines of what it uses: 5s, 100ms, 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
    /// Name of the container.
    pub id: String,
}

/// `ns`.
#[derive(Clone, Debug, Args)]
pub struct NsArgs {
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// Name of a container, or number of a process.
    pub a: String,
    /// The other one.
    pub b: String,
}

/// `exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Unix socket that gets the terminal's master side.
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Directory to start in.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set a variable.
    #[arg(short, long, value_name = "K=V")]
    pub env: Vec<String>,
    /// With a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Accepted for Docker's sake: the process always has the caller's input.
    #[arg(short, long)]
    pub interactive: bool,
    /// uid or uid:gid.
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Further groups.
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// File with the `process` object of an OCI configuration.
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Leave it running and return.
    #[arg(short, long)]
    pub detach: bool,
    /// File that gets the number of the process.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// No program started in it gains rights.
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability more than the container's process has.
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Pass on this many descriptors beside the first three.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Also in a container that is paused: it starts when that goes on.
    #[arg(long)]
    pub ignore_paused: bool,
    /// Name of the container.
    pub id: String,
    /// Command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `update`. Bytes, microseconds and numbers as in an OCI configuration.
#[derive(Clone, Debug, Args)]
pub struct UpdateArgs {
    /// File with a `linux.resources` object; - is stdin. What it does not name stays.
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Bytes; -1: no limit.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Memory plus swap, in bytes; -1: no limit.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// Bytes that are kept for it where memory is short.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Microseconds per period; -1: no limit.
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// Share among siblings, 2 to 262144.
    #[arg(long, value_name = "N")]
    pub cpu_share: Option<u64>,
    /// CPUs it may run on.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// NUMA nodes it may take memory from.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; -1: no limit.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Name of the container.
    pub id: String,
}

/// `spec`.
#[derive(Clone, Debug, Args)]
pub struct SpecArgs {
    /// Directory that gets config.json.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
}
