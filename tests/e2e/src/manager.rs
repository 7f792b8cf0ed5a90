//! A service manager as far as a daemon's descriptors are concerned: what sd_notify(3), sd_listen_fds(3) and systemd's source
//! (service.c) say of its store.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::case::{Doing, Outcome, check, fail};
use crate::daemon::Daemon;
use crate::programs;

/// The manager of one service.
pub struct Manager {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    store: Vec<Stored>,
    /// All messages, their lines joined by a space.
    said: Vec<String>,
    /// What was done against the protocol.
    wrong: Vec<String>,
}

/// A descriptor in the store.
pub struct Stored {
    /// FDNAME=
    pub name: String,
    pub fd: OwnedFd,
}

impl Manager {
    /// A manager that listens for what a daemon says.
    pub fn start(name: &str) -> Outcome<Self> {
        let dir = PathBuf::from(format!("/var/tmp/ownproc-e2e-{}", std::process::id()));
        std::fs::create_dir_all(&dir).doing(dir.display())?;
        let path = dir.join(format!("{name}.notify"));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).doing(path.display())?;
        let state = Arc::new(Mutex::new(State::default()));
        let of_thread = Arc::clone(&state);
        // It ends with the process of the case.
        std::thread::spawn(move || while receive(&socket, &of_thread).is_ok() {});
        Ok(Self { socket: path, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The names of what is stored.
    pub fn names(&self) -> Vec<String> {
        self.state().store.iter().map(|stored| stored.name.clone()).collect()
    }

    /// Looks at the store, or changes it.
    pub fn store<T>(&self, look: impl FnOnce(&mut Vec<Stored>) -> T) -> T {
        look(&mut self.state().store)
    }

    /// Whether a message with this line has come.
    pub fn heard(&self, line: &str) -> bool {
        self.state().said.iter().any(|message| message.split(' ').any(|said| said == line))
    }

    /// Forgets the messages so far.
    pub fn hush(&self) {
        self.state().said.clear();
    }

    /// Waits for the state that a check of the names tells.
    pub fn wait_for(&self, what: &str, found: impl Fn(&[String]) -> bool) -> Outcome {
        let until = Instant::now() + Duration::from_secs(20);
        while !found(&self.names()) {
            check!(Instant::now() < until, "the store after 20 s, waiting for {what}: {:?}", self.names());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Fails where the daemon has spoken against the protocol.
    pub fn check(&self) -> Outcome {
        let state = self.state();
        check!(state.wrong.is_empty(), "against the protocol: {}", state.wrong.join("; "));
        Ok(())
    }

    /// `ownproc`, to be started as the service's main process, with all that is stored.
    pub fn command(&self) -> Outcome<Command> {
        self.command_passing(&[])
    }

    /// The same with further descriptors, which are none of the daemon's.
    pub fn command_passing(&self, foreign: &[(&str, RawFd)]) -> Outcome<Command> {
        let state = self.state();
        let mut passed: Vec<(String, RawFd)> =
            foreign.iter().map(|(name, fd)| ((*name).to_owned(), *fd)).collect();
        passed.extend(state.store.iter().map(|stored| (stored.name.clone(), stored.fd.as_raw_fd())));
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        // The variable must hold the number of the process that runs in the end.
        let mut command = Command::new("sh");
        command.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""]);
        command.arg(programs::bin_dir()?.join("ownproc"));
        command
            .env("NOTIFY_SOCKET", &self.socket)
            .env("FDSTORE", "8")
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let fds: Vec<RawFd> = passed.iter().map(|(_, fd)| *fd).collect();
        // SAFETY: between fork and exec only fcntl(2) and dup2(2) are called, with numbers that were copied before.
        unsafe {
            command.pre_exec(move || pass(&fds));
        }
        Ok(command)
    }

    /// Starts `ownproc serve` with all that is stored.
    pub fn serve(&self, mount: &Path) -> Outcome<Daemon> {
        Daemon::spawn(self.command()?, mount.to_owned(), &[])
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let _ = self.socket.parent().map(std::fs::remove_dir);
    }
}

/// Puts descriptors at 3 and above.
fn pass(fds: &[RawFd]) -> std::io::Result<()> {
    let call = |result: libc::c_int| match result {
        -1 => Err(std::io::Error::last_os_error()),
        number => Ok(number),
    };
    let mut high = [0; 16];
    // SAFETY: plain system calls on numbers.
    unsafe {
        for (fd, high) in fds.iter().zip(&mut high) {
            *high = call(libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 100))?;
        }
        for (number, (_, high)) in (3..).zip(fds.iter().zip(&high)) {
            call(libc::dup2(*high, number))?;
        }
    }
    Ok(())
}

/// Takes one message.
fn receive(socket: &UnixDatagram, state: &Mutex<State>) -> Outcome {
    let mut bytes = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these for us, and nobody else knows of them.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let len = message.bytes;
    let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(&text, fds);
    Ok(())
}

impl State {
    fn take(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let lines: Vec<&str> = text.lines().collect();
        self.said.push(lines.join(" "));
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key));
        let name = value("FDNAME=").unwrap_or("stored").to_owned();
        if value("FDSTOREREMOVE=") == Some("1") {
            self.store.retain(|stored| stored.name != name);
        } else if value("FDSTORE=") == Some("1") {
            if value("FDPOLL=") != Some("0") {
                self.wrong.push(format!("{name} is stored without FDPOLL=0"));
            }
            if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') || name.len() > 255 {
                self.wrong.push(format!("{name:?} is no name"));
            }
            for fd in fds {
                // systemd keeps one of several descriptors of the same open file
                if !self.store.iter().any(|stored| same(&stored.fd, &fd)) {
                    self.store.push(Stored { name: name.clone(), fd });
                }
            }
            if self.store.len() > 8 {
                self.wrong.push(format!("{} descriptors in a store for 8", self.store.len()));
            }
        } else if value("BARRIER=") != Some("1") && !fds.is_empty() {
            self.wrong.push(format!("descriptors with {text:?}"));
        }
        // those of a barrier are closed here
    }
}

/// Whether two descriptors are of one open file.
fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: compares two numbers of this process; nothing is written anywhere.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) == 0 }
}

/// Waits for something that takes a moment.
pub fn eventually(what: &str, mut is: impl FnMut() -> Outcome<bool>) -> Outcome {
    let until = Instant::now() + Duration::from_secs(20);
    while !is()? {
        if Instant::now() > until {
            fail!("not after 20 s: {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
