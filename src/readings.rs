//! Gathers what one render needs: reads only what the file at hand is made of, builds the view, renders.

pub mod files;
pub mod subject;
pub mod syscpu;
pub mod tasks;

pub use files::{cpus, host_file, memory, render};
pub use subject::Subject;
pub use syscpu::{cpu_number, sys_cpu_file, sys_cpu_link, sys_cpu_list_dir};

#[cfg(test)]
mod live_tests;
