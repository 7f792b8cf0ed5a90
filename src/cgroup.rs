//! What a group says: cgroup v1, hybrid and v2 behind one face.
//!
//! [`parse`] is pure: bytes of one file -> model types. Around it stand the kept file descriptors:
//! [`Layout`] finds the hierarchies, [`Membership`] says which group of each a process is in, and a
//! [`GroupSet`] holds one container's groups open, each with its chain of ancestors, and answers with
//! readings.

pub mod chain;
pub mod controller;
pub mod deep;
pub mod error;
pub mod group;
pub mod kept;
pub mod layout;
pub mod membership;
pub mod parse;
pub mod paths;
pub mod read;
pub mod walk;

#[cfg(test)]
mod live_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use chain::{Chain, GroupDir, GroupId};
pub use controller::{Controller, Version};
pub use error::CgroupError;
pub use group::GroupSet;
pub use layout::{Hierarchy, Layout};
pub use membership::Membership;
pub use parse::ParseError;
