//! The container's first process, from its birth to the program of the configuration.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use oci_spec::runtime::Hooks;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::config::mounts::{Kind, Mount};
use super::config::process::Process;
use super::console::Console;
use super::extras::{Extras, Stdio};
use super::hooks;
use super::join::Joined;
use super::process::{self, Labels};
use super::seccomp::Filter;
use super::sysinfo;
use super::tree::{Sources, Tree};
use crate::LAUNCHER_FAILED;
use crate::command::{self, Program};
use crate::groups::{Entrances, Hierarchy};
use crate::namespaces;
use crate::reaper;
use crate::rootfs::{SetupError, Step, VirtualFiles};
use crate::sync::Channel;
use crate::title;

/// From the maker to the process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Its groups hold it, its users are mapped, and the daemon knows it.
    Go {
        /// Its directory in the daemon's tree; an ordinary user's has none.
        files: Option<PathBuf>,
        /// Its number as the host sees it.
        pid: i32,
    },
    /// The hooks of the host have run; or its maker has written down that it is there.
    GoOn {
        /// The number of the process that is told so, as the host sees it.
        pid: i32,
    },
}

/// From the process to its maker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It is in the namespaces of a container that joins a pid namespace.
    Inside,
    /// The groups hold it.
    Grouped,
    /// The tree stands: it waits for the hooks of the host.
    Mounted,
    /// The first process is there, where another one has set the container up; its number on the
    /// host.
    Born(i32),
    /// It waits for `start`.
    Ready,
    /// It ends.
    Failed(String),
}

/// What it has of its maker, whose memory it has a copy of.
pub struct Init<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its hooks.
    pub hooks: Option<&'a Hooks>,
    /// State of the container for hooks; the number of the process is put in by it.
    pub state: &'a dyn Fn(i32) -> String,
    /// The groups that hold it.
    pub groups: &'a [(&'a Hierarchy, &'a Path)],
    /// Its end of the channel.
    pub channel: &'a Channel,
    /// Where `start` connects to.
    pub start: &'a UnixListener,
    /// Gets the terminal.
    pub console: Option<&'a OwnedFd>,
    /// Gets the descriptor of seccomp's notifications.
    pub listener: Option<&'a OwnedFd>,
    /// Namespaces that are joined.
    pub join: &'a Joined,
    /// `CLONE_NEW*` of those that it has to make itself.
    pub new: i32,
    /// To who waits on the host while a filter is installed that is there before `start`.
    pub beside: Option<BorrowedFd<'a>>,
    /// --no-pivot
    pub no_pivot: bool,
    /// --no-new-keyring
    pub keep_keyring: bool,
    /// What `launch` asks for.
    pub extras: Option<&'a Extras>,
    /// Descriptors that the program gets beside the first three.
    pub preserved: u32,
    /// Those of them that are sockets of systemd's.
    pub listening: u32,
}

/// Ready for `start`.
struct Prepared {
    program: Program,
    /// Of a process that has not taken on the program's rights yet.
    labels: Option<Labels>,
    /// State of the container, for hooks and for seccomp's listener.
    state: String,
    /// Its number as the host sees it.
    pid: i32,
    /// Its first three descriptors are a terminal of its own.
    terminal: bool,
    /// For linux.seccomp.listenerPath.
    notify: Option<OwnedFd>,
}

/// Sets the container up and runs as its first process; does not return unless it failed, with the
/// exit code. `entrances` let it into the groups of v1; none where its maker moves it, which has to
/// make them first.
///
/// Where the container joins a pid namespace, processes of others live in it. The process that sets
/// the container up stays in the host's then: when it has the program's rights alone, it makes the
/// first process there.
pub fn main(init: &Init<'_>, entrances: Option<Entrances>, sources: Option<Sources>) -> i32 {
    title::set("ownproc-run init");
    let mut prepared = match prepare(init, entrances, sources) {
        Ok(prepared) => prepared,
        Err(error) => {
            send(init.channel, &Report::Failed(error.to_string()));
            return 1;
        }
    };
    if !init.join.is_watched() {
        return first(init, &mut prepared);
    }
    init.join.let_go();
    match namespaces::fork_sibling(|| watched(init, &mut prepared)) {
        Ok(pid) => {
            send(init.channel, &Report::Born(pid));
            // until then the daemon knows the container by this process
            init.join.wait_for_maker();
            0
        }
        Err(error) => {
            let why = format!("cannot start a process in the pid namespace of linux.namespaces: {error}");
            send(init.channel, &Report::Failed(why));
            1
        }
    }
}

/// The first process among those of others: they can stop it and, with CAP_SYS_PTRACE, be it.
fn watched(init: &Init<'_>, prepared: &mut Prepared) -> i32 {
    let stand = || {
        bind_life()?;
        nix::unistd::setsid().step(|| "cannot make a session".to_owned())?;
        take_terminal(prepared.terminal)
    };
    if let Err(error) = stand() {
        send(init.channel, &Report::Failed(error.to_string()));
        return 1;
    }
    first(init, prepared)
}

fn take_terminal(terminal: bool) -> Result<(), SetupError> {
    if !terminal {
        return Ok(());
    }
    super::console::take_control().step(|| "cannot take the terminal".to_owned())
}

/// The first process: waits for `start`.
fn first(init: &Init<'_>, prepared: &mut Prepared) -> i32 {
    if init.extras.is_none_or(|extras| !extras.in_foreground()) {
        // before its maker ends, which may be as soon as it has heard; if that is killed meanwhile, the channel tells
        let _ = rustix::process::set_parent_process_death_signal(None);
    }
    send(init.channel, &Report::Ready);
    let Some(Order::GoOn { pid }) = order(init.channel) else {
        return 1; // its maker is gone: nobody knows of it
    };
    prepared.pid = pid;
    let Ok((connection, _)) = init.start.accept() else { return 1 };
    // shuts the socket down for all who hold a copy: a second start is refused
    let _ = rustix::net::shutdown(init.start, rustix::net::Shutdown::Both);
    let Some(extras) = init.extras else {
        become_program(init, prepared, &connection, &SigSet::empty());
        return 127;
    };
    // `start` hears the end of the connection when the last holder of it is gone: the command, which becomes its program
    let command = || become_program(init, prepared, &connection, &extras.mask);
    let shares_terminal = extras.stdio == Stdio::Callers { terminal: true };
    let confine = || {
        process::confine_init(&init.config.process)?;
        title::hide_environment();
        init.config.seccomp.as_ref().map_or(Ok(None), Filter::install).map(drop)
    };
    let Err(error) = reaper::run(shares_terminal, confine, command);
    let _ = io::Write::write_all(&mut &connection, format!("cannot start the command: {error}").as_bytes());
    i32::from(LAUNCHER_FAILED)
}

/// After `start`. Returns where the program does not run, with an exit code and when it has said why.
fn become_program(init: &Init<'_>, it: &mut Prepared, mut connection: &UnixStream, mask: &SigSet) -> i32 {
    let (code, said) = match run(init, it, connection.as_fd(), mask) {
        Ok(failed) => failed,
        Err(error) => (i32::from(LAUNCHER_FAILED), error.to_string()),
    };
    let _ = io::Write::write_all(&mut connection, said.as_bytes());
    let _ = connection.shutdown(Shutdown::Both);
    code
}

/// Returns why the program does not run, with an exit code.
fn run(
    init: &Init<'_>,
    it: &mut Prepared,
    start: BorrowedFd<'_>,
    mask: &SigSet,
) -> Result<(i32, String), SetupError> {
    if let Some(hooks) = init.hooks {
        hooks::run(hooks.start_container(), &it.state)
            .map_err(|error| io::Error::other(error.to_string()))
            .step(|| "cannot run the hooks startContainer".to_owned())?;
    }
    let config = init.config;
    if let Some(labels) = it.labels.take() {
        process::drop_rights(&config.process, labels, || {
            it.notify = seccomp(init, start)?;
            Ok(())
        })?;
    }
    if config.process.no_new_privileges {
        it.notify = seccomp(init, start)?;
    }
    hand_out(init, it)?;
    process::enter_cwd(&config.process)?;
    if init.listening > 0 {
        it.program.set("LISTEN_FDS", &init.listening.to_string());
        it.program.set("LISTEN_PID", &std::process::id().to_string());
        if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
            it.program.set("LISTEN_FDNAMES", &names);
        }
    }
    command::reset_signals(mask);
    Ok(it.program.execute())
}

/// Before seccomp, which may forbid it.
pub fn take_personality(personality: Option<libc::c_ulong>) -> Result<(), SetupError> {
    let Some(personality) = personality else { return Ok(()) };
    // SAFETY: an integer argument only.
    if unsafe { libc::personality(personality) } >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).step(|| format!("cannot set linux.personality {personality:#x}"))
}

/// Installs the filter; the listener that is for linux.seccomp.listenerPath.
fn seccomp(init: &Init<'_>, beside: BorrowedFd<'_>) -> Result<Option<OwnedFd>, SetupError> {
    if let Some(with) = &init.config.sysinfo {
        return sysinfo::install(with, init.config.seccomp.as_ref(), beside).map(|()| None);
    }
    let Some(filter) = &init.config.seccomp else { return Ok(None) };
    filter.install().step(|| "cannot install linux.seccomp".to_owned())
}

/// Sends the listener to linux.seccomp.listenerPath.
fn hand_out(init: &Init<'_>, it: &mut Prepared) -> Result<(), SetupError> {
    let (Some(notify), Some(listener)) = (it.notify.take(), init.listener) else { return Ok(()) };
    let metadata = init.config.seccomp.as_ref().and_then(|filter| filter.listener_metadata.as_deref());
    let state: serde_json::Value = serde_json::from_str(&it.state).unwrap_or_default();
    let message = serde_json::json!({
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": it.pid,
        "metadata": metadata.unwrap_or_default(),
        "state": state,
    });
    let fds = [notify.as_raw_fd()];
    nix::sys::socket::sendmsg::<()>(
        listener.as_raw_fd(),
        &[io::IoSlice::new(message.to_string().as_bytes())],
        &[nix::sys::socket::ControlMessage::ScmRights(&fds)],
        nix::sys::socket::MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .step(|| "cannot hand out linux.seccomp.listenerPath's descriptor".to_owned())
}

fn prepare(
    init: &Init<'_>,
    entrances: Option<Entrances>,
    sources: Option<Sources>,
) -> Result<Prepared, SetupError> {
    // it ends with its maker, until that has written down that it is there
    bind_life()?;
    let config = init.config;
    if init.join.is_watched() {
        init.join.enter(init.new)?;
        let procfs = |mount: &&Mount| matches!(&mount.kind, Kind::New(kind) if kind == "proc");
        init.join.prepare_procfs(config.mounts.iter().filter(procfs).count())?;
        bind_life()?;
        send(init.channel, &Report::Inside);
    }
    if let Some(entrances) = entrances {
        entrances
            .enter()
            .map_err(io::Error::other)
            .step(|| "cannot enter the container's groups".to_owned())?;
        send(init.channel, &Report::Grouped);
    }
    // what needs neither the maps of a user namespace, nor a namespace that is joined, nor groups that systemd makes is done
    // while the maker registers the container. What fails is told afterwards: until then the maker needs a process that lives
    let early = !config.namespaces.has_own(libc::CLONE_NEWUSER)
        && config.namespaces.join.is_empty()
        && config.scope.is_none();
    let tree = if early { Ok(build(init, sources)) } else { Err(sources) };
    let Some(Order::Go { files, pid }) = order(init.channel) else {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe))
            .step(|| "cannot hear from the maker".to_owned());
    };
    if config.namespaces.has_own(libc::CLONE_NEWUSER) {
        become_root()?;
        // the kernel forgets it where a process changes its user
        bind_life()?;
    }
    init.join.late()?;
    if config.namespaces.new & libc::CLONE_NEWCGROUP != 0 {
        // now that the groups hold this process, so that they are the roots of its cgroup namespace
        unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "cannot make a cgroup namespace".to_owned())?;
    }
    let state = (init.state)(pid);
    let labels = Labels::open(&config.process)?;
    // one that joins a mount namespace has the files that are there
    let tree = tree.unwrap_or_else(|sources| build(init, sources))?;
    if let Some(tree) = &tree {
        tree.cover(files.as_deref().map(VirtualFiles::open).transpose()?.as_ref())?;
    }
    if !init.join.is_watched() {
        session(init.extras)?;
    }
    let mut console = None;
    if let Some(tree) = &tree {
        console = terminal(&config.process, init.console, Some(tree))?;
    }
    if init.hooks.is_some() {
        send(init.channel, &Report::Mounted);
        if order(init.channel).is_none() {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe))
                .step(|| "cannot hear from the maker".to_owned());
        }
    }
    if let Some(hooks) = init.hooks {
        hooks::run(hooks.create_container(), &state)
            .map_err(|error| io::Error::other(error.to_string()))
            .step(|| "cannot run the hooks createContainer".to_owned())?;
    }
    match tree {
        Some(tree) => tree.enter(init.no_pivot)?,
        None => {
            init.join.mount()?;
            console = terminal(&config.process, init.console, None)?;
        }
    }
    if !init.keep_keyring {
        process::new_keyring();
    }
    let terminal = console.is_some();
    if let Some(console) = console {
        console.become_stdio(config.process.uid).step(|| "cannot take the terminal".to_owned())?;
    }
    take_terminal(terminal && !init.join.is_watched())?;
    process::hide_memory()?;
    if init.extras.is_some_and(|extras| extras.stdio == Stdio::Nowhere) {
        no_stdio().step(|| "cannot open /dev/null of the container".to_owned())?;
    }
    process::enter_cwd(&config.process)?;
    let program = Program::new(config.process.args.clone(), config.process.env.clone());
    if init.extras.is_none() {
        // so that `create` tells of a program that is not there, as users of runc know it
        program.look().map_err(io::Error::other).step(|| "cannot start".to_owned())?;
    }
    take_personality(config.personality)?;
    let own = [
        Some(init.channel.fd().as_raw_fd()),
        Some(init.start.as_raw_fd()),
        init.beside.map(|beside| beside.as_raw_fd()),
        init.listener.map(AsRawFd::as_raw_fd),
    ];
    let kept: Vec<_> = own.into_iter().flatten().chain(labels.fds()).chain(init.join.descriptors()).collect();
    process::close_all_but(init.preserved, &kept);
    init.join.pids()?;
    let mut prepared = Prepared { program, labels: None, state, pid, terminal, notify: None };
    if init.extras.is_some() {
        // process 1 has the rights of all that it may have to signal; nobody else is in its pid
        // namespace yet
        prepared.labels = Some(labels);
        return Ok(prepared);
    }
    process::drop_rights(&config.process, labels, || {
        let Some(beside) = init.beside else { return Ok(()) };
        prepared.notify = seccomp(init, beside)?;
        if init.join.is_watched() {
            return Ok(()); // the number of the process that is told about is not known yet
        }
        // at once: calls of this process may wait for the agent from here on
        hand_out(init, &mut prepared)
    })?;
    process::enter_cwd(&config.process)?;
    if let Some(beside) = init.beside {
        let number = u32::try_from(beside.as_raw_fd()).unwrap_or(u32::MAX);
        reaper::close_range(number, number); // its maker hears that the filter is there
    }
    Ok(prepared)
}

/// A session of its own, unless it shares the caller's terminal.
fn session(extras: Option<&Extras>) -> Result<(), SetupError> {
    match extras.map(|extras| extras.stdio) {
        Some(Stdio::Callers { terminal: true }) => Ok(()),
        // signals sent to the launcher's process group then reach the command once, through the launcher
        Some(Stdio::Callers { terminal: false }) => nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))
            .step(|| "cannot make a process group".to_owned()),
        _ => nix::unistd::setsid().map(drop).step(|| "cannot make a session".to_owned()),
    }
}

/// The null device of the container's root, which this process has entered, as the first three descriptors.
fn no_stdio() -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    let null = rustix::fs::openat2(CWD, "/dev/null", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    if rustix::fs::fstat(&null)?.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(io::Error::other("it is not the null device"));
    }
    for number in 0..3 {
        // SAFETY: both are descriptors of this process; 0 to 2 belong to nobody else in it.
        if unsafe { libc::dup2(null.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Its namespaces and its tree, as far as the daemon is not needed.
fn build<'a>(init: &Init<'a>, sources: Option<Sources>) -> Result<Option<Tree<'a>>, SetupError> {
    let config = init.config;
    if let Some(name) = &config.hostname {
        nix::unistd::sethostname(name).step(|| format!("cannot set hostname {name:?}"))?;
    }
    if let Some(name) = &config.domainname {
        rustix::system::setdomainname(name.as_bytes()).step(|| format!("cannot set domainname {name:?}"))?;
    }
    if config.namespaces.new & libc::CLONE_NEWNET != 0 {
        crate::rootfs::loopback_up()?;
    }
    let memory = init.extras.and_then(|extras| extras.limits.memory);
    if config.namespaces.joined() & libc::CLONE_NEWNS != 0 {
        return Ok(None);
    }
    let sources = sources.map_or_else(|| Sources::open(config, false), Ok)?;
    Tree::build(config, init.join, sources, init.groups, memory).map(Some)
}

/// A terminal for the process, where it has one; its master side goes to the receiver.
pub fn terminal(
    process: &Process,
    receiver: Option<&OwnedFd>,
    tree: Option<&Tree<'_>>,
) -> Result<Option<Console>, SetupError> {
    let Some(receiver) = receiver.filter(|_| process.terminal) else { return Ok(None) };
    let what = || "cannot make a terminal".to_owned();
    let opened;
    let devpts: BorrowedFd<'_> = match tree {
        Some(tree) => tree.devpts()?.as_fd(),
        None => {
            opened =
                super::console::devpts().map_err(|error| io::Error::other(error.to_string())).step(what)?;
            opened.as_fd()
        }
    };
    let console = Console::new(devpts).step(what)?;
    if let Some(size) = process.size {
        console.resize(size).step(what)?;
    }
    if let Some(tree) = tree {
        tree.console(&console)?;
    }
    console.send(receiver.as_fd()).step(|| "cannot hand out the terminal".to_owned())?;
    Ok(Some(console))
}

fn bind_life() -> Result<(), SetupError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step(|| "cannot bind the container's life to its maker's".to_owned())
}

/// Root of the new user namespace: until it is, the process is nobody there and can make nothing.
fn become_root() -> Result<(), SetupError> {
    // SAFETY: integers only; the C library's wrappers tell other threads, of which there are none.
    let results =
        unsafe { [libc::syscall(libc::SYS_setresgid, 0, 0, 0), libc::syscall(libc::SYS_setresuid, 0, 0, 0)] };
    if results == [0, 0] {
        return Ok(());
    }
    Err(io::Error::last_os_error())
        .step(|| "cannot be root of the user namespace: do its maps hold 0?".to_owned())
}

/// Sends a message; a maker that is gone is noticed when it is listened to.
fn send(channel: &Channel, report: &Report) {
    if let Ok(message) = serde_json::to_vec(report) {
        let _ = channel.send(&message);
    }
}

fn order(channel: &Channel) -> Option<Order> {
    serde_json::from_slice(&channel.receive().ok()??).ok()
}
