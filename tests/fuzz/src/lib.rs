//! Fuzz targets: one function per target, which takes any bytes and holds the whole check. It returns, or it panics:
//! that is a finding. `tests/replay.rs` runs the corpora through them on stable Rust, `libfuzzer/` looks for more.

// A panic is how a target says what it found; and a target may take its own fixtures apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod fuse;
pub mod input;
pub mod targets;

// The launcher is a program without a library: the modules that parse are compiled here once more.
#[path = "../../../container-glue/src"]
#[allow(dead_code, unused_imports)]
mod launcher {
    pub mod args;
    pub mod oci {
        pub mod args;
        pub mod config;
        pub mod resources;
        pub mod seccomp;

        /// The part of the launcher's error that a configuration can cause: the rest would bring all of the launcher here.
        #[derive(Debug, thiserror::Error)]
        pub enum OciError {
            #[error("config.json: {field}: {reason}")]
            Config { field: String, reason: String },
            #[error(transparent)]
            Seccomp(#[from] seccomp::SeccompError),
        }

        impl OciError {
            pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
                Self::Config { field: field.into(), reason: reason.into() }
            }
        }
    }
    pub mod pins;
    pub mod spec;
}
use launcher::{args, oci, pins, spec};

#[path = "../../common/fixture.rs"]
#[allow(dead_code)]
mod fixture;

/// A target: its name, which is also that of its folder in `corpus/` and `regressions/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    targets::ALL.iter().copied().find(|(known, _)| *known == name)
}
