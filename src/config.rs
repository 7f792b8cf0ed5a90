//! The policies that are set for a daemon: its configuration file, the flags of `serve`, and which of them count.
//!
//! [`parse`] turns text into a [`Config`] or one line that says what is wrong ([`error`]), [`mod@file`] reads it,
//! [`layers`] decides which choice counts for a container, and a [`PolicyCell`] holds the outcome where readers find it.

pub mod cell;
pub mod error;
pub mod file;
pub mod layers;
pub mod parse;

pub use cell::PolicyCell;
pub use error::{ConfigError, Problem};
pub use file::ConfigFile;
pub use layers::{Layers, Origin, Setting};
pub use parse::{Config, Pattern, Section};
