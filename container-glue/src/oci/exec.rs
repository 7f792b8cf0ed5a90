//! `exec`: one more process in a running container.
//!
//! ```text
//! exec          on the host, without a lock: it waits, and holds up nobody else
//!   helper      enters cgroups and namespaces and drops all rights (enter.rs). It stays in the host's
//!     |         pid namespace: no process of the container sees it
//!     process   born in the container's pid namespace, with the program's rights; becomes it
//! ```

mod asked;
mod enter;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::args::{ExecArgs, Global};
use super::config::namespaces::KINDS;
use super::config::process::Process;
use super::store::{Group, Record, Status, Store};
use super::sysinfo::Beside;
use super::{Doing, OciError, builder, config, console, join, process, relay, seccomp};
use crate::groups::Entrances;
use crate::namespaces::{self, Child};
use crate::supervise::{self, Signals, Until};
use crate::sync::{self, Channel};
use enter::{Entered, Order, Report};

/// `exec`: the exit code of the process, or 0 where it is left running.
pub fn exec(global: &Global, args: &ExecArgs) -> Result<u8, OciError> {
    let record = running(global, args)?;
    let asked = asked::process(&record, args)?;
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
    let flags = namespaces_of(record.pid)?;
    let (v2_group, entrances) = groups(&record)?;
    // until it has dropped its rights the helper is a copy of this program (CVE-2016-9962)
    process::hide_memory().map_err(|error| OciError::Setup(error.to_string()))?;
    let signals = Signals::block().doing("block signals")?;
    let (ours, theirs) = sync::channel().doing("make a socket pair")?;
    let (gate, opener) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing("make a pipe")?;
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
        channel: &theirs,
        gate: gate.as_fd(),
    };
    let helper = namespaces::spawn(0, v2_group.as_ref().map(AsFd::as_fd), || {
        process::let_go(ours.fd());
        process::let_go(&opener);
        enter::main(&entered, entrances, container.as_fd(), flags)
    })
    .doing("start a process in the container")?;
    drop((theirs, gate, of_process, v2_group));
    let born = Arc::new(AtomicI32::new(0));
    let helper_of_wait = helper.pidfd.try_clone().doing("keep a descriptor")?;
    let wait =
        Wait { ours, opener, beside, of_beside, process, helper: helper_of_wait, born: Arc::clone(&born) };
    let Child { pid, pidfd } =
        match signals.until_stopped(&born, move || wait.for_program()).doing("wait for the process")? {
            Until::Done(Ok(child)) => child,
            stopped_or_failed => {
                // the container may keep both from ending: nobody waits for them
                let _ = pidfd_send_signal(&helper.pidfd, Signal::KILL);
                kill_child(born.load(Ordering::Acquire));
                return match stopped_or_failed {
                    Until::Done(Err(why)) => Err(why),
                    Until::Done(Ok(_)) => Ok(0),
                    Until::Stopped(signal) => Ok(supervise::code_of_signal(signal)),
                    Until::HeldUp => Err(OciError::HeldUp(args.id.clone())),
                };
            }
        };
    if let Some(path) = &args.pid_file {
        builder::write_pid(path, pid)?;
    }
    if args.detach {
        return Ok(0);
    }
    match relay {
        Some(relay) => relay.run(pidfd.as_fd(), &signals),
        None => signals.relay(pidfd.as_fd()),
    }
    .doing("wait for the process")
}

/// The container, which runs. Its lock is held for this look alone: whoever is making or starting
/// it has finished then.
fn running(global: &Global, args: &ExecArgs) -> Result<Record, OciError> {
    let entry = Store::open(&global.root)?.entry(&args.id)?;
    let record = entry.read()?;
    match entry.status(&record) {
        Status::Running | Status::Created => Ok(record),
        Status::Paused if args.ignore_paused => Ok(record),
        Status::Paused => {
            let hint =
                "resume it, or give --ignore-paused: the process then starts when the container is resumed";
            Err(OciError::Status { id: args.id.clone(), is: Status::Paused.name(), hint })
        }
        status => {
            let hint = "a process can be started in one that runs";
            Err(OciError::Status { id: args.id.clone(), is: status.name(), hint })
        }
    }
}

/// The conversation with the helper and the process, on the host.
struct Wait {
    ours: Channel,
    opener: OwnedFd,
    beside: Option<Beside>,
    of_beside: UnixStream,
    process: Process,
    helper: OwnedFd,
    /// The process, for whoever ends this wait; 0 while there is none.
    born: Arc<AtomicI32>,
}

impl Wait {
    /// Until the process has become its program.
    fn for_program(self) -> Result<Child, OciError> {
        let helper = ownproc::containers::pidfd::pid(self.helper.as_fd()).map_or(0, |pid| pid.get());
        if !matches!(self.hear()?, Some(Report::Inside)) {
            return Err(killed());
        }
        let setup = |error: crate::rootfs::SetupError| OciError::Setup(error.to_string());
        // the process inherits them: it never is without
        process::limit(helper, &self.process).map_err(setup)?;
        let message =
            serde_json::to_vec(&Order::GoOn).map_err(std::io::Error::from).doing("write a message")?;
        let _ = self.ours.send(&message); // a helper that is gone is heard to be
        if !self.process.no_new_privileges {
            self.serve()?;
        }
        let Some(Report::Born(pid)) = self.hear()? else { return Err(killed()) };
        let pidfd = join::child(pid, helper)?;
        self.born.store(pid, Ordering::Release);
        supervise::exit_code(self.helper.as_fd()).doing("wait for a process")?;
        process::schedule(pid, &self.process).map_err(setup)?;
        let _ = rustix::io::write(&self.opener, &[1]); // a process that is gone is heard to be
        if self.process.no_new_privileges {
            self.serve()?;
        }
        match hear(&self.ours)? {
            None => Ok(Child { pid, pidfd }),
            Some(report) => Err(OciError::Setup(format!("the process said {report:?}"))),
        }
    }

    fn hear(&self) -> Result<Option<Report>, OciError> {
        hear(&self.ours)
    }

    /// Beside whoever installs the filter, until that has done so or has ended.
    fn serve(&self) -> Result<(), OciError> {
        let Some(beside) = &self.beside else { return Ok(()) };
        beside.serve(&self.of_beside).map(drop).doing("hear from the process")
    }
}

/// The next message; none where nobody is there any more to send one. A failure is an error.
fn hear(channel: &Channel) -> Result<Option<Report>, OciError> {
    let message = channel.receive().doing("hear from the process")?;
    match message.map(|message| serde_json::from_slice(&message)).transpose() {
        // what is said in the container may be said by the container
        Ok(Some(Report::Failed(why))) => Err(OciError::Setup(why.replace(|c: char| c.is_control(), " "))),
        Ok(report) => Ok(report),
        Err(error) => Err(OciError::Setup(format!("the process said what is not understood: {error}"))),
    }
}

fn killed() -> OciError {
    OciError::Setup(
        "the process was killed before its program began (is the memory limit too low for it?)".to_owned(),
    )
}

fn kill_child(pid: i32) {
    if let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// The namespaces of the container's process that are not this program's, as `CLONE_NEW*`.
fn namespaces_of(pid: i32) -> Result<i32, OciError> {
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

/// The v2 cgroup, into which the helper is born, and what lets it into those of v1.
fn groups(record: &Record) -> Result<(Option<OwnedFd>, Entrances), OciError> {
    let open = |group: &Group| {
        let opened = std::fs::File::open(&group.path);
        opened.map(OwnedFd::from).map_err(|error| OciError::io("open", &group.path, error))
    };
    let v2 = record.groups.iter().find(|group| group.v2).map(open).transpose()?;
    let v1 = record.groups.iter().filter(|group| !group.v2).map(|group| group.path.as_path());
    Ok((v2, Entrances::open(v1)?))
}
