//! Attacks that got out of other runtimes, each carried out against this one. A case is named by the number of the attack.

mod descriptors;
mod mounts;

pub use descriptors::{cve_2019_5736, cve_2024_21626};
pub use mounts::{
    cve_2019_16884, cve_2021_30465, cve_2023_27561, cve_2025_31133, cve_2025_52565, cve_2025_52881,
};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::case::{Doing, Outcome, check};

/// Somebody who exchanges two names, over and over, as a container can that shares their directory.
struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<nix::Result<u64>>>,
}

impl Exchange {
    fn start(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, one, other) = (Arc::clone(&stop), one.to_owned(), other.to_owned());
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            // an even number, so that both are where they were
            while !flag.load(Ordering::Relaxed) || count % 2 == 1 {
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE)?;
                count += 1;
            }
            Ok(count)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; it must have been busy all the time.
    fn end(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().doing("the thread")?;
        let count = thread.join().ok().doing("a thread that ends in order")?.doing("exchange")?;
        check!(count >= 100, "only {count} exchanges: nothing was raced");
        Ok(())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A path by which a directory anywhere on the host leads to `to`: more `..` than any of them is deep.
fn up_and_down(to: &Path) -> PathBuf {
    PathBuf::from(format!(
        "{}{}",
        ["..", "/"].concat().repeat(12),
        to.display().to_string().trim_start_matches('/')
    ))
}
