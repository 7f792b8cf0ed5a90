//! meminfo: limits, the hierarchy, what siblings use.

use std::process::Command;

use super::Row;
use crate::case::Needs::{Nothing, Swap};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::groups::Group;
use crate::parse::{Meminfo, host_meminfo};
use crate::programs;
use crate::shell::{Shell, launched};

pub const CASES: &[Row] = &[
    ("memory_total_is_the_limit", Nothing, total_is_the_limit),
    ("memory_no_line_shows_the_host", Nothing, no_line_shows_the_host),
    ("memory_lines_are_those_of_the_kernel", Nothing, lines_are_those_of_the_kernel),
    ("memory_unlimited_group_shows_the_host_total", Nothing, unlimited),
    ("memory_nested_groups_show_the_minimum", Nothing, nested_groups),
    ("memory_sibling_lowers_free_not_total", Nothing, sibling),
    ("memory_eaten_is_no_longer_free", Nothing, eaten),
    ("memory_swap_is_the_effective_limit", Nothing, swap),
    ("memory_swap_is_twice_the_limit_by_default", Swap, default_swap),
    ("memory_swapped_out_lowers_swap_free", Swap, swapped_out),
    ("memory_below_usage_shows_no_negative", Nothing, below_usage),
];

fn total_is_the_limit() -> Outcome {
    let meminfo = Meminfo::parse(&launched(&["-m", "256M"], "cat /proc/meminfo")?)?;
    check_eq!(meminfo.get("MemTotal"), 262_144, "MemTotal of launch -m 256M");
    meminfo.check_invariants()?;
    check_in!(meminfo.get("MemFree"), 200_000..=262_144, "MemFree of an idle container");
    Ok(())
}

/// No line of a small container is above its total, and no counter of the host's hardware shows.
fn no_line_shows_the_host() -> Outcome {
    let meminfo = Meminfo::parse(&launched(&["-m", "64M"], "cat /proc/meminfo")?)?;
    let no_amounts = ["VmallocTotal", "VmallocChunk", "CommitLimit", "SwapTotal", "SwapFree", "Hugepagesize"];
    for (key, value) in &meminfo.0 {
        if !no_amounts.contains(&key.as_str()) {
            check!(*value <= 65_536, "{key} shows {value} kB in a container of 65536 kB");
        }
        if key.starts_with("DirectMap") || key.starts_with("Cma") || key == "HardwareCorrupted" {
            check_eq!(*value, 0, "{key}");
        }
    }
    Ok(())
}

fn lines_are_those_of_the_kernel() -> Outcome {
    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(':').next().unwrap_or("").to_owned()).collect()
    };
    let ours = launched(&["-m", "64M"], "cat /proc/meminfo")?;
    let kernels = std::fs::read_to_string("/proc/meminfo")?;
    check_eq!(keys(&ours), keys(&kernels), "keys of meminfo");
    for (ours, kernels) in ours.lines().zip(kernels.lines()) {
        check_eq!(ours.len(), kernels.len(), "width of {ours:?} against the kernel's {kernels:?}");
    }
    Ok(())
}

fn unlimited() -> Outcome {
    let group = Group::create("unlimited")?;
    let meminfo = Shell::in_group(&group)?.meminfo()?;
    check_eq!(meminfo.get("MemTotal"), host_meminfo()?.get("MemTotal"), "MemTotal without a limit");
    Ok(())
}

fn nested_groups() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_memory(500)?;
    let child = parent.child("child")?;
    child.set_memory(600)?;
    let leaf = child.child("leaf")?;
    let meminfo = Shell::in_group(&leaf)?.meminfo()?;
    check_eq!(meminfo.get("MemTotal"), 512_000, "MemTotal below 500 MiB, 600 MiB, max");
    Ok(())
}

fn sibling() -> Outcome {
    let parent = Group::create("parent")?;
    parent.set_memory(500)?;
    let (own, other) = (parent.child("own")?, parent.child("other")?);
    let mut reader = Shell::in_group(&own)?;
    let before = reader.meminfo()?;
    let mut eater = Shell::in_group(&other)?;
    eater.send(&format!("{} tool eat 300", programs::own()?))?;
    check_eq!(eater.line()?, "ready\n", "the sibling that eats 300 MiB");
    let after = reader.meminfo()?;
    check_eq!(after.get("MemTotal"), 512_000, "MemTotal");
    for key in ["MemFree", "MemAvailable"] {
        // The reader's own few pages move too.
        let less = before.get(key).saturating_sub(after.get(key));
        check_in!(less, 300_000..=320_000, "{key} before and after a sibling ate 307200 kB");
    }
    Ok(())
}

fn eaten() -> Outcome {
    let mut shell = Shell::launch(&["-m", "256M"])?;
    let before = shell.meminfo()?;
    shell.run(&format!(
        "mkfifo /tmp/keep; (sleep 1000 >/tmp/keep) & {} tool eat 100 </tmp/keep >/tmp/said &",
        programs::OWN_INSIDE
    ))?;
    shell.run("until grep -q ready /tmp/said; do sleep 0.05; done")?;
    let after = shell.meminfo()?;
    let less = before.get("MemAvailable").saturating_sub(after.get("MemAvailable"));
    check_in!(less, 100_000..=115_000, "MemAvailable before and after 102400 kB were eaten");
    let more = after.get("AnonPages").saturating_sub(before.get("AnonPages"));
    check_in!(more, 98_000..=115_000, "AnonPages before and after 102400 kB were eaten");
    Ok(())
}

fn swap() -> Outcome {
    let host = host_meminfo()?.get("SwapTotal");
    let meminfo = Meminfo::parse(&launched(&["-m", "128M", "--memory-swap", "192M"], "cat /proc/meminfo")?)?;
    check_eq!(meminfo.get("MemTotal"), 131_072, "MemTotal");
    check_eq!(
        meminfo.get("SwapTotal"),
        host.min(65_536),
        "SwapTotal of -m 128M --memory-swap 192M on a host with {host} kB"
    );
    meminfo.check_invariants()?;
    let none = Meminfo::parse(&launched(&["-m", "128M", "--memory-swap", "128M"], "cat /proc/meminfo")?)?;
    check_eq!(none.get("SwapTotal"), 0, "SwapTotal of -m 128M --memory-swap 128M");
    Ok(())
}

fn default_swap() -> Outcome {
    let host = host_meminfo()?.get("SwapTotal");
    let meminfo = Meminfo::parse(&launched(&["-m", "128M"], "cat /proc/meminfo")?)?;
    check_eq!(meminfo.get("SwapTotal"), host.min(131_072), "SwapTotal of -m 128M");
    Ok(())
}

fn swapped_out() -> Outcome {
    let mut shell = Shell::launch(&["-m", "64M", "--memory-swap", "192M"])?;
    shell.run(&format!(
        "mkfifo /run/keep; (sleep 1000 >/run/keep) & {} tool eat 100 </run/keep >/run/said &",
        programs::OWN_INSIDE
    ))?;
    shell.run("until grep -q ready /run/said; do sleep 0.05; done")?;
    let meminfo = shell.meminfo()?;
    check_eq!(meminfo.get("SwapTotal"), host_meminfo()?.get("SwapTotal").min(131_072), "SwapTotal");
    let used = meminfo.get("SwapTotal") - meminfo.get("SwapFree");
    check_in!(used, 30_000..=110_000, "swap in use after 100 of 64 MiB were eaten");
    Ok(())
}

/// A limit that was lowered below what is in use, as far as the kernel lets it: free is 0, never a wrapped number.
fn below_usage() -> Outcome {
    let group = Group::create("full")?;
    group.set_memory(100)?;
    let mut eater = Shell::in_group(&group)?;
    eater.send(&format!("{} tool eat 80", programs::own()?))?;
    check_eq!(eater.line()?, "ready\n", "80 MiB eaten");
    let mut command = Command::new("cat");
    command.arg(crate::daemon::shared("proc/meminfo")?);
    group.set_memory(90)?;
    crate::shell::in_group(&mut command, &group)?;
    let meminfo = Meminfo::parse(&crate::output::run(&mut command)?.ok().doing("meminfo in a full group")?)?;
    meminfo.check_invariants()?;
    check_eq!(meminfo.get("MemTotal"), 92_160, "MemTotal");
    check_in!(meminfo.get("MemAvailable"), 0..=12_000, "MemAvailable with 80 of 90 MiB in use");
    Ok(())
}
