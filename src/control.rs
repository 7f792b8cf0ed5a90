//! The socket between daemon, launcher and command line.
