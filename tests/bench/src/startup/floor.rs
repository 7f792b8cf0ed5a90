//! The floor: what the kernel takes for a container when nothing but its system calls is done. One process forks off the
//! container's own into new namespaces and groups, that mounts, changes its root and becomes the program; no program of a
//! launcher is started, no file is read, nothing is checked or written down.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::spawn::{Sample, measure};
use crate::error::{Result, on};
use crate::group::Point;

const CLONE_NEWTIME: i32 = 0x80;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What belongs to it.
#[derive(Debug)]
pub struct Floor {
    /// The container's group on each hierarchy, the file and text of each limit, and whether it is v2.
    groups: Vec<Group>,
    root: PathBuf,
    user: bool,
    time: bool,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    limits: Vec<(PathBuf, String)>,
    v2: bool,
}

/// The limits of every container here.
#[derive(Debug)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    /// CPUs that it may run on, as cpuset writes them.
    pub cpus: String,
    /// Microseconds in each 100,000.
    pub quota: u64,
    /// Processes.
    pub pids: u64,
}

impl Floor {
    /// In groups named `name` at `points`, with the root `root`.
    ///
    /// # Errors
    /// A file of cgroupfs cannot be read.
    pub fn new(
        points: &[&Point],
        name: &str,
        root: &Path,
        limits: &Limits,
        [user, time]: [bool; 2],
    ) -> Result<Self> {
        let mut groups = Vec::new();
        for point in points {
            let path = point.mount.join(name);
            let mut files: Vec<(&str, String)> = Vec::new();
            for controller in &point.controllers {
                match (controller.as_str(), point.v2) {
                    ("memory", false) => files.push(("memory.limit_in_bytes", limits.memory.to_string())),
                    ("memory", true) => files.push(("memory.max", limits.memory.to_string())),
                    ("cpu", false) => files.push(("cpu.cfs_quota_us", limits.quota.to_string())),
                    ("cpu", true) => files.push(("cpu.max", format!("{} 100000", limits.quota))),
                    ("cpuset", v2) => {
                        files.push(("cpuset.cpus", limits.cpus.clone()));
                        if !v2 {
                            let mems = point.mount.join("cpuset.mems");
                            let text = fs::read_to_string(&mems).map_err(on("read", &mems))?;
                            files.push(("cpuset.mems", text.trim().to_owned()));
                        }
                    }
                    ("pids", _) => files.push(("pids.max", limits.pids.to_string())),
                    _ => {}
                }
            }
            let limits = files.into_iter().map(|(file, text)| (path.join(file), text)).collect();
            groups.push(Group { path, limits, v2: point.v2 });
        }
        Ok(Self { groups, root: root.to_owned(), user, time })
    }

    /// Once, in a process of its own; the program must end with `expected`.
    ///
    /// # Errors
    /// It did not.
    pub fn run(&self, program: &CStr, expected: i32) -> Result<Sample> {
        measure(expected, || match self.launch(program) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("ownproc-bench: the floor: {error}");
                self.remove();
                expected.wrapping_add(1)
            }
        })
    }

    fn remove(&self) {
        for group in &self.groups {
            for _ in 0..200 {
                match fs::remove_dir(&group.path) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_micros(200));
                    }
                    _ => break,
                }
            }
        }
    }

    fn launch(&self, program: &CStr) -> io::Result<i32> {
        let mut v2 = None;
        for group in &self.groups {
            fs::create_dir(&group.path)?;
            for (file, text) in &group.limits {
                fs::write(file, text)?;
            }
            if group.v2 {
                v2 = Some(fs::File::open(&group.path)?);
            }
        }
        if self.time {
            unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME))?;
        }
        let (wait, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWNET
            | libc::CLONE_PIDFD;
        if self.user {
            flags |= libc::CLONE_NEWUSER;
        }
        let mut pidfd: i32 = -1;
        // SAFETY: a struct of integers, for which all zeros is a valid value (clone(2): unused fields are 0).
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = u64::from(flags.cast_unsigned());
        args.pidfd = (&raw mut pidfd).addr() as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let Some(group) = &v2 {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
        }
        // SAFETY: a fork of this process's only thread; args is valid and pidfd outlives the call.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
        if pid == 0 {
            drop(go);
            let error = self.child(program, &wait);
            eprintln!("ownproc-bench: the floor's process: {error}");
            // SAFETY: ends the process without running the bench's destructors.
            unsafe { libc::_exit(1) }
        }
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just put a new descriptor there, which nothing else owns.
        let _pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let text = pid.to_string();
        if self.user {
            for file in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{pid}/{file}"), "0 0 4294967295")?;
            }
        }
        for group in self.groups.iter().filter(|group| !group.v2) {
            fs::write(group.path.join("cgroup.procs"), &text)?;
        }
        nix::unistd::write(&go, &[1])?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
        let code = match nix::sys::wait::waitpid(pid, None)? {
            nix::sys::wait::WaitStatus::Exited(_, code) => code,
            other => return Err(io::Error::other(format!("{other:?}"))),
        };
        self.remove();
        Ok(code)
    }

    /// Only returns with an error. The mounts are made while the other process writes to the groups, but for those that a
    /// user namespace needs its map for.
    fn child(&self, program: &CStr, wait: &OwnedFd) -> io::Error {
        let hear = || nix::unistd::read(wait, &mut [0]);
        let build = || -> nix::Result<()> {
            let none: Option<&str> = None;
            if self.user {
                hear()?;
            }
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some(&self.root), &self.root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            mount(Some("proc"), &self.root.join("proc"), Some("proc"), flags | MsFlags::MS_NODEV, none)?;
            mount(Some("tmpfs"), &self.root.join("dev"), Some("tmpfs"), flags, Some("mode=755"))?;
            nix::unistd::chdir(&self.root)?;
            nix::unistd::pivot_root(".", ".")?;
            umount2(".", MntFlags::MNT_DETACH)?;
            nix::unistd::chdir("/")?;
            if !self.user {
                hear()?;
            }
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
            nix::unistd::sethostname("startup")
        };
        if let Err(errno) = build() {
            return errno.into();
        }
        match nix::unistd::execve(program, &[program], &[] as &[&CStr]) {
            Err(errno) => errno.into(),
        }
    }
}
