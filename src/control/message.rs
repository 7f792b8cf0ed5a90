//! What is said over the control socket. Frames and descriptors are [`super::wire`]'s.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{ContainerName, HostPid, Nsec, Policies};

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
        /// Its choices.
        #[serde(default)]
        policies: Policies,
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
    /// Its choices.
    pub policies: Policies,
    /// CLOCK_BOOTTIME at which its init started.
    pub start: Nsec,
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
