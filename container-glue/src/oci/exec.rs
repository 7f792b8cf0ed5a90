//! `exec`: one more process in a running container.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use oci_spec::runtime::{Capability, Process as OciProcess};
use serde::{Deserialize, Serialize};

use super::args::{ExecArgs, Global};
use super::config::namespaces::KINDS;
use super::config::process::Process;
use super::process::{self, Labels};
use super::seccomp::{self, Filter};
use super::store::{Record, Status, Store};
use super::sysinfo::{self, Beside};
use super::{Doing, OciError, affinity, bundle, config, console, create, init, join, relay, rootless};
use crate::command::{self, Program};
use crate::namespaces::{self, Child};
use crate::rootfs::{SetupError, Step};
use crate::supervise::Signals;
use crate::sync::{self, Channel};

/// From the process that entered the container to the one that asked for it.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// Why it did not become the program.
    Failed(String),
}

/// `exec`: the exit code of the process, or 0 where it is left running.
pub fn exec(global: &Global, args: &ExecArgs) -> Result<u8, OciError> {
    let entry = Store::open(&global.root)?.entry(&args.id)?;
    let record = entry.read()?;
    match entry.status(&record) {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        status => {
            let hint = "a process can be started in one that runs";
            return Err(OciError::Status { id: args.id.clone(), is: status.name(), hint });
        }
    }
    let asked = process(&record, args)?;
    let process = Process::new(&asked)?;
    let relay = relay::wanted(process.terminal && args.console_socket.is_none() && !args.detach)?;
    if relay.is_none() {
        console::check(process.terminal, args.console_socket.as_deref())?;
    }
    let linux = record.spec.linux().as_ref();
    let filter = linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::compile).transpose()?;
    let with = config::sysinfo::filter(&record.spec)?;
    let personality = linux.map(config::personality).transpose()?.flatten();
    let console = match (&relay, args.console_socket.as_deref()) {
        (Some(relay), _) => Some(relay.receiver()?),
        (None, path) => path.map(console::connect).transpose()?,
    };
    let container = record.alive().ok_or(OciError::NotRunning)?;
    let flags = spaces(record.pid)?;
    // nobody in the container may look into this program, whose copy the new process begins as (CVE-2016-9962)
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .doing("hide this process's memory")?;
    let signals = Signals::block().doing("block signals")?;
    let (ours, theirs) = sync::channel().doing("make a socket pair")?;
    let (ready, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing("make a pipe")?;
    let beside = with.as_ref().map(|_| Beside::new(&record.mount));
    let (of_beside, of_process) = UnixStream::pair().doing("make a socket pair")?;
    let entered = Entered {
        process: &process,
        filter: filter.as_ref(),
        sysinfo: with.as_ref(),
        beside: of_process.as_fd(),
        personality,
        console: console.as_ref(),
        preserved: args.preserve_fds,
    };
    let Child { pid, pidfd } = {
        let left = if rootless::is_user() { flags & !libc::CLONE_NEWUSER } else { flags };
        let child = || {
            process::let_go(ours.fd());
            process::let_go(&go);
            enter(&entered, container.as_fd(), left, &theirs, &ready)
        };
        // a process of its own enters the pid namespace, and its child is in it, but a child of this one
        born_inside(container.as_fd(), flags, child)?
    };
    drop((theirs, ready, of_process));
    let placed = place(&record, pid)
        .and_then(|()| process::limit(pid, &process).map_err(|error| OciError::Setup(error.to_string())));
    if placed.is_ok() {
        let _ = rustix::io::write(&go, &[1]); // a process that is gone is heard to be
    }
    drop(go);
    if let Some(beside) = beside {
        // ends when it becomes its program, or ends
        beside.serve(&of_beside).doing("hear from the process")?;
    }
    let failed = hear(&ours)?;
    if let Some(why) = placed.err().or(failed) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        let _ = crate::supervise::exit_code(pidfd.as_fd());
        return Err(why);
    }
    if let Some(path) = &args.pid_file {
        create::write_pid(path, pid)?;
    }
    drop(entry);
    if args.detach {
        return Ok(0);
    }
    match relay {
        Some(relay) => relay.run(pidfd.as_fd(), &signals),
        None => signals.relay(pidfd.as_fd()),
    }
    .doing("wait for the process")
}

/// What it said before it became the program; nothing where it did.
fn hear(channel: &Channel) -> Result<Option<OciError>, OciError> {
    let message = channel.receive().doing("hear from the process")?;
    Ok(message.map(|message| match serde_json::from_slice(&message) {
        Ok(Report::Failed(why)) => OciError::Setup(why),
        Err(error) => OciError::Setup(format!("the process said what is not understood: {error}")),
    }))
}

/// The namespaces of the container's process that are not this program's.
fn spaces(pid: i32) -> Result<i32, OciError> {
    let mut flags = 0;
    for (name, kind) in KINDS {
        let link = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}"));
        match (link("self"), link(&pid.to_string())) {
            (Ok(own), Ok(theirs)) if own != theirs => flags |= kind,
            (Ok(_), Err(error)) => {
                return Err(OciError::io("read", format!("/proc/{pid}/ns/{name}"), error));
            }
            _ => {}
        }
    }
    Ok(flags)
}

/// Starts `child` in the container's pid and time namespaces. They hold for children only: this program enters them,
/// which changes nothing for itself.
fn born_inside(
    container: BorrowedFd<'_>,
    flags: i32,
    child: impl FnOnce() -> i32,
) -> Result<Child, OciError> {
    let of_children = flags & libc::CLONE_NEWPID;
    if rootless::is_user() {
        // his rights over the pid namespace begin in the user namespace
        let kinds = CloneFlags::from_bits_retain(of_children | flags & libc::CLONE_NEWUSER);
        let enter =
            || setns(container, kinds).step(|| "cannot enter the container's user namespace".to_owned());
        return join::between(enter, 0, None, child);
    }
    if of_children != 0 {
        setns(container, CloneFlags::from_bits_retain(of_children))
            .doing("enter the container's pid namespace")?;
    }
    namespaces::spawn(0, None, child).doing("start a process in the container")
}

/// Moves it into the container's groups.
fn place(record: &Record, pid: i32) -> Result<(), OciError> {
    for group in &record.groups {
        crate::groups::tree::write(&group.path.join("cgroup.procs"), &pid.to_string())?;
    }
    Ok(())
}

struct Entered<'a> {
    process: &'a Process,
    filter: Option<&'a Filter>,
    /// The same with sysinfo(2) answered by the daemon, where it is.
    sysinfo: Option<&'a Filter>,
    /// To the one that waits beside it.
    beside: BorrowedFd<'a>,
    personality: Option<libc::c_ulong>,
    console: Option<&'a OwnedFd>,
    /// Descriptors that the process gets beside the first three.
    preserved: u32,
}

fn enter(it: &Entered<'_>, container: BorrowedFd<'_>, flags: i32, channel: &Channel, ready: &OwnedFd) -> i32 {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let placed = || {
        if let Some(cpus) = &it.process.affinity.initial {
            affinity::set(cpus)
                .step(|| "cannot run on the CPUs of process.execCPUAffinity.initial".to_owned())?;
        }
        let mut word = [0];
        Ok::<_, SetupError>(matches!(rustix::io::read(ready, &mut word), Ok(1)))
    };
    let become_it = || match placed() {
        // the container's groups hold it from here on
        Ok(true) => become_it(it, container, flags, channel).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let why = match become_it() {
        Ok(None) => return 1,
        Ok(Some(program)) => program.execute().1,
        Err(error) => error.to_string(),
    };
    if let Ok(message) = serde_json::to_vec(&Report::Failed(why)) {
        let _ = channel.send(&message);
    }
    127
}

fn become_it(
    it: &Entered<'_>,
    container: BorrowedFd<'_>,
    flags: i32,
    channel: &Channel,
) -> Result<Program, SetupError> {
    if let Some(cpus) = &it.process.affinity.last {
        affinity::set(cpus).step(|| "cannot run on the CPUs of process.execCPUAffinity.final".to_owned())?;
    }
    let labels = Labels::open(it.process)?;
    // all in one call: the user namespace decides what the others may be entered with
    setns(container, CloneFlags::from_bits_retain(flags & !libc::CLONE_NEWPID))
        .step(|| "cannot enter the container's namespaces".to_owned())?;
    nix::unistd::setsid().step(|| "cannot make a session".to_owned())?;
    let console = init::terminal(it.process, it.console, None)?;
    process::new_keyring();
    if let Some(console) = console {
        console.adopt(it.process.uid).step(|| "cannot take the terminal".to_owned())?;
    }
    process::enter_cwd(it.process)?;
    let program = Program::new(it.process.args.clone(), it.process.env.clone());
    program.look().map_err(io::Error::other).step(|| "cannot start".to_owned())?;
    init::take_personality(it.personality)?;
    let own = [channel.fd().as_raw_fd(), it.beside.as_raw_fd()];
    let kept: Vec<_> = labels.fds().chain(own).collect();
    process::close_all_but(it.preserved, &kept);
    process::become_it(it.process, &labels, &mut || match (it.sysinfo, it.filter) {
        (Some(with), filter) => sysinfo::install(with, filter, it.beside),
        // a listener was handed out once, when the container was made: none is asked for here
        (None, Some(filter)) => filter.install().map(drop).step(|| "cannot install linux.seccomp".to_owned()),
        (None, None) => Ok(()),
    })?;
    process::enter_cwd(it.process)?;
    let _ = rustix::process::set_parent_process_death_signal(None);
    command::reset_signals(&SigSet::empty());
    Ok(program)
}

/// The process that is asked for: a whole one from a file, or the container's with changes.
fn process(record: &Record, args: &ExecArgs) -> Result<OciProcess, OciError> {
    if let Some(path) = &args.process {
        return bundle::read(path);
    }
    let mut process = record.spec.process().clone().unwrap_or_default();
    if args.command.is_empty() {
        return Err(OciError::Setup("no command: give one behind the name, or --process FILE".to_owned()));
    }
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &args.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| OciError::Setup(format!("--user {user}: give UID or UID:GID")))
        };
        process.user_mut().set_uid(number(uid)?);
        if !gid.is_empty() {
            process.user_mut().set_gid(number(gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(args.additional_gids.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    for name in &args.cap {
        let upper = name.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let capability: Capability = serde_json::from_value(serde_json::Value::String(name.clone()))
            .map_err(|_| OciError::Setup(format!("--cap {name}: no capability; see capabilities(7)")))?;
        let mut sets = process.capabilities().clone().unwrap_or_default();
        for set in
            [sets.bounding().clone(), sets.effective().clone(), sets.permitted().clone()].iter().enumerate()
        {
            let mut with = set.1.clone().unwrap_or_default();
            with.insert(capability);
            match set.0 {
                0 => sets.set_bounding(Some(with)),
                1 => sets.set_effective(Some(with)),
                _ => sets.set_permitted(Some(with)),
            };
        }
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}
