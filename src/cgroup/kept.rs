//! Files whose descriptors are kept: a `pread` at 0 costs 1 us where open, read and close cost 8.

use std::borrow::Cow;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::RwLock;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// First size of a read buffer: any file of one group on a machine with some hundred CPUs.
const BUFFER: usize = 16 * 1024;
/// No kernel file that is read whole is longer; a larger one is cut here rather than filling memory.
const LONGEST: usize = 16 * 1024 * 1024;
/// One read(2) asks for no more: files below /proc/sys refuse with ENOMEM to read into 4 MiB or more
/// (`proc_sys_call_handler` in fs/proc/proc_sysctl.c), however short they are.
const PIECE: usize = 128 * 1024;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 1024 * 1024;
/// How long a file that is not there is not looked for again, in milliseconds.
const ABSENT_FOR: i64 = 250;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads a file from its start into a buffer of this thread and hands the bytes to `f`.
///
/// Kernel files that print everything in one go (`single_open`, most cgroup files) need one system call; the
/// end is asked for only where the text is long enough to have been cut by the kernel's own page-sized buffer.
pub fn read_fd<R>(fd: BorrowedFd<'_>, f: impl FnOnce(&[u8]) -> R) -> Result<R, Errno> {
    let mut buffer = SCRATCH.take();
    let result = fill(fd, &mut buffer).map(|len| f(buffer.get(..len).unwrap_or_default()));
    if buffer.len() <= KEPT {
        SCRATCH.set(buffer);
    }
    result
}

/// The shortest text after which a second read looks for more: `seq_file` hands out at least this much before
/// it stops between two records.
const MAYBE_CUT: usize = 2048;

fn fill(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    if buffer.len() < BUFFER {
        buffer.resize(BUFFER, 0);
    }
    let mut len = 0;
    loop {
        if len == buffer.len() {
            if len >= LONGEST {
                return Ok(len);
            }
            buffer.resize(len.saturating_mul(2), 0);
        }
        let end = buffer.len().min(len.saturating_add(PIECE));
        let room = buffer.get_mut(len..end).unwrap_or_default();
        let more = match rustix::io::pread(fd, room, len as u64) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        len += more;
        if more == 0 || len < MAYBE_CUT {
            return Ok(len);
        }
    }
}

/// Opens `name` below a directory; never follows a link, never leaves the directory.
pub fn open_beneath(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // openat2(2): EAGAIN when a rename elsewhere raced with the walk.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Why a kept file gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It was just looked for and is not there: the group is gone, or has not that controller.
    Absent,
    /// The same, remembered from a look less than a quarter of a second ago.
    Remembered,
    /// It may be there but could not be read (too many open files, I/O).
    Failed(Errno),
}

impl Miss {
    /// As an error number, for messages.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::Absent | Self::Remembered => Errno::NOENT,
            Self::Failed(errno) => errno,
        }
    }
}

/// One file of one directory, opened when first read and kept.
#[derive(Debug)]
pub struct KeptFile {
    name: Cow<'static, str>,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(OwnedFd),
    /// Not there when last looked for; CLOCK_MONOTONIC_COARSE in milliseconds from which to look again.
    Absent(i64),
    Unopened,
}

impl KeptFile {
    /// Names a file; opens nothing.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), state: RwLock::new(State::Unopened) }
    }

    /// The file's name in its directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the whole file and hands it to `f`.
    ///
    /// A descriptor that went dead because the controller was switched off and on again is replaced.
    pub fn read<R>(&self, dir: BorrowedFd<'_>, f: impl FnOnce(&[u8]) -> R) -> Result<R, Miss> {
        let mut f = Some(f);
        let mut once = |text: &[u8]| f.take().map(|f| f(text));
        match &*self.state.read() {
            State::Open(fd) => match read_fd(fd.as_fd(), &mut once) {
                Ok(result) => return result.ok_or(Miss::Failed(Errno::IO)),
                Err(Errno::NODEV | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(Miss::Failed(error)),
            },
            State::Absent(until) if coarse_millis() < *until => return Err(Miss::Remembered),
            State::Absent(_) | State::Unopened => {}
        }
        let mut state = self.state.write();
        let opened = open_beneath(dir, &self.name, OFlags::RDONLY)
            .and_then(|fd| Ok((read_fd(fd.as_fd(), &mut once)?, fd)));
        match opened {
            Ok((result, fd)) => {
                *state = State::Open(fd);
                result.ok_or(Miss::Failed(Errno::IO))
            }
            // EOPNOTSUPP: pressure files where the accounting is switched off
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {
                *state = State::Absent(coarse_millis().saturating_add(ABSENT_FOR));
                Err(Miss::Absent)
            }
            Err(error) => {
                *state = State::Unopened;
                Err(Miss::Failed(error))
            }
        }
    }
}

fn coarse_millis() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn reads_again_from_the_start_and_grows() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        let kept = KeptFile::new("value");
        assert_eq!(kept.read(fd.as_fd(), <[u8]>::len), Err(Miss::Absent));
        std::fs::write(dir.path().join("value"), b"1").unwrap();
        assert_eq!(kept.read(fd.as_fd(), <[u8]>::len), Err(Miss::Remembered));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(kept.read(fd.as_fd(), <[u8]>::to_vec).unwrap(), b"1");
        std::fs::write(dir.path().join("value"), vec![b'x'; 100_000]).unwrap();
        assert_eq!(kept.read(fd.as_fd(), <[u8]>::len), Ok(100_000));
    }

    #[test]
    fn nested_reads_do_not_disturb_each_other() {
        let meminfo = File::open("/proc/meminfo").unwrap();
        let uptime = File::open("/proc/uptime").unwrap();
        let outer = read_fd(meminfo.as_fd(), |text| {
            let before = text.to_vec();
            read_fd(uptime.as_fd(), |_| ()).unwrap();
            before == text && text.starts_with(b"MemTotal:")
        });
        assert_eq!(outer, Ok(true));
    }

    #[test]
    fn a_large_file_does_not_spoil_the_buffer_for_sysctls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::write(&path, vec![b'x'; 5 << 20]).unwrap();
        assert_eq!(read_fd(File::open(&path).unwrap().as_fd(), <[u8]>::len), Ok(5 << 20));
        let sysctl = File::open("/proc/sys/fs/file-nr").unwrap();
        assert!(read_fd(sysctl.as_fd(), <[u8]>::len).unwrap() > 4);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let fd = File::open(dir.path()).unwrap();
        assert_eq!(KeptFile::new("link").read(fd.as_fd(), |_| ()), Err(Miss::Failed(Errno::LOOP)));
        assert!(open_beneath(fd.as_fd(), "../etc", OFlags::PATH).is_err());
    }
}
