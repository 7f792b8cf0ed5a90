//! Files and directories: many of them, at wild offsets, closed twice, under wild names.

use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use super::{Ground, Random, errno, many_descriptors, pread, raw, until};
use crate::case::{Doing, Outcome, check, fail};

/// Files that one wants open at once.
const WANTED: usize = 100_000;

/// Opens 100,000 files and reads each once, as far as it is let; closes all of them and begins again.
pub fn hoard(ground: &Ground, end: Instant) -> Outcome<u64> {
    until(end, |_| Ok(open_many(ground, end, WANTED)?.0))
}

/// The same once, until it has been refused a thousand times; says how many were open at once.
pub fn hoard_once(ground: &Ground, end: Instant) -> Outcome<u64> {
    let (asked, open) = open_many(ground, end, 1000)?;
    eprintln!("open at once: {open}");
    Ok(asked)
}

/// Opens files until 100,000 are open, or for so many refusals; how many were asked for, and how many open.
fn open_many(ground: &Ground, end: Instant, refusals: usize) -> Outcome<(u64, usize)> {
    many_descriptors()?;
    let (mut open, mut asked, mut refused) = (Vec::new(), 0, 0);
    let mut byte = [0; 1];
    while open.len() < WANTED && refused < refusals && Instant::now() < end {
        asked += 1;
        match File::open(ground.file(asked)) {
            Ok(file) => {
                pread(raw(&file), &mut byte, 0);
                open.push(file);
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => refused += 1,
            Err(error) => fail!("{}: {error}", ground.file(asked).display()),
        }
    }
    Ok((asked, open.len()))
}

/// Reads at any offset with any size.
pub fn wild_offsets(ground: &Ground, end: Instant) -> Outcome<u64> {
    let files: Vec<File> = (0..ground.files.len() as u64).map(|n| ground.open(n)).collect::<Outcome<_>>()?;
    let mut random = Random::new();
    let mut buffer = vec![0; 1 << 20];
    let edges = [i64::MAX, i64::MAX - 4096, 1 << 62, i64::MIN, -1, 1 << 32, (1 << 31) - 1, 4095, 0, 1];
    until(end, |round| {
        let file = &files[usize::try_from(random.next())? % files.len()];
        let offset = if round % 2 == 0 {
            edges[usize::try_from(random.next() >> 8)? % edges.len()]
        } else {
            (random.next() >> (random.next() % 63)).cast_signed()
        };
        let size = usize::try_from(random.next() >> (44 + random.next() % 20))? % buffer.len();
        let got = pread(raw(file), &mut buffer[..size], offset);
        check!(got <= size.cast_signed(), "{got} bytes of {size} at {offset}");
        check!(
            got >= 0 || offset < 0 || offset.checked_add(size as i64).is_none(),
            "errno {} at {offset}, {size}",
            -got
        );
        Ok(1)
    })
}

/// Closes a descriptor twice, and one that was duplicated.
pub fn close_twice(ground: &Ground, end: Instant) -> Outcome<u64> {
    let mut byte = [0; 16];
    until(end, |round| {
        let path = CString::new(ground.file(round).as_os_str().as_bytes())?;
        // SAFETY: a path that ends in NUL, and descriptors that nobody else in this one thread's process owns.
        unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            check!(fd >= 0, "open: errno {}", errno());
            let twin = libc::dup(fd);
            pread(fd, &mut byte, 0);
            check!(libc::close(fd) == 0, "close: errno {}", errno());
            check!(libc::close(fd) == -1 && errno() == libc::EBADF, "the second close");
            check!(pread(twin, &mut byte, 0) >= 0, "a twin is alive: errno {}", errno());
            libc::close(twin);
            libc::close(twin);
        }
        Ok(2)
    })
}

/// Looks for names of any kind and length.
pub fn names(ground: &Ground, end: Instant) -> Outcome<u64> {
    let mut random = Random::new();
    until(end, |round| {
        let length = [1, 2, 254, 255, 256, 1023, 4000][usize::try_from(round % 7)?];
        let letter = u8::try_from(1 + random.next() % 255)?;
        let mut name = vec![if letter == b'/' { b'x' } else { letter }; length];
        if round % 3 == 0 {
            // A new one each time: the kernel remembers none.
            let number = random.next().to_string();
            let start = length.min(number.len());
            name[..start].copy_from_slice(&number.as_bytes()[..start]);
        }
        if round % 11 == 0 && length > 8 {
            name[3] = b'/';
        }
        let path = ground.dir.join(std::ffi::OsStr::from_bytes(&name));
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(_) => return Ok(1), // one letter of a pid, or `.`
            Err(error) => error,
        };
        let expected = [libc::ENOENT, libc::ENAMETOOLONG, libc::ENOTDIR, libc::EACCES];
        check!(expected.contains(&kind.raw_os_error().unwrap_or(0)), "{}: {kind}", path.display());
        Ok(1)
    })
}

/// Lists directories with buffers of any size, from anywhere.
pub fn readdir(ground: &Ground, end: Instant) -> Outcome<u64> {
    let mut dirs = vec![ground.dir.join("pressure"), ground.dir.join("sys")];
    if ground.is_ours() {
        let cpus = ground.dir.join("../sys/devices/system/cpu");
        dirs.extend([ground.dir.clone(), cpus.join("cpu0"), cpus]);
    }
    let mut open = Vec::new();
    for dir in &dirs {
        match File::open(dir) {
            Ok(file) => open.push(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(dir.display()),
        }
    }
    check!(!open.is_empty(), "no directory of {dirs:?} is there");
    let mut random = Random::new();
    let mut buffer = vec![0_u8; 1 << 20];
    until(end, |round| {
        let fd = open[usize::try_from(round)? % open.len()].as_raw_fd();
        let offset = if round % 3 == 0 { random.next().cast_signed() } else { 0 };
        let size = [24, 32, 100, 4096, 1 << 20][usize::try_from(random.next() % 5)?];
        // SAFETY: the buffer is valid for `size` bytes, the descriptor open.
        unsafe {
            libc::lseek(fd, offset, libc::SEEK_SET);
            let got = libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), size);
            check!(got <= size as i64, "{got} bytes of {size}");
        }
        Ok(1)
    })
}
