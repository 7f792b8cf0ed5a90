//! The socket between daemon, launcher and command line.
//!
//! One daemon per mount point, one socket per daemon ([`paths`]). A connection carries one request: the client
//! says which protocol and build it speaks ([`message`]), the server answers likewise, then the request goes one
//! way (with file descriptors where it registers a container, [`wire`]) and the reply the other.

pub mod build;
pub mod client;
mod conversation;
pub mod message;
pub mod paths;
pub mod peer;
mod registered;
pub mod server;
pub mod wire;

pub use build::build_id;
pub use client::{Client, ControlError, Registration};
#[doc(hidden)]
pub use conversation::talk_unchecked;
pub use message::{
    ConfigInfo, ContainerInfo, Hello, NamedSettings, Refusal, RefusalKind, Registered, ShowTarget, Status,
    ViewInfo, WorkerInfo,
};
pub use paths::Paths;
pub use server::{Handler, RegisterRequest, Running, Server, ServerError, bind_inbox};

#[cfg(test)]
mod tests;
