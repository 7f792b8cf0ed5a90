//! The OCI runtime: `ownproc-run create`, `start`, `exec` and the other commands of the OCI runtime command line, on bundles.
//!
//! `args` (what was typed) -> `bundle` (config.json read) -> `config` (checked, pure) -> `create` (the sequence; in the child
//! `init`, `tree`, `process`) -> `start`. What is on disk of a container is in `store`.

pub mod affinity;
pub mod args;
pub mod builder;
pub mod bundle;
pub mod config;
pub mod console;
pub mod copy_up;
pub mod create;
pub mod events;
pub mod exec;
pub mod extras;
pub mod features;
pub mod freezer;
pub mod hooks;
pub mod id;
pub mod idmap;
pub mod init;
pub mod inspect;
pub mod join;
pub mod limits;
pub mod log;
pub mod process;
pub mod relay;
pub mod resources;
pub mod rootless;
pub mod scope;
pub mod seccomp;
pub mod spaces;
pub mod stop;
pub mod store;
pub mod sysinfo;
pub mod template;
pub mod tree;
pub mod update;

use std::io;
use std::path::PathBuf;

use crate::args::Verb;

/// Why a command of the OCI runtime failed. One line each, with what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A file or a directory.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// "read", "create", ...
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call.
    #[error("cannot {what}: {source}")]
    System {
        /// What for.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A document that is not understood.
    #[error("{}: {source}", path.display())]
    Json {
        /// Its file.
        path: PathBuf,
        /// Line, column and what is wrong.
        source: serde_json::Error,
    },
    /// No configuration there.
    #[error("{} holds no config.json: give a bundle with --bundle DIR, or write one with ownproc-run spec", .0.display())]
    NoBundle(PathBuf),
    /// A field of the configuration.
    #[error("config.json: {field}: {reason}")]
    Config {
        /// As `process.cwd`.
        field: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A name that cannot be one.
    #[error("{0:?} is no container name: 1 to 255 of A-Z a-z 0-9 _ + - . and neither . nor ..")]
    Id(String),
    /// The name is in use.
    #[error("container {0} exists already: delete it, or choose another name")]
    Taken(String),
    /// There is none.
    // podman and containerd look for these words
    #[error("container {0:?} does not exist")]
    NoContainer(String),
    /// Neither a process nor a container.
    #[error("{0:?} is no process, no container of this --root, and none that the ownproc daemon knows")]
    Nobody(String),
    /// `--root` could have been prepared by someone else.
    #[error("--root {}: not a directory of this user's alone: remove it, or give another", .0.display())]
    UnsafeRoot(PathBuf),
    /// The command does not fit how far the container is.
    #[error("container {id} is {is}: {hint}")]
    Status {
        /// The container.
        id: String,
        /// How far it is.
        is: &'static str,
        /// What the command needs.
        hint: &'static str,
    },
    /// Another command works on it.
    #[error("container {id}: {holder} works on it and does not finish: repeat the command, or end that one")]
    Busy {
        /// The container.
        id: String,
        /// Who.
        holder: String,
    },
    /// A process was killed and does not end.
    #[error(
        "container {id}: {process} was killed and does not end: it waits in the kernel for a device or a file system; repeat the command when that answers"
    )]
    Endless {
        /// The container.
        id: String,
        /// Number, name and state.
        process: String,
    },
    /// A process was stopped before its program began.
    #[error(
        "container {0}: a process of it stops every new one before its program begins; end that one, or kill the container"
    )]
    HeldUp(String),
    /// The process to be signalled has ended.
    // podman and containerd look for these words
    #[error("container not running")]
    NotRunning,
    /// What the container's process reported.
    #[error("{0}")]
    Setup(String),
    /// --systemd-cgroup
    #[error("--systemd-cgroup: systemd does not run here (no /run/systemd/system): leave the flag out")]
    NoSystemd,
    /// systemd's.
    #[error("cannot {what} {unit} by systemd: {why}")]
    Scope {
        /// "start", "stop", "change"
        what: &'static str,
        /// The scope.
        unit: String,
        /// What it or the bus to it says.
        why: String,
    },
    /// A hook.
    #[error("hook {path} {what}")]
    Hook {
        /// The program.
        path: String,
        /// How it failed, with what it said.
        what: String,
    },
    /// See [`crate::groups::GroupError`].
    #[error(transparent)]
    Groups(#[from] crate::groups::GroupError),
    /// See [`crate::preflight::PreflightError`].
    #[error(transparent)]
    Preflight(#[from] crate::preflight::PreflightError),
    /// See [`crate::daemon::DaemonError`].
    #[error(transparent)]
    Daemon(#[from] crate::daemon::DaemonError),
    /// See [`resources::ResourceError`].
    #[error("config.json: {0}")]
    Resources(#[from] resources::ResourceError),
    /// See [`seccomp::SeccompError`].
    #[error("config.json: linux.seccomp: {0}")]
    Seccomp(#[from] seccomp::SeccompError),
}

impl OciError {
    /// For a file.
    pub fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }

    /// For a field of the configuration.
    pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }
}

/// Carries out a verb of the OCI runtime; the exit code, or one line that says what failed.
pub fn main(global: &args::Global, verb: &Verb) -> Result<u8, String> {
    if matches!(verb, Verb::Create(_) | Verb::Run(_) | Verb::Exec(_)) {
        crate::reexec::from_read_only()
            .map_err(|error| format!("cannot run from a read-only mount of its own binary: {error}"))?;
    }
    // before anything is opened here
    let checked = match verb {
        Verb::Create(args) => create::take_passed(args),
        Verb::Run(args) => create::take_passed(&args.create),
        Verb::Exec(args) => process::check_passed("--preserve-fds", 3, args.preserve_fds)
            .map(|()| process::close_all_but(args.preserve_fds, &[])),
        _ => Ok(()),
    };
    checked.map_err(|error| error.to_string())?;
    let global = &rootless::with_root(global);
    if !matches!(verb, Verb::Exec(_) | Verb::Start(_) | Verb::Features | Verb::Spec(_))
        && global.root.exists()
    {
        let swept = store::Store::open(&global.root).and_then(|store| stop::sweep_left(&store, None));
        if let Err(error) = swept {
            ::log::warn!("{error}");
        }
    }
    let done = match verb {
        Verb::Create(args) => create::create(global, args),
        Verb::Start(args) => return create::start(global, &args.id).map_err(|error| error.to_string()),
        Verb::Run(args) => return create::run(global, args).map_err(|error| error.to_string()),
        Verb::Exec(args) => return exec::exec(global, args).map_err(|error| error.to_string()),
        Verb::State(args) => inspect::show(global, &args.id),
        Verb::List(args) => inspect::list(global, args),
        Verb::Ps(args) => inspect::ps(global, args),
        Verb::Events(args) => events::show(global, args),
        Verb::Ns(args) => spaces::show(global, args),
        Verb::Kill(args) => stop::kill(global, args),
        Verb::Delete(args) => stop::delete(global, args),
        Verb::Pause(args) => stop::pause(global, &args.id, true),
        Verb::Resume(args) => stop::pause(global, &args.id, false),
        Verb::Update(args) => update::update(global, args),
        Verb::Features => features::print(),
        Verb::Spec(args) => template::write(args),
        Verb::Launch(_) | Verb::Serve(_) => Ok(()), // main's own
    };
    done.map(|()| 0).map_err(|error| error.to_string())
}

/// Says what a failed call was for.
pub trait Doing<T> {
    /// Wraps the error; `what` goes behind "cannot".
    fn doing(self, what: impl Into<String>) -> Result<T, OciError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, OciError> {
        self.map_err(|error| OciError::System { what: what.into(), source: error.into() })
    }
}
