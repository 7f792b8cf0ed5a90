//! Which paths below `sys/devices/system/cpu` and `sys/devices/system/node` there are: allow-lists. What is not here is
//! neither listed nor found, whoever asks.

/// A path below `sys/devices/system/cpu` that is there where the host has it, and what it shows. In a path `N` stands for
/// any number and `*` for any name; the directories above it are there too.
pub const SYS_CPU_PATHS: &[(&str, &str)] = &[
    ("cpuN/cache/indexN/allocation_policy", "host"),
    ("cpuN/cache/indexN/coherency_line_size", "host"),
    ("cpuN/cache/indexN/id", "host"),
    ("cpuN/cache/indexN/level", "host"),
    ("cpuN/cache/indexN/number_of_sets", "host"),
    ("cpuN/cache/indexN/physical_line_partition", "host"),
    ("cpuN/cache/indexN/shared_cpu_list", "Y4"),
    ("cpuN/cache/indexN/shared_cpu_map", "Y4"),
    ("cpuN/cache/indexN/size", "host"),
    ("cpuN/cache/indexN/type", "host"),
    ("cpuN/cache/indexN/uevent", "host"),
    ("cpuN/cache/indexN/ways_of_associativity", "host"),
    ("cpuN/cache/indexN/write_policy", "host"),
    ("cpuN/cache/uevent", "host"),
    ("cpuN/cpu_capacity", "host"),
    ("cpuN/nodeN", "N9"),
    ("cpuN/online", "Y6"),
    ("cpuN/regs/identification/midr_el1", "host"),
    ("cpuN/regs/identification/revidr_el1", "host"),
    ("cpuN/regs/identification/smidr_el1", "host"),
    ("cpuN/subsystem", "host"),
    ("cpuN/topology/book_id", "host"),
    ("cpuN/topology/book_siblings", "Y4"),
    ("cpuN/topology/book_siblings_list", "Y4"),
    ("cpuN/topology/cluster_cpus", "Y4"),
    ("cpuN/topology/cluster_cpus_list", "Y4"),
    ("cpuN/topology/cluster_id", "host"),
    ("cpuN/topology/core_cpus", "Y4"),
    ("cpuN/topology/core_cpus_list", "Y4"),
    ("cpuN/topology/core_id", "host"),
    ("cpuN/topology/core_siblings", "Y4"),
    ("cpuN/topology/core_siblings_list", "Y4"),
    ("cpuN/topology/die_cpus", "Y4"),
    ("cpuN/topology/die_cpus_list", "Y4"),
    ("cpuN/topology/die_id", "host"),
    ("cpuN/topology/drawer_id", "host"),
    ("cpuN/topology/drawer_siblings", "Y4"),
    ("cpuN/topology/drawer_siblings_list", "Y4"),
    ("cpuN/topology/package_cpus", "Y4"),
    ("cpuN/topology/package_cpus_list", "Y4"),
    ("cpuN/topology/physical_package_id", "host"),
    ("cpuN/topology/thread_siblings", "Y4"),
    ("cpuN/topology/thread_siblings_list", "Y4"),
    ("cpuN/uevent", "host"),
    ("enabled", "Y1"),
    ("isolated", "Y2"),
    ("kernel_max", "Y3"),
    ("modalias", "host"),
    ("nohz_full", "Y2"),
    ("offline", "Y2"),
    ("online", "Y1"),
    ("possible", "Y1"),
    ("present", "Y1"),
    ("smt/active", "host"),
    ("smt/control", "host"),
    ("uevent", "host"),
    ("vulnerabilities/*", "host"),
];

/// The same below `sys/devices/system/node`.
pub const SYS_NODE_PATHS: &[(&str, &str)] = &[
    ("has_cpu", "N2"),
    ("has_generic_initiator", "N2"),
    ("has_high_memory", "N2"),
    ("has_memory", "N2"),
    ("has_normal_memory", "N2"),
    ("nodeN/cpuN", "N9"),
    ("nodeN/cpulist", "N3"),
    ("nodeN/cpumap", "N3"),
    ("nodeN/distance", "N4"),
    ("nodeN/hugepages/hugepages-NkB/free_hugepages", "N8"),
    ("nodeN/hugepages/hugepages-NkB/nr_hugepages", "N8"),
    ("nodeN/hugepages/hugepages-NkB/surplus_hugepages", "N8"),
    ("nodeN/meminfo", "N5"),
    ("nodeN/numastat", "N7"),
    ("nodeN/subsystem", "host"),
    ("nodeN/uevent", "host"),
    ("nodeN/vmstat", "N7"),
    ("online", "N2"),
    ("possible", "N2"),
    ("uevent", "host"),
];

/// Whether a path is in a list or is a directory above one that is; the empty path is.
#[must_use]
pub fn is_listed(list: &[(&str, &str)], path: &str) -> bool {
    path.is_empty() || list.iter().any(|(pattern, _)| leads_to(pattern, path))
}

/// What a path shows according to a list: a rule of `SEMANTICS.md` or `host`; `None` for directories and for what is not
/// there.
#[must_use]
pub fn origin(list: &[(&'static str, &'static str)], path: &str) -> Option<&'static str> {
    let depth = path.split('/').count();
    let row = list.iter().find(|(known, _)| known.split('/').count() == depth && leads_to(known, path))?;
    Some(row.1)
}

fn leads_to(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('/');
    path.split('/').all(|name| parts.next().is_some_and(|part| is_name(part, name)))
}

fn is_name(pattern: &str, name: &str) -> bool {
    match pattern.split_once('N') {
        _ if pattern == "*" => !name.is_empty(),
        None => pattern == name,
        Some((before, after)) => {
            let digits = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y5_what_a_virtual_machine_has() {
        for path in [
            "",
            "online",
            "vulnerabilities",
            "vulnerabilities/meltdown",
            "smt/active",
            "cpu0",
            "cpu11/topology",
            "cpu11/topology/core_id",
            "cpu0/cache/index10/size",
            "cpu0/node3",
        ] {
            assert!(is_listed(SYS_CPU_PATHS, path), "{path}");
        }
    }

    #[test]
    fn y5_the_hosts_state_is_hidden() {
        for path in [
            "cpuidle",
            "cpufreq",
            "cpufreq/policy0",
            "power",
            "hotplug",
            "hotplug/states",
            "intel_pstate",
            "microcode",
            "crash_hotplug",
            "cpu0/crash_notes",
            "cpu0/crash_notes_size",
            "cpu0/cpuidle/state0/usage",
            "cpu0/cpufreq",
            "cpu0/thermal_throttle",
            "cpu0/microcode/version",
            "cpu0/power",
            "cpu0/hotplug",
            "cpu0/driver",
            "cpu0/firmware_node",
            "cpu0/topology/ppin",
            "cpu0/topology/power",
            "cpu0/cache/power",
            "cpu0/cache/index0/cache_disable_0",
            "cpu/online",
            "cpu0x",
            "online/x",
            "vulnerabilities/",
            "vulnerabilities/a/b",
        ] {
            assert!(!is_listed(SYS_CPU_PATHS, path), "{path}");
        }
    }

    #[test]
    fn n10_what_is_below_the_node_directory() {
        for path in ["node0", "node12/meminfo", "node0/cpu7", "node0/hugepages/hugepages-2048kB/nr_hugepages"]
        {
            assert!(is_listed(SYS_NODE_PATHS, path), "{path}");
        }
        for path in
            ["node0/memory32", "node0/compact", "node0/reclaim", "node0/power", "node0/access0", "power"]
        {
            assert!(!is_listed(SYS_NODE_PATHS, path), "{path}");
        }
    }

    #[test]
    fn origins() {
        assert_eq!(origin(SYS_CPU_PATHS, "cpu0/topology/core_id"), Some("host"));
        assert_eq!(origin(SYS_CPU_PATHS, "cpu0/topology/core_cpus"), Some("Y4"));
        assert_eq!(origin(SYS_CPU_PATHS, "cpu0/topology"), None);
        assert_eq!(origin(SYS_NODE_PATHS, "node0/vmstat"), Some("N7"));
        for list in [SYS_CPU_PATHS, SYS_NODE_PATHS] {
            assert!(list.is_sorted());
        }
    }
}
