//! Mounting, serving and ending: the life of one mount point.
//!
//! One process for now. What a second one needs to take over is laid out already: inode numbers are computed
//! ([`crate::fs::inode`]), handles carry a generation ([`crate::fs::snapshots`]), the device is opened and mounted
//! here and only then given to fuser, registrations are on disk.

pub mod calls;
pub mod confine;
mod degraded;
pub mod end;
mod fdstore;
pub mod handler;
pub mod holder;
pub mod keeper;
pub mod link;
pub mod negotiate;
mod notice;
pub mod page;
pub mod policies;
pub mod restart;
pub mod serve;
mod shared_files;
pub mod signals;
pub mod spawn;
mod worker;

pub use serve::{Finish, Options, Role, SessionError, serve};
