//! From a process of the container to its command: the search in PATH, and exec.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Docker's exit codes.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Ready for execve.
#[derive(Debug)]
pub struct Program {
    /// Where it may be, in the order of PATH.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

/// As execvp(3): a word with a slash is a path, others are sought in PATH.
fn candidates(word: &[u8], path: &str) -> Vec<Vec<u8>> {
    if word.contains(&b'/') {
        return vec![word.to_vec()];
    }
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| [directory.as_bytes(), b"/", word].concat())
        .collect()
}

impl Program {
    /// For a command and an environment that are words already.
    pub fn new(argv: Vec<CString>, env: Vec<CString>) -> Self {
        let word = argv.first().map(|word| word.as_bytes()).unwrap_or_default();
        let path = env.iter().find_map(|pair| pair.to_str().ok()?.strip_prefix("PATH="));
        let text = |bytes: Vec<u8>| CString::new(bytes).ok();
        let candidates = candidates(word, path.unwrap_or_default()).into_iter().filter_map(text).collect();
        Self { candidates, argv, env }
    }

    /// Sets a variable of the environment. A value with a NUL byte is left out.
    pub fn set(&mut self, name: &str, value: &str) {
        let begin = format!("{name}=");
        self.env.retain(|pair| !pair.as_bytes().starts_with(begin.as_bytes()));
        self.env.extend(CString::new(format!("{begin}{value}")));
    }

    /// Whether there is a file to execute at all; else why not.
    pub fn look(&self) -> Result<(), String> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let there = |path: &CString| {
            let found = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
            !matches!(found, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
        };
        if self.candidates.iter().any(there) {
            return Ok(());
        }
        let word = self.argv.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        // podman and Docker look for these words, and end with 127
        Err(if word.contains('/') {
            format!("{word}: no such file or directory")
        } else {
            format!("{word}: executable file not found in $PATH: No such file or directory")
        })
    }

    /// Becomes the command; returns an exit code and the reason if it cannot.
    pub fn execute(&self) -> (i32, String) {
        let mut worst = Errno::ENOENT;
        for candidate in &self.candidates {
            match try_one(candidate, self) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => worst = Errno::EACCES, // another directory of PATH may have it
                error => {
                    worst = error;
                    break;
                }
            }
        }
        let word = self.argv.first().map(|word| OsStr::from_bytes(word.to_bytes())).unwrap_or_default();
        let (code, reason) = match worst {
            Errno::ENOENT => (NOT_FOUND, "not found in the container".to_owned()),
            Errno::ELOOP => {
                (NOT_EXECUTABLE, "leads through a link of /proc, which is not followed".to_owned())
            }
            Errno::ENOEXEC => (NOT_EXECUTABLE, "neither a program nor a script with a #! line".to_owned()),
            error => (NOT_EXECUTABLE, format!("cannot be executed: {}", error.desc())),
        };
        (code, format!("{}: {reason}", word.display()))
    }
}

/// Signals as a shell would hand them on: Rust's runtime ignores SIGPIPE, and the launcher blocks some.
pub fn reset_signals(mask: &SigSet) {
    // SAFETY: the default action is no handler that could be unsafe.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
}

/// A path through a magic link is refused: the container's tree could lead it to /proc/self/exe, which is the
/// launcher's own file on the host (the way of CVE-2019-5736).
fn try_one(path: &CStr, program: &Program) -> Errno {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if let Err(error) = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        return Errno::from_raw(error.raw_os_error());
    }
    match nix::unistd::execve(path, &program.argv, &program.env) {
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search() {
        let show = |word: &str, path| -> Vec<String> {
            candidates(word.as_bytes(), path).into_iter().map(|c| String::from_utf8(c).unwrap()).collect()
        };
        assert_eq!(show("ls", "/a::/b"), ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(show("./ls", "/a"), ["./ls"]);
    }
}
