//! The command line as it is typed; nothing is checked here beyond its shape (`spec` does that).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::oci::args as oci;

/// Container launcher: limits, namespaces, and a /proc that tells the truth about them.
#[derive(Debug, Parser)]
#[command(name = "ownproc-run", version, about, max_term_width = 110)]
pub struct Cli {
    /// Flags of the OCI runtime.
    #[command(flatten)]
    pub global: crate::oci::args::Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a command in a new container.
    Launch(Box<LaunchArgs>),
    /// Make the container of an OCI bundle; it waits for start.
    Create(oci::CreateArgs),
    /// Let the process of a container that was made run.
    Start(oci::OneArgs),
    /// Make the container of an OCI bundle and run it.
    Run(oci::RunArgs),
    /// Run one more process in a container.
    Exec(Box<oci::ExecArgs>),
    /// What is known of a container, as JSON.
    State(oci::OneArgs),
    /// All containers.
    List(oci::ListArgs),
    /// A container's processes.
    Ps(oci::PsArgs),
    /// What a container uses, and when its memory runs out, as lines of JSON.
    Events(oci::EventsArgs),
    /// Which namespaces two containers or processes share.
    Ns(oci::NsArgs),
    /// Send a signal to a container.
    Kill(oci::KillArgs),
    /// Take a container away that has ended.
    Delete(oci::DeleteArgs),
    /// Stop a container's processes for a while.
    Pause(oci::OneArgs),
    /// Let them go on.
    Resume(oci::OneArgs),
    /// Change a container's limits.
    Update(oci::UpdateArgs),
    /// What this runtime can do, as JSON.
    Features,
    /// Write a config.json to begin with.
    Spec(oci::SpecArgs),
    /// The daemon that `launch` starts by itself.
    #[command(name = "__serve", hide = true)]
    Serve(ServeArgs),
}

/// Whether `launch` may start the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DaemonMode {
    /// Use the running daemon, start one if there is none.
    Auto,
    /// Fail if no daemon is running.
    Require,
}

/// Who answers sysinfo(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sysinfo {
    /// The daemon.
    View,
    /// The kernel.
    Kernel,
}

/// `ownproc-run launch`. Sizes are bytes or b, k, m, g, t (1024-based).
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Memory limit, at least 6M.
    #[arg(short = 'm', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory plus swap; -1: no limit on swap. Default: twice the memory limit.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// CPU time: 1.5 = one and a half CPUs.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpus: Option<String>,
    /// CPUs it may run on: 0-3,8.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// NUMA nodes it may take memory from.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Share of CPU time among siblings, 1 to 10000; 100 is the default.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpu_weight: Option<String>,
    /// Most processes and threads; -1: no limit.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Choose as many CPUs as --cpus needs, those that the fewest other pinned containers have.
    #[arg(long)]
    pub pin: bool,
    /// Name of the container. Default: 12 hex digits.
    #[arg(long)]
    pub name: Option<String>,
    /// Host name inside. Default: the name.
    #[arg(long)]
    pub hostname: Option<String>,
    /// Network: none (loopback only) or host.
    #[arg(long, visible_alias = "network", value_name = "MODE", default_value = "none")]
    pub net: String,
    /// Directory to use as the root. Default: the host's root under a throw-away layer.
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Make the root read-only.
    #[arg(long)]
    pub read_only: bool,
    /// Show SRC of the host at DST; :ro makes it read-only.
    #[arg(short = 'v', long = "volume", value_name = "SRC:DST[:ro]")]
    pub volumes: Vec<String>,
    /// Set a variable; K alone takes the caller's value.
    #[arg(short = 'e', long = "env", value_name = "K[=V]")]
    pub env: Vec<String>,
    /// Directory to start in.
    #[arg(short = 'w', long, value_name = "DIR", default_value = "/")]
    pub workdir: String,
    /// A tmpfs of the container's own.
    #[arg(long, value_name = "DST")]
    pub tmpfs: Vec<String>,
    /// Give it a device of the host's; rwm: what it may do with it (read, write, make nodes). Default: rwm.
    #[arg(long, value_name = "PATH[:DST][:rwm]")]
    pub device: Vec<String>,
    /// Limit its block I/O: /dev/sda:rbps=1048576,wiops=100 (bytes and operations per second).
    #[arg(long, value_name = "DEV:KEY=N,...")]
    pub io_max: Vec<String>,
    /// User and group inside, by name or number. Default: root.
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Give it a terminal of its own, which the caller's is connected to.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Accepted for Docker's sake: the command always has the caller's input, unless -d.
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Print the name and return; the container runs on by itself, without input and output, until it ends or is
    /// deleted with ownproc-run delete.
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// With -d: delete it when it has ended. In the foreground that is always done.
    #[arg(long)]
    pub rm: bool,
    /// What the virtual files show: cpus=quota|cpuset, numbering=physical|compact, swap=show|hide,
    /// uptime=container|host, counters=zero|host. Default: as the daemon is configured.
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub view: Vec<String>,
    /// Who answers sysinfo(2), which some programs ask instead of reading files: view, with the numbers of the container's
    /// files, or kernel, with the host's.
    #[arg(long, value_enum, default_value = "view")]
    pub sysinfo: Sysinfo,
    /// Group under which the container's groups are made.
    #[arg(long, value_name = "PATH", default_value = "/ownproc")]
    pub cgroup_parent: String,
    /// auto starts the daemon where none is running, require does not.
    #[arg(long, value_enum, default_value = "auto")]
    pub daemon: DaemonMode,
    /// Mount point of the daemon's tree. Default: the variable OWNPROC_MOUNT, else /var/lib/ownproc.
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `ownproc-run __serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Mount point.
    pub mount: PathBuf,
    /// Unmount and end this many seconds after the last container.
    #[arg(long, value_name = "SECONDS")]
    pub idle_exit: Option<u64>,
    /// Which process of the daemon this one is.
    #[arg(long, default_value = "holder")]
    pub role: ownproc::session::Role,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_spellings() {
        let parse = |words: &[&str]| match Cli::try_parse_from(words).map(|cli| cli.verb) {
            Ok(Verb::Launch(args)) => args,
            other => panic!("{other:?}"),
        };
        let short =
            parse(&["ownproc-run", "launch", "-m", "1g", "-e", "A=b", "-w", "/x", "ls", "-l", "--rm"]);
        assert_eq!(short.command, ["ls", "-l", "--rm"]);
        assert!(!short.rm);
        assert!(Cli::try_parse_from(["ownproc-run", "launch", "--memroy", "1g", "ls"]).is_err());
        let long = parse(&[
            "ownproc-run",
            "launch",
            "--memory=1g",
            "--env",
            "A=b",
            "--workdir",
            "/x",
            "--network",
            "host",
            "--memory-swap",
            "-1",
            "--pids-limit",
            "-1",
            "--",
            "ls",
        ]);
        assert_eq!((short.memory, short.env, short.workdir), (long.memory, long.env, long.workdir));
        assert_eq!((long.net.as_str(), long.memory_swap.as_deref()), ("host", Some("-1")));
    }
}
