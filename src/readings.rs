//! Gathers what one render needs.
