//! Who reads while the daemon is restarted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ownproc::control::Client;

use crate::case::{Doing, Failure, Outcome, check, check_eq};
use crate::parse::Meminfo;
use crate::programs::OWN_INSIDE;
use crate::shell::{Shell, launch_named, new_name};

/// Programs that read all the time, through the mount, until they are told to end.
pub struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    interrupted: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Outcome>>,
}

impl Readers {
    /// Starts them, on the mount at `mount`.
    pub fn start(mount: &Path) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let interrupted = Arc::new(AtomicU64::new(0));
        // What the daemon and the kernel have agreed on: a kernel may have it without being new.
        let may_interrupt = !Client::connect(mount).doing("status")?.status().doing("status")?.worker.resend;
        let mut threads = Vec::new();
        for number in 0..5 {
            let (stop, reads, mount) = (Arc::clone(&stop), Arc::clone(&reads), mount.to_owned());
            let of_thread = Arc::clone(&interrupted);
            threads.push(std::thread::spawn(move || -> Outcome {
                let kept = File::open(mount.join("proc/meminfo")).doing("kept file")?;
                while !stop.load(Ordering::Relaxed) {
                    let read = || -> Outcome {
                        match number {
                            0 | 1 => whole(&mount.join("proc/meminfo")),
                            2 => pieces(&kept),
                            3 => pieces(&File::open(mount.join("proc/meminfo")).doing("open")?),
                            _ => {
                                std::fs::read_dir(mount.join("sys/devices/system/cpu"))
                                    .doing("list")?
                                    .count();
                                std::fs::metadata(mount.join("proc/stat")).doing("stat")?;
                                Ok(())
                            }
                        }
                    };
                    match read() {
                        Err(Failure(why)) if may_interrupt && why.contains("(os error 4)") => {
                            of_thread.fetch_add(1, Ordering::Relaxed);
                        }
                        read => read?,
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Ok(Self { stop, reads, interrupted, threads })
    }

    /// Lets them read some more.
    pub fn go_on(&self) -> Outcome {
        let enough = self.reads.load(Ordering::Relaxed) + 100;
        let until = Instant::now() + Duration::from_secs(60);
        while self.reads.load(Ordering::Relaxed) < enough {
            if self.threads.iter().any(std::thread::JoinHandle::is_finished) {
                break; // the end tells why
            }
            check!(Instant::now() < until, "no 100 reads in 60 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Reads that the end of a daemon has interrupted: none where the kernel sends requests again.
    pub fn interrupted(&self) -> u64 {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// None of them has failed.
    pub fn end(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| Failure("a reader panicked".to_owned()))??;
        }
        Ok(self.reads.load(Ordering::Relaxed))
    }
}

/// Reads a meminfo in one go.
pub fn whole(path: &Path) -> Outcome {
    Meminfo::parse(&std::fs::read_to_string(path).doing(path.display())?).and_then(is_whole)
}

/// Not one line is missing.
fn is_whole(meminfo: Meminfo) -> Outcome {
    check_eq!(meminfo.0.len(), crate::parse::host_meminfo()?.0.len(), "lines of meminfo");
    Ok(())
}

/// Reads in small pieces: they must be of one text.
fn pieces(file: &File) -> Outcome {
    let mut text = Vec::new();
    let mut piece = [0; 100];
    loop {
        let n = file.read_at(&mut piece, u64::try_from(text.len())?).doing("a piece")?;
        if n == 0 {
            break;
        }
        text.extend_from_slice(&piece[..n]);
    }
    Meminfo::parse(&String::from_utf8_lossy(&text)).and_then(is_whole)
}

/// A container on a daemon, whose shell has become a program that keeps its meminfo open.
pub struct Container(Shell);

impl Container {
    /// Launches it on the daemon of a mount point.
    pub fn launch(mount: &Path) -> Outcome<Self> {
        let name = new_name();
        let mut command = launch_named(&name, &["-m", "64M", "--daemon", "require"])?;
        command.env("OWNPROC_MOUNT", mount).arg("sh");
        let mut shell = Shell::running(command, name)?;
        shell.send(&format!("exec {OWN_INSIDE} tool reread /proc/meminfo"))?;
        while shell.line()? != "==end 0==\n" {}
        Ok(Self(shell))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What the kept file says now.
    pub fn again(&mut self) -> Outcome<String> {
        crate::cases::again(&mut self.0)
    }

    /// Reads the kept file again.
    pub fn check(&mut self) -> Outcome {
        let total = Meminfo::parse(&self.again()?)?.get("MemTotal");
        check_eq!(total, 65_536, "MemTotal of a file that was opened before the restart");
        Ok(())
    }

    /// Ends it.
    pub fn end(self) -> Outcome {
        check_eq!(self.0.finish()?, 0, "exit code of the container");
        Ok(())
    }
}
