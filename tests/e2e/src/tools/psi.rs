//! Triggers of pressure stall information, as a program uses them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::case::{Doing, Outcome, fail};

/// `psi watch PATH TRIGGER SECONDS [--epoll]`, `psi ready PATH`, `psi errors PATH`.
pub fn main(words: &[&str]) -> Outcome {
    match words {
        ["watch", path, trigger, seconds] => watch(path, trigger, seconds, by_poll),
        ["watch", path, trigger, seconds, "--epoll"] => watch(path, trigger, seconds, by_epoll),
        ["ready", path] => ready(path),
        ["errors", path] => errors(path),
        _ => fail!("unknown words {words:?}"),
    }
}

fn open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Prints `armed` (or `open errno N`, `write errno N`), then `fired`, `broken`, or `quiet` after so many seconds.
fn watch(
    path: &str,
    trigger: &str,
    seconds: &str,
    wait: fn(&File, Duration) -> Outcome<PollFlags>,
) -> Outcome {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) => {
            println!("open errno {}", errno(&error));
            return Ok(());
        }
    };
    if let Err(error) = file.write_all(trigger.as_bytes()) {
        println!("write errno {}", errno(&error));
        return Ok(());
    }
    println!("armed");
    let until = Instant::now() + Duration::from_secs(seconds.parse()?);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let events = wait(&file, left)?;
        if events.contains(PollFlags::POLLERR) {
            println!("broken");
            return Ok(());
        }
        if events.contains(PollFlags::POLLPRI) {
            println!("fired");
            return Ok(());
        }
    }
    println!("quiet");
    Ok(())
}

fn by_poll(file: &File, limit: Duration) -> Outcome<PollFlags> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX))?;
    Ok(fds[0].revents().unwrap_or(PollFlags::empty()))
}

fn by_epoll(file: &File, limit: Duration) -> Outcome<PollFlags> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(file, EpollEvent::new(EpollFlags::EPOLLPRI, 0))?;
    let mut events = [EpollEvent::empty()];
    let found = epoll.wait(&mut events, EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX))?;
    let flags = if found > 0 { events[0].events() } else { EpollFlags::empty() };
    Ok(PollFlags::from_bits_truncate(i16::try_from(flags.bits())?))
}

/// What poll(2) and epoll say at once of a file that is only read.
fn ready(path: &str) -> Outcome {
    let file = File::open(path).doing(path)?;
    let all = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
    let mut fds = [PollFd::new(file.as_fd(), all)];
    poll(&mut fds, PollTimeout::ZERO)?;
    println!("poll {}", names(fds[0].revents().unwrap_or(PollFlags::empty())));
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLPRI;
    epoll.add(&file, EpollEvent::new(wanted, 0))?;
    let mut events = [EpollEvent::empty()];
    epoll.wait(&mut events, EpollTimeout::ZERO)?;
    println!("epoll {}", names(PollFlags::from_bits_truncate(i16::try_from(events[0].events().bits())?)));
    Ok(())
}

fn names(flags: PollFlags) -> String {
    let all = [
        (PollFlags::POLLIN, "readable"),
        (PollFlags::POLLOUT, "writable"),
        (PollFlags::POLLPRI, "pri"),
        (PollFlags::POLLERR, "err"),
    ];
    let set: Vec<_> = all.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    set.join(" ")
}

/// The errno of texts and situations that are refused; 0 where they are not.
fn errors(path: &str) -> Outcome {
    let mut file = open(path).doing(path)?;
    let mut write = |text: &str| file.write_all(text.as_bytes()).map_or_else(|error| errno(&error), |()| 0);
    println!("nonsense {}", write("any 1 2\0"));
    println!("window {}", write("some 150000 100000000\0"));
    println!("first {}", write("some 1900000 2000000\0"));
    println!("second {}", write("some 1900000 2000000\0"));
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    println!("read {}", text.split(' ').next().unwrap_or_default());
    let unarmed = open(path).doing(path)?;
    let all = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
    let mut fds = [PollFd::new(unarmed.as_fd(), all)];
    poll(&mut fds, PollTimeout::ZERO)?;
    println!("unarmed {}", names(fds[0].revents().unwrap_or(PollFlags::empty())));
    let mut held = vec![file];
    let refused = loop {
        let mut file = open(path).doing(path)?;
        match file.write_all(b"some 1900000 2000000") {
            Ok(()) => held.push(file),
            Err(error) => break errno(&error),
        }
    };
    println!("most {} {refused}", held.len());
    Ok(())
}
