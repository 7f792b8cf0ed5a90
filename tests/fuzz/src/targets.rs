//! The targets, by the room that they are about.

pub mod cgroup;
pub mod config;
pub mod containers;
pub mod control;
pub mod fuse;
pub mod host;
pub mod launcher;
pub mod model;
pub mod oci;
pub mod render;
pub mod templates;
pub mod tree;
pub mod view;

use crate::Target;

macro_rules! targets {
    ($($room:ident: $($name:ident)+;)+) => {
        /// All of them.
        pub const ALL: &[Target] = &[$($((stringify!($name), $room::$name)),+),+];
    };
}

targets! {
    cgroup: cgroup_scalar cgroup_memory_stat cgroup_cpu cgroup_mountinfo cgroup_proc_cgroup cgroup_membership
        cgroup_layout cgroup_io;
    host: host_meminfo host_cpuinfo host_stat host_process_stat host_process_status host_timens host_namespace
        host_boot_id host_node host_diskstats;
    model: cpu_set container_name;
    render: sys_cpu_list sys_cpu_mask;
    view: view_memory view_cpus view_account view_time view_pages view_nodes view_load view_saved;
    templates: proc_vmstat proc_zoneinfo proc_buddyinfo proc_kernel_files node_files
        proc_cpu_tables proc_schedstat proc_pressure;
    tree: inode_numbers path_numbers tree_requests;
    fuse: fuse_requests fuse_degraded fuse_raw;
    control: control_wire control_messages control_conversation cli_texts;
    config: config_file config_choices;
    containers: state_records state_directory record_keys;
    launcher: launcher_command_line launcher_size launcher_volume launcher_pins;
    oci: oci_config oci_resources oci_seccomp;
}
