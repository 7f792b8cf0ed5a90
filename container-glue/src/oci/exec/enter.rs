//! The way into the container: a helper that its processes cannot see, and the process that is born
//! in it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};

use super::super::config::process::Process;
use super::super::process::{self, Labels};
use super::super::seccomp::Filter;
use super::super::{affinity, console, init, sysinfo};
use crate::command::{self, Program};
use crate::groups::Entrances;
use crate::namespaces;
use crate::rootfs::{SetupError, Step};
use crate::sync::Channel;

/// From the helper and the process to `exec`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The helper is in the container, and about to take on the program's rights.
    Inside,
    /// The process is there; its number on the host.
    Born(i32),
    /// Why it did not become the program.
    Failed(String),
}

/// From `exec` to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// It has the program's limits.
    GoOn,
}

/// What both have of `exec`, whose memory they have a copy of.
pub struct Entered<'a> {
    /// What is started.
    pub process: &'a Process,
    /// The container's filter.
    pub filter: Option<&'a Filter>,
    /// The same with sysinfo(2) answered by the daemon, where it is.
    pub sysinfo: Option<&'a Filter>,
    /// To the one that waits beside it.
    pub beside: BorrowedFd<'a>,
    /// personality(2).
    pub personality: Option<libc::c_ulong>,
    /// Gets the terminal.
    pub console: Option<&'a OwnedFd>,
    /// Descriptors that the process gets beside the first three.
    pub preserved: u32,
    /// Reports go there.
    pub channel: &'a Channel,
    /// One byte comes when the process may become its program.
    pub gate: BorrowedFd<'a>,
}

/// The helper: its exit code.
///
/// The container's cgroups hold it before anything else, so that its child is born in them. Where
/// they are frozen it waits here for `resume`.
pub fn main(it: &Entered<'_>, entrances: Entrances, container: BorrowedFd<'_>, flags: i32) -> i32 {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let program = match enter(it, entrances, container, flags) {
        Ok(Some(program)) => program,
        Ok(None) => return 1,
        Err(error) => {
            report(it, &Report::Failed(error.to_string()));
            return 1;
        }
    };
    match namespaces::fork_sibling(|| newborn(it, &program)) {
        Ok(pid) => {
            report(it, &Report::Born(pid));
            0
        }
        Err(error) => {
            report(it, &Report::Failed(why_no_process(&error)));
            1
        }
    }
}

fn why_no_process(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            ": the container is at its limit of processes (it takes two more); raise it by update --pids-limit"
        }
        Some(libc::EPERM | libc::ENOSYS) => ": linux.seccomp does not allow clone(2)",
        _ => "",
    };
    format!("cannot start a process in the container: {error}{hint}")
}

/// Into the container, out of all rights that the program does not have. `None` where `exec` is
/// gone.
fn enter(
    it: &Entered<'_>,
    entrances: Entrances,
    container: BorrowedFd<'_>,
    flags: i32,
) -> Result<Option<Program>, SetupError> {
    if let Some(cpus) = &it.process.affinity.initial {
        affinity::set(cpus)
            .step(|| "cannot run on the CPUs of process.execCPUAffinity.initial".to_owned())?;
    }
    entrances.enter().map_err(io::Error::other).step(|| "cannot enter the container's cgroups".to_owned())?;
    if let Some(cpus) = &it.process.affinity.last {
        affinity::set(cpus).step(|| "cannot run on the CPUs of process.execCPUAffinity.final".to_owned())?;
    }
    let labels = Labels::open(it.process)?;
    // all in one call: the user namespace decides what the others may be entered with. That of pids
    // is for children only
    setns(container, CloneFlags::from_bits_retain(flags))
        .step(|| "cannot enter the container's namespaces".to_owned())?;
    let console = init::terminal(it.process, it.console, None)?;
    process::new_keyring();
    if let Some(console) = console {
        console.become_stdio(it.process.uid).step(|| "cannot take the terminal".to_owned())?;
    }
    process::enter_cwd(it.process)?;
    let program = Program::new(it.process.args.clone(), it.process.env.clone());
    program.look().map_err(io::Error::other).step(|| "cannot start".to_owned())?;
    init::take_personality(it.personality)?;
    let own = [it.channel.fd().as_raw_fd(), it.beside.as_raw_fd(), it.gate.as_raw_fd()];
    let kept: Vec<_> = labels.fds().chain(own).collect();
    process::close_all_but(it.preserved, &kept);
    // limits are set from outside, and by the same user: root need not have CAP_SYS_RESOURCE
    report(it, &Report::Inside);
    if !matches!(it.channel.receive(), Ok(Some(_))) {
        return Ok(None);
    }
    process::drop_rights(it.process, labels, || seccomp(it))?;
    if !it.process.no_new_privileges {
        process::let_go(&it.beside); // `exec` hears that the filter is there
    }
    process::enter_cwd(it.process)?;
    Ok(Some(program))
}

fn seccomp(it: &Entered<'_>) -> Result<(), SetupError> {
    match (it.sysinfo, it.filter) {
        (Some(with), filter) => sysinfo::install(with, filter, it.beside),
        // a listener was handed out once, when the container was made: none is asked for here
        (None, Some(filter)) => filter.install().map(drop).step(|| "cannot install linux.seccomp".to_owned()),
        (None, None) => Ok(()),
    }
}

/// The process: its exit code where it does not become the program. From its birth on the container
/// can stop, trace and kill it.
fn newborn(it: &Entered<'_>, program: &Program) -> i32 {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let last = || {
        nix::unistd::setsid().step(|| "cannot make a session".to_owned())?;
        if it.process.terminal && it.console.is_some() {
            console::take_control().step(|| "cannot take the terminal".to_owned())?;
        }
        if !matches!(rustix::io::read(it.gate, &mut [0]), Ok(1)) {
            return Ok(false);
        }
        if it.process.no_new_privileges {
            seccomp(it)?;
        }
        Ok::<_, SetupError>(true)
    };
    let why = match last() {
        Ok(false) => return 1,
        Ok(true) => {
            let _ = rustix::process::set_parent_process_death_signal(None);
            command::reset_signals(&SigSet::empty());
            program.execute().1
        }
        Err(error) => error.to_string(),
    };
    report(it, &Report::Failed(why));
    127
}

fn report(it: &Entered<'_>, report: &Report) {
    if let Ok(message) = serde_json::to_vec(report) {
        let _ = it.channel.send(&message);
    }
}
