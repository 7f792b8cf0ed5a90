//! The holder itself is restarted: a service manager keeps the connection, and no reader notices more than a pause.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Failure, Outcome, check, check_eq, fail};
use crate::daemon::{self, Daemon, is_mounted, ownproc_at};
use crate::manager::{Manager, eventually};
use crate::readers::{Container, Readers, whole};
use crate::soak::injected::Rules;

pub const CASES: &[Row] = &[
    ("stored_sigterm_in_use_hands_the_mount_on", Nothing, sigterm),
    ("stored_holder_killed_many_times", Nothing, killed),
    ("stored_holder_killed_under_a_reader", Nothing, killed_under_a_reader),
    ("stored_sigterm_not_in_use_unmounts", Nothing, not_in_use),
    ("stored_memory_of_another_build", Nothing, another_build),
    ("stored_half_or_foreign_is_a_normal_start", Nothing, half_or_foreign),
    ("stored_mount_taken_away_meanwhile", Nothing, taken_away),
    ("stored_wrong_configuration_keeps_nobody_waiting", Nothing, wrong_configuration),
    ("stored_is_left_alone_without_a_store", Nothing, without_a_store),
];

/// The exit code of a daemon that has left its connection with the manager.
const KEPT: i32 = 75;

fn device(mount: &Path) -> Outcome<u64> {
    Ok(std::fs::metadata(mount).doing(mount.display())?.dev())
}

/// Processes of a daemon that could take requests, by their command line. One that reads through the mount, as the opener does,
/// cannot even be killed while nobody answers: with a real manager it waits there too.
fn processes_of(mount: &Path) -> Outcome<Vec<i32>> {
    let wanted = mount.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if words.iter().any(|word| *word == wanted)
            && words.iter().any(|word| *word == "serve")
            && !words.iter().any(|word| *word == "opener")
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What both restarts have to show.
struct Stage {
    mount: PathBuf,
    manager: Manager,
    daemon: Daemon,
}

impl Stage {
    fn start(name: &str) -> Outcome<Self> {
        let mount = daemon::fresh_mount_point(name);
        let manager = Manager::start(name)?;
        let daemon = manager.serve(&mount)?;
        manager.wait_for("both", |names| names.len() == 2)?;
        eventually("READY=1", || Ok(manager.heard("READY=1")))?;
        Ok(Self { mount, manager, daemon })
    }

    /// Ends the daemon by a signal; the mount stays.
    fn down(self, signal: Signal, code: i32) -> Outcome<(PathBuf, Manager)> {
        check_eq!(self.daemon.leave(signal)?, code, "exit code of the holder after {signal}");
        check!(is_mounted(&self.mount)?, "the mount was taken away by {signal} while in use");
        check_eq!(self.manager.names().len(), 2, "descriptors in the store after {signal}");
        // as a manager does before it starts the service anew
        eventually("the worker ends with its holder", || Ok(processes_of(&self.mount)?.is_empty()))?;
        Ok((self.mount, self.manager))
    }

    fn up((mount, manager): (PathBuf, Manager)) -> Outcome<Self> {
        let daemon = manager.serve(&mount)?;
        manager.check()?;
        Ok(Self { mount, manager, daemon })
    }

    /// Nobody uses it any more: all is taken away.
    fn end(self) -> Outcome {
        self.manager.hush();
        self.daemon.stop()?;
        self.manager.wait_for("nothing", <[String]>::is_empty)?;
        check!(self.manager.heard("FDSTOREREMOVE=1"), "it has not taken its descriptors back");
        check!(self.manager.heard("STOPPING=1"), "it has not said that it stops");
        self.manager.check()
    }
}

fn restarts(name: &str, times: usize, signal: Signal, code: i32) -> Outcome {
    let mut stage = Stage::start(name)?;
    let mut container = Container::launch(&stage.mount)?;
    let number = device(&stage.mount)?;
    let readers = Readers::start(&stage.mount)?;
    for _ in 0..times {
        readers.go_on()?;
        let down = stage.down(signal, code)?;
        // readers wait here
        std::thread::sleep(Duration::from_millis(100));
        stage = Stage::up(down)?;
        check_eq!(device(&stage.mount)?, number, "device number of the mount");
        container.check()?;
    }
    readers.go_on()?;
    let interrupted = readers.interrupted();
    // One that ends in good order answers first what it has read.
    check!(signal != Signal::SIGTERM || interrupted == 0, "{interrupted} reads were interrupted");
    let reads = readers.end()?;
    check!(reads > 0, "nobody has read");
    eprintln!("{reads} reads over {times} restarts, none failed, {interrupted} interrupted");
    container.end()?;
    stage.end()
}

fn sigterm() -> Outcome {
    restarts("stored-term", 3, Signal::SIGTERM, KEPT)
}

fn killed() -> Outcome {
    restarts("stored-kill", 10, Signal::SIGKILL, 137)
}

/// What its worker has read is answered before that ends too: who waits for an answer cannot be killed, and a service manager would
/// wait for him before it starts anything.
fn killed_under_a_reader() -> Outcome {
    check!(cfg!(debug_assertions), "faults on purpose are only in builds with debug assertions");
    let (mount, manager, rules) =
        (daemon::fresh_mount_point("stored-waits"), Manager::start("stored-waits")?, Rules::new()?);
    let serve = || -> Outcome<Daemon> {
        let mut command = manager.command()?;
        rules.give(&mut command);
        Daemon::spawn(command, mount.clone(), &[])
    };
    let daemon = serve()?;
    manager.wait_for("both", |names| names.len() == 2)?;
    let container = Container::launch(&mount)?;
    let file = mount.join("containers").join(container.name()).join("proc/loadavg");
    rules.set(&format!("slow read {} 120", std::fs::metadata(&file).doing(file.display())?.ino()))?;
    check_eq!(daemon.leave(Signal::SIGTERM)?, KEPT, "exit code after SIGTERM");
    let daemon = serve()?;

    let kept = File::open(&file).doing(file.display())?;
    let reader = std::thread::spawn(move || kept.read_at(&mut [0; 4096], 0));
    std::thread::sleep(Duration::from_millis(60));
    check_eq!(daemon.leave(Signal::SIGKILL)?, 137, "exit code after SIGKILL");
    eventually("the worker ends after its holder", || Ok(processes_of(&mount)?.is_empty()))?;
    let answered = eventually("the reader is answered while nobody serves", || Ok(reader.is_finished()));
    rules.set("")?;
    // Before the verdict: a reader that waits cannot be killed.
    let daemon = serve()?;
    answered?;
    let read = reader.join().map_err(|_| Failure("the reader panicked".to_owned()))?;
    check!(read.doing("a read whose worker ended after it")? > 20, "the reader got too little");
    manager.check()?;
    container.end()?;
    manager.hush();
    daemon.stop()
}

fn not_in_use() -> Outcome {
    let stage = Stage::start("stored-free")?;
    stage.end()
}

/// Changes what tells the layout, as another build's would be; the beginning, which all understand, stays.
fn make_another_builds(manager: &Manager) -> Outcome {
    manager.store(|store| -> Outcome {
        let memory = store.iter_mut().find(|stored| stored.name.starts_with("ownproc-memory-"));
        let memory = memory.doing("a stored memory")?;
        let file = File::from(memory.fd.try_clone()?);
        let mut layout = [0; 8];
        file.read_exact_at(&mut layout, 8)?;
        let other = u64::from_ne_bytes(layout) ^ 1;
        file.write_all_at(&other.to_ne_bytes(), 8)?;
        memory.name = format!("ownproc-memory-{other:016x}");
        Ok(())
    })
}

fn another_build() -> Outcome {
    let mut stage = Stage::start("stored-other")?;
    let mut container = Container::launch(&stage.mount)?;
    let number = device(&stage.mount)?;
    let readers = Readers::start(&stage.mount)?;
    let own = stage.manager.names();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        readers.go_on()?;
        let down = stage.down(signal, if signal == Signal::SIGTERM { KEPT } else { 137 })?;
        make_another_builds(&down.1)?;
        let other = down.1.names();
        check!(other != own, "the store was not changed: {other:?}");
        stage = Stage::up(down)?;
        stage.manager.wait_for("the new memory alone", |names| {
            let mut names = names.to_owned();
            let mut own = own.clone();
            names.sort();
            own.sort();
            names == own
        })?;
        check_eq!(device(&stage.mount)?, number, "device number of the mount");
        // Twice: the first read opens the file again under its old handle.
        container.check()?;
        container.check()?;
    }
    readers.go_on()?;
    readers.end()?;
    container.end()?;
    stage.end()
}

/// A start with things that are of no use: the mount is new, and what is foreign is closed.
fn half_or_foreign() -> Outcome {
    let foreign = File::open("/etc/hostname").doing("/etc/hostname")?;
    for (case, keep) in [("memory", "ownproc-memory-"), ("device", "ownproc-device"), ("nothing", "")] {
        let stage = Stage::start(&format!("stored-half-{case}"))?;
        let mut container = Container::launch(&stage.mount)?;
        let (mount, manager) = stage.down(Signal::SIGKILL, 137)?;
        manager.store(|store| store.retain(|stored| !keep.is_empty() && stored.name.starts_with(keep)));
        manager.store(|store| -> Outcome {
            // a memory that is none
            if case == "device" {
                let fd = OwnedFd::from(File::open("/etc/hostname")?);
                store.push(crate::manager::Stored { name: "ownproc-memory-0".to_owned(), fd });
            }
            Ok(())
        })?;
        let command =
            manager.command_passing(&[("web.socket", foreign.as_raw_fd()), ("", foreign.as_raw_fd())])?;
        let daemon = Daemon::spawn(command, mount.clone(), &[]).doing(case)?;
        whole(&mount.join("proc/meminfo"))?;
        for pid in processes_of(&mount)? {
            for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
                let target = std::fs::read_link(entry.path()).unwrap_or_default();
                check!(target != Path::new("/etc/hostname"), "{pid} holds a foreign descriptor ({case})");
            }
            let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
            let listens =
                environment.split(|byte| *byte == 0).find(|variable| variable.starts_with(b"LISTEN_"));
            let is_holder = pid == daemon.pid().as_raw();
            check!(is_holder || listens.is_none(), "{pid}, no holder, has {listens:?}");
        }
        manager.wait_for("both of the new connection", |names| names.len() == 2)?;
        // The old connection is lost, and that must be told and not be waited for.
        let told = container.again();
        check!(
            told.is_err() || !told.is_ok_and(|text| text.contains("MemTotal")),
            "the old connection still answers"
        );
        drop(container);
        daemon.stop()?;
        manager.check()?;
    }
    Ok(())
}

/// Somebody unmounts it while no holder is there: in use it is served on, else mounted anew.
fn taken_away() -> Outcome {
    let stage = Stage::start("stored-gone")?;
    let mut container = Container::launch(&stage.mount)?;
    let (mount, manager) = stage.down(Signal::SIGKILL, 137)?;
    nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).doing("umount")?;
    let mut child = manager.command()?;
    let mut daemon = child.arg("serve").arg(&mount).spawn().doing("serve")?;
    container.check()?;
    container.end()?;
    // As soon as nobody holds its files it ends.
    let until = Instant::now() + Duration::from_secs(30);
    let status = loop {
        match daemon.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = daemon.kill();
                let _ = daemon.wait();
                fail!("a daemon without a mount has not ended 30 s after the last container");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    check_eq!(status.code(), Some(0), "exit code of a daemon without a mount");
    manager.wait_for("nothing", <[String]>::is_empty)?;
    daemon::clean(&mount);
    // Not in use, and something else lies there.
    let stage = Stage::start("stored-covered")?;
    let container = Container::launch(&stage.mount)?;
    let (mount, manager) = stage.down(Signal::SIGKILL, 137)?;
    drop(container);
    nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).doing("umount")?;
    let stage = Stage::up((mount, manager))?;
    whole(&stage.mount.join("proc/meminfo"))?;
    stage.end()
}

/// A mistake that was made since does not keep readers waiting.
fn wrong_configuration() -> Outcome {
    let stage = Stage::start("stored-config")?;
    let mut container = Container::launch(&stage.mount)?;
    let (mount, manager) = stage.down(Signal::SIGTERM, KEPT)?;
    let file = mount.with_extension("toml");
    std::fs::write(&file, "[defaults]\nswap = 7\n")?;
    let daemon =
        Daemon::spawn(manager.command()?, mount.clone(), &["--config", &file.display().to_string()])?;
    container.check()?;
    let told = ownproc_at(&mount, &["config"])?;
    std::fs::remove_file(&file)?;
    check_eq!(told.code, 1, "`config` tells of the mistake");
    container.end()?;
    daemon.stop()
}

/// A manager that keeps nothing: what is in use is served on, as without one.
fn without_a_store() -> Outcome {
    let mount = daemon::fresh_mount_point("stored-none");
    let manager = Manager::start("stored-none")?;
    let mut command = manager.command()?;
    command.env_remove("FDSTORE");
    let mut daemon = Daemon::spawn(command, mount.clone(), &[])?;
    let mut container = Container::launch(&mount)?;
    daemon.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_secs(1));
    check!(daemon.runs()?, "serve ended on SIGTERM with a container running, and nobody kept its connection");
    check!(manager.names().is_empty(), "it stores where there is no store: {:?}", manager.names());
    container.check()?;
    container.end()?;
    daemon.stop()
}
