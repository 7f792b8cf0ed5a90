//! Mounting, serving and ending: the life of one mount point.
//!
//! One process for now. What a second one needs to take over is laid out already: inode numbers are computed
//! ([`crate::fs::inode`]), handles carry a generation ([`crate::fs::snapshots`]), the device is opened and mounted
//! here and only then given to fuser, registrations are on disk.

pub mod handler;
pub mod serve;
pub mod signals;

pub use serve::{Options, SessionError, serve};
