//! `hostile ATTACK DIR SECONDS [GROUP_DIR...]`: what a container's root can do to the files in DIR, over and over; prints
//! how many operations that were. `all` is every attack at once. DIR is a `proc` of ours or the kernel's own `/proc`,
//! so that the load of the same attack on the kernel's files can be told apart.

mod calls;
mod crowds;
mod files;
mod groups;

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::case::{Doing, Failure, Outcome, check};

/// An attack: operations that were done until then.
type Attack = fn(&Ground, Instant) -> Outcome<u64>;

/// All attacks.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("hoard", files::hoard),
    ("wild-offsets", files::wild_offsets),
    ("close-twice", files::close_twice),
    ("one-descriptor", crowds::one_descriptor),
    ("many-descriptors", crowds::many_descriptors),
    ("die-mid-read", crowds::die_mid_read),
    ("fork-storm", crowds::fork_storm),
    ("poll-storm", crowds::poll_storm),
    ("write", calls::write),
    ("ioctl", calls::ioctl),
    ("o-path", calls::o_path),
    ("mmap", calls::mmap),
    ("splice", calls::splice),
    ("names", files::names),
    ("readdir", files::readdir),
    ("bad-buffers", calls::bad_buffers),
    ("move", groups::move_around),
    ("delete-group", groups::delete),
];

/// Those that need groups to write to.
pub const OF_GROUPS: &[&str] = &["move", "delete-group"];

/// The files below DIR that are attacked: the kernel has each of them too, and takes no setting from a write to them.
const FILES: &[&str] = &[
    "meminfo",
    "stat",
    "cpuinfo",
    "uptime",
    "loadavg",
    "vmstat",
    "zoneinfo",
    "diskstats",
    "swaps",
    "schedstat",
    "softirqs",
    "interrupts",
    "partitions",
    "buddyinfo",
    "pressure/cpu",
    "pressure/memory",
    "pressure/io",
];

/// What is attacked.
pub struct Ground {
    dir: PathBuf,
    files: Vec<PathBuf>,
    /// The own group's directory in each hierarchy.
    groups: Vec<PathBuf>,
}

impl Ground {
    fn new(dir: &str, groups: &[&str]) -> Outcome<Self> {
        let dir = PathBuf::from(dir);
        let files: Vec<PathBuf> =
            FILES.iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect();
        check!(files.len() > 8, "{} has only {files:?}", dir.display());
        Ok(Self { dir, files, groups: groups.iter().map(PathBuf::from).collect() })
    }

    fn file(&self, number: u64) -> &Path {
        &self.files[usize::try_from(number).unwrap_or_default() % self.files.len()]
    }

    fn open(&self, number: u64) -> Outcome<File> {
        let path = self.file(number);
        File::open(path).doing(path.display())
    }

    /// Whether a change of modes and times would be one of the kernel's own files.
    fn is_ours(&self) -> bool {
        const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
        nix::sys::statfs::statfs(&self.dir).is_ok_and(|fs| fs.filesystem_type().0 == FUSE_SUPER_MAGIC)
    }
}

/// Numbers without a pattern (xorshift).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(u64::from(std::process::id()) << 20 | 0x9e37)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The words after `hostile`.
pub fn main(words: &[&str]) -> Outcome {
    let [name, dir, seconds, groups @ ..] = words else {
        return Err(Failure("hostile ATTACK DIR SECONDS [GROUP_DIR...]".to_owned()));
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let done = match *name {
        "all" => all(dir, seconds, groups)?,
        "hoard-once" => files::hoard_once(&Ground::new(dir, groups)?, end)?,
        _ => {
            let attack = ATTACKS.iter().find(|(known, _)| known == name).doing(*name)?.1;
            attack(&Ground::new(dir, groups)?, end).doing(*name)?
        }
    };
    println!("{done}");
    Ok(())
}

/// Every attack at once, each in a process of its own.
fn all(dir: &str, seconds: &str, groups: &[&str]) -> Outcome<u64> {
    let mut running = Vec::new();
    for (name, _) in ATTACKS {
        if groups.is_empty() && OF_GROUPS.contains(name) {
            continue;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["tool", "hostile", name, dir, seconds]).args(groups).stdout(Stdio::piped());
        running.push((name, command.spawn()?));
    }
    let mut done = 0;
    for (name, child) in running {
        let output = child.wait_with_output()?;
        check!(output.status.success(), "{name}: {:?}", output.status);
        done += String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().doing(name)?;
    }
    Ok(done)
}

/// pread(2) into any buffer; the bytes, or the errno below 0.
fn pread(fd: RawFd, buffer: &mut [u8], offset: i64) -> isize {
    // SAFETY: the buffer is valid for its length for the whole call.
    let got = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    if got < 0 { -(std::io::Error::last_os_error().raw_os_error().unwrap_or(1) as isize) } else { got }
}

/// Until the end, or until something fails.
fn until(end: Instant, mut what: impl FnMut(u64) -> Outcome<u64>) -> Outcome<u64> {
    let (mut done, mut round) = (0, 0);
    while Instant::now() < end {
        done += what(round)?;
        round += 1;
    }
    Ok(done)
}

/// The same from several threads.
fn threads(count: u64, end: Instant, what: impl Fn(u64, u64) -> Outcome<u64> + Sync) -> Outcome<u64> {
    std::thread::scope(|scope| {
        let what = &what;
        let running: Vec<_> =
            (0..count).map(|thread| scope.spawn(move || until(end, |round| what(thread, round)))).collect();
        running.into_iter().map(|thread| thread.join().ok().doing("a thread")?).sum()
    })
}

/// Runs `what` in a child, which then ends without a word, and gives its pid.
fn fork(what: impl FnOnce()) -> Outcome<nix::unistd::Pid> {
    // SAFETY: the tool's process has one thread where it forks; the child makes system calls and ends by _exit.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            what();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Descriptors of this process: as many as the system allows.
fn many_descriptors() -> Outcome {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")?.trim().parse::<u64>()?;
    // More than the hard limit only where this container may: else what it has.
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// A descriptor's number.
fn raw(file: &File) -> RawFd {
    file.as_raw_fd()
}
