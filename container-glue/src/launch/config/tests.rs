use std::collections::BTreeMap;

use clap::Parser;

use super::*;
use crate::args::{Cli, Verb};
use crate::oci::config::Config;

fn host() -> Host<'static> {
    Host {
        time: true,
        whole_trees: true,
        terminal: None,
        spared: false,
        user: User::default(),
        devices: Vec::new(),
        block_io: json!({}),
    }
}

fn made(words: &[&str], host: &Host<'_>) -> (OciSpec, Config) {
    let words = [&["ownproc-run", "launch", "--name", "web"], words].concat();
    let Verb::Launch(args) = Cli::try_parse_from(words).unwrap().verb else { panic!("another verb") };
    let spec = Spec::new(&args, &BTreeMap::new()).unwrap();
    let made = configuration(&spec, &spec.limits, host).unwrap();
    let config = Config::new(&made, Path::new("/"), "web", false).unwrap();
    (made, config)
}

fn destinations(config: &Config) -> Vec<String> {
    config.mounts.iter().map(|mount| mount.destination.display().to_string()).collect()
}

#[test]
fn the_least() {
    let (made, config) = made(&["true"], &host());
    assert_eq!(config.cgroup, Path::new("ownproc/web"));
    assert_eq!(config.hostname.as_deref(), Some("web"));
    let all = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWNET
        | crate::oci::config::namespaces::CLONE_NEWTIME;
    assert_eq!(config.namespaces.new, all);
    assert_eq!(
        destinations(&config),
        ["proc", "sys", "dev", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup", "run", "tmp"]
    );
    assert_eq!(config.process.env.len(), 4); // PATH, HOME, HOSTNAME, container
    assert!(config.process.no_new_privileges && config.seccomp.is_some());
    let rights = config.process.rights.unwrap();
    assert_eq!((rights.bounding.count_ones(), rights.effective, rights.ambient), (13, rights.bounding, 0));
    let memory = made.linux().as_ref().unwrap().resources().as_ref().unwrap().memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (None, None));
}

#[test]
fn what_is_asked() {
    let words = [
        "-m",
        "64M",
        "--cpus",
        "0.5",
        "--cpuset-cpus",
        "0-1",
        "--pids-limit",
        "-1",
        "--cpu-weight",
        "200",
        "--net",
        "host",
        "--view",
        "uptime=host",
        "--rootfs",
        "/srv/root",
        "--read-only",
        "-v",
        "/data:/data:ro",
        "--tmpfs",
        "/cache",
        "-w",
        "/x",
        "-t",
        "sh",
        "-c",
        "id",
    ];
    let device = Device {
        path: "/dev/fuse".into(),
        kind: 'c',
        major: 10,
        minor: 229,
        access: "rw".to_owned(),
        mode: 0o600,
        owner: (0, 7),
    };
    let user = User { uid: 33, gid: 34, groups: vec![44] };
    let (made, config) = made(&words, &Host { user, devices: vec![device], spared: true, ..host() });
    let shared = libc::CLONE_NEWNET | crate::oci::config::namespaces::CLONE_NEWTIME;
    assert_eq!(config.namespaces.new & shared, 0);
    assert_eq!((config.root.as_path(), config.read_only), (Path::new("/srv/root"), true));
    assert_eq!(destinations(&config)[7..], ["cache", "data"]);
    assert_eq!(
        (config.process.uid, config.process.gid, config.process.groups.as_slice()),
        (33, 34, &[44][..])
    );
    let rights = config.process.rights.unwrap();
    assert_eq!((rights.effective, rights.permitted, rights.bounding.count_ones()), (0, 0, 13));
    assert_eq!((config.process.terminal, config.process.oom_score_adj), (true, Some(0)));
    let resources = made.linux().as_ref().unwrap().resources().clone().unwrap();
    let memory = resources.memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
    let cpu = resources.cpu().clone().unwrap();
    assert_eq!((cpu.quota(), cpu.period(), cpu.shares()), (Some(50_000), Some(100_000), Some(2048)));
    assert_eq!(cpu.cpus().as_deref(), Some("0-1"));
    assert_eq!(resources.devices().as_ref().unwrap().len(), 1);
    assert_eq!(config.devices.len(), 1);
}

#[test]
fn a_shared_terminal_is_the_console() {
    let (_, config) = made(&["sh"], &Host { terminal: Some(Path::new("/dev/pts/3")), ..host() });
    assert!(destinations(&config).contains(&"dev/console".to_owned()));
}
