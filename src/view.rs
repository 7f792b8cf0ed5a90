//! Pure: levels -> effective limits and headroom; policy -> view. No I/O, no unsafe.
//!
//! `SEMANTICS.md` names every rule here by a short id (M1, C3, ...).

pub mod account;
pub mod boot_id;
pub mod cpu;
pub mod disks;
pub mod load;
pub mod memory;
pub mod node;
pub mod pages;
mod spread;
pub mod stat;
pub mod sysinfo;
pub mod time;

pub use account::{CpuAccount, CpuTimes};
pub use boot_id::{Identity, boot_id};
pub use cpu::{ShownCpus, binding_quota, shown};
pub use disks::{DiskAccount, DiskView};
pub use load::{Averages, Budget, KeptLoad, Load, LoadSample, LoadView};
pub use memory::{
    Binding, HugetlbView, MemoryView, effective_memory_high, effective_memory_limit, effective_swap, memory,
    memory_available, memory_headroom, swap_headroom,
};
pub use node::{Share, ShownNodes, shown_nodes};
pub use pages::{CounterAccount, PagesView, blocks};
pub use stat::{StatView, stat_view};
pub use sysinfo::{SysinfoView, sysinfo};
pub use time::{UptimeView, btime, uptime};
