//! `--log`: errors in a file, as podman, containerd and Docker read them from a runtime.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::args::{Global, LogFormat};

/// Appends one error. What cannot be written is only lost for the file: stderr has it, too.
pub fn error(global: &Global, message: &str) {
    let Some(path) = &global.log else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = rfc3339(now);
    let line = match global.log_format {
        LogFormat::Json => serde_json::json!({ "level": "error", "msg": message, "time": time }).to_string(),
        LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}"),
    };
    if let Err(error) = open(path).and_then(|mut file| writeln!(file, "{line}")) {
        log::warn!("--log {}: {error}", path.display());
    }
}

/// Its directory may be another user's: a link that was put there is not followed, and a pipe is
/// not waited for. /dev and /proc are root's; there are links to what this process has open.
fn open(path: &Path) -> io::Result<File> {
    let trusted = ["/dev", "/proc"].iter().any(|dir| path.starts_with(dir));
    let no_link = if trusted { 0 } else { libc::O_NOFOLLOW };
    File::options()
        .create(true)
        .append(true)
        .custom_flags(no_link | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Seconds since 1970 as `2026-11-30T06:50:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // days since 0000-03-01 in eras of 400 years: leap days lie at the end of such a year
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("log"));
        std::fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert_eq!(open(&link).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(open(&victim).is_ok() && open(&dir.path().join("new")).is_ok());
        assert!(open(Path::new("/dev/stderr")).is_ok(), "a link of root's");
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_935_599), "2026-11-29T06:59:59Z");
    }
}
