//! A real server on a real socket, with clients good and hostile.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::message::{ClientHello, Reply, Request, VERSION};
use super::wire::{self, MAX_FDS, MAX_FRAME};
use super::*;
use crate::model::{ContainerName, HostPid, Nsec, Numbering, Policies, PolicyChange, PolicyChoices};

/// Remembers what it was asked.
#[derive(Default)]
struct Recorder {
    registered: Mutex<Vec<(ContainerName, PolicyChoices, usize)>>,
    forced: Mutex<Vec<bool>>,
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn info(index: u32) -> ContainerInfo {
    ContainerInfo {
        name: name(&format!("c{index}")),
        pid: HostPid::new(1).unwrap(),
        slot: index,
        groups: vec![PathBuf::from("/sys/fs/cgroup/x".repeat(8))],
        policies: Policies::default(),
        start: Nsec(1),
    }
}

impl Handler for Recorder {
    fn register(&self, request: RegisterRequest) -> Result<Registered, Refusal> {
        if request.name.as_str() == "taken" {
            return Err(Refusal::new(RefusalKind::NameTaken, "taken is taken"));
        }
        let tree = Path::new("/m/containers").join(request.name.as_str());
        self.registered.lock().unwrap().push((request.name, request.policies, request.groups.len()));
        Ok(Registered { tree })
    }
    fn unregister(&self, _: &ContainerName) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalKind::NotFound, "no such container"))
    }
    fn list(&self) -> Vec<ContainerInfo> {
        (1..=1000).map(info).collect()
    }
    fn show(&self, _: &ShowTarget, file: &str) -> Result<Vec<u8>, Refusal> {
        Ok(file.as_bytes().repeat(50_000))
    }
    fn view(&self, target: &ShowTarget) -> Result<ViewInfo, Refusal> {
        match target {
            ShowTarget::Name(name) => Ok(ViewInfo {
                container: Some(name.clone()),
                time_namespace: true,
                settings: crate::config::Layers::default().defaults(),
            }),
            _ => Err(Refusal::new(RefusalKind::NotFound, "not there")),
        }
    }
    fn choose(&self, name: &ContainerName, changes: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        let mut choices = PolicyChoices::default();
        for change in changes {
            change.apply(&mut choices).map_err(|e| Refusal::new(RefusalKind::Malformed, e.to_string()))?;
        }
        self.view(&ShowTarget::Name(name.clone()))
    }
    fn config(&self) -> ConfigInfo {
        ConfigInfo { error: Some("x".repeat(100_000)), ..ConfigInfo::default() }
    }
    fn status(&self) -> Status {
        Status { containers: 3, mount_namespaces: 2, open_files: 1, ..Status::default() }
    }
    fn umount(&self, force: bool) -> Result<(), Refusal> {
        self.forced.lock().unwrap().push(force);
        if force { Ok(()) } else { Err(Refusal::new(RefusalKind::InUse, "2 containers hold files")) }
    }
}

struct Set {
    paths: Paths,
    recorder: Arc<Recorder>,
    running: server::Running,
    _dir: tempfile::TempDir,
}

fn set_up() -> Set {
    set_up_with(server::DEADLINE)
}

/// A slow machine must not make a client look slow.
fn set_up_with(deadline: Duration) -> Set {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(&dir.path().join("run"), &dir.path().join("mount"));
    let recorder = Arc::new(Recorder::default());
    let handler: Arc<dyn Handler> = recorder.clone();
    let server = Server::bind(paths.clone()).unwrap().with_deadline(deadline);
    let running = server.start(handler).unwrap();
    Set { paths, recorder, running, _dir: dir }
}

impl Set {
    fn client(&self) -> Client {
        Client::at(self.paths.clone()).unwrap()
    }
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.paths.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn hello(stream: &UnixStream) {
    let hello = ClientHello { version: VERSION, build: "test".into() };
    wire::send_json(stream.as_fd(), &hello, &[], soon()).unwrap();
    assert!(matches!(reply(stream), Reply::Hello(_)));
}

fn reply(stream: &UnixStream) -> Reply {
    wire::receive(stream.as_fd(), 0, soon()).unwrap().parse().unwrap()
}

fn refused(stream: &UnixStream) -> RefusalKind {
    match reply(stream) {
        Reply::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_arrives_and_is_answered() {
    let set = set_up();
    let client = set.client();
    assert_eq!(client.hello().pid, std::process::id() as i32);
    assert_eq!(client.hello().build, build_id());
    assert_eq!(client.hello().mount, set.paths.mount);
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let policies = PolicyChoices { numbering: Some(Numbering::Compact), ..Default::default() };
    let registration = |text: &str| Registration {
        name: name(text),
        policies,
        pidfd: null.as_fd(),
        groups: vec![null.as_fd(); 12],
        replaces: false,
    };
    let registered = client.register(registration("web")).unwrap();
    assert_eq!(registered.tree, Path::new("/m/containers/web"));
    assert_eq!(*set.recorder.registered.lock().unwrap(), [(name("web"), policies, 12)]);
    let taken = client.register(registration("taken")).unwrap_err();
    assert_eq!(taken.refusal(), Some(RefusalKind::NameTaken));
    assert_eq!(taken.to_string(), "the daemon refused: taken is taken");
    assert_eq!(client.unregister(&name("x")).unwrap_err().refusal(), Some(RefusalKind::NotFound));
    let view = client.view(ShowTarget::Name(name("web"))).unwrap();
    assert_eq!((view.container, view.settings.len()), (Some(name("web")), 6));
    let gone = client.view(ShowTarget::Pid(HostPid::new(1).unwrap())).unwrap_err();
    assert_eq!(gone.refusal(), Some(RefusalKind::NotFound));
    let change = |value: &str| PolicyChange { key: "cpus".into(), value: Some(value.into()) };
    assert_eq!(client.choose(&name("web"), vec![change("cpuset")]).unwrap().container, Some(name("web")));
    let refused = client.choose(&name("web"), vec![change("all")]).unwrap_err();
    assert_eq!(refused.refusal(), Some(RefusalKind::Malformed));
    assert_eq!(client.config().unwrap().error.map(|error| error.len()), Some(100_000));
    assert_eq!(client.status().unwrap().containers, 3);
    assert_eq!(client.umount(false).unwrap_err().refusal(), Some(RefusalKind::InUse));
    client.umount(true).unwrap();
    assert_eq!(*set.recorder.forced.lock().unwrap(), [false, true]);
}

#[test]
fn answers_beyond_one_frame_come_whole() {
    let set = set_up();
    let list = set.client().list().unwrap();
    assert_eq!(list, (1..=1000).map(info).collect::<Vec<_>>());
    let bytes = set.client().show(ShowTarget::Name(name("web")), "abcd".into()).unwrap();
    assert!(bytes.len() > 2 * MAX_FRAME);
    assert_eq!(bytes, b"abcd".repeat(50_000));
}

#[test]
fn nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(dir.path(), Path::new("/nowhere"));
    let error = Client::at(paths.clone()).unwrap_err();
    assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");
    // A socket file that a dead daemon left.
    paths.create().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&paths.socket).unwrap());
    let error = Client::at(paths.clone()).unwrap_err();
    assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
    Server::bind(paths).unwrap();
}

#[test]
fn one_daemon_for_one_mount() {
    let set = set_up();
    let error = Server::bind(set.paths.clone()).unwrap_err();
    assert!(matches!(error, ServerError::Running(_)), "{error}");
    set.client();
    let (paths, running) = (set.paths.clone(), set.running);
    running.stop();
    assert!(!paths.socket.exists());
    Server::bind(paths).unwrap();
}

#[test]
fn socket_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let set = set_up();
    assert_eq!(std::fs::metadata(&set.paths.socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_long_mount_point_has_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(dir.path(), &Path::new("/").join("m".repeat(200)));
    assert!(paths.socket.as_os_str().len() > 108);
    let handler: Arc<dyn Handler> = Arc::new(Recorder::default());
    let _running = Server::bind(paths.clone()).unwrap().start(handler).unwrap();
    Client::at(paths).unwrap();
}

#[test]
fn slow_clients_are_cut_off() {
    let set = set_up();
    // One says nothing, one stops within a frame, one drips bytes.
    let silent = set.raw();
    let mut half = set.raw();
    half.write_all(&100u32.to_le_bytes()).unwrap();
    half.write_all(b"{").unwrap();
    let mut drip = set.raw();
    drip.write_all(&1000u32.to_le_bytes()).unwrap();
    let begun = Instant::now();
    let writer = drip.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        let mut writer = writer;
        while writer.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
            assert!(begun.elapsed() < Duration::from_secs(10), "never cut off");
        }
    });
    for stream in [&silent, &half, &drip] {
        assert_eq!(refused(stream), RefusalKind::Malformed);
        assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    }
    dripping.join().unwrap();
    set.client();
}

#[test]
fn one_that_does_not_read_is_cut_off() {
    let set = set_up_with(Duration::from_millis(300));
    let mut stream = set.raw();
    hello(&stream);
    let request = Request::Show { target: ShowTarget::Name(name("web")), file: "x".repeat(100) };
    wire::send_json(stream.as_fd(), &request, &[], soon()).unwrap();
    // 5 MB do not fit into the socket. Meanwhile others are served.
    set.client();
    let end = Instant::now() + Duration::from_secs(60);
    while set.running.clients() > 0 {
        assert!(Instant::now() < end, "it holds its place for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    let whole = stream.read_to_end(&mut rest).is_ok() && rest.len() >= 5_000_000;
    assert!(!whole, "nobody was cut off: {} bytes", rest.len());
}

#[test]
fn oversize_and_malformed_messages_are_refused() {
    let set = set_up();
    let mut big = set.raw();
    big.write_all(&(MAX_FRAME as u32 + 1).to_le_bytes()).unwrap();
    assert_eq!(refused(&big), RefusalKind::Malformed);
    let mut huge = set.raw();
    huge.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(refused(&huge), RefusalKind::Malformed);
    for bytes in [&b""[..], b"{", b"\xff\xfe\x00", b"[]", b"null", b"{\"version\":-1,\"build\":\"\"}"] {
        let stream = set.raw();
        wire::send_frame(stream.as_fd(), bytes, &[], soon()).unwrap();
        assert_eq!(refused(&stream), RefusalKind::Malformed, "{bytes:?}");
    }
    let nested = [b"[".repeat(30_000), b"]".repeat(30_000)].concat();
    for bytes in [
        &b"\"nonsense\""[..],
        b"{\"register\":{}}",
        b"{\"register\":{\"name\":\"../x\"}}",
        b"{\"register\":{\"name\":\"123\"}}",
        b"{\"show\":{\"target\":{\"pid\":\"x\"},\"file\":\"\"}}",
        &nested,
    ] {
        let stream = set.raw();
        hello(&stream);
        wire::send_frame(stream.as_fd(), bytes, &[], soon()).unwrap();
        assert_eq!(refused(&stream), RefusalKind::Malformed);
    }
    assert!(set.recorder.registered.lock().unwrap().is_empty());
    set.client();
}

/// A launcher of before policies could be chosen sends all of them; one of after may send some that we do not know.
#[test]
fn registrations_of_other_builds_are_understood() {
    let set = set_up();
    let all = r#""cpus":"quota","numbering":"physical","swap":"show","uptime":"container","counters":"zero""#;
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    for policies in [
        "",
        ",\"policies\":{}",
        ",\"policies\":{\"later\":\"x\",\"swap\":\"hide\"}",
        &format!(",\"policies\":{{{all}}}"),
    ] {
        let stream = set.raw();
        hello(&stream);
        let request = format!("{{\"register\":{{\"name\":\"web\"{policies}}}}}");
        wire::send_frame(stream.as_fd(), request.as_bytes(), &[null.as_fd()], soon()).unwrap();
        assert!(matches!(reply(&stream), Reply::Registered(_)), "{policies}");
    }
    let none = PolicyChoices::default();
    let hide = PolicyChoices { swap: Some(crate::model::SwapPolicy::Hide), ..none };
    let registered: Vec<_> = set.recorder.registered.lock().unwrap().iter().map(|(_, own, _)| *own).collect();
    assert_eq!(registered, [none, none, hide, Policies::default().into()]);
}

#[test]
fn another_version_is_told_ours() {
    let set = set_up();
    let stream = set.raw();
    let hello = ClientHello { version: VERSION + 1, build: "later".into() };
    wire::send_json(stream.as_fd(), &hello, &[], soon()).unwrap();
    assert!(matches!(reply(&stream), Reply::Hello(hello) if hello.version == VERSION));
    assert!(matches!(wire::receive(stream.as_fd(), 0, soon()), Err(wire::WireError::Closed)));
}

/// Descriptors of this process that are the same open pipe end as `fd`.
fn copies(fd: &impl AsRawFd) -> usize {
    let own = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| *link == own)
        .count()
}

#[test]
fn unwanted_descriptors_are_closed() {
    let set = set_up();
    // The server runs in this process, so what it keeps shows in our own table. A pipe has a number of its own.
    let (read, _write) = std::io::pipe().unwrap();
    let before = copies(&read);
    // With the greeting, which takes none.
    let stream = set.raw();
    let greeting = ClientHello { version: VERSION, build: String::new() };
    wire::send_json(stream.as_fd(), &greeting, &[read.as_fd(); MAX_FDS], soon()).unwrap();
    assert_eq!(refused(&stream), RefusalKind::Malformed);
    // With a request that takes none.
    let stream = set.raw();
    hello(&stream);
    wire::send_json(stream.as_fd(), &Request::Status, &[read.as_fd()], soon()).unwrap();
    assert_eq!(refused(&stream), RefusalKind::BadDescriptor);
    // More than a message may have, sent past our own `send_frame`, whose limit is the same.
    let stream = set.raw();
    hello(&stream);
    let fds = [read.as_fd(); 200];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let body = serde_json::to_vec(&Request::Register {
        name: name("web"),
        policies: PolicyChoices::default(),
        replaces: false,
    });
    let body = body.unwrap();
    let bytes = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
    let iov = [std::io::IoSlice::new(&bytes)];
    rustix::net::sendmsg(&stream, &iov, &mut control, rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(refused(&stream), RefusalKind::Malformed);
    // A registration that the handler refuses.
    let groups = vec![read.as_fd(); 5];
    let registration = Registration {
        name: name("taken"),
        policies: PolicyChoices::default(),
        pidfd: read.as_fd(),
        groups,
        replaces: false,
    };
    set.client().register(registration).unwrap_err();
    // A registration without descriptors.
    let stream = set.raw();
    hello(&stream);
    let request =
        Request::Register { name: name("web"), policies: PolicyChoices::default(), replaces: false };
    wire::send_json(stream.as_fd(), &request, &[], soon()).unwrap();
    assert_eq!(refused(&stream), RefusalKind::BadDescriptor);
    // The client threads may still be closing.
    let end = Instant::now() + Duration::from_secs(5);
    while copies(&read) != before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(copies(&read), before);
    assert!(set.recorder.registered.lock().unwrap().is_empty());
}

/// Ends its server while it is asked to.
#[derive(Default)]
struct Ending {
    running: Mutex<Option<server::Running>>,
    ender: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Handler for Arc<Ending> {
    fn register(&self, _: RegisterRequest) -> Result<Registered, Refusal> {
        Err(Refusal::new(RefusalKind::Failed, ""))
    }
    fn unregister(&self, _: &ContainerName) -> Result<(), Refusal> {
        Ok(())
    }
    fn list(&self) -> Vec<ContainerInfo> {
        Vec::new()
    }
    fn show(&self, _: &ShowTarget, _: &str) -> Result<Vec<u8>, Refusal> {
        Ok(Vec::new())
    }
    fn view(&self, _: &ShowTarget) -> Result<ViewInfo, Refusal> {
        Err(Refusal::new(RefusalKind::Failed, ""))
    }
    fn choose(&self, _: &ContainerName, _: &[PolicyChange]) -> Result<ViewInfo, Refusal> {
        Err(Refusal::new(RefusalKind::Failed, ""))
    }
    fn config(&self) -> ConfigInfo {
        ConfigInfo::default()
    }
    fn status(&self) -> Status {
        Status::default()
    }
    fn umount(&self, _: bool) -> Result<(), Refusal> {
        let running = self.running.lock().unwrap().take().unwrap();
        *self.ender.lock().unwrap() = Some(std::thread::spawn(move || running.stop()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!self.ender.lock().unwrap().as_ref().unwrap().is_finished(), "it waits for this client");
        Ok(())
    }
}

#[test]
fn who_asked_for_the_end_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(dir.path(), Path::new("/somewhere"));
    let ending = Arc::new(Ending::default());
    let running = Server::bind(paths.clone()).unwrap().start(Arc::new(Arc::clone(&ending))).unwrap();
    *ending.running.lock().unwrap() = Some(running);
    let client = Client::at(paths).unwrap();
    client.umount(false).unwrap();
    ending.ender.lock().unwrap().take().unwrap().join().unwrap();
    assert!(matches!(client.status(), Err(ControlError::NotRunning { .. })));
}

#[test]
fn the_33rd_client_is_refused_at_once_and_asks_again() {
    let set = set_up_with(Duration::from_secs(60));
    let crowd: Vec<UnixStream> = (0..server::MAX_CLIENTS).map(|_| set.raw()).collect();
    // The accept queue is in order, so all of the crowd is in before this one.
    let mut said = Vec::new();
    set.raw().read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("clients are being served already"), "{said}");
    let paths = set.paths.clone();
    let (began, asking) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        began.send(()).unwrap();
        Client::at(paths)
    });
    asking.recv().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!client.is_finished(), "a client was served beside the crowd, or gave up");
    drop(crowd);
    client.join().unwrap().unwrap();
}

/// Opens the socket to everybody, so that the check of the peer is all that stands in the way.
fn expose(set: &Set) {
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    set.paths.socket.ancestors().take_while(|path| path.starts_with(set._dir.path())).for_each(open);
}

/// What a Perl client (Perl is in every Debian) reads from the socket, run under `wrapper`.
fn outsider(set: &Set, wrapper: &[&str]) -> String {
    let script = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; local $/; print <$s>;";
    let output = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["perl", "-MIO::Socket::UNIX", "-e", script])
        .arg(&set.paths.socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn only_root_of_the_same_namespaces_may_talk() {
    let set = set_up();
    expose(&set);
    for (wrapper, reason) in [
        (&["setpriv", "--reuid=65534", "--clear-groups"][..], "uid 65534"),
        (&["unshare", "--pid", "--fork"], "pid namespace"),
        (&["unshare", "--user", "--map-root-user"], "user namespace"),
    ] {
        let answer = outsider(&set, wrapper);
        assert!(answer.contains("not-allowed") && answer.contains(reason), "{wrapper:?}: {answer}");
    }
    set.client();
}
