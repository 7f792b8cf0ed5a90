//! Who is registered; reader -> container.

pub mod pidfd;
