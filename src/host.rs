//! What the host says.
