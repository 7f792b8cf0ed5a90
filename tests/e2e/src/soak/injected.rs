//! Faults that the daemon under test has on purpose (`src/fs/injected.rs`, in builds with debug assertions).

use std::path::PathBuf;
use std::process::Command;

use crate::case::{Doing, Outcome};

/// The file that each worker reads once.
pub struct Rules(PathBuf);

impl Rules {
    /// No fault yet.
    pub fn new() -> Outcome<Self> {
        let rules = Self(PathBuf::from(format!("/var/tmp/ownproc-e2e-rules-{}", std::process::id())));
        rules.set("")?;
        Ok(rules)
    }

    /// For workers that start from now on.
    pub fn set(&self, lines: &str) -> Outcome {
        std::fs::write(&self.0, lines).doing(self.0.display())
    }

    /// Tells a daemon where they are.
    pub fn give(&self, ownproc: &mut Command) {
        ownproc.env("OWNPROC_TEST_PANIC", &self.0);
        // In software emulation a backtrace takes seconds, and crashes that come so slowly are not taken for a row of them.
        ownproc.env("RUST_BACKTRACE", "0");
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
