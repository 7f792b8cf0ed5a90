//! Where the daemon of a mount point keeps its socket and its state.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The mount point that every command takes where none is named.
pub const DEFAULT_MOUNT: &str = "/var/lib/ownproc";
/// Names another mount point than [`DEFAULT_MOUNT`], for every command.
pub const MOUNT_ENV: &str = "OWNPROC_MOUNT";
/// Where all sockets and states are.
pub const RUN_DIR: &str = "/run/ownproc";

/// The files of one mount point's daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The mount point, absolute, symbolic links resolved.
    pub mount: PathBuf,
    /// Mode 0700; holds everything below.
    pub dir: PathBuf,
    /// Mode 0600.
    pub socket: PathBuf,
    /// Where runtimes hand in seccomp listeners; mode 0600.
    pub seccomp: PathBuf,
    /// One NAME.json per registered container.
    pub containers: PathBuf,
    /// What a daemon writes that was started by the launcher.
    pub log: PathBuf,
}

impl Paths {
    /// The files of the daemon that serves `mount`.
    #[must_use]
    pub fn new(mount: &Path) -> Self {
        Self::under(Path::new(RUN_DIR), mount)
    }

    /// The same below another directory than [`RUN_DIR`].
    #[must_use]
    pub fn under(run: &Path, mount: &Path) -> Self {
        let mount = resolve(mount);
        let dir = if mount == Path::new(DEFAULT_MOUNT) {
            run.to_owned()
        } else {
            run.join("at").join(escape(&mount))
        };
        Self {
            socket: dir.join("control.sock"),
            seccomp: dir.join("seccomp.sock"),
            containers: dir.join("containers"),
            log: dir.join("serve.log"),
            dir,
            mount,
        }
    }

    /// The mount point named by `given`, else by [`MOUNT_ENV`], else [`DEFAULT_MOUNT`].
    #[must_use]
    pub fn mount_from(given: Option<&Path>) -> PathBuf {
        given.map(Path::to_owned).unwrap_or_else(|| {
            std::env::var_os(MOUNT_ENV)
                .filter(|value| !value.is_empty())
                .map_or_else(|| PathBuf::from(DEFAULT_MOUNT), PathBuf::from)
        })
    }

    /// Makes the directories, each with mode 0700.
    pub fn create(&self) -> std::io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.containers)?;
        for dir in [&self.dir, &self.containers] {
            // a holder that was started anew has not the right to change what is the worker's
            if std::fs::metadata(dir)?.permissions().mode() & 0o7777 != 0o700 {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
            }
        }
        Ok(())
    }
}

/// One spelling per mount point: absolute, links resolved. Works for one that does not exist yet and for one
/// whose daemon is dead (where stat fails with ENOTCONN).
fn resolve(mount: &Path) -> PathBuf {
    if let Ok(path) = std::fs::canonicalize(mount) {
        return path;
    }
    let absolute = std::path::absolute(mount).unwrap_or_else(|_| mount.to_owned());
    match (absolute.parent().and_then(|parent| std::fs::canonicalize(parent).ok()), absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        // `absolute` keeps a trailing slash; the components do not.
        _ => absolute.components().collect(),
    }
}

/// A path as one file name, by the rules of `systemd-escape --path`: `/` becomes `-`, what is not
/// `[A-Za-z0-9:_.]` becomes `\xNN`, so does a leading dot; the root is `-`.
#[must_use]
pub fn escape(path: &Path) -> OsString {
    let mut name = Vec::new();
    for component in path.components() {
        let std::path::Component::Normal(part) = component else { continue };
        if !name.is_empty() {
            name.push(b'-');
        }
        for &byte in part.as_bytes() {
            let leading_dot = byte == b'.' && name.is_empty();
            if !leading_dot && (byte.is_ascii_alphanumeric() || b":_.".contains(&byte)) {
                name.push(byte);
            } else {
                name.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
        }
    }
    if name.is_empty() {
        name.push(b'-');
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_systemd_does() {
        // The right side is what `systemd-escape --path` prints.
        for (path, name) in [
            ("/", "-"),
            ("/mnt", "mnt"),
            ("/mnt/a-b", "mnt-a\\x2db"),
            ("/.hidden/x", "\\x2ehidden-x"),
            ("/a/.b", "a-.b"),
            ("//a//b/", "a-b"),
            ("/a b", "a\\x20b"),
        ] {
            assert_eq!(escape(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn default_and_other_mounts() {
        let default = Paths::new(Path::new("/var/lib/ownproc"));
        assert_eq!(default.socket, Path::new("/run/ownproc/control.sock"));
        assert_eq!(default.seccomp, Path::new("/run/ownproc/seccomp.sock"));
        let other = Paths::new(Path::new("/no-such-dir/x/"));
        assert_eq!(other.socket, Path::new("/run/ownproc/at/no\\x2dsuch\\x2ddir-x/control.sock"));
        assert_eq!(other.mount, Path::new("/no-such-dir/x"));
    }

    #[test]
    fn one_spelling_per_mount() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let run = dir.path().join("run");
        assert_eq!(Paths::under(&run, &real), Paths::under(&run, &dir.path().join("link")));
        assert_eq!(Paths::under(&run, &real.join("new")), Paths::under(&run, &dir.path().join("link/new/")),);
    }

    #[test]
    fn directories_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(&dir.path().join("run"), Path::new("/elsewhere"));
        paths.create().unwrap();
        paths.create().unwrap();
        for path in [&paths.dir, &paths.containers] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
