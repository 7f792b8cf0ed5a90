//! Which build of the program this is.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The package's version and a mark of the running executable: `0.1.0+SIZE.MTIME` (hexadecimal bytes and
/// nanoseconds of `/proc/self/exe`). Two processes with the same build id run the same file, or copies that kept
/// their time; a rebuilt program has another. The version alone where the executable cannot be read.
#[must_use]
pub fn build_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let version = env!("CARGO_PKG_VERSION");
        match std::fs::metadata("/proc/self/exe") {
            Ok(file) => {
                let mtime = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
                format!("{version}+{:x}.{mtime:x}", file.size())
            }
            Err(_) => version.to_owned(),
        }
    })
}
