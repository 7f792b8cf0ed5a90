//! Who is at the other end of a connection.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use super::message::{Refusal, RefusalKind};

/// The user of the peer as of the moment of connect(2); root of another user namespace is somebody else here.
pub fn uid(socket: BorrowedFd<'_>) -> Result<u32, rustix::io::Errno> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials);
    peer.map(|peer| peer.uid()).map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))
}

/// Lets only root of the daemon's own user and pid namespaces through: root of a container's user namespace has
/// another uid 0, and a pid of another pid namespace would name another process here.
///
/// The credentials are those of the moment of connect(2). The namespaces are read from `/proc`; SO_PEERPIDFD
/// (Linux 6.5+) shows that the pid is still the peer's afterwards. Before 6.5 a peer that ended meanwhile and
/// whose pid came round again could be mistaken; it had uid 0 all the same.
pub fn check(socket: BorrowedFd<'_>) -> Result<i32, Refusal> {
    let refused = |why: String| Refusal::new(RefusalKind::NotAllowed, why);
    let peer = getsockopt(&socket, sockopt::PeerCredentials)
        .map_err(|errno| refused(format!("SO_PEERCRED: {errno}")))?;
    if peer.uid() != 0 {
        return Err(refused(format!(
            "the peer has uid {}; only root may use the control socket",
            peer.uid()
        )));
    }
    let pidfd = match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::ENOPROTOOPT) => None, // before Linux 6.5
        Err(errno) => return Err(refused(format!("the peer has ended (SO_PEERPIDFD: {errno})"))),
    };
    // The kernel gives 0 for a peer outside the daemon's pid namespace.
    if peer.pid() <= 0 {
        return Err(refused("the peer is outside the daemon's pid namespace".to_owned()));
    }
    for kind in ["user", "pid"] {
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}"));
        let own = link("self").map_err(|error| refused(format!("/proc/self/ns/{kind}: {error}")))?;
        let theirs = link(&peer.pid().to_string())
            .map_err(|error| refused(format!("/proc/{}/ns/{kind}: {error}", peer.pid())))?;
        if own != theirs {
            return Err(refused(format!(
                "the peer (pid {}) is in another {kind} namespace than the daemon",
                peer.pid()
            )));
        }
    }
    if let Some(pidfd) = pidfd {
        let alive = crate::containers::pidfd::pid(pidfd.as_fd());
        if alive.map(|pid| pid.get()) != Some(peer.pid()) {
            return Err(refused("the peer has ended".to_owned()));
        }
    }
    Ok(peer.pid())
}
