//! What a container's root must not be able to do.

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::groups::Group;
use crate::programs::OWN_INSIDE;
use crate::shell::{Shell, launch, launched};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("safety_no_device_nodes", Nothing, mknod),
    ("safety_root_disk_cannot_be_opened", Nothing, root_disk),
    ("safety_cgroup_tree_is_read_only", Nothing, cgroup_tree),
    ("safety_memory_limit_holds", Nothing, memory_limit),
    ("safety_pids_limit_holds", Nothing, pids_limit),
];

/// All others.
pub const CASES: &[Row] = &[
    ("safety_virtual_files_cannot_be_unmounted", Nothing, umount),
    ("safety_kernel_settings_are_read_only", Nothing, kernel_settings),
    ("safety_masked_paths_are_empty", Nothing, masked),
    ("safety_capabilities", Nothing, capabilities),
    ("safety_no_descriptor_is_inherited", Nothing, descriptors),
    ("safety_namespaces_are_its_own", Nothing, namespaces),
    ("safety_network_none_has_loopback_alone", Nothing, network),
    ("safety_host_processes_are_out_of_sight", Nothing, processes),
    ("safety_hosts_files_stay_as_they_are", Nothing, host_files),
    ("safety_launcher_binary_is_read_only", Nothing, launcher_binary),
    ("safety_no_user_namespaces", Nothing, user_namespaces),
    ("safety_locks_are_hidden", Nothing, locks),
    ("safety_leases_are_refused", Nothing, leases),
    ("safety_closed_calls", Nothing, closed_calls),
    ("safety_secrets_are_not_on_a_command_line", Nothing, secrets),
    ("safety_process_1_is_confined", Nothing, process_1),
];

/// The command must fail inside a container; what it said.
fn refused(shell: &mut Shell, command: &str) -> Outcome<String> {
    let (code, said) = shell.status(command)?;
    check!(code != 0, "`{command}` succeeded in a container: {said:?}");
    Ok(said)
}

fn mknod() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let said = refused(&mut shell, "mknod /tmp/disk b 254 0")?;
    check!(said.contains("not permitted"), "mknod: {said:?}");
    refused(&mut shell, "mknod /dev/mem2 c 1 1")?;
    shell.run("mkfifo /tmp/fifo")?;
    Ok(())
}

fn root_disk() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    for entry in std::fs::read_dir("/sys/class/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        refused(&mut shell, &format!("head -c 1 /dev/{name}"))?;
    }
    refused(&mut shell, "head -c 1 /dev/mem")?;
    refused(&mut shell, "head -c 1 /dev/kmsg")?;
    let nodes = shell.run("find /dev -type b")?;
    check_eq!(nodes, "", "block devices in /dev");
    shell.run("head -c 4 /dev/zero >/dev/null; echo x >/dev/null; head -c 1 /dev/urandom >/dev/null; test -c /dev/full; test -c /dev/tty")?;
    Ok(())
}

fn umount() -> Outcome {
    let mut shell = Shell::launch(&["-m", "100M"])?;
    for path in ["/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu", "/proc"] {
        refused(&mut shell, &format!("umount {path}"))?;
        refused(&mut shell, &format!("umount -l {path}"))?;
    }
    refused(&mut shell, "mount -t tmpfs none /tmp")?;
    refused(&mut shell, "mount -t proc none /tmp")?;
    check_eq!(shell.meminfo()?.get("MemTotal"), 102_400, "MemTotal afterwards");
    Ok(())
}

fn kernel_settings() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for (value, path) in [
        ("h", "/proc/sysrq-trigger"),
        ("/tmp/x", "/proc/sys/kernel/core_pattern"),
        ("1", "/proc/sys/vm/drop_caches"),
        ("/tmp/x", "/proc/sys/kernel/modprobe"),
        ("1", "/sys/kernel/mm/ksm/run"),
        ("1", "/sys/kernel/uevent_seqnum"),
    ] {
        refused(&mut shell, &format!("echo {value} >{path}"))?;
    }
    refused(&mut shell, "mount -o remount,rw /proc/sys")?;
    refused(&mut shell, "mount -o remount,rw /sys")?;
    check_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern")?, before, "the host's core_pattern");
    Ok(())
}

fn masked() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let text = shell.run(&format!("test -e {path} && head -c 100 {path} || true"))?;
        check_eq!(text, "", "content of {path}");
    }
    let text = shell.run("ls /sys/firmware /proc/acpi 2>/dev/null | grep -v : || true")?;
    check_eq!(text.trim(), "", "files in masked folders");
    Ok(())
}

fn capabilities() -> Outcome {
    let text = launched(&[], "grep -E '^(Cap(Bnd|Eff|Prm|Inh|Amb)|NoNewPrivs)' /proc/self/status")?;
    check_eq!(crate::parse::value(&text, "NoNewPrivs")?, "1", "NoNewPrivs");
    let bounding = u64::from_str_radix(crate::parse::value(&text, "CapBnd")?, 16)?;
    let effective = u64::from_str_radix(crate::parse::value(&text, "CapEff")?, 16)?;
    // Docker's default set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
    // net_raw, sys_chroot, audit_write, setfcap; mknod (27) is not in it.
    let allowed: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31].iter().map(|bit| 1 << bit).sum();
    check_eq!(bounding & !allowed, 0, "capabilities beyond the default set in the bounding set {bounding:x}");
    check_eq!(
        effective & !allowed,
        0,
        "capabilities beyond the default set in the effective set {effective:x}"
    );
    check!(effective & 0b1011 == 0b1011, "chown, dac_override and fowner are there: {effective:x}");
    for set in ["CapInh", "CapAmb"] {
        check_eq!(u64::from_str_radix(crate::parse::value(&text, set)?, 16)?, 0, "{set}");
    }
    Ok(())
}

fn cgroup_tree() -> Outcome {
    let mut shell = Shell::launch(&["-m", "100M", "--cpus", "1"])?;
    let files = shell.run("find /sys/fs/cgroup -maxdepth 2 \\( -name memory.max -o -name memory.limit_in_bytes -o -name cpu.max -o -name cpu.cfs_quota_us -o -name cgroup.procs \\)")?;
    check!(files.lines().count() >= 3, "limit files in the container's cgroup tree: {files:?}");
    for file in files.lines() {
        refused(&mut shell, &format!("echo 1 >{file}"))?;
    }
    refused(
        &mut shell,
        "d=$(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | head -1); mkdir ${d%/*}/escape",
    )?;
    let own = shell.run("cat /proc/self/cgroup")?;
    for line in own.lines() {
        check!(line.ends_with(":/"), "a group outside the cgroup namespace shows: {line:?}");
    }
    let limits = shell.run(
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true",
    )?;
    check!(
        limits.lines().any(|line| line == "104857600"),
        "the memory limit in the container's own tree: {limits:?}"
    );
    Ok(())
}

fn descriptors() -> Outcome {
    use std::os::fd::AsRawFd;
    let secret = std::fs::File::open("/etc/passwd")?;
    // SAFETY: F_SETFD on a descriptor that is open for the whole call.
    check!(unsafe { libc::fcntl(secret.as_raw_fd(), libc::F_SETFD, 0) } == 0, "clearing close-on-exec");
    let text = crate::output::run(launch(&[])?.args([OWN_INSIDE, "tool", "fds"]))?.ok()?;
    for line in text.lines() {
        let (number, target) = line.split_once(' ').doing(line)?;
        let own = target.starts_with("/proc/") && target.ends_with("/fd");
        check!(number.parse::<u32>()? <= 2 || own, "descriptor {line} reached the container");
    }
    Ok(())
}

fn namespaces() -> Outcome {
    let names = ["mnt", "uts", "ipc", "net", "pid", "cgroup", "time"];
    let text = launched(&[], &format!("for n in {}; do readlink /proc/self/ns/$n; done", names.join(" ")))?;
    check_eq!(text.lines().count(), names.len(), "namespaces read");
    for (name, theirs) in names.iter().zip(text.lines()) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}"))?.display().to_string();
        check!(host != theirs, "the container shares the host's {name} namespace");
    }
    Ok(())
}

fn network() -> Outcome {
    let text = launched(&[], "ls /sys/class/net; cat /proc/net/dev | wc -l")?;
    check_eq!(text, "lo\n3\n", "interfaces with --net none");
    let host = launched(&["--net", "host"], "readlink /proc/self/ns/net")?;
    check_eq!(
        host.trim(),
        std::fs::read_link("/proc/self/ns/net")?.display().to_string(),
        "network namespace with --net host"
    );
    Ok(())
}

fn processes() -> Outcome {
    let text = launched(&[], "ls /proc | grep -c '^[0-9]'; hostname")?;
    let count: u32 = text.lines().next().unwrap_or_default().parse().doing(&text)?;
    check!(count <= 6, "{count} processes in a container that runs a pipe");
    Ok(())
}

/// The root is a throw-away overlay, /run and /tmp are fresh.
fn host_files() -> Outcome {
    let mark = format!("ownproc-e2e-mark-{}", std::process::id());
    let text = launched(
        &[],
        &format!(
            "touch /{mark} /etc/{mark} /tmp/{mark} /run/{mark} && ls /tmp; echo x >>/etc/hostname; cat /etc/debian_version"
        ),
    )?;
    check!(text.starts_with(&format!("{mark}\n")), "files in a fresh /tmp: {text:?}");
    for dir in ["", "/etc", "/tmp", "/run"] {
        check!(
            !std::path::Path::new(&format!("{dir}/{mark}")).exists(),
            "{dir}/{mark} was written on the host"
        );
    }
    let (code, said) = Shell::launch(&["--read-only"])?.status("touch /etc/x")?;
    check!(code != 0, "--read-only let a file be written: {said}");
    Ok(())
}

fn memory_limit() -> Outcome {
    let output = crate::output::run(
        launch(&["-m", "64M", "--memory-swap", "64M"])?.args([OWN_INSIDE, "tool", "eat", "200"]),
    )?;
    check_eq!(output.code, 137, "exit code of a program that eats 200 of 64 MiB ({})", output.stderr);
    Ok(())
}

fn pids_limit() -> Outcome {
    let mut shell = Shell::launch(&["--pids-limit", "8"])?;
    let group = Group::of_container(shell.name())?;
    let (_, said) = shell.status("(for i in 1 2 3 4 5 6 7 8 9 10; do sleep 2 & done; wait) 2>&1")?;
    check!(group.pids()?.len() <= 8, "more processes than --pids-limit: {:?}", group.pids()?);
    check!(said.contains("fork") || said.contains("Resource"), "forking beyond the limit: {said:?}");
    Ok(())
}

/// What the container could open as init's binary lies on a mount that cannot be written to, not even its mode.
fn launcher_binary() -> Outcome {
    let shell = Shell::launch(&[])?;
    let file = format!("/proc/{}/exe", shell.pid());
    let flags = nix::sys::statvfs::statvfs(file.as_str())?.flags();
    check!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{file} is on a writable mount: {flags:?}");
    Ok(())
}

/// In one of its own, container root could mount cgroupfs and lift its limits.
fn user_namespaces() -> Outcome {
    let mut shell = Shell::launch(&["-m", "64M"])?;
    refused(&mut shell, "unshare -Ur true")?;
    refused(&mut shell, "unshare -UrmC sh -c 'mkdir /tmp/m; mount -t cgroup -o memory none /tmp/m'")?;
    check_eq!(shell.run("/usr/bin/python3 -c 'import threading; t = threading.Thread(); t.start(); t.join(); print(1)'")?.trim(), "1", "threads work all the same");
    Ok(())
}

/// /proc/locks is empty: neither the host's locks nor those of open file descriptions, which the kernel shows everywhere.
fn locks() -> Outcome {
    let own = std::fs::File::open(std::env::current_exe()?)?;
    let _outside =
        nix::fcntl::Flock::lock(own, nix::fcntl::FlockArg::LockShared).map_err(|(_, errno)| errno)?;
    let mut shell = Shell::launch(&[])?;
    shell.run("flock /run/lock sleep 1000 & sleep 0.5")?;
    check_eq!(shell.read("locks")?, "", "locks in a container");
    let hosts = std::fs::read_to_string("/proc/locks")?.lines().count();
    check!(hosts > 1, "the host has {hosts} locks, one of them of this test");
    Ok(())
}

/// A lease on a file that others open makes them wait until it is broken (45 s): shared files cannot be leased by anyone,
/// and the files of a container not by its own processes, which the host reads too.
fn leases() -> Outcome {
    let lease = |path: &std::path::Path| -> Outcome<i32> {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open(path).doing(path.display())?;
        // SAFETY: the descriptor is open; the argument is a number.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        Ok(if done == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) })
    };
    for path in [
        "proc/meminfo",
        "proc/vmstat",
        "sys/devices/system/cpu/online",
        "sys/devices/system/node/online",
        "sys/devices/system/node/node0/meminfo",
    ] {
        let path = crate::daemon::shared(path)?;
        if path.exists() {
            check_eq!(lease(&path)?, libc::EAGAIN, "a lease on the shared {}", path.display());
        }
    }
    let mut shell = Shell::launch(&[])?;
    let said =
        shell.run("python3 -c 'import fcntl; fcntl.fcntl(open(\"/proc/meminfo\"), 1024, 1)' 2>&1 || true")?;
    check!(said.contains("Invalid argument"), "a lease inside: {said}");
    Ok(())
}

/// Also without a network of its own: AF_VSOCK knows no network namespace.
fn closed_calls() -> Outcome {
    for network in ["none", "host"] {
        let said = launched(&["--net", network], &format!("{OWN_INSIDE} tool closed"))?;
        let want =
            "vsock 97\nalg 97\ninet 0\nsyslog-read 1\nsyslog-size 1\nfanotify_init 1\nopen_tree_attr 1\n";
        check_eq!(said, want, "what --net {network} says of calls");
    }
    Ok(())
}

/// Neither in the container nor on the host: a command line is for everybody to read.
fn secrets() -> Outcome {
    let secret = format!("s3cret-{}", std::process::id());
    let variable = format!("TOKEN={secret}");
    let script = "for pid in /proc/[0-9]*; do tr '\\0' ' ' <$pid/cmdline; cat $pid/environ 2>/dev/null | tr '\\0' ' '; \
        echo; done | grep -v 'grep\\|tr ' >/tmp/seen; echo $TOKEN; tr '\\0' ' ' </proc/1/cmdline; echo; cat /tmp/seen; read x";
    let mut child = launch(&["-e", &variable, "-u", "1000:1000"])?
        .args(["sh", "-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().doing("stdout")?));
    let mut line = || -> Outcome<String> { Ok(lines.next().doing("a line")??) };
    check_eq!(line()?, secret, "the variable of the command");
    check_eq!(line()?.trim_matches([' ', '\0']), "ownproc-run init", "the command line of process 1");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path().join("cmdline");
        let Ok(words) = std::fs::read(&path) else { continue };
        // the shell itself has the script, which names no secret
        if words.windows(secret.len()).any(|part| part == secret.as_bytes()) {
            found.push(path);
        }
    }
    drop(child.stdin.take());
    for line in lines {
        let line = line?;
        // its own environment is the command's
        check!(
            !line.contains(&secret) || line.contains("TOKEN=") && !line.contains("launch"),
            "seen inside: {line}"
        );
    }
    check!(child.wait()?.code().is_some(), "the container was killed");
    check!(found.is_empty(), "command lines with the secret: {found:?}");
    Ok(())
}

/// As the command is: a filter, no_new_privs, no capability more.
fn process_1() -> Outcome {
    let said =
        launched(&[], "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/1/status /proc/self/status")?;
    let of = |process: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.strip_prefix(&format!("/proc/{process}/status:")));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    check_eq!(of("1"), of("self"), "status of process 1 and of the command");
    check!(of("1").contains(&"Seccomp: 2".to_owned()), "process 1 has no filter: {said}");
    check!(of("1").contains(&"NoNewPrivs: 1".to_owned()), "process 1 can gain rights: {said}");
    Ok(())
}
