//! Why a command did not do as asked: one line for people, a code for programs.

use std::io;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Whoever read our output has had enough.
    #[error("broken pipe")]
    BrokenPipe,
    /// Wrong usage, or something could not be read or done.
    #[error("{0}")]
    Error(String),
    /// Done, and what was looked at is not as it should be.
    #[error("{0}")]
    Findings(String),
    /// Nothing is what was asked for.
    #[error("{0}")]
    NoTarget(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Findings(_) => 1,
            Self::Error(_) => 2,
            Self::NoTarget(_) => 3,
        }
    }

    /// An error with what failed and why.
    pub fn error(what: impl std::fmt::Display) -> Self {
        Self::Error(what.to_string())
    }
}

/// For output only: other files name their path.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Error(format!("cannot write the output: {error}")),
        }
    }
}

/// A command that is nothing without a daemon.
pub(super) fn not_running(error: &crate::control::ControlError) -> Failure {
    match error {
        crate::control::ControlError::NotRunning { mount, .. } => Failure::NoTarget(format!(
            "no ownproc daemon serves {}; `--mount DIR` names another mount point",
            mount.display()
        )),
        other => Failure::error(other),
    }
}
