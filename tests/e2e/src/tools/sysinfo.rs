//! `sysinfo`: what sysinfo(2) tells, asked in several ways.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::case::{Failure, Outcome, check};

/// The words after `sysinfo`.
pub fn main(words: &[&str]) -> Outcome {
    match words {
        [] => once(),
        ["pointers"] => pointers(),
        ["until-eof", kib] => until_eof(kib.parse()?),
        ["crowd", threads, seconds] => crowd(threads.parse()?, Duration::from_secs_f64(seconds.parse()?)),
        ["worst", kib, seconds] => worst(kib.parse()?, Duration::from_secs_f64(seconds.parse()?)),
        _ => Err(Failure(
            "sysinfo [pointers | until-eof KIB | crowd THREADS SECONDS | worst KIB SECONDS]".to_owned(),
        )),
    }
}

fn ask() -> Outcome<libc::sysinfo> {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the kernel writes the structure.
    let result = unsafe { libc::sysinfo(info.as_mut_ptr()) };
    check!(result == 0, "sysinfo: {}", std::io::Error::last_os_error());
    // SAFETY: it has been written, and zeros are valid.
    Ok(unsafe { info.assume_init() })
}

/// One line: sizes in KiB, loads in 1/65536.
fn once() -> Outcome {
    let info = ask()?;
    let kib = |bytes: u64| bytes * u64::from(info.mem_unit) / 1024;
    println!(
        "total={} free={} shared={} buffers={} swap={} swapfree={} uptime={} procs={} load={} high={}",
        kib(info.totalram),
        kib(info.freeram),
        kib(info.sharedram),
        kib(info.bufferram),
        kib(info.totalswap),
        kib(info.freeswap),
        info.uptime,
        info.procs,
        info.loads[0],
        info.totalhigh + info.freehigh
    );
    Ok(())
}

/// The error number for each of several places that cannot be written to: null, the kernel's, not mapped, the end of a mapping.
fn pointers() -> Outcome {
    // SAFETY: new mappings at a place of the kernel's choice; the second page is taken away again.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        check!(pages != libc::MAP_FAILED, "mmap");
        libc::munmap(pages.byte_add(4096), 4096);
        pages as usize
    };
    for place in [0, usize::MAX - 4095, page + 4096, page + 4096 - 8, 0x7fff_ffff_f000, page] {
        // SAFETY: the kernel refuses what it cannot write to; the last place is a page of our own that nothing else uses.
        let result = unsafe { libc::syscall(libc::SYS_sysinfo, place) };
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        println!("{}", if result == 0 { 0 } else { error });
    }
    Ok(())
}

fn right(kib: u64) -> Outcome {
    let info = ask()?;
    let total = info.totalram * u64::from(info.mem_unit) / 1024;
    check!(total == kib, "total is {total} KiB, not {kib}");
    check!(info.freeram <= info.totalram && info.procs > 0, "free {}, procs {}", info.freeram, info.procs);
    Ok(())
}

/// Asks over and over until its input ends; all answers must be right.
fn until_eof(kib: u64) -> Outcome {
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
    });
    println!("begun");
    std::io::stdout().flush()?;
    let mut calls = 0_u64;
    while !over.load(Ordering::Relaxed) {
        right(kib).map_err(|error| Failure(format!("call {calls}: {error}")))?;
        calls += 1;
    }
    println!("{calls}");
    Ok(())
}

/// That many threads at the same time, as fast as they can; how many calls they made.
fn crowd(threads: usize, time: Duration) -> Outcome {
    let end = Instant::now() + time;
    let one = move || {
        let mut calls = 0_u64;
        while Instant::now() < end && ask().is_ok() {
            calls += 1;
        }
        calls
    };
    let running: Vec<_> = (0..threads).map(|_| std::thread::spawn(one)).collect();
    println!("begun");
    std::io::stdout().flush()?;
    let calls: u64 = running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    println!("{calls}");
    Ok(())
}

/// Asks every millisecond or so; how often, and the longest time that it took, in microseconds.
fn worst(kib: u64, time: Duration) -> Outcome {
    let end = Instant::now() + time;
    let (mut longest, mut calls) = (Duration::ZERO, 0_u64);
    while Instant::now() < end {
        let began = Instant::now();
        right(kib)?;
        longest = longest.max(began.elapsed());
        calls += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{calls} {}", longest.as_micros());
    Ok(())
}
