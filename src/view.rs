//! Pure: levels -> effective limits and headroom; policy -> view. No I/O, no unsafe.
//!
//! `SEMANTICS.md` names every rule here by a short id (M1, C3, ...).

pub mod account;
pub mod cpu;
pub mod memory;
mod spread;
pub mod stat;
pub mod time;

pub use account::{CpuAccount, CpuTimes};
pub use cpu::{ShownCpus, binding_quota, shown};
pub use memory::{
    Binding, HugetlbView, MemoryView, effective_memory_high, effective_memory_limit, effective_swap, memory,
    memory_available, memory_headroom, swap_headroom,
};
pub use stat::{StatView, stat_view};
pub use time::{UptimeView, btime, uptime};
