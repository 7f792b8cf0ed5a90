//! What `launch` asks of the common road beyond an OCI configuration.

use nix::sys::signal::SigSet;

use crate::spec::Limits;

/// See the module.
#[derive(Clone, Debug)]
pub struct Extras {
    /// The root is the host's under a throw-away layer, instead of the configuration's.
    pub layer: bool,
    /// Limits, in the words of the flags.
    pub limits: Limits,
    /// Where the command's input and output are.
    pub stdio: Stdio,
    /// Signals that the launcher found blocked: the command starts with these.
    pub mask: SigSet,
}

/// Where a command's input and output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// The caller's.
    Callers {
        /// The container shares the caller's terminal and thus its process group.
        terminal: bool,
    },
    /// A terminal of its own, which the launcher copies to and from.
    Terminal,
    /// Nowhere: it runs on by itself.
    Nowhere,
}

impl Extras {
    /// The container ends with its launcher.
    pub fn in_foreground(&self) -> bool {
        self.stdio != Stdio::Nowhere
    }
}
