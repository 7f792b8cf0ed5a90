//! What the container shall be: the command line, checked. Pure: nothing is read from the host.

pub mod device;
pub mod limits;
pub mod size;
pub mod volume;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ownproc::model::{ContainerName, PolicyChange, PolicyChoices, PolicyError};

use crate::args::{DaemonMode, LaunchArgs, Sysinfo};
pub use device::{DeviceFlag, IoMax};
pub use limits::Limits;
pub use volume::Volume;

/// Search path of a container that sets none; Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the daemon's tree is by default.
pub const DEFAULT_MOUNT: &str = "/var/lib/ownproc";

/// The container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with a loopback interface only.
    None,
    /// The host's.
    Host,
}

/// A checked request.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name under which it is registered.
    pub name: ContainerName,
    /// Host name inside.
    pub hostname: String,
    /// What the groups are set to.
    pub limits: Limits,
    /// Choose a cpuset by itself.
    pub pin: bool,
    /// See [`Network`].
    pub network: Network,
    /// Root directory; `None`: the host's root under a throw-away layer.
    pub rootfs: Option<PathBuf>,
    /// The root cannot be written.
    pub read_only: bool,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// Paths inside that get a tmpfs.
    pub tmpfs: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<DeviceFlag>,
    /// Limits of block I/O.
    pub io_max: Vec<IoMax>,
    /// `USER[:GROUP]`, not looked up yet.
    pub user: Option<String>,
    /// A terminal of its own.
    pub terminal: bool,
    /// It runs on by itself.
    pub detached: bool,
    /// With `detached`: it is deleted at its end.
    pub remove: bool,
    /// The whole environment of the command.
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub workdir: String,
    /// Names from a hierarchy's root to the groups' parent; never `.` or `..`.
    pub cgroup_parent: PathBuf,
    /// Its own choices of policies.
    pub view: PolicyChoices,
    /// See [`Sysinfo`].
    pub sysinfo: Sysinfo,
    /// See [`DaemonMode`].
    pub daemon: DaemonMode,
    /// Mount point of the daemon.
    pub mount: PathBuf,
    /// At least one word.
    pub command: Vec<OsString>,
}

/// What is wrong with the command line. Each message is one line and says what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// `flag`, its `value`, and why.
    #[error("{flag} {value}: {reason}")]
    Flag { flag: &'static str, value: String, reason: String },
    /// Flags that need or exclude each other.
    #[error("{0}")]
    Combination(&'static str),
}

impl SpecError {
    /// For one flag's value.
    pub fn flag(flag: &'static str, value: &str, reason: impl Into<String>) -> Self {
        Self::Flag { flag, value: value.chars().take(80).collect(), reason: reason.into() }
    }
}

impl Spec {
    /// Checks `args`; `caller` is the caller's environment (for `-e K` and TERM).
    pub fn new(args: &LaunchArgs, caller: &BTreeMap<String, String>) -> Result<Self, SpecError> {
        let name = match &args.name {
            Some(name) => {
                ContainerName::new(name).map_err(|e| SpecError::flag("--name", name, e.to_string()))?
            }
            None => random_name(),
        };
        let hostname = match &args.hostname {
            Some(hostname) => checked_hostname(hostname)?,
            None => name.as_str().chars().take(64).collect(),
        };
        let limits = Limits::new(args)?;
        if args.pin && limits.cpus.is_none() {
            return Err(SpecError::Combination("--pin needs --cpus N: it takes that many CPUs, rounded up"));
        }
        let words = args.command.iter().map(|word| word.as_bytes());
        if words.chain(args.env.iter().chain([&args.workdir]).map(String::as_bytes)).any(|w| w.contains(&0)) {
            return Err(SpecError::Combination("the command and its environment cannot hold NUL bytes"));
        }
        if args.command.first().is_none_or(|word| word.is_empty()) {
            return Err(SpecError::Combination("the command is empty: write it after --"));
        }
        if args.detach && args.tty {
            return Err(SpecError::Combination(
                "-d and -t: nobody would hold the terminal; leave out -t, and use ownproc-run exec -t later",
            ));
        }
        Ok(Self {
            hostname,
            tmpfs: args.tmpfs.iter().map(|path| inside("--tmpfs", path)).collect::<Result<_, _>>()?,
            devices: args.device.iter().map(|text| DeviceFlag::parse(text)).collect::<Result<_, _>>()?,
            io_max: args.io_max.iter().map(|text| IoMax::parse(text)).collect::<Result<_, _>>()?,
            user: args.user.clone(),
            terminal: args.tty,
            detached: args.detach,
            remove: args.rm,
            limits,
            pin: args.pin,
            network: network(&args.net)?,
            rootfs: args.rootfs.clone(),
            read_only: args.read_only,
            volumes: args.volumes.iter().map(|text| Volume::parse(text)).collect::<Result<_, _>>()?,
            env: environment(&args.env, &name, caller)?,
            workdir: absolute("--workdir", &args.workdir)?,
            cgroup_parent: cgroup_parent(&args.cgroup_parent)?,
            view: view(&args.view)?,
            sysinfo: args.sysinfo,
            daemon: args.daemon,
            mount: mount(args.mount.as_ref(), caller)?,
            command: args.command.clone(),
            name,
        })
    }
}

/// A name for who gave none: 12 hex digits, at least one of them a letter (a name of digits alone would be a pid on the command line).
pub fn random_name() -> ContainerName {
    use std::hash::{BuildHasher, Hasher};
    loop {
        // RandomState is seeded from the kernel's random numbers.
        let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let text: String = format!("{number:016x}").chars().take(12).collect();
        if let Ok(name) = ContainerName::new(&text) {
            return name;
        }
    }
}

/// RFC 1123 characters, at most the 64 bytes that `sethostname` takes.
fn checked_hostname(text: &str) -> Result<String, SpecError> {
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        Ok(text.to_owned())
    } else {
        Err(SpecError::flag("--hostname", text, "1 to 64 of A-Z a-z 0-9 - . _, the first a letter or digit"))
    }
}

fn network(text: &str) -> Result<Network, SpecError> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err(SpecError::flag("--net", text, "not a network; give none or host")),
    }
}

/// --mount, else OWNPROC_MOUNT, else the default.
fn mount(flag: Option<&PathBuf>, caller: &BTreeMap<String, String>) -> Result<PathBuf, SpecError> {
    let mount = match (flag, caller.get("OWNPROC_MOUNT").filter(|value| !value.is_empty())) {
        (Some(flag), _) => flag.clone(),
        (None, Some(variable)) => variable.into(),
        (None, None) => DEFAULT_MOUNT.into(),
    };
    if mount.is_absolute() {
        Ok(mount)
    } else {
        Err(SpecError::flag("--mount", &mount.to_string_lossy(), "not absolute; begin it with /"))
    }
}

/// All `--view` flags together.
fn view(flags: &[String]) -> Result<PolicyChoices, SpecError> {
    let wrong = |error: PolicyError| SpecError::flag("--view", &flags.join(","), error.to_string());
    let mut choices = PolicyChoices::default();
    for change in PolicyChange::parse_all(flags).map_err(wrong)? {
        change.apply(&mut choices).map_err(wrong)?;
    }
    Ok(choices)
}

fn absolute(flag: &'static str, text: &str) -> Result<String, SpecError> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(SpecError::flag(flag, text, "not absolute; begin it with /"))
    }
}

/// A path inside the container on which something is mounted.
pub fn inside(flag: &'static str, text: &str) -> Result<String, SpecError> {
    let path = std::path::Path::new(text);
    let normal = path.components().any(|part| matches!(part, std::path::Component::Normal(_)));
    if path.components().any(|part| part == std::path::Component::ParentDir) || !normal {
        return Err(SpecError::flag(flag, text, "not a place inside the container; write it as /a/b"));
    }
    if ["/proc", "/sys"].iter().any(|kernels| path.starts_with(kernels)) {
        return Err(SpecError::flag(flag, text, "is the kernel's own"));
    }
    absolute(flag, text)
}

/// The parent group as a relative path, so that it can be joined to a hierarchy's mount point.
fn cgroup_parent(text: &str) -> Result<PathBuf, SpecError> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || text.contains(['\0', '\n']) {
        return Err(SpecError::flag(
            "--cgroup-parent",
            text,
            "give the path from the hierarchy's root, as /a/b",
        ));
    }
    Ok(parts.iter().collect())
}

/// The command's environment. Later `-e` win, as in Docker; nothing but TERM comes from the caller by itself.
fn environment(
    flags: &[String],
    name: &ContainerName,
    caller: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut env: BTreeMap<String, String> =
        [("PATH", DEFAULT_PATH), ("HOME", "/root"), ("HOSTNAME", name.as_str()), ("container", "ownproc")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    env.extend(caller.get("TERM").map(|term| ("TERM".to_owned(), term.clone())));
    for flag in flags {
        match flag.split_once('=') {
            Some(("", _)) => return Err(SpecError::flag("--env", flag, "the variable has no name")),
            Some((key, value)) => {
                env.insert(key.to_owned(), value.to_owned());
            }
            None if flag.is_empty() => {
                return Err(SpecError::flag("--env", flag, "the variable has no name"));
            }
            None => env.extend(caller.get(flag).map(|value| (flag.clone(), value.clone()))),
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests;
