//! Starting the main process anew.

use std::ffi::{CString, OsString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use super::Kit;
use crate::session::{fdstore, link};

/// The first number of what is passed (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// How long to wait before the next start: nothing at first, and longer the sooner the one before
/// has died.
pub(super) struct Pause {
    next: Duration,
    last: Option<Instant>,
    /// Starts in a row, one soon after the other.
    count: u32,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: Duration::ZERO, last: None, count: 0 }
    }
}

impl Pause {
    const LONGEST: Duration = Duration::from_secs(60);
    const FIRST: Duration = Duration::from_millis(100);
    /// One that lived so long starts again without a pause.
    const GOOD: Duration = Duration::from_secs(10);

    pub(super) fn wait(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() > Self::GOOD + self.next) {
            self.next = Duration::ZERO;
            self.count = 0;
        }
        self.count = self.count.wrapping_add(1);
        std::thread::sleep(self.next);
        self.next = (self.next * 2).clamp(Self::FIRST, Self::LONGEST);
        self.last = Some(Instant::now());
    }
}

impl Pause {
    /// Whether this is the first start, the third and so on of those that follow one another.
    pub(super) const fn is_odd(&self) -> bool {
        self.count % 2 == 1
    }
}

/// Collects main processes that have ended.
pub(super) fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Starts it; our end of the link. `from_disk`: of the program that lies at this one's place, which may be a newer one;
/// else of this one, which has served before.
pub(super) fn start(kit: &Kit, from_disk: bool) -> std::io::Result<OwnedFd> {
    let (ours, its) = link::pair()?;
    rustix::io::ioctl_fionbio(&ours, false)?;
    let program = program(from_disk)?;
    let listeners = kit.listeners.iter().map(|(number, fd)| (fdstore::listener_name(*number), fd));
    let own = [
        (fdstore::DEVICE.to_owned(), &kit.device),
        (fdstore::own_memory(), &kit.memory),
        (fdstore::KEEPER.to_owned(), &its),
    ];
    let passed: Vec<(String, &OwnedFd)> = own.into_iter().chain(listeners).collect();
    let argv: Vec<CString> = arguments(std::env::args_os()).filter_map(text).collect();
    // SAFETY: the keeper has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            let error = become_it(&program, &argv, &passed);
            crate::session::notice::say(format_args!("cannot start the main process: {error}"));
            // SAFETY: ends the child without running the keeper's destructors.
            unsafe { libc::_exit(126) }
        }
        _ => Ok(ours),
    }
}

fn text(word: OsString) -> Option<CString> {
    CString::new(word.into_vec()).ok()
}

/// The command line of the main process: the keeper's own without its role.
fn arguments(own: impl DoubleEndedIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut words: Vec<OsString> = own.collect();
    words.truncate(words.len().saturating_sub(2));
    words.into_iter()
}

/// The program that lies at the place of this one, as after an upgrade; this one where there is
/// none.
fn program(from_disk: bool) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path = std::env::current_exe()?;
    let path = path.as_os_str().as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let there = rustix::fs::open(path, flags, Mode::empty());
    let is_program = |file: &OwnedFd| {
        rustix::fs::fstat(file).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    };
    match there.ok().filter(|file| from_disk && is_program(file)) {
        Some(file) => Ok(file),
        None => Ok(rustix::fs::open("/proc/self/exe", flags, Mode::empty())?),
    }
}

/// In the child: only returns with an error.
fn become_it(program: &OwnedFd, argv: &[CString], passed: &[(String, &OwnedFd)]) -> std::io::Error {
    let lay = || -> std::io::Result<Vec<OwnedFd>> {
        let count = RawFd::try_from(passed.len()).map_err(std::io::Error::other)?;
        // out of the way first: a number may be one of those that are wanted
        let away = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, FIRST + count);
        let copies = passed.iter().map(|(_, fd)| away(fd)).collect::<Result<Vec<_>, _>>()?;
        let program = away(program)?;
        for (copy, number) in copies.iter().zip(FIRST..) {
            // SAFETY: what is open there is used no more: this process becomes another program.
            if unsafe { libc::dup2(copy.as_raw_fd(), number) } != number {
                return Err(std::io::Error::last_os_error());
            }
            // SAFETY: it has just been opened.
            fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty())?;
        }
        Ok(vec![program])
    };
    let program = match lay() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
    let own = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let listen = [
        format!("LISTEN_PID={}", std::process::id()),
        format!("LISTEN_FDS={}", names.len()),
        format!("LISTEN_FDNAMES={}", names.join(":")),
    ];
    let env = own.chain(listen.map(String::into_bytes)).filter_map(|pair| CString::new(pair).ok());
    let env: Vec<CString> = env.collect();
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(&env));
    let Some(program) = program.first() else { return std::io::ErrorKind::NotFound.into() };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: the default action is no handler that could be unsafe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: both arrays end with a null pointer, and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    std::io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_left_out() {
        let words = ["ownproc", "serve", "/x", "--role", "keeper"].map(OsString::from);
        assert_eq!(arguments(words.into_iter()).collect::<Vec<_>>(), ["ownproc", "serve", "/x"]);
        assert_eq!(arguments(std::iter::empty()).count(), 0);
    }

    #[test]
    fn pauses_grow() {
        let mut pause = Pause::default();
        pause.wait();
        assert_eq!(pause.next, Pause::FIRST);
        pause.wait();
        assert_eq!(pause.next, Pause::FIRST * 2);
        pause.next = Pause::LONGEST;
        pause.last = Some(Instant::now() - Pause::LONGEST - Pause::GOOD - Duration::from_secs(1));
        pause.wait();
        assert_eq!(pause.next, Pause::FIRST, "one that lived long");
    }
}
