//! Who reads while the daemon is restarted.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ownproc::control::Client;

use crate::case::{Doing, Failure, Outcome, check, check_eq, fail};
use crate::parse::Meminfo;
use crate::programs::OWN_INSIDE;
use crate::shell::{Shell, launch_named, new_name};

/// Threads that read all the time, through the mount, until they are told to end. They are in a program of their own, which
/// starts no other: before Linux 6.7 the kernel held the pages that an unbuffered read of a FUSE file goes to in a
/// way that fork(2) does not know of (FOLL_GET), so that the answer went to the child where one was made meanwhile, and
/// the reader kept what its memory held before.
pub struct Readers {
    program: Child,
    reads: Arc<AtomicU64>,
    interrupted: Arc<AtomicU64>,
    listener: std::thread::JoinHandle<()>,
}

impl Readers {
    /// Starts them, on the mount at `mount`.
    pub fn start(mount: &Path) -> Outcome<Self> {
        // What the daemon and the kernel have agreed on: a kernel may have it without being new.
        let resend = Client::connect(mount).doing("status")?.status().doing("status")?.worker.resend;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["tool", "read-on"]).arg(mount).arg(if resend { "never-fail" } else { "may-interrupt" });
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = pipes.spawn().doing("readers")?;
        let (reads, interrupted) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counts = [Arc::clone(&reads), Arc::clone(&interrupted)];
        let stdout = program.stdout.take().doing("stdout of the readers")?;
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                for (count, word) in counts.iter().zip(line.split(' ')) {
                    count.store(word.parse().unwrap_or(0), Ordering::Relaxed);
                }
            }
        });
        Ok(Self { program, reads, interrupted, listener })
    }

    /// Lets them read some more.
    pub fn go_on(&self) -> Outcome {
        let enough = self.reads.load(Ordering::Relaxed) + 100;
        let until = Instant::now() + Duration::from_secs(60);
        while self.reads.load(Ordering::Relaxed) < enough {
            if self.listener.is_finished() {
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
    pub fn end(mut self) -> Outcome<u64> {
        drop(self.program.stdin.take());
        let output = self.program.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        check!(output.status.success(), "a reader: {}", said.trim());
        self.listener.join().map_err(|_| Failure("the listener panicked".to_owned()))?;
        Ok(self.reads.load(Ordering::Relaxed))
    }
}

/// `tool read-on MOUNT never-fail|may-interrupt`: tells every now and then how many reads there were, and how many of them
/// were interrupted; ends when its input does.
pub fn read_on(words: &[&str]) -> Outcome {
    let (mount, may_interrupt) = match words {
        [mount, "never-fail"] => (PathBuf::from(mount), false),
        [mount, "may-interrupt"] => (PathBuf::from(mount), true),
        _ => fail!("tool read-on MOUNT never-fail|may-interrupt"),
    };
    let stop = AtomicBool::new(false);
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let tell = || -> Outcome {
        let [reads, interrupted] = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        println!("{reads} {interrupted}");
        Ok(std::io::stdout().flush()?)
    };
    std::thread::scope(|scope| -> Outcome {
        let read = |number| read_until(&stop, &counts, &mount, number, may_interrupt);
        let threads: Vec<_> = (0..5).map(|number| scope.spawn(move || read(number))).collect();
        let input = scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::Relaxed);
        });
        while !input.is_finished() && !threads.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            tell()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            if let Err(failure) = thread.join().map_err(|_| Failure("a reader panicked".to_owned()))? {
                eprintln!("{failure}");
                std::process::exit(1); // the input may stay open
            }
        }
        tell()
    })
}

/// One of the readers, each of which has a way of its own.
fn read_until(
    stop: &AtomicBool,
    [reads, interrupted]: &[AtomicU64; 2],
    mount: &Path,
    number: u32,
    may_interrupt: bool,
) -> Outcome {
    let kept = File::open(mount.join("proc/meminfo")).doing("kept file")?;
    while !stop.load(Ordering::Relaxed) {
        let read = || -> Outcome {
            match number {
                0 | 1 => whole(&mount.join("proc/meminfo")),
                2 => pieces(&kept),
                3 => pieces(&File::open(mount.join("proc/meminfo")).doing("open")?),
                _ => {
                    std::fs::read_dir(mount.join("sys/devices/system/cpu")).doing("list")?.count();
                    std::fs::metadata(mount.join("proc/stat")).doing("stat")?;
                    Ok(())
                }
            }
        };
        match read() {
            Err(Failure(why)) if may_interrupt && why.contains("(os error 4)") => {
                interrupted.fetch_add(1, Ordering::Relaxed);
            }
            read => read?,
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads a meminfo in one go.
pub fn whole(path: &Path) -> Outcome {
    let bytes = std::fs::read(path).doing(path.display())?;
    let text = str::from_utf8(&bytes).map_err(|_| {
        Failure(format!("{} holds what is no text: {:?}", path.display(), bytes.escape_ascii().to_string()))
    })?;
    Meminfo::parse(text).and_then(is_whole)
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
