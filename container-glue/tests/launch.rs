//! The launcher on a real kernel: run as root, on cgroup v1, hybrid or v2. Nothing is skipped where a right or a
//! device is missing: the test fails.

#![allow(clippy::expect_used)] // helpers of tests: a failure is theirs

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const RUN: &str = env!("CARGO_BIN_EXE_ownproc-run");
const STATE: &str = "/run/ownproc-run";

/// A mount point of the tests' own, so that no other daemon is met. One daemon serves all tests of this run.
fn mount_point() -> PathBuf {
    std::env::temp_dir().join("ownproc-launch-tests")
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(RUN);
    command.arg("launch").args(words).env("OWNPROC_MOUNT", mount_point()).stdin(Stdio::null());
    command
}

fn launch(words: &[&str]) -> Output {
    command(words).output().expect("the launcher runs")
}

/// Runs a shell script in a container and expects success.
fn script(flags: &[&str], text: &str) -> String {
    let output = launch(&[flags, &["--", "sh", "-c", text]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?} {stderr}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn code(words: &[&str]) -> Option<i32> {
    launch(words).status.code()
}

fn stderr(words: &[&str]) -> String {
    String::from_utf8_lossy(&launch(words).stderr).into_owned()
}

/// All directories of the name in any cgroup hierarchy.
fn groups_named(name: &str) -> Vec<String> {
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", name]).output().expect("find");
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

fn nothing_left(name: &str) {
    assert_eq!(groups_named(name), Vec::<String>::new());
    assert!(!Path::new(STATE).join(name).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(STATE), "{mounts}");
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A container that prints a line and sleeps; returns when the line is there.
fn sleeper(name: &str, flags: &[&str]) -> Child {
    use std::io::Read;
    let words = [&["--name", name], flags, &["--", "sh", "-c", "echo; exec sleep 60"]].concat();
    let mut child = command(&words).stdout(Stdio::piped()).spawn().expect("the launcher runs");
    let read = child.stdout.as_mut().expect("piped").read_exact(&mut [0]);
    read.expect("the container starts");
    child
}

fn signal(child: &Child, number: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(number).expect("a signal")).expect("kill");
}

#[test]
fn limits_show_inside() {
    let text = script(
        &["-m", "256M", "--cpus", "1", "--cpuset-cpus", "1", "--name", "t-limits"],
        "nproc; grep MemTotal /proc/meminfo; grep ^processor /proc/cpuinfo; grep -o '^cpu1*' /proc/stat;
         cat /sys/devices/system/cpu/online; cut -d. -f1 /proc/uptime",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..6], ["1", "MemTotal:         262144 kB", "processor\t: 1", "cpu", "cpu1", "1"]);
    assert!(lines[6].parse::<u32>().expect("seconds") < 5, "{text}");
    nothing_left("t-limits");
}

#[test]
fn group_files() {
    let flags = [
        "-m",
        "64M",
        "--memory-swap",
        "96M",
        "--cpus",
        "0.5",
        "--cpu-weight",
        "200",
        "--pids-limit",
        "77",
        "--cpuset-cpus",
        "0",
        "--name",
        "t-files",
    ];
    // the value in whatever file the hierarchy has for it
    let text = script(
        &flags,
        "cd /sys/fs/cgroup; for f in memory.max memory/memory.limit_in_bytes cpu.weight cpu/cpu.shares pids.max \
         pids/pids.max cpuset.cpus cpuset/cpuset.cpus cpu.max cpu/cpu.cfs_quota_us memory.swap.max \
         memory/memory.memsw.limit_in_bytes; do test -e $f && echo ${f##*/} $(cat $f); done; true",
    );
    let has = |v1: &str, v2: &str| assert!(text.lines().any(|l| l == v1 || l == v2), "{v1} or {v2}: {text}");
    has("memory.limit_in_bytes 67108864", "memory.max 67108864");
    has("cpu.shares 2048", "cpu.weight 200");
    has("pids.max 77", "pids.max 77");
    has("cpuset.cpus 0", "cpuset.cpus 0");
    has("cpu.cfs_quota_us 50000", "cpu.max 50000 100000");
    // a v1 kernel may be without swap accounting; asked for, it must have been set
    has("memory.memsw.limit_in_bytes 100663296", "memory.swap.max 33554432");
    nothing_left("t-files");
}

#[test]
fn exit_codes() {
    assert_eq!(code(&["--", "true"]), Some(0));
    assert_eq!(code(&["--", "sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["--", "sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["--", "no-such-command"]), Some(127));
    assert_eq!(code(&["--", "/no/such/command"]), Some(127));
    assert_eq!(code(&["--", "/etc/passwd"]), Some(126));
    assert_eq!(code(&["--", "/proc/self/exe"]), Some(126));
    assert_eq!(code(&["--name", "t-workdir", "--workdir", "/no/such", "--", "true"]), Some(125));
    nothing_left("t-workdir");
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let empty = tempfile::tempdir().expect("a directory");
    let empty = empty.path().to_str().expect("UTF-8");
    for flags in [
        &["-m", "5x"][..],
        &["-m", "4"],
        &["--cpus", "0"],
        &["--cpus", "9999"],
        &["--cpuset-cpus", "8191"],
        &["--cpuset-mems", "1000"],
        &["--rootfs", "/no/such"],
        &["--rootfs", empty],
        &["--rootfs", "/etc/passwd"],
        &["-v", "/no/such:/x"],
        &["--name", "1234"],
        &["--net", "bridge"],
        &["--mount", "/etc/passwd"],
        &["--daemon", "require", "--mount", "/no/such"],
        &["--memory-swap", "1g"],
    ] {
        let words = [&["--name", "t-bad"], flags, &["--", "true"]].concat();
        let output = launch(&words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !flags.contains(&"--name") {
            assert!(text.starts_with("ownproc-run: "), "{flags:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{flags:?}: {text}");
        }
        assert_eq!(output.status.code(), Some(125), "{flags:?}: {text}");
    }
    nothing_left("t-bad");
}

#[test]
fn signals_reach_the_command() {
    for (number, expected) in [(15, 143), (1, 129), (10, 138), (12, 140)] {
        let mut child = sleeper("t-signal", &[]);
        signal(&child, number);
        assert_eq!(child.wait().expect("wait").code(), Some(expected));
    }
    nothing_left("t-signal");
}

#[test]
fn the_container_dies_with_its_launcher() {
    let mut child = sleeper("t-killed", &[]);
    let procs: Vec<PathBuf> =
        groups_named("t-killed").iter().map(|g| Path::new(g).join("cgroup.procs")).collect();
    assert!(!procs.is_empty());
    child.kill().expect("kill");
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    // a launch of another test may have cleared up meanwhile
    let empty = |p: &PathBuf| std::fs::read_to_string(p).map_or(true, |text| text.is_empty());
    until("the container is dead", || procs.iter().all(empty));
    // the next launch of any name clears up
    assert_eq!(code(&["--", "true"]), Some(0));
    nothing_left("t-killed");
}

#[test]
fn a_name_in_use_is_refused() {
    let mut child = sleeper("t-taken", &[]);
    assert!(stderr(&["--name", "t-taken", "--", "true"]).contains("choose another --name"));
    signal(&child, 15);
    child.wait().expect("wait");
    assert_eq!(code(&["--name", "t-taken", "--", "true"]), Some(0));
    nothing_left("t-taken");
}

#[test]
fn output_ends_with_the_container() {
    let start = Instant::now();
    let text = script(&["--name", "t-output"], "echo hi; sleep 60 & sleep 0.1");
    assert_eq!(text, "hi\n");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn orphans_are_reaped() {
    let text = script(&[], "for i in 1 2 3; do (sleep 0.05 &); done; sleep 1; ps -eo stat | grep -c Z; true");
    assert_eq!(text, "0\n");
}

#[test]
fn what_the_container_may_not_do() {
    let disk = std::fs::metadata("/").map(|meta| std::os::unix::fs::MetadataExt::dev(&meta)).expect("/");
    let (major, minor) = (nix::sys::stat::major(disk), nix::sys::stat::minor(disk));
    let text = script(
        &[],
        &format!(
            "try() {{ \"$@\" >/dev/null 2>&1 && echo \"could: $*\"; }}
             try mknod /x b {major} {minor}
             try mknod /dev/x b {major} {minor}
             try mknod /tmp/x b {major} {minor}
             try umount /proc/meminfo
             try umount -l /proc
             try umount /proc/sys
             try mount -t tmpfs x /mnt
             try sh -c 'echo h > /proc/sysrq-trigger'
             try sh -c 'echo x > /proc/sys/kernel/core_pattern'
             try sh -c 'echo 1 > /sys/kernel/mm/ksm/run'
             try sh -c 'find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 1 > $f && exit 0; done; exit 1'
             try sh -c 'head -c 1 /proc/kcore | grep -q .'
             try readlink /proc/1/exe
             try readlink /proc/1/fd/0
             try cat /proc/1/mem
             try sh -c 'echo x > /proc/1/fd/2'
             try cat /proc/1/environ
             try hostname other
             try unshare -m true
             try unshare -Urm umount /proc/meminfo
             try unshare -Urm umount -l /proc/sys
             try unshare -Urpf --mount-proc true
             true"
        ),
    );
    assert_eq!(text, "");
}

#[test]
fn only_standard_descriptors() {
    let mut command = command(&["--", "sh", "-c", "ls /proc/self/fd"]);
    let file = std::fs::File::open("/etc/passwd").expect("open");
    let inherited = rustix::io::fcntl_dupfd_cloexec(&file, 50).expect("dup");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("fcntl");
    // 3 is ls's own, of the directory
    assert_eq!(String::from_utf8_lossy(&command.output().expect("runs").stdout), "0\n1\n2\n3\n");
}

#[test]
fn volumes_and_a_read_only_root() {
    let source = tempfile::tempdir().expect("a directory");
    std::fs::write(source.path().join("f"), "data\n").expect("write");
    let path = source.path().display();
    let flags =
        ["--read-only", "-v", &format!("{path}:/mnt:ro"), "-v", &format!("{path}:/srv"), "--workdir", "/srv"];
    let text = script(
        &flags,
        "cat /mnt/f; echo no >/mnt/g; echo no >/etc/g; echo yes >g; pwd; echo yes >/tmp/g && echo yes",
    );
    assert_eq!(text, "data\n/srv\nyes\n");
    assert!(source.path().join("g").exists());
}

#[test]
fn the_root_is_thrown_away() {
    let path = format!("/etc/ownproc-test-{}", std::process::id());
    assert_eq!(script(&[], &format!("echo x >{path}; cat {path}; ls /tmp /run")), "x\n/run:\n\n/tmp:\n");
    assert!(!Path::new(&path).exists());
}

#[test]
fn pinned_containers_share_no_cpu() {
    let cpus = std::thread::available_parallelism().expect("cpus").get();
    let mut children: Vec<Child> = Vec::new();
    for i in 0..cpus {
        let name = format!("t-pin{i}");
        let words = [
            "--name",
            &name,
            "--cpus",
            "1",
            "--pin",
            "--",
            "sh",
            "-c",
            "grep Cpus_allowed_list /proc/self/status; exec sleep 60",
        ];
        children.push(command(&words).stdout(Stdio::piped()).spawn().expect("runs"));
    }
    let mut seen: Vec<String> = Vec::new();
    for child in &mut children {
        use std::io::BufRead;
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        std::io::BufReader::new(out).read_line(&mut line).expect("a line");
        seen.push(line);
    }
    for child in &mut children {
        signal(child, 15);
        child.wait().expect("wait");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), cpus, "{seen:?}");
}

#[test]
fn parents_are_kept_or_removed_as_they_were() {
    // made by the launcher, and gone with it
    assert_eq!(code(&["--cgroup-parent", "/t-made/by/it", "--", "true"]), Some(0));
    assert_eq!(groups_named("t-made"), Vec::<String>::new());
    // of someone else, in every hierarchy that the launcher uses
    let child = sleeper("t-parent", &[]);
    let roots: Vec<PathBuf> = groups_named("t-parent")
        .iter()
        .filter_map(|g| Some(Path::new(g).parent()?.parent()?.to_owned()))
        .collect();
    signal(&child, 15);
    let mut child = child;
    child.wait().expect("wait");
    for root in &roots {
        std::fs::create_dir(root.join("t-kept")).expect("mkdir");
    }
    let tight = roots.iter().map(|root| root.join("t-kept/memory.limit_in_bytes")).find(|file| file.exists());
    let note = match tight {
        Some(file) => {
            std::fs::write(file, "64M").expect("write");
            stderr(&["--cgroup-parent", "t-kept", "-m", "128M", "--", "true"])
        }
        None => {
            std::fs::write(roots[0].join("t-kept/memory.max"), "64M").expect("write");
            stderr(&["--cgroup-parent", "t-kept", "-m", "128M", "--", "true"])
        }
    };
    let kept = roots.iter().filter(|root| root.join("t-kept").exists()).count();
    for root in &roots {
        let _ = std::fs::remove_dir(root.join("t-kept"));
    }
    assert_eq!(kept, roots.len());
    assert!(note.contains("allows 64M of memory, less than -m 128M"), "{note}");
}

#[test]
fn the_view_of_another_container_is_closed() {
    let mut other = sleeper("t-other", &[]);
    let volume = format!("{}:/mnt", mount_point().display());
    let text = script(
        &["-v", &volume, "--name", "t-curious"],
        "cat /mnt/containers/t-curious/proc/uptime >/dev/null && echo own
         cat /mnt/containers/t-other/proc/uptime || echo refused
         ls /var/lib/ownproc/proc 2>/dev/null; true",
    );
    signal(&other, 15);
    other.wait().expect("wait");
    assert_eq!(text, "own\nrefused\n");
}

#[test]
fn own_namespaces() {
    let names = ["mnt", "uts", "ipc", "net", "pid", "cgroup", "time"];
    let inside = script(&[], "for n in mnt uts ipc net pid cgroup time; do readlink /proc/self/ns/$n; done");
    for (name, inside) in names.iter().zip(inside.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("readlink");
        assert_ne!(outside.to_string_lossy(), inside);
    }
    assert_eq!(script(&["--net", "host"], "readlink /proc/self/ns/net").trim(), {
        let net = std::fs::read_link("/proc/self/ns/net").expect("readlink");
        net.to_string_lossy().into_owned()
    });
    assert_eq!(script(&[], "sed 's/.*:/:/' /proc/self/cgroup | sort -u"), ":/\n");
}
