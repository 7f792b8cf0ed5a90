//! Fuzz targets: one function per target, which takes any bytes and holds the whole check. It returns, or it panics:
//! that is a finding. `tests/replay.rs` runs the corpora through them on stable Rust, `libfuzzer/` looks for more.

// A panic is how a target says what it found; and a target may take its own fixtures apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod fuse;
pub mod input;
pub mod targets;

// The launcher is a program without a library: the modules that parse are compiled here once more.
#[path = "../../../container-glue/src"]
#[allow(dead_code)]
mod launcher {
    pub mod args;
    pub mod oci {
        pub mod args;
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
