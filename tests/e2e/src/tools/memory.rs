//! Test programs that use memory in one known way.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use crate::case::{Doing, Outcome, check, fail};
use crate::parse::Meminfo;

const MIB: usize = 1 << 20;
/// What `grow` takes at a time: small against one hundredth of the smallest container that is tested.
const STEP: usize = 256 * 1024;
/// How often `grow` looks whether swap was written.
const WRITING: Duration = Duration::from_millis(5);

/// `grow`: reads meminfo, then takes memory until it is killed. Prints `said AVAILABLE SWAPFREE` and `got TOTAL` after each
/// step, all in kB.
pub fn grow() -> Outcome {
    // The kernel must choose this process, whatever else is in the container.
    std::fs::write("/proc/self/oom_score_adj", "1000").doing("oom_score_adj")?;
    let mut line = Vec::with_capacity(64);
    let meminfo = Meminfo::parse(&std::fs::read_to_string("/proc/meminfo")?)?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "said {} {}", meminfo.get("MemAvailable"), meminfo.get("SwapFree"))?;
    stdout.flush()?;
    // Before that nothing is swapped out.
    let swaps_from =
        if meminfo.get("SwapTotal") > 0 { meminfo.get("MemAvailable") / 10 * 9 } else { u64::MAX };
    let mut total = 0_u64;
    loop {
        // The kernel does not wait for pages on their way to a slow swap disk: with 15 MiB of them it kills 15 MiB early.
        while total >= swaps_from
            && Meminfo::parse(&std::fs::read_to_string("/proc/meminfo")?)?.get("Writeback") > 0
        {
            std::thread::sleep(WRITING);
        }
        touch(map(STEP, 0)?, STEP);
        total += STEP as u64 / 1024;
        line.clear();
        writeln!(line, "got {total}")?;
        stdout.write_all(&line)?;
        stdout.flush()?;
    }
}

/// `ballast SCORE`: writes [`STEP`] bytes more to a file in memory for each line `grow`, empties it at `free`, and says `ok` each time. The
/// memory is charged to the group and counts for no process: the kernel chooses others when it is short.
pub fn ballast(score: &str) -> Outcome {
    std::fs::write("/proc/self/oom_score_adj", score).doing("oom_score_adj")?;
    // SAFETY: the name is a terminated string; the result is a new descriptor or -1.
    let fd = unsafe { libc::memfd_create(c"ballast".as_ptr(), libc::MFD_CLOEXEC) };
    check!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor was just made and is owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let step = vec![1; STEP];
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "grow" => file.write_all(&step)?,
            _ => {
                file.set_len(0)?;
                std::io::Seek::rewind(&mut file)?;
            }
        }
        println!("ok");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// `hold KIND MIB [PATH]`: uses memory, says `ready` and stays until it is killed. KIND: `anon`, `shm`, `thp`; with a file that it
/// makes at PATH: `cache` (clean), `dirty`, `mapped`; with a directory: `slab` (MIB thousand empty files).
pub fn hold(words: &[&str]) -> Outcome {
    let (kind, mib, path) = match words {
        [kind, mib] => (*kind, mib, ""),
        [kind, mib, path] => (*kind, mib, *path),
        _ => fail!("hold KIND MIB [PATH]"),
    };
    let size = mib.parse::<usize>()? * MIB;
    // Kept until the process is killed.
    let _held: Option<OwnedFd> = match kind {
        "anon" => {
            touch(map(size, 0)?, size);
            None
        }
        "thp" => {
            let start = map(size + 2 * MIB, 0)?;
            let aligned = start.wrapping_add(start.align_offset(2 * MIB));
            // SAFETY: the range lies within the mapping just made; the advice changes no content.
            let done = unsafe { libc::madvise(aligned.cast(), size, libc::MADV_HUGEPAGE) };
            check!(done == 0, "MADV_HUGEPAGE: {}", std::io::Error::last_os_error());
            touch(aligned, size);
            None
        }
        "shm" => {
            // SAFETY: the name is a terminated string; the result is a new descriptor or -1.
            let fd = unsafe { libc::memfd_create(c"hold".as_ptr(), libc::MFD_CLOEXEC) };
            check!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            // SAFETY: nobody else owns the descriptor.
            let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            fill(&mut file, size)?;
            Some(file.into())
        }
        "cache" | "dirty" | "mapped" => {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .doing(path)?;
            fill(&mut file, size)?;
            if kind != "dirty" {
                file.sync_all()?;
            }
            if kind == "mapped" {
                use std::os::fd::AsRawFd;
                let start = map(size, file.as_raw_fd())?;
                // SAFETY: the mapping is `size` bytes of a file of that size that only this process has open.
                let sum: usize = (0..size)
                    .step_by(4096)
                    .map(|at| usize::from(unsafe { start.add(at).read_volatile() }))
                    .sum();
                std::hint::black_box(sum);
            }
            Some(file.into())
        }
        "slab" => {
            for number in 0..size / MIB * 1000 {
                File::create(format!("{path}/{number}")).doing(path)?;
            }
            None
        }
        _ => fail!("hold knows no {kind}"),
    };
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// New memory; of the file behind the descriptor where that is not 0.
fn map(size: usize, fd: i32) -> Outcome<*mut u8> {
    let (flags, protection, fd) = match fd {
        0 => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE, -1),
        fd => (libc::MAP_SHARED, libc::PROT_READ, fd),
    };
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, fd, 0) };
    check!(start != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    Ok(start.cast())
}

fn touch(start: *mut u8, size: usize) {
    for at in (0..size).step_by(4096) {
        // SAFETY: the callers pass a private mapping of at least `size` bytes that nothing else refers to.
        unsafe { start.add(at).write_volatile(1) };
    }
}

fn fill(file: &mut File, size: usize) -> Outcome {
    let piece = vec![1_u8; MIB];
    for _ in 0..size / MIB {
        file.write_all(&piece)?;
    }
    Ok(())
}
