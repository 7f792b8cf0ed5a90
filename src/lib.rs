//! ownproc: every container's own truthful `/proc`.
//!
//! The modules are rooms, from the ground up; a room imports only rooms that stand above it in this list.
//! Data flows one way: request -> whose view -> cgroup and host readings -> view -> render -> snapshot -> reply.
//! `ARCHITECTURE.md` draws the path of one read, `SEMANTICS.md` says where every line of every file comes from.

#[cfg(test)]
extern crate self as ownproc; // for the fixtures that unit tests and those of tests/ share

#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used, clippy::panic)] // shared with the tests in tests/
#[path = "../tests/common/fixture.rs"]
mod fixture;

pub mod model;

pub mod view;

pub mod render;

pub mod cgroup;

pub mod host;

pub mod config;

pub mod store;

pub mod readings;

pub mod containers;

pub mod attach;

pub mod fs;

pub mod control;

pub mod session;

pub mod cli;
