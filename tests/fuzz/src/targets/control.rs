//! What comes over the control socket.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ownproc::config::Layers;
use ownproc::control::message::{ClientHello, Reply, Request, VERSION};
use ownproc::control::wire::{self, MAX_FRAME, WireError};
use ownproc::control::{
    ConfigInfo, ContainerInfo, Handler, Hello, Refusal, RefusalKind, RegisterRequest, Registered, ShowTarget,
    Status, ViewInfo, talk_unchecked,
};
use ownproc::model::{ContainerName, HostPid, Nsec, Policies, PolicyChange, PolicyChoices, PolicyError};
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::{head, text};

/// A connection on which everything that the peer will ever say has been said.
fn connection(said: &[u8]) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    // What does not fit into the buffer is not sent: the frame is cut short then, which is one more case.
    let _ = send(&theirs, said, SendFlags::NOSIGNAL);
    shutdown(&theirs, Shutdown::Write).unwrap();
    (ours, theirs)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Frames: what is received is what was sent, whole and below the limit, or an error that says why.
pub fn control_wire(data: &[u8]) {
    let (ours, _theirs) = connection(data);
    let mut at = 0;
    loop {
        match wire::receive(ours.as_fd(), 1, soon()) {
            Ok(frame) => {
                assert!(frame.bytes.len() <= MAX_FRAME && frame.fds.is_empty());
                let (length, rest) = data[at..].split_at(4);
                assert_eq!(length, (frame.bytes.len() as u32).to_le_bytes());
                assert!(rest.starts_with(&frame.bytes));
                at += 4 + frame.bytes.len();
                let (to, from) = connection(b"");
                wire::send_frame(to.as_fd(), &frame.bytes, &[], soon()).unwrap();
                assert_eq!(wire::receive(from.as_fd(), 0, soon()).unwrap().bytes, frame.bytes);
            }
            Err(WireError::Closed) => return assert_eq!(at, data.len()),
            Err(WireError::Truncated) => return assert!(at < data.len()),
            Err(WireError::TooLarge(size)) => return assert!(size > MAX_FRAME),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(text) {
        let printed = serde_json::to_vec(&value).unwrap();
        assert_eq!(serde_json::from_slice::<T>(&printed).unwrap(), value);
    }
}

/// JSON of every kind of message.
pub fn control_messages(data: &[u8]) {
    round::<ClientHello>(data);
    round::<Hello>(data);
    round::<Request>(data);
    round::<ShowTarget>(data);
    round::<Reply>(data);
    round::<Status>(data);
    round::<Refusal>(data);
    round::<Registered>(data);
    round::<Vec<ContainerInfo>>(data);
    round::<Policies>(data);
}

/// What the command line reads of processes and groups: mount tables, group paths, `NSpid:`, seconds.
pub fn cli_texts(data: &[u8]) {
    if let Some(text) = text(data) {
        ownproc::cli::parse_any(text);
        for mount in ownproc::attach::mounts::parse(text.as_bytes()) {
            // A path that a mount claims to show never leads out of the tree.
            if let Some((_, path)) = ownproc::attach::mounts::served_path(&mount.root) {
                assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}

/// A daemon that has one container and refuses half of what it is asked.
struct Daemon;

impl Handler for Daemon {
    fn register(&self, request: RegisterRequest) -> Result<Registered, Refusal> {
        assert!(!request.name.as_str().is_empty());
        Err(Refusal::new(RefusalKind::BadDescriptor, "none comes from here"))
    }
    fn unregister(&self, name: &ContainerName) -> Result<(), Refusal> {
        if name.as_str() == "web" { Ok(()) } else { Err(Refusal::new(RefusalKind::NotFound, name.as_str())) }
    }
    fn list(&self) -> Vec<ContainerInfo> {
        vec![ContainerInfo {
            name: ContainerName::new("web").unwrap(),
            pid: HostPid::new(7).unwrap(),
            slot: 1,
            groups: vec!["/sys/fs/cgroup/web".into()],
            policies: Policies::default(),
            start: Nsec(5),
        }]
    }
    fn show(&self, target: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal> {
        match target {
            ShowTarget::Name(_) => Ok(file.as_bytes().to_vec()),
            ShowTarget::Pid(pid) if pid.get() == 7 => Ok(vec![b'x'; MAX_FRAME + 9]),
            _ => Err(Refusal::new(RefusalKind::NotFound, file)),
        }
    }
    fn view(&self, target: &ShowTarget) -> Result<ViewInfo, Refusal> {
        let settings = Layers::default().defaults();
        match target {
            ShowTarget::Name(name) => {
                Ok(ViewInfo { container: Some(name.clone()), time_namespace: false, settings })
            }
            _ => Err(Refusal::new(RefusalKind::NotFound, "no")),
        }
    }
    fn choose(&self, name: &ContainerName, changes: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        for change in changes {
            let mut choices = PolicyChoices::default();
            let refused = |error: PolicyError| Refusal::new(RefusalKind::Malformed, error.to_string());
            change.apply(&mut choices).map_err(refused)?;
        }
        self.view(&ShowTarget::Name(name.clone()))
    }
    fn config(&self) -> ConfigInfo {
        ConfigInfo::new(&Layers::default(), None)
    }
    fn status(&self) -> Status {
        Status::default()
    }
    fn umount(&self, force: bool) -> Result<(), Refusal> {
        if force { Ok(()) } else { Err(Refusal::new(RefusalKind::InUse, "no")) }
    }
}

/// One client from its first to its last byte: option 0 says any bytes, option 1 any message after a right hello,
/// option 2 any message and whether descriptors that come along are all closed.
pub fn control_conversation(data: &[u8]) {
    let (option, rest) = head(data);
    let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let greeting = ClientHello { version: VERSION, build: "x".into() };
    let hello = frame(&serde_json::to_vec(&greeting).unwrap());
    let said = match option % 2 {
        0 => rest.to_vec(),
        _ => [hello, frame(rest)].concat(),
    };
    let (ours, theirs) = connection(&said);
    let hello =
        Hello { version: VERSION, build: "y".into(), pid: 1, mount: PathBuf::from("/m"), started: Nsec(1) };
    let result = talk_unchecked(ours.as_fd(), hello.clone(), daemon(), Duration::from_secs(5));
    drop(ours);
    // What the client hears: whole frames that it understands, the hello first.
    let (mut replies, mut bytes) = (Vec::new(), 0u64);
    while let Ok(frame) = wire::receive(theirs.as_fd(), 0, soon()) {
        match replies.last() {
            Some(Reply::Bytes { len }) => {
                bytes += frame.bytes.len() as u64;
                assert!(bytes <= *len);
            }
            _ => replies.push(frame.parse::<Reply>().expect("a reply")),
        }
    }
    match replies.as_slice() {
        [] => assert!(matches!(result, Err(WireError::Closed | WireError::Truncated))),
        [Reply::Refused(refusal)] => assert!(refusal.kind == RefusalKind::Malformed && result.is_err()),
        [Reply::Hello(first)] => assert_eq!(*first, hello),
        [Reply::Hello(_), Reply::Bytes { len }] => assert_eq!(bytes, *len),
        [Reply::Hello(_), Reply::Done | Reply::Status(_) | Reply::Refused(_)] => {}
        other => panic!("{other:?}"),
    }
}

fn daemon() -> Arc<dyn Handler> {
    static DAEMON: OnceLock<Arc<Daemon>> = OnceLock::new();
    DAEMON.get_or_init(|| Arc::new(Daemon)).clone()
}
