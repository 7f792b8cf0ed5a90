//! Starting a worker. The holder does this while everything may be short, so that nothing here allocates.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

/// What a worker finds at fixed numbers.
pub const DEVICE: RawFd = 3;
/// The shared memory.
pub const MEMORY: RawFd = 4;
/// The listening control socket.
pub const LISTENER: RawFd = 5;
/// The link to the holder.
pub const LINK: RawFd = 6;
/// The listening socket for seccomp listeners.
pub const INBOX: RawFd = 7;
/// The holder's own descriptors lie above these.
pub const LOWEST: RawFd = 16;

/// A program and its arguments, ready for execveat(2).
#[derive(Debug)]
pub struct Program {
    argv: Vec<CString>,
    argv_pointers: Vec<*const c_char>,
    env: Vec<CString>,
    env_pointers: Vec<*const c_char>,
    path: CString,
}

impl Program {
    /// This program with other arguments, and with this process's environment but for what is meant for its
    /// own start.
    pub fn this(argv: &[std::ffi::OsString]) -> std::io::Result<Self> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(std::io::Error::from);
        let argv = argv.iter().map(|arg| text(arg.as_bytes().to_vec())).collect::<Result<Vec<_>, _>>()?;
        let own = [
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_PIDFDID",
            "LISTEN_FDNAMES",
            "FDSTORE",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "MAINPID",
        ];
        let env = std::env::vars_os()
            .filter(|(name, _)| !own.iter().any(|own| name == own))
            .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<Vec<_>, _>>()?;
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let path = std::env::current_exe()?.into_os_string().into_vec();
        // as the kernel names a program whose file was replaced
        let path = path.strip_suffix(b" (deleted)").map_or(path.clone(), <[u8]>::to_vec);
        let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
        Ok(Self { argv, argv_pointers, env, env_pointers, path: text(path)? })
    }

    /// The file that this process runs.
    pub fn running() -> rustix::io::Result<OwnedFd> {
        above(rustix::fs::open(c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The file that is at the program's place now.
    pub fn on_disk(&self) -> rustix::io::Result<OwnedFd> {
        above(rustix::fs::open(self.path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Where the program lies.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// How many arguments and variables there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.argv.len(), self.env.len())
    }
}

/// The same file at a number out of the way of the fixed ones.
pub fn above(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if fd.as_raw_fd() >= LOWEST {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, LOWEST)
}

/// What a worker is given, in the order of the fixed numbers.
#[derive(Clone, Copy, Debug)]
pub struct Endowment<'a> {
    /// The connection.
    pub device: BorrowedFd<'a>,
    /// The shared memory.
    pub memory: BorrowedFd<'a>,
    /// The control socket.
    pub listener: BorrowedFd<'a>,
    /// Its end of the link.
    pub link: BorrowedFd<'a>,
    /// The socket for seccomp listeners.
    pub inbox: BorrowedFd<'a>,
}

/// How long a process lives that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It ends with the process that starts it, and the memory killer takes it first.
    WithParent,
    /// It outlives that.
    ItsOwn,
}

/// Forks and runs `file`. The holder has one thread, so that the child may do what it likes; it allocates
/// nothing all the same. All descriptors are above [`LOWEST`].
pub fn spawn(
    program: &Program,
    file: BorrowedFd<'_>,
    endowment: &Endowment<'_>,
    life: Life,
) -> rustix::io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: the process has one thread; the child calls async-signal-safe functions only.
    match unsafe { libc::fork() } {
        -1 => Err(errno()),
        0 => {
            // SAFETY: this is the child just forked, which owns copies of everything.
            let code = unsafe { become_worker(program, file, endowment, (parent, life)) };
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH),
    }
}

fn errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

/// Exit code of a child that could not run the program, as shells have it.
pub const NOT_RUN: u8 = 126;

/// Only returns where the program could not be run.
///
/// # Safety
/// To be called in a child just forked.
unsafe fn become_worker(
    program: &Program,
    file: BorrowedFd<'_>,
    endowment: &Endowment<'_>,
    (parent, life): (Pid, Life),
) -> libc::c_int {
    let Endowment { device, memory, listener, link, inbox } = endowment;
    // SAFETY: plain system calls on numbers; the pointers are to a signal set on the stack, to a constant and to the arrays of
    // `program`, which end with a null pointer.
    unsafe {
        if life == Life::WithParent {
            // A worker without a holder is of no use, and must not answer beside the next one.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent.as_raw_nonzero().get() {
                return 1;
            }
            offer_to_memory_killer();
        }
        let places = [(device, DEVICE), (memory, MEMORY), (listener, LISTENER), (link, LINK), (inbox, INBOX)];
        for (fd, number) in places {
            if libc::dup2(fd.as_raw_fd(), number) != number {
                return i32::from(NOT_RUN);
            }
        }
        // What whoever started the daemon had left open is nothing to a worker. Before Linux 5.11 it gets it.
        libc::syscall(libc::SYS_close_range, INBOX + 1, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        // Signals from the terminal are the holder's business.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            program.argv_pointers.as_ptr(),
            program.env_pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    i32::from(NOT_RUN)
}

/// Where the memory killer looks at a worker: a new one is started, so that it shall not stand under the holder's
/// protection, not even before it runs its program. A holder that could not be protected (no CAP_SYS_RESOURCE) keeps all its
/// memory in RAM and may look larger than its worker: then the worker offers itself, by a third of the memory that there is.
///
/// # Safety
/// To be called in a child just forked.
unsafe fn offer_to_memory_killer() {
    let mut inherited = [0_u8; 8];
    // SAFETY: plain system calls on a constant path and buffers on the stack; a failure changes nothing.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        let len = libc::pread(file, inherited.as_mut_ptr().cast(), inherited.len(), 0);
        let score = match (len, inherited) {
            (1.., [b'-', ..]) => c"0",
            (1.., [b'0', ..]) => c"333",
            _ => c"",
        };
        libc::pwrite(file, score.as_ptr().cast(), score.count_bytes(), 0);
        libc::close(file);
    }
}
