//! System calls that are not meant for such files.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::time::Instant;

use super::{Ground, Random, errno, fork, pread, raw, until};
use crate::case::{Doing, Outcome, check};

fn path_of(ground: &Ground, number: u64) -> Outcome<CString> {
    Ok(CString::new(ground.file(number).as_os_str().as_bytes())?)
}

/// Opens for writing, writes, cuts, names, removes. Modes and times of the kernel's own files are left as they are.
pub fn write(ground: &Ground, end: Instant) -> Outcome<u64> {
    let ours = ground.is_ours();
    let mut random = Random::new();
    let other = CString::new(ground.dir.join("other").as_os_str().as_bytes())?;
    until(end, |round| {
        let path = path_of(ground, round)?;
        // SAFETY: paths that end in NUL, buffers that are valid for their length, descriptors of this process.
        unsafe {
            let flags = [libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_APPEND][(round % 3) as usize];
            let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, b"x".as_ptr().cast(), 1);
                libc::pwrite(fd, b"some".as_ptr().cast(), 4, i64::MAX - 5);
                libc::close(fd);
            }
            if ours {
                // The least second there is, and others.
                let seconds = [i64::MIN, i64::MIN + 1, i64::MAX, -1, random.next().cast_signed()];
                let time = libc::timespec { tv_sec: seconds[(round % 5) as usize], tv_nsec: 999_999_999 };
                libc::utimensat(libc::AT_FDCWD, path.as_ptr(), [time, time].as_ptr(), 0);
                libc::truncate(path.as_ptr(), random.next().cast_signed() >> 1);
                libc::chmod(path.as_ptr(), 0o777);
                libc::chown(path.as_ptr(), 1, 1);
                libc::unlink(path.as_ptr());
                libc::rename(path.as_ptr(), other.as_ptr());
                libc::link(path.as_ptr(), other.as_ptr());
                libc::symlink(path.as_ptr(), other.as_ptr());
                libc::mkdir(other.as_ptr(), 0o777);
                libc::mknod(other.as_ptr(), libc::S_IFREG, 0);
                let name = c"user.x";
                libc::setxattr(path.as_ptr(), name.as_ptr(), name.as_ptr().cast(), 5, 0);
                libc::getxattr(path.as_ptr(), name.as_ptr(), ptr::null_mut(), 0);
                libc::listxattr(path.as_ptr(), ptr::null_mut(), 0);
                libc::removexattr(path.as_ptr(), name.as_ptr());
                let new = libc::open(other.as_ptr(), libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC, 0o666);
                check!(new < 0, "a file was made");
            }
        }
        Ok(15)
    })
}

/// Any ioctl; also those that the kernel answers by itself.
pub fn ioctl(ground: &Ground, end: Instant) -> Outcome<u64> {
    let mut random = Random::new();
    let known =
        [0x5401, 0x541b, 0x8008_6601, 0x8004_6601, 0x801c_581f, 0xc020_660b, 0x2201, 1, 2, 0xc004_e500];
    let mut buffer = [0_u8; 16384];
    until(end, |round| {
        let file = ground.open(round)?;
        for number in 0..8 {
            let command = if number % 2 == 0 { known[(random.next() % 10) as usize] } else { random.next() };
            // FIONBIO, FIOCLEX and the like touch this descriptor alone; none of these files knows a command.
            // SAFETY: a command moves at most 16 KiB (14 bits of its number say how much).
            unsafe { libc::ioctl(raw(&file), command, buffer.as_mut_ptr()) };
        }
        Ok(8)
    })
}

/// Descriptors that name a file without opening it.
pub fn o_path(ground: &Ground, end: Instant) -> Outcome<u64> {
    until(end, |round| {
        let path = path_of(ground, round)?;
        let mut byte = [0; 64];
        // SAFETY: paths that end in NUL, descriptors of this process, a buffer of one `stat`.
        unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            check!(fd >= 0, "O_PATH: errno {}", errno());
            let read = pread(fd, &mut byte, 0);
            check!(read == -(libc::EBADF as isize), "a read of an O_PATH descriptor: {read}");
            let mut stat = std::mem::zeroed();
            check!(libc::fstat(fd, &raw mut stat) == 0, "fstat: errno {}", errno());
            libc::openat(fd, c"x".as_ptr(), libc::O_RDONLY);
            let again = CString::new(format!("/proc/self/fd/{fd}"))?;
            let open = libc::open(again.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if open >= 0 {
                pread(open, &mut byte, 0);
                libc::close(open);
            }
            let dir = libc::open(path.as_ptr(), libc::O_DIRECTORY | libc::O_CLOEXEC);
            check!(dir < 0, "a file opened as a directory");
            libc::close(fd);
        }
        Ok(6)
    })
}

/// Maps files and touches the pages; what has no page ends the child by SIGBUS.
pub fn mmap(ground: &Ground, end: Instant) -> Outcome<u64> {
    until(end, |round| {
        let file = ground.open(round)?;
        let child = fork(|| {
            for flags in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
                // SAFETY: a new mapping; what is read of it may be a SIGBUS, which ends this child as it should.
                unsafe {
                    let at = libc::mmap(ptr::null_mut(), 8192, libc::PROT_READ, flags, raw(&file), 0);
                    if at != libc::MAP_FAILED {
                        libc::madvise(at, 8192, libc::MADV_WILLNEED);
                        ptr::read_volatile(at.cast::<u8>());
                        libc::munmap(at, 8192);
                    }
                }
            }
        })?;
        nix::sys::wait::waitpid(child, None)?;
        Ok(2)
    })
}

/// sendfile(2), splice(2), copy_file_range(2), readahead(2), posix_fadvise(2).
pub fn splice(ground: &Ground, end: Instant) -> Outcome<u64> {
    let null = std::fs::File::options().write(true).open("/dev/null").doing("/dev/null")?;
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    check!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } == 0, "pipe");
    let mut drain = [0_u8; 65536];
    until(end, |round| {
        let file = ground.open(round)?;
        let fd = raw(&file);
        // SAFETY: descriptors that are open for the whole of it, null for offsets, a buffer of its length.
        unsafe {
            libc::sendfile(raw(&null), fd, ptr::null_mut(), 1 << 20);
            libc::splice(fd, ptr::null_mut(), pipe[1], ptr::null_mut(), 65536, libc::SPLICE_F_NONBLOCK);
            while libc::read(pipe[0], drain.as_mut_ptr().cast(), drain.len()) > 0 {}
            libc::copy_file_range(fd, ptr::null_mut(), raw(&null), ptr::null_mut(), 4096, 0);
            libc::readahead(fd, 0, 1 << 20);
            libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_WILLNEED);
            libc::fsync(fd);
            libc::syncfs(fd);
        }
        Ok(7)
    })
}

/// Reads into memory that is not there, or only in part.
pub fn bad_buffers(ground: &Ground, end: Instant) -> Outcome<u64> {
    // SAFETY: a new mapping, whose second page is taken away again.
    let half = unsafe {
        let at = libc::mmap(
            ptr::null_mut(),
            8192,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        check!(at != libc::MAP_FAILED, "mmap: errno {}", errno());
        libc::munmap(at.byte_add(4096), 4096);
        at
    };
    until(end, |round| {
        let file = ground.open(round)?;
        let fd = raw(&file);
        // SAFETY: the kernel checks where it writes: EFAULT beyond what is mapped, and nothing else of ours is named.
        unsafe {
            libc::pread(fd, ptr::null_mut(), 4096, 0);
            libc::pread(fd, half.byte_add(4096), 4096, 0);
            libc::pread(fd, half.byte_add(4000), 4096, 0);
            let vectors = [
                libc::iovec { iov_base: half, iov_len: 10 },
                libc::iovec { iov_base: half.byte_add(4090), iov_len: 100 },
                libc::iovec { iov_base: ptr::null_mut(), iov_len: 100 },
            ];
            libc::preadv2(fd, vectors.as_ptr(), 3, 0, libc::RWF_NOWAIT);
            libc::preadv(fd, vectors.as_ptr(), 3, 0);
        }
        Ok(5)
    })
}
