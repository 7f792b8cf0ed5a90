//! Attacks by what lies in the root and in volumes: links, and names that change while a container is made.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use super::super::Oci;
use super::super::many::on_a_slow_machine;
use super::Exchange;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::Output;

/// How often a race is run.
fn races() -> u32 {
    if on_a_slow_machine() { 8 } else { 30 }
}

/// Puts mounts behind the others.
fn add(config: &mut Value, more: impl IntoIterator<Item = Value>) {
    if let Some(all) = config["mounts"].as_array_mut() {
        all.extend(more);
    }
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind"] })
}

fn keep_dev_of_the_root(config: &mut Value) {
    config["root"]["readonly"] = json!(false);
    if let Some(all) = config["mounts"].as_array_mut() {
        all.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
    }
}

/// In a container: says `open` for each place of the kernel's settings that can be written to and each secret that can be
/// read, wherever in its tree a /proc lies.
const LOOK: &str = r#"
while read -r a b c d at f; do
    case "$f" in *' - proc '*) ;; *) continue ;; esac
    case "$c$d" in *:*/) ;; *) continue ;; esac
    for name in sysrq-trigger sys/kernel/core_pattern sys/kernel/printk; do
        [ -e $at/$name ] && (: >>$at/$name) 2>/dev/null && echo open $at/$name
    done
    [ "$(head -c 1 $at/kcore 2>/dev/null | grep -c .)" = 0 ] || echo open $at/kcore
    [ "$(head -c 1 $at/timer_list 2>/dev/null | grep -c .)" = 0 ] || echo open $at/timer_list
    echo looked at $at
done </proc/self/mountinfo
"#;

/// Either refused, or a container in which nothing of the host is open.
fn safe(output: &Output, what: &str) -> Outcome {
    check!(!output.stdout.contains("open"), "{what}: {output:?}");
    check!(output.code != 0 || output.stdout.contains("looked"), "{what}: it looked at nothing: {output:?}");
    Ok(())
}

/// Runs it over and over while two names are exchanged; how often it was made.
fn race(oci: &Oci, one: &Path, other: &Path, what: &str) -> Outcome<u32> {
    let exchange = Exchange::start(one, other);
    let mut made = 0;
    for _ in 0..races() {
        let output = oci.output(&["run", &oci.id])?;
        safe(&output, what)?;
        made += u32::from(output.code == 0);
    }
    exchange.end().doing(what)?;
    oci.nothing_is_left()?;
    Ok(made)
}

/// A volume over /proc takes what the runtime writes to its own process's files, such as labels, and hides what is masked.
pub fn cve_2019_16884() -> Outcome {
    let oci = Oci::new("cve-2019-16884", LOOK)?;
    let volume = oci.bundle.dir.join("volume");
    for folder in ["self/attr/apparmor", "thread-self/attr/apparmor", "sys/kernel", "attr/apparmor"] {
        std::fs::create_dir_all(volume.join(folder))?;
    }
    let files = ["self/attr/exec", "self/attr/apparmor/exec", "attr/exec", "attr/apparmor/exec"];
    for file in files {
        std::fs::write(volume.join(file), "")?;
    }
    symlink("/proc", oci.bundle.root().join("link"))?;
    symlink("/proc/self", oci.bundle.root().join("own"))?;
    let plain = oci.config()?;
    for destination in ["/proc", "/link", "/own", "/proc/self/attr", "/proc/1", "/link/self/attr"] {
        for label in ["apparmorProfile", "selinuxLabel", ""] {
            let mut config = plain.clone();
            add(&mut config, [bind(&volume, destination)]);
            if !label.is_empty() {
                config["process"][label] = json!("unconfined");
            }
            oci.change(|it| *it = config)?;
            let output = oci.output(&["run", &oci.id])?;
            for file in files {
                let text = std::fs::read_to_string(volume.join(file))?;
                check_eq!(text, "", "written to {file} of a volume on {destination}, with {label:?}");
            }
            check!(output.code != 0, "a volume on {destination} was taken: {output:?}");
            check!(output.stderr.contains(&format!("cannot mount on {destination}")), "{output:?}");
        }
    }
    oci.nothing_is_left()
}

/// /proc of the root becomes a link while the container is made, so that what is masked is masked elsewhere.
pub fn cve_2023_27561() -> Outcome {
    let oci = Oci::new("cve-2023-27561", LOOK)?;
    let root = oci.bundle.root();
    std::fs::create_dir_all(root.join("tmp/other"))?;
    symlink("/tmp/other", root.join("link"))?; // the root is read-only: what is looked at cannot be made there
    safe(&oci.output(&["run", &oci.id])?, "the root as it is")?;
    race(&oci, &root.join("proc"), &root.join("link"), "/proc becomes a link").map(drop)
}

/// A mount point in a volume becomes a link to the host's tree while containers are made in parallel.
pub fn cve_2021_30465() -> Outcome {
    let oci = Oci::new("cve-2021-30465", "cat /proc/self/mountinfo")?;
    let (volume, outside) = (oci.bundle.dir.join("volume"), oci.bundle.dir.join("outside"));
    std::fs::create_dir_all(volume.join("a/deep"))?;
    std::fs::create_dir(&outside)?;
    symlink(&outside, volume.join("b"))?;
    oci.change(|config| {
        let tmpfs = json!({ "destination": "/tmp/a/deep/new", "type": "tmpfs", "source": "of-the-attack" });
        add(config, [bind(&volume, "/tmp"), tmpfs, bind(&outside, "/tmp/a/other")]);
    })?;
    let host = std::fs::read_to_string("/proc/self/mountinfo")?;
    let exchange = Exchange::start(&volume.join("a"), &volume.join("b"));
    let outputs = oci.all_at_once(races() as usize, 4)?;
    exchange.end()?;
    let mut made = 0;
    for output in outputs {
        let mounted = output.stdout.lines().any(|line| line.contains(" - tmpfs of-the-attack "));
        check!(output.code != 0 || mounted, "the mount went elsewhere: {output:?}");
        made += u32::from(output.code == 0);
    }
    check!(made > 0, "no container was ever made");
    check!(std::fs::read_dir(&outside)?.next().is_none(), "something was made outside of the root");
    let now = std::fs::read_to_string("/proc/self/mountinfo")?;
    check!(!now.contains("of-the-attack"), "a mount on the host: {now}\nbefore: {host}");
    oci.nothing_is_left()
}

/// /dev/null of the root is a link, or becomes one: it would be what lies over the masked files.
pub fn cve_2025_31133() -> Outcome {
    let oci = Oci::new("cve-2025-31133", LOOK)?;
    let root = oci.bundle.root();
    oci.change(keep_dev_of_the_root)?;
    let null = root.join("dev/null");
    for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/bin/busybox", "/no/such"] {
        symlink(target, &null)?;
        let output = oci.output(&["run", &oci.id])?;
        check!(output.code != 0 && output.stderr.contains("null"), "a link to {target}: {output:?}");
        std::fs::remove_file(&null)?;
    }
    std::fs::write(&null, "of the root\n")?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.code != 0 && output.stderr.contains("null"), "a file as /dev/null: {output:?}");
    std::fs::remove_file(&null)?;
    let output = oci.output(&["run", &oci.id])?;
    check_eq!(output.code, 0, "exit code without the attack ({})", output.stderr);
    safe(&output, "without the attack")?;
    // now that the node is there: exchanged with a link
    symlink("/proc/sys/kernel/core_pattern", root.join("dev/link"))?;
    race(&oci, &null, &root.join("dev/link"), "/dev/null becomes a link").map(drop)
}

/// The terminal is bound over /dev/console, which is a link, before anything is masked.
pub fn cve_2025_52565() -> Outcome {
    let oci = Oci::new("cve-2025-52565", LOOK)?;
    let root = oci.bundle.root();
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    oci.change(|config| {
        keep_dev_of_the_root(config);
        config["process"]["terminal"] = json!(true);
        let options = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
        add(
            config,
            [json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options })],
        );
    })?;
    let good = with_terminal(&oci)?;
    check!(good.code == 0 && good.stdout.contains("looked at /proc"), "without the attack: {good:?}");
    for (name, target) in [
        ("console", "/proc/sys/kernel/core_pattern"),
        ("console", "/proc/sysrq-trigger"),
        ("console", "/proc/self/mountinfo"),
        ("console", "/bin/busybox"),
        ("pts", "/proc/sys/kernel"),
        ("ptmx", "/proc/sys/kernel/core_pattern"),
    ] {
        let place = root.join("dev").join(name);
        let _ = std::fs::remove_file(&place);
        let _ = std::fs::remove_dir(&place);
        symlink(target, &place)?;
        let output = with_terminal(&oci)?;
        check!(!output.stdout.contains("open"), "/dev/{name} a link to {target}: {output:?}");
        if name == "ptmx" {
            check_eq!(output.code, 0, "/dev/ptmx is not used ({output:?})");
        } else {
            check!(output.code != 0, "/dev/{name} a link to {target} was followed: {output:?}");
        }
        std::fs::remove_file(&place)?;
    }
    let after = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    check_eq!(after, before, "core_pattern of the host");
    oci.nothing_is_left()
}

/// `run` with somebody who receives the terminal; what came out of it is the standard output.
fn with_terminal(oci: &Oci) -> Outcome<Output> {
    let path = oci.bundle.dir.join("console.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    let receiver = std::thread::spawn(move || -> Outcome<String> {
        let (connection, _) = listener.accept()?;
        let (mut bytes, mut space) = ([0; 256], nix::cmsg_space!(i32));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut said = Vec::new();
        for message in message.cmsgs()? {
            let ControlMessageOwned::ScmRights(fds) = message else { continue };
            for fd in fds {
                // SAFETY: the kernel has just put it into this process, and nothing else owns it.
                let mut terminal = unsafe { std::fs::File::from_raw_fd(fd) };
                let mut piece = [0; 4096];
                // EIO: the other side is closed
                while let Ok(n @ 1..) = terminal.read(&mut piece) {
                    said.extend_from_slice(&piece[..n]);
                }
            }
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    });
    let socket = path.display().to_string();
    let mut output = oci.output(&["run", "--console-socket", &socket, &oci.id])?;
    // one that was never connected to is waited for no longer
    drop(std::os::unix::net::UnixStream::connect(&path));
    output.stdout = receiver.join().ok().doing("the receiver")??;
    Ok(output)
}

/// Settings and labels are written where a mount leads, which a volume or a tmpfs on a link into /proc has put there.
pub fn cve_2025_52881() -> Outcome {
    let oci = Oci::new("cve-2025-52881", LOOK)?;
    let volume = oci.bundle.dir.join("volume");
    std::fs::create_dir_all(volume.join("apparmor"))?;
    for (link, to) in
        [("net", "/proc/sys/net/ipv4"), ("attr", "/proc/self/attr"), ("kernel", "/proc/sys/kernel")]
    {
        symlink(to, oci.bundle.root().join(link))?;
    }
    for (name, to) in [
        ("ip_forward", "/sys/kernel/domainname"),
        ("ip_default_ttl", "/proc/sys/kernel/domainname"),
        ("ping_group_range", "decoy"),
    ] {
        symlink(to, volume.join(name))?;
    }
    let files = ["decoy", "exec", "apparmor/exec", "ip_nonlocal_bind", "shmmni"];
    for file in files {
        std::fs::write(volume.join(file), "")?;
    }
    let plain = oci.config()?;
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.ip_default_ttl", "77"),
        ("net.ipv4.ping_group_range", "0 0"),
        ("net.ipv4.ip_nonlocal_bind", "1"),
        ("kernel.shmmni", "99"),
    ];
    // the settings themselves can be set
    oci.change(|config| {
        config["linux"]["sysctl"] =
            settings.iter().map(|&(key, value)| (key.to_owned(), json!(value))).collect()
    })?;
    safe(&oci.output(&["run", &oci.id])?, "without the attack")?;
    for destination in ["/net", "/kernel", "/attr"] {
        let tmpfs = json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
        for mount in [bind(&volume, destination), tmpfs] {
            for (key, value) in settings {
                let mut config = plain.clone();
                add(&mut config, [mount.clone()]);
                config["linux"]["sysctl"] = json!({ key: value });
                config["process"]["args"] =
                    json!(["sh", "-c", format!("cat /proc/sys/kernel/domainname; {LOOK}")]);
                oci.change(|it| *it = config)?;
                let output = oci.output(&["run", &oci.id])?;
                check!(output.code != 0, "{mount} on a link into /proc was taken: {output:?}");
            }
        }
    }
    for file in files {
        check_eq!(std::fs::read_to_string(volume.join(file))?, "", "written to {file} of a volume");
    }
    oci.nothing_is_left()
}
