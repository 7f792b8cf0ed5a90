//! Who is registered; reader -> container.
//!
//! A [`Registry`] holds one [`Entry`] per registered container. What a client passes is checked before anything
//! is kept ([`verify`]), what is kept survives the daemon ([`state`]), and an entry ends by itself when its
//! init does ([`watch`]).

pub mod gone;
pub mod kept;
pub mod lane;
pub mod pidfd;
pub mod pidns;
pub mod registry;
pub mod resolve;
pub mod state;
mod unregistered;
pub mod verify;
pub mod watch;

pub use kept::{Crowd, Limits};
pub use registry::{Entry, Registry, RegistryError};
pub use resolve::{Contained, Remembered, Resolver, View};

#[cfg(test)]
mod tests;
