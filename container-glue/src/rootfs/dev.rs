//! /dev: a tmpfs with the nodes that programs rely on, a terminal namespace, shared memory, message queues.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, makedev};

use super::mounts::{self, Opt};
use super::resolve::Root;
use super::root::tmpfs_options;
use super::{SetupError, Step};

/// Name, major, minor: admin-guide/devices.txt.
const NODES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The group `tty` of every distribution; `grantpt` relies on it.
const TTY_GROUP: u32 = 5;

/// Mounts it all; the mount of /dev itself.
pub fn mount(root: &Root, memory: Option<u64>) -> Result<OwnedFd, SetupError> {
    let size = Opt::Value("size", "64k".to_owned());
    let dev =
        mounts::filesystem("tmpfs", &[Opt::Value("mode", "0755".to_owned()), size], mounts::NOSUID_NOEXEC)?;
    for &(name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))
            .step(|| format!("cannot make the device node /dev/{name}"))?;
    }
    for &(name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).step(|| format!("cannot link /dev/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&dev, name, mode).step(|| format!("cannot make /dev/{name}"))?;
    }
    mounts::attach(&dev, &root.directory("dev")?)?;

    let pts_options = [
        Opt::Flag("newinstance"),
        Opt::Value("ptmxmode", "0666".to_owned()),
        Opt::Value("mode", "0620".to_owned()),
        Opt::Value("gid", TTY_GROUP.to_string()),
    ];
    let pts = mounts::filesystem("devpts", &pts_options, mounts::NOSUID_NOEXEC)?;
    mounts::attach(&pts, &root.directory("dev/pts")?)?;
    let shm = mounts::filesystem("tmpfs", &tmpfs_options("1777", memory), mounts::NOSUID_NODEV_NOEXEC)?;
    mounts::attach(&shm, &root.directory("dev/shm")?)?;
    let mqueue = mounts::filesystem("mqueue", &[], mounts::NOSUID_NODEV_NOEXEC)?;
    mounts::attach(&mqueue, &root.directory("dev/mqueue")?)?;
    console(root)?;
    Ok(dev)
}

/// The caller's terminal as /dev/console. Its own name leads into the host's devpts; ttyname(3) finds it here. A
/// terminal that has no name in this mount namespace is left out: nothing but its name is missed.
fn console(root: &Root) -> Result<(), SetupError> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter();
    let Some(terminal) = standard.find(IsTerminal::is_terminal) else { return Ok(()) };
    // by name, since the open descriptor belongs to a mount of the launcher's namespace, which cannot be bound
    let Some(node) = nix::unistd::ttyname(terminal).ok().and_then(|name| mounts::open_host(&name).ok())
    else {
        return Ok(());
    };
    let what = || "cannot bind the terminal over /dev/console".to_owned();
    mounts::attach(&mounts::copy(&node, false).step(what)?, &root.file("dev/console")?)
}

/// netdevice(7): sets IFF_UP of `lo`.
pub fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: a struct of integers and a union of them, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
