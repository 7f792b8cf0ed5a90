//! System calls that `launch` closes, each with the error that it gives here.

use nix::errno::Errno;
use nix::libc;

use crate::case::Outcome;

/// `closed`: one line for each, `NAME ERRNO`; 0 where it is open.
pub fn main() -> Outcome {
    // SAFETY: integers, and null pointers that the kernel refuses to read where the call is open.
    let call = |number: libc::c_long, a: libc::c_long, b: libc::c_long| unsafe {
        match libc::syscall(number, a, b, 0, 0, 0, 0) {
            -1 => Errno::last_raw(),
            _ => 0,
        }
    };
    const OPEN_TREE_ATTR: libc::c_long = 467; // Linux 6.15, the same everywhere
    const READ_ALL: libc::c_long = 3; // of syslog(2)
    const SIZE_BUFFER: libc::c_long = 10;
    let stream = libc::c_long::from(libc::SOCK_STREAM);
    for (name, errno) in [
        ("vsock", call(libc::SYS_socket, libc::c_long::from(libc::AF_VSOCK), stream)),
        ("alg", call(libc::SYS_socket, 38, libc::c_long::from(libc::SOCK_SEQPACKET))),
        ("inet", call(libc::SYS_socket, libc::c_long::from(libc::AF_INET), stream)),
        ("syslog-read", call(libc::SYS_syslog, READ_ALL, 0)),
        ("syslog-size", call(libc::SYS_syslog, SIZE_BUFFER, 0)),
        ("fanotify_init", call(libc::SYS_fanotify_init, 0, 0)),
        ("open_tree_attr", call(OPEN_TREE_ATTR, -1, 0)),
    ] {
        println!("{name} {errno}");
    }
    Ok(())
}
