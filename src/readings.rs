//! Gathers what one render needs: reads only what the file at hand is made of, builds the view, renders.

mod disks;
pub mod files;
mod kernel;
mod load;
mod machine;
mod pages;
mod pressure;
mod reader;
pub mod sampler;
pub mod subject;
pub mod syscpu;
mod sysinfo;
pub mod sysnode;
pub mod tasks;

pub use files::{cpus, host_file, host_has, memory, open_pressure, render, render_to};
pub use reader::ReaderTime;
pub use sampler::LoadSampler;
pub use subject::Subject;
pub use syscpu::{cpu_number, sys_cpu_file, sys_cpu_link, sys_cpu_list_dir};
pub use sysinfo::sysinfo;
pub use sysnode::{node_number, shown_nodes, sys_node_file, sys_node_link, sys_node_list_dir};

#[cfg(test)]
mod live_tests;
