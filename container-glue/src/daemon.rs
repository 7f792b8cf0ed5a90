//! Finding or starting the daemon, and registering with it.

mod start;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ownproc::config::ConfigFile;
use ownproc::control::{Client, ControlError, Paths, RefusalKind, Registration, build_id};
use ownproc::fs::mount::{Found, MountError, inspect};
use ownproc::model::{ContainerName, DaemonChoices, PolicyChoices};
use ownproc::session::{Options, SessionError};

use crate::args::{DaemonMode, ServeArgs};

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It refuses, and is of another build: that may be why.
    #[error(
        "{source}; that daemon (pid {pid}) is of another build: if it is old, stop it with kill {pid} and repeat"
    )]
    OtherBuild {
        /// The daemon.
        pid: i32,
        /// What it said.
        source: ControlError,
    },
    /// It was about to end when it was asked.
    #[error("the daemon ended just now: repeat the command")]
    Ending,
    /// It serves another mount namespace.
    #[error(
        "the daemon (pid {pid}) has mounted {}, but not in this mount namespace: run this command beside the daemon, or give another --mount DIR",
        mount.display()
    )]
    Elsewhere {
        /// The daemon.
        pid: i32,
        /// Its mount point.
        mount: PathBuf,
    },
    /// The mount point.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// It was started and ended or hung.
    #[error("the daemon that was started {what}; its last word, in {}: {last}", log.display())]
    Start {
        /// What happened.
        what: &'static str,
        /// Its log.
        log: PathBuf,
        /// The last line of it.
        last: String,
    },
    /// A step of starting it.
    #[error("cannot start the daemon: {what}: {source}")]
    System {
        /// Which step.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// A container of the same name whose launcher was killed has ended, and the daemon hears of it a moment later.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// The daemon of a mount point.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
}

/// Connects to the daemon; starts it where there is none and `mode` allows that. To be called before anything of
/// the container exists.
pub fn find_or_start(mount: &Path, mode: DaemonMode) -> Result<Daemon, DaemonError> {
    if std::fs::metadata(mount).is_ok_and(|meta| !meta.is_dir()) {
        return Err(MountError::NotADirectory(mount.to_owned()).into());
    }
    let client = match Client::connect(mount) {
        Err(ControlError::NotRunning { .. }) if mode == DaemonMode::Auto => start::start(&Paths::new(mount))?,
        other => other?,
    };
    let hello = client.hello();
    if inspect(&hello.mount)? != Found::Live {
        return Err(DaemonError::Elsewhere { pid: hello.pid, mount: hello.mount.clone() });
    }
    Ok(Daemon { client })
}

impl Daemon {
    /// Registers the container and returns its directory in the tree.
    pub fn register(
        &mut self,
        name: &ContainerName,
        policies: PolicyChoices,
        init: BorrowedFd<'_>,
        groups: &[OwnedFd],
    ) -> Result<PathBuf, DaemonError> {
        let registration = Registration {
            name: name.clone(),
            policies,
            pidfd: init,
            groups: groups.iter().map(AsFd::as_fd).collect(),
            replaces: false,
        };
        let until = Instant::now() + LAST_BREATH;
        loop {
            match self.client.register(registration.clone()) {
                Ok(registered) => return Ok(registered.tree),
                Err(source) if source.refusal() == Some(RefusalKind::NameTaken) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(source) => return Err(self.explain(source)),
            }
        }
    }

    /// Another process stands for the registered container from now on.
    pub fn replace(
        &mut self,
        name: &ContainerName,
        init: BorrowedFd<'_>,
        groups: &[OwnedFd],
    ) -> Result<(), DaemonError> {
        let registration = Registration {
            name: name.clone(),
            policies: PolicyChoices::default(),
            pidfd: init,
            groups: groups.iter().map(AsFd::as_fd).collect(),
            replaces: true,
        };
        self.client.register(registration).map(drop).map_err(|source| self.explain(source))
    }

    fn explain(&self, source: ControlError) -> DaemonError {
        let hello = self.client.hello();
        match source.refusal() {
            Some(RefusalKind::Busy) => DaemonError::Ending,
            _ if matches!(source, ControlError::NotRunning { .. }) => DaemonError::Ending,
            // these say all that there is to say
            Some(RefusalKind::NotAllowed) => source.into(),
            Some(RefusalKind::NameTaken) if hello.build == build_id() => source.into(),
            _ if hello.build != build_id() => DaemonError::OtherBuild { pid: hello.pid, source },
            _ => source.into(),
        }
    }
}

/// `__serve`: the daemon itself.
pub fn serve(args: &ServeArgs) -> Result<u8, SessionError> {
    let options = Options {
        mountpoint: args.mount.clone(),
        config: ConfigFile::default(),
        flags: DaemonChoices::default(),
        idle_exit: args.idle_exit.map(Duration::from_secs),
        psi_triggers: false,
        no_resend: false,
        role: args.role,
    };
    ownproc::session::serve(&options).map(|_| 0)
}
