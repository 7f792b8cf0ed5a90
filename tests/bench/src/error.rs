//! What can go wrong while measuring; every message names the thing and the reason.

use std::path::{Path, PathBuf};

/// An error that ends the bench.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Path {
        /// The operation, as a verb: "write", "mount on".
        what: &'static str,
        /// The path it was done on.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// An operation without a path failed.
    #[error("cannot {what}: {source}")]
    System {
        /// The operation, as a verb.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// A server or a reader did not do what it was started for.
    #[error("{0}")]
    Peer(String),
    /// The user asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// SIGINT or SIGTERM arrived; everything is cleaned up on the way out.
    #[error("interrupted")]
    Interrupted,
}

/// Shorthand used throughout the bench.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns an error of `what` on `path` into ours; for `map_err`.
pub fn on<E: Into<std::io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |error| Error::Path { what, path, source: error.into() }
}

/// Turns an error of `what` into ours; for `map_err`.
pub fn doing<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::System { what, source: error.into() }
}
