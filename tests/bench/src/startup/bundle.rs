//! What is started: a root with one program in it, and its description in the words of each launcher.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::floor::Limits;
use crate::error::{Error, Result, on};

/// The program in the root.
pub const PROGRAM: &str = "/bin/end";
/// Its exit code: not one that a launcher ends with by itself.
pub const CODE: i32 = 7;

/// A static program that only ends: an ELF file of one segment.
fn elf() -> Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // mov edi, 7; mov eax, 231 (exit_group); syscall
        "x86_64" => (62, &[0xbf, 7, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]),
        // mov x0, #7; mov x8, #94 (exit_group); svc #0
        "aarch64" => (183, &[0xe0, 0, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]),
        other => return Err(Error::Usage(format!("no program is known for {other}"))),
    };
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16, machine].iter().flat_map(|half| half.to_le_bytes())); // executable
    file.extend(1_u32.to_le_bytes());
    file.extend([BASE + HEADERS, 64, 0].iter().flat_map(|word| word.to_le_bytes())); // entry, headers
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    file.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes())); // loaded, readable and executable
    file.extend([0, BASE, BASE, size, size, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(code);
    Ok(file)
}

/// Makes a root in `dir`.
///
/// # Errors
/// A file cannot be made.
pub fn root(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("rootfs");
    for name in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(on("create", &path))?;
    }
    let program = root.join(PROGRAM.trim_start_matches('/'));
    fs::write(&program, elf()?).map_err(on("write", &program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(on("make executable", &program))?;
    Ok(root)
}

/// A bundle named `name` in `dir`; with `full` all that `runc spec` asks for, else what the floor has.
///
/// # Errors
/// A file cannot be written.
pub fn make(
    dir: &Path,
    name: &str,
    root: &Path,
    limits: &Limits,
    group: &str,
    full: bool,
) -> Result<PathBuf> {
    let bundle = dir.join(name);
    fs::create_dir_all(&bundle).map_err(on("create", &bundle))?;
    let file = bundle.join("config.json");
    let text = config(root, limits, group, full).to_string();
    fs::write(&file, text).map_err(on("write", &file))?;
    Ok(bundle)
}

fn config(root: &Path, limits: &Limits, group: &str, full: bool) -> Value {
    let rights = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "mode=755"]),
    ];
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({
        "cgroupsPath": group,
        "namespaces": namespaces,
        "resources": {
            "memory": { "limit": limits.memory },
            "cpu": { "quota": limits.quota, "period": 100_000, "cpus": limits.cpus },
            "pids": { "limit": limits.pids },
        },
    });
    if full {
        let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        mounts.push(mount("/dev/pts", "devpts", &pts));
        mounts.push(mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]));
        mounts.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        mounts.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        mounts.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]));
        linux["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]);
        linux["readonlyPaths"] =
            json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
        linux["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }]);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": [PROGRAM],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": rights, "effective": rights, "permitted": rights },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": root },
        "hostname": "startup",
        "mounts": mounts,
        "linux": linux,
    })
}

/// LXC's configuration of a container named `name` in `dir`; the directory to give it with -P.
///
/// # Errors
/// The file cannot be written.
pub fn lxc(dir: &Path, name: &str, root: &Path, limits: &Limits, v2: bool) -> Result<PathBuf> {
    let path = dir.join("lxc");
    let own = path.join(name);
    fs::create_dir_all(&own).map_err(on("create", &own))?;
    let mut text = format!(
        "lxc.rootfs.path = dir:{}\nlxc.uts.name = startup\nlxc.init.cmd = {PROGRAM}\nlxc.net.0.type = empty\n\
         lxc.mount.auto = proc:rw\nlxc.autodev = 1\nlxc.apparmor.profile = unconfined\n",
        root.display()
    );
    let values = if v2 {
        [
            format!("lxc.cgroup2.memory.max = {}", limits.memory),
            format!("lxc.cgroup2.cpu.max = {} 100000", limits.quota),
            format!("lxc.cgroup2.cpuset.cpus = {}", limits.cpus),
            format!("lxc.cgroup2.pids.max = {}", limits.pids),
        ]
    } else {
        [
            format!("lxc.cgroup.memory.limit_in_bytes = {}", limits.memory),
            format!("lxc.cgroup.cpu.cfs_quota_us = {}", limits.quota),
            format!("lxc.cgroup.cpuset.cpus = {}", limits.cpus),
            format!("lxc.cgroup.pids.max = {}", limits.pids),
        ]
    };
    text.push_str(&values.join("\n"));
    text.push('\n');
    let file = own.join("config");
    fs::write(&file, text).map_err(on("write", &file))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_ends_with_its_code() {
        let dir = std::env::temp_dir().join(format!("ownproc-bench-elf-{}", std::process::id()));
        let root = root(&dir).unwrap();
        let status = std::process::Command::new(root.join("bin/end")).status();
        let _ = fs::remove_dir_all(&dir);
        assert_eq!(status.unwrap().code(), Some(CODE));
    }
}
