//! A root directory for containers of OCI runtimes.

use std::ffi::CStr;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use crate::case::{Doing, Outcome};
use crate::output::run;

/// A directory with busybox as root of a container; goes when dropped.
pub struct Bundle {
    /// Holds it all.
    pub dir: PathBuf,
    /// In every hierarchy, also those that the tests do not use themselves.
    pub parent: String,
}

impl Bundle {
    /// Makes it; `name` is the case's own.
    pub fn make(name: &str) -> Outcome<Self> {
        let dir = PathBuf::from(format!("/var/tmp/ownproc-e2e-{}-{name}", std::process::id()));
        let bundle = Self { dir, parent: format!("/ownproc-e2e/{}-{name}", std::process::id()) };
        let root = bundle.root();
        for folder in ["bin", "proc", "sys", "dev", "tmp", "etc", "run"] {
            std::fs::create_dir_all(root.join(folder)).doing(folder)?;
        }
        let busybox = Path::new("/bin/busybox");
        std::fs::copy(busybox, root.join("bin/busybox")).doing("busybox")?;
        for name in ["sh", "sleep", "cat", "id", "head", "nproc", "mkdir", "tty", "true", "ls", "grep"] {
            symlink("busybox", root.join("bin").join(name))?;
        }
        bundle.add_libraries(busybox)?; // Debian's needs the C library
        Ok(bundle)
    }

    /// `ownproc-run` for engines that do not hand on their environment: with the daemon of the cases.
    pub fn runtime(&self) -> Outcome<String> {
        let path = self.dir.join("ownproc-run");
        let (mount, program) = (crate::daemon::shared_mount()?, crate::programs::ownproc_run()?);
        let program = program.get_program().display();
        let text = format!("#!/bin/sh\nOWNPROC_MOUNT={} exec {program} \"$@\"\n", mount.display());
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    /// Copies a program of the host, in place of busybox's, with its libraries.
    pub fn add_program(&self, name: &str) -> Outcome {
        let program = Path::new("/usr/bin").join(name);
        let to = self.root().join("bin").join(name);
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&program, to).doing(program.display())?;
        self.add_libraries(&program)
    }

    /// Copies the libraries that a program of the host needs.
    pub fn add_libraries(&self, program: &Path) -> Outcome {
        let libraries = run(Command::new("ldd").arg(program))?.stdout;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let to = self.root().join(library.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().doing(library)?)?;
            std::fs::copy(library, to).doing(library)?;
        }
        Ok(())
    }

    /// The root directory.
    pub fn root(&self) -> PathBuf {
        self.dir.join("rootfs")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in table.lines() {
            let Some(point) = line.split(' ').nth(4) else { continue };
            if Path::new(point).starts_with(&self.dir) {
                let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
            } else if line.contains(" - cgroup ") || line.contains(" - cgroup2 ") {
                sweep(&Path::new(point).join(self.parent.trim_start_matches('/')));
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes cgroups that a case has left, however deep they are, with what is in them.
fn sweep(dir: &Path) {
    use ownproc::cgroup::deep;
    for _ in 0..50 {
        let Ok(top) = deep::open(dir) else { break };
        let _ = deep::walk(&top, &mut Sweep);
        if std::fs::remove_dir(dir).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = dir.parent().filter(|parent| parent.ends_with("ownproc-e2e")).map(std::fs::remove_dir);
}

struct Sweep;

impl ownproc::cgroup::deep::Visit for Sweep {
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> ControlFlow<()> {
        let open = |name: &str, flags| openat(cgroup, name, flags, Mode::empty()).map(std::fs::File::from);
        if let Ok(mut file) = open("freezer.state", OFlag::O_WRONLY) {
            let _ = file.write(b"THAWED");
        }
        let mut text = String::new();
        if let Ok(mut file) = open("cgroup.procs", OFlag::O_RDONLY) {
            let _ = file.read_to_string(&mut text);
        }
        for pid in text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        ControlFlow::Continue(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> ControlFlow<()> {
        let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
        ControlFlow::Continue(())
    }
}
