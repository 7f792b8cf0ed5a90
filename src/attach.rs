//! Mounts into running containers: the virtual files over their own, taken away again, dead ones replaced.
//!
//! A container's mounts are hostile ground: its `/proc` may be a link, a file system that never answers, or another one a
//! moment later. So no thread of the daemon ever goes there. A child of the command with a single thread enters the mount
//! namespace (`child.rs`), resolves every place by openat2(2) without crossing links or mounts, asks no file system
//! where the kernel's own knowledge will do (`place.rs`), and mounts on the very descriptors that it checked
//! (`inside.rs`). If something there does not answer the command ends the child and says so.

pub mod mounts;
pub mod report;

mod child;
mod inside;
mod kernel;
mod peers;
mod place;
mod probe;
mod served;
mod subject;

pub use child::{DEADLINE, Order, carry_out};
pub use served::served;
pub use subject::{AttachError, Namespace, Subject};
