//! What the host says: its own files, its clocks, and facts of single processes. The root of `/proc` and
//! `/sys` is a parameter, so that a fixture tree can stand in.

pub mod clocks;
pub mod error;
pub mod files;
mod nodes;
pub mod parse;
pub mod process;
pub mod syscpu;

pub use clocks::{ClockSource, Clocks};
pub use error::HostError;
pub use files::Host;
pub use process::Process;
pub use syscpu::{SysEntry, SysKind, SysTree};
