//! What is said over the control socket. Frames and descriptors are [`super::wire`]'s.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Layers, Setting};
use crate::model::{ContainerName, HostPid, Nsec, Policies, PolicyChange, PolicyChoices};

/// The protocol's version: raised when an older peer could misunderstand.
pub const VERSION: u32 = 1;

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// [`super::build_id`] of the client.
    pub build: String,
}

/// The server's first message: who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the daemon.
    pub version: u32,
    /// [`super::build_id`] of the daemon.
    pub build: String,
    /// The daemon's pid, in its own pid namespace.
    pub pid: i32,
    /// What it serves.
    pub mount: PathBuf,
    /// CLOCK_BOOTTIME when the daemon began to serve.
    pub started: Nsec,
}

/// One request; a connection carries one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Nothing: the client wanted the [`Hello`].
    Hello,
    /// Registers a container. The first descriptor is the pidfd of its init, the others are one directory per
    /// cgroup hierarchy.
    Register {
        /// The name, which must be free.
        name: ContainerName,
        /// Its own choices.
        #[serde(default)]
        policies: PolicyChoices,
        /// The name is registered: this process stands for the container from now on, instead of
        /// one that still lives. Its policies stay. An older daemon says that the name is taken.
        #[serde(default)]
        replaces: bool,
    },
    /// Ends a registration.
    Unregister {
        /// Whose.
        name: ContainerName,
    },
    /// All registered containers; the bytes are JSON, an array of [`ContainerInfo`].
    List,
    /// The bytes that a target reads.
    Show {
        /// Who would read.
        target: ShowTarget,
        /// Path below the mount point, such as `proc/meminfo`.
        file: String,
    },
    /// The policies that count for a target; the bytes are JSON, a [`ViewInfo`].
    View {
        /// Whose.
        target: ShowTarget,
    },
    /// Changes a registered container's own choices; the answer is that of [`Self::View`].
    Choose {
        /// Whose.
        name: ContainerName,
        /// In what: all of them or none.
        changes: Vec<PolicyChange>,
    },
    /// The configuration in force; the bytes are JSON, a [`ConfigInfo`].
    Config,
    /// How the daemon is.
    Status,
    /// Unmount and end.
    Umount {
        /// Also while containers hold files.
        force: bool,
    },
}

/// Whose view is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShowTarget {
    /// A registered container.
    Name(ContainerName),
    /// What this process would read.
    Pid(HostPid),
    /// What a process in this group would read: a directory below the cgroup mounts.
    Group(PathBuf),
}

/// The answer to [`Request::Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The container's own tree, `MOUNT/containers/NAME`: bind files from here.
    pub tree: PathBuf,
}

/// One registered container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its name.
    pub name: ContainerName,
    /// Its init, in the daemon's pid namespace.
    pub pid: HostPid,
    /// Its number for this mount point; never given twice.
    pub slot: u32,
    /// Its group directories, one per hierarchy.
    pub groups: Vec<PathBuf>,
    /// The policies that count for it.
    pub policies: Policies,
    /// CLOCK_BOOTTIME at which its init started.
    pub start: Nsec,
}

/// The policies that count for one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewInfo {
    /// Its name, where it is registered. Others have no choices of their own.
    pub container: Option<ContainerName>,
    /// It has a time namespace, which decides about its uptime whatever the policy (rule T1).
    #[serde(default)]
    pub time_namespace: bool,
    /// Each policy with its value and where that comes from.
    pub settings: Vec<Setting>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// The file that is read at the start and at SIGHUP.
    pub file: PathBuf,
    /// Whether it was there when it was read last. Where nobody named it, it need not be.
    #[serde(default)]
    pub found: bool,
    /// Why what stands in it now is not in force, since the last SIGHUP.
    pub error: Option<String>,
    /// What counts where no container and no section for its name says otherwise.
    pub defaults: Vec<Setting>,
    /// The sections for names, in the order in which they are asked.
    pub containers: Vec<NamedSettings>,
}

impl ConfigInfo {
    /// What these say. A path that is not UTF-8 is told approximately.
    #[must_use]
    pub fn new(layers: &Layers, error: Option<String>) -> Self {
        let sections = layers.named().into_iter();
        Self {
            file: layers.file.to_string_lossy().into_owned().into(),
            found: layers.found,
            error,
            defaults: layers.defaults(),
            containers: sections.map(|(section, settings)| NamedSettings { section, settings }).collect(),
        }
    }
}

/// One section `[containers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSettings {
    /// `containers.NAME`.
    pub section: String,
    /// What it sets.
    pub settings: Vec<Setting>,
}

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Registered containers.
    pub containers: usize,
    /// Mount namespaces other than the daemon's that hold a mount of its device.
    pub mount_namespaces: usize,
    /// Virtual files open now.
    pub open_files: usize,
    /// The process that answers reads.
    #[serde(default)]
    pub worker: WorkerInfo,
}

/// How the workers of a daemon have fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its pid.
    pub pid: u64,
    /// Workers that died before it, or were killed since they hung.
    pub deaths: u64,
    /// How the last of them ended.
    pub last_end: Option<String>,
    /// Workers that took over from a living one.
    pub upgrades: u64,
    /// New ones that could not.
    pub failed_upgrades: u64,
    /// Workers keep dying, so that reads are answered from the host's files.
    pub degraded: bool,
    /// systemd keeps the connection, so that even the main process may be replaced.
    #[serde(default)]
    pub stored: bool,
    /// The kernel sends requests again that a dead worker left unanswered (Linux 6.9).
    pub resend: bool,
    /// Requests that were sent again.
    pub resent: u64,
    /// Requests that were in flight when a worker died.
    pub in_flight_at_deaths: u64,
    /// Requests that were interrupted, since the kernel cannot send them again.
    pub interrupted: u64,
    /// Requests that were answered plainly, since they had ended the worker twice.
    pub plain_answers: u64,
}

/// Why the daemon did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: one line.
    pub message: String,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The peer may not talk to the daemon.
    NotAllowed,
    /// As many clients as the daemon serves are there already.
    Busy,
    /// The protocol's versions differ.
    Version,
    /// The message was not understood.
    Malformed,
    /// The name is taken.
    NameTaken,
    /// No such container, process, group or file.
    NotFound,
    /// The descriptors are not what they must be.
    BadDescriptor,
    /// Containers hold files.
    InUse,
    /// The daemon failed.
    Failed,
    /// A kind that this build does not know.
    #[serde(other)]
    Other,
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Its first message.
    Hello(Hello),
    /// Done; there is nothing to tell.
    Done,
    /// To [`Request::Register`].
    Registered(Registered),
    /// To [`Request::Status`].
    Status(Status),
    /// So many bytes follow, in frames that are not JSON.
    Bytes {
        /// How many in all.
        len: u64,
    },
    /// Not done.
    Refused(Refusal),
}
