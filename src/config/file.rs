//! Reading the configuration file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Problem};
use super::parse::Config;

/// Where the configuration is when no other place is named.
pub const DEFAULT_FILE: &str = "/etc/ownproc/config.toml";
/// The largest file that is taken.
pub const MOST_BYTES: u64 = 1 << 20;

/// Which file a daemon reads at its start and at each SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    /// Somebody named it, so it must be there.
    named: bool,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self::standard(Path::new("/"))
    }
}

impl ConfigFile {
    /// [`DEFAULT_FILE`] below a root, which need not be there.
    #[must_use]
    pub fn standard(root: &Path) -> Self {
        Self { path: root.join(DEFAULT_FILE.trim_start_matches('/')), named: false }
    }

    /// A file that must be there. A relative path is meant from here, whatever becomes of the working directory.
    #[must_use]
    pub fn named(path: &Path) -> Self {
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), named: true }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; `None` where nobody named it and it is not there.
    pub fn load(&self) -> Result<Option<Config>, ConfigError> {
        let fail = |problem| ConfigError { file: self.path.clone(), line: None, problem };
        let unreadable = |error: std::io::Error| fail(Problem::Unreadable(error.to_string()));
        // Not blocking: a pipe without a writer must not hold the daemon.
        let opened =
            File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&self.path);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.named => return Ok(None),
            other => other.map_err(unreadable)?,
        };
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(fail(Problem::NotAFile));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(fail(Problem::TooLarge));
        }
        Config::parse(&bytes, &self.path).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let standard = ConfigFile::standard(dir.path());
        assert_eq!(standard.path(), dir.path().join("etc/ownproc/config.toml"));
        assert_eq!(standard.load().unwrap(), None);
        let error = ConfigFile::named(&dir.path().join("missing")).load().unwrap_err();
        assert!(error.is_io() && error.to_string().contains("missing: cannot read"), "{error}");
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let load = || ConfigFile::named(&path).load().map_err(|error| error.problem);
        std::fs::write(&path, "#\n".repeat(1 << 19)).unwrap();
        assert_eq!(load(), Ok(Some(Config::default())), "exactly 1 MiB");
        std::fs::write(&path, "#\n".repeat((1 << 19) + 1)).unwrap();
        assert_eq!(load(), Err(Problem::TooLarge));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(load(), Err(Problem::NotAFile), "and it does not wait for a writer");
        assert_eq!(ConfigFile::named(dir.path()).load().unwrap_err().problem, Problem::NotAFile);
        assert_eq!(ConfigFile::named(Path::new("/dev/zero")).load().unwrap_err().problem, Problem::NotAFile);
    }
}
