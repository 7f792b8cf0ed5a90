//! Test programs that run inside containers: built in, so that no compiler and no further file is needed there.

mod closed;
pub mod hostile;
pub mod latency;
mod memory;
mod newcomers;
mod psi;
mod sysinfo;

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::case::{Doing, Outcome, check, fail};

/// `ownproc-e2e tool NAME ARG...`
pub fn main(words: &[&str]) -> ExitCode {
    let done = match words {
        ["burn", rest @ ..] => burn(rest),
        ["eat", mib] => eat(mib),
        ["sleepers", threads] => sleepers(threads),
        ["ballast", score] => memory::ballast(score),
        ["grow"] => memory::grow(),
        ["hold", rest @ ..] => memory::hold(rest),
        ["init-named", name, command, args @ ..] => init_named(name, command, args),
        ["read-on", rest @ ..] => crate::readers::read_on(rest),
        ["reread", path] => reread(path),
        ["open-move-read", path] => open_move_read(path),
        ["sendfile", path] => sendfile(path),
        ["fds"] => fds(),
        ["climb"] => climb(),
        ["closed"] => closed::main(),
        ["collect", file, roots @ ..] => crate::twin::collect::main(file, roots),
        ["visit", rest @ ..] => crate::soak::crowd::visit(rest),
        ["survive", rest @ ..] => crate::soak::reader::main(rest),
        ["psi", rest @ ..] => psi::main(rest),
        ["sysinfo", rest @ ..] => sysinfo::main(rest),
        ["parallelism"] => parallelism(),
        ["wait-uninterruptibly", tasks] => wait_uninterruptibly(tasks),
        ["answer"] => answer(),
        ["hostless", tree] => hostless(tree),
        ["hostile", rest @ ..] => hostile::main(rest),
        ["latency", rest @ ..] => latency::main(rest),
        ["newcomers", rest @ ..] => newcomers::main(rest),
        _ => Err(crate::case::Failure(format!("unknown test program {words:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// `climb`: the classic way out of a root that was changed: another root below it while this directory stays open, and up
/// until there is no more. Prints what lies there.
fn climb() -> Outcome {
    nix::unistd::chdir("/")?;
    nix::unistd::chroot("/tmp").doing("chroot")?;
    for _ in 0..64 {
        nix::unistd::chdir("..")?;
    }
    nix::unistd::chroot(".")?;
    let names = std::fs::read_dir("/")?.map(|entry| Ok(entry?.file_name().display().to_string()));
    let mut names: Vec<String> = names.collect::<Outcome<_>>()?;
    names.sort();
    println!("{}", names.join("\n"));
    Ok(())
}

/// CPU time of the calling thread.
fn thread_cpu() -> Outcome<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_nsec())?))
}

/// CPU time of this process, user and system.
pub fn process_cpu() -> Outcome<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_nsec())?))
}

/// `burn [--threads N] (--seconds S | --cpu-ms N [--burst-us B --pause-us P])`: uses CPU time, prints the milliseconds used.
fn burn(words: &[&str]) -> Outcome {
    let number = |key: &str| -> Outcome<Option<u64>> {
        match words.iter().position(|word| *word == key) {
            Some(at) => Ok(Some(words.get(at + 1).doing(key)?.parse().doing(key)?)),
            None => Ok(None),
        }
    };
    let threads = number("--threads")?.unwrap_or(1);
    let until = number("--seconds")?.map(|s| Instant::now() + Duration::from_secs(s));
    let cpu = number("--cpu-ms")?.map(Duration::from_millis);
    let burst = number("--burst-us")?.map(Duration::from_micros);
    let pause = Duration::from_micros(number("--pause-us")?.unwrap_or(0));
    check!(until.is_some() || cpu.is_some(), "burn needs --seconds or --cpu-ms");
    let one = move || -> Outcome {
        let began = thread_cpu()?;
        loop {
            let used = thread_cpu()?.saturating_sub(began);
            if until.is_some_and(|end| Instant::now() >= end) || cpu.is_some_and(|limit| used >= limit) {
                return Ok(());
            }
            let slice = thread_cpu()? + burst.unwrap_or(Duration::from_millis(5));
            while thread_cpu()? < slice {
                std::hint::spin_loop();
            }
            if burst.is_some() {
                std::thread::sleep(pause);
            }
        }
    };
    let running: Vec<_> = (0..threads).map(|_| std::thread::spawn(one)).collect();
    for thread in running {
        match thread.join() {
            Ok(done) => done?,
            Err(_) => fail!("a burning thread panicked"),
        }
    }
    println!("{}", process_cpu()?.as_millis());
    Ok(())
}

/// `eat MIB`: touches that much memory, says `ready`, keeps it until the end of the input.
fn eat(mib: &str) -> Outcome {
    let size = mib.parse::<usize>()? << 20;
    let mut memory = vec![0_u8; size];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// `sleepers N`: that many threads that sleep, beside the first one, which waits for them.
fn sleepers(threads: &str) -> Outcome {
    let sleep = || std::thread::sleep(Duration::from_secs(1000));
    let running: Vec<_> = (0..threads.parse::<usize>()?).map(|_| std::thread::spawn(sleep)).collect();
    running.into_iter().try_for_each(|thread| thread.join().ok().doing("a sleeping thread"))
}

/// `init-named NAME CMD ARG...`: stays as a process of that name and ends as CMD does.
fn init_named(name: &str, command: &str, args: &[&str]) -> Outcome {
    nix::sys::prctl::set_name(&std::ffi::CString::new(name)?)?;
    let status = Command::new(command).args(args).status().doing(command)?;
    std::process::exit(status.code().unwrap_or(1));
}

/// `reread PATH`: keeps the file open; for each line of input reads it whole from offset 0 and prints it and `==end 0==`.
fn reread(path: &str) -> Outcome {
    let file = File::open(path).doing(path)?;
    println!("\n==end 0==");
    for line in std::io::stdin().lock().lines() {
        line?;
        let mut text = Vec::new();
        let mut piece = [0; 1000];
        loop {
            let n = file.read_at(&mut piece, u64::try_from(text.len())?).doing(path)?;
            if n == 0 {
                break;
            }
            text.extend_from_slice(&piece[..n]);
        }
        std::io::stdout().write_all(&text)?;
        println!("\n==end 0==");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// `open-move-read PATH`: opens, says `open`, waits for a line (the group is removed meanwhile), then reads to the end.
fn open_move_read(path: &str) -> Outcome {
    let mut file = File::open(path).doing(path)?;
    println!("open");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => print!("{text}"),
        Err(e) => println!("errno {}", e.raw_os_error().unwrap_or(0)),
    }
    Ok(())
}

/// `sendfile PATH`: prints what sendfile(2) gives, or `errno N`.
fn sendfile(path: &str) -> Outcome {
    let file = File::open(path).doing(path)?;
    let stdout = std::io::stdout();
    loop {
        // SAFETY: both descriptors are open for the whole call, and no offset is passed.
        let n =
            unsafe { libc::sendfile(stdout.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), 1 << 20) };
        match n {
            0 => return Ok(()),
            1.. => {}
            _ => {
                println!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
                return Ok(());
            }
        }
    }
}

/// `fds`: the open descriptors, one `NUMBER TARGET` a line.
fn fds() -> Outcome {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The descriptor of this very listing is gone by now or about to go.
        if let Ok(target) = std::fs::read_link(&path) {
            println!("{} {}", path.file_name().unwrap_or_default().to_string_lossy(), target.display());
        }
    }
    Ok(())
}

/// `parallelism`: what the standard library takes for the number of CPUs.
fn parallelism() -> Outcome {
    println!("{}", std::thread::available_parallelism()?);
    Ok(())
}

/// `wait-uninterruptibly N`: N tasks that the kernel counts as waiting for a disk, until this process is killed.
fn wait_uninterruptibly(tasks: &str) -> Outcome {
    for _ in 0..tasks.parse::<usize>()? {
        std::thread::spawn(|| {
            // The caller of vfork(2) sleeps uninterruptibly until its child ends, and the child never does.
            let flags = libc::CLONE_VFORK | libc::SIGCHLD;
            // SAFETY: without CLONE_VM the child has a copy of all memory, as after fork; it only makes system calls.
            unsafe {
                if libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) == 0 {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    loop {
                        libc::pause();
                    }
                }
            }
        });
    }
    loop {
        std::thread::park();
    }
}

/// `answer`: for each line of input, a path, the file's text and `==end 0==`, or `==end ERRNO==`.
fn answer() -> Outcome {
    for line in std::io::stdin().lock().lines() {
        let (text, code) = match std::fs::read(line?) {
            Ok(text) => (text, 0),
            Err(error) => (Vec::new(), error.raw_os_error().unwrap_or(-1)),
        };
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&text)?;
        writeln!(stdout, "\n==end {code}==")?;
        stdout.flush()?;
    }
    Ok(())
}

/// `hostless MOUNT/containers/NAME`: prints every number there that is the host's at three moments, with a note where
/// SEMANTICS.md lists it. Read from the host, which sees what the container sees.
fn hostless(tree: &str) -> Outcome {
    let tree = std::path::Path::new(tree);
    let files = crate::hostless::files_below(tree)?;
    let mut comparison = crate::hostless::Comparison::default();
    for _ in 0..3 {
        comparison.moment(&files, |file| {
            Ok(std::fs::read_to_string(tree.join(file.trim_start_matches('/'))).ok())
        })?;
    }
    let listed = crate::hostless::Listed::of_page()?;
    let mut unlisted = 0;
    for finding in comparison.all() {
        let known = listed.has(&finding);
        unlisted += usize::from(!known);
        println!("{finding}{}", if known { " (listed)" } else { "" });
    }
    println!("{} numbers in {} files, {unlisted} unlisted", comparison.numbers, comparison.files.len());
    check!(unlisted == 0, "numbers of the host");
    Ok(())
}
