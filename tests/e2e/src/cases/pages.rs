//! swaps, vmstat, zoneinfo, buddyinfo, slabinfo, and what the kernel says of itself.

use super::Row;
use crate::case::Needs::{Nothing, Swap};
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::daemon::{Daemon, fresh_mount_point, shared};
use crate::groups::Group;
use crate::parse::{Meminfo, host_meminfo, value};
use crate::programs;
use crate::shell::{Shell, in_group, launched};

pub const CASES: &[Row] = &[
    ("pages_swaps_is_the_limit", Nothing, swaps_is_the_limit),
    ("pages_swapped_out_shows_in_swaps", Swap, swapped_out),
    ("pages_vmstat_has_the_kernels_keys", Nothing, vmstat_keys),
    ("pages_vmstat_moves_by_what_was_eaten", Nothing, vmstat_moves),
    ("pages_vmstat_counts_an_oom_kill", Nothing, oom_kill),
    ("pages_zone_is_the_container", Nothing, zone),
    ("pages_programs_read_them", Nothing, read_by_programs),
    ("pages_kernel_files_show_nothing_of_the_host", Nothing, kernel_files),
    ("pages_boot_id_is_the_containers", Nothing, boot_id),
    ("pages_boot_id_survives_the_daemon", Nothing, boot_id_survives),
    ("pages_host_reads_the_hosts", Nothing, host_reads),
];

const HEADER: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority";

/// kB per page.
fn page() -> Outcome<u64> {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.doing("page size")?;
    Ok(u64::try_from(size)? / 1024)
}

fn number(text: &str, key: &str) -> Outcome<u64> {
    value(text, key)?.parse().doing(key)
}

/// Size and Used of the one line.
fn swaps_line(text: &str) -> Outcome<Option<(u64, u64)>> {
    let mut lines = text.lines();
    check_eq!(lines.next(), Some(HEADER), "header of swaps");
    let Some(line) = lines.next() else { return Ok(None) };
    check_eq!(lines.next(), None, "a second line of swaps");
    let words: Vec<&str> = line.split_whitespace().collect();
    check!(matches!(words[..], ["none", "virtual", _, _, "-2"]), "line of swaps: {line:?}");
    Ok(Some((words[2].parse()?, words[3].parse()?)))
}

fn swaps_is_the_limit() -> Outcome {
    let script = "cat /proc/swaps; echo ==; grep Swap /proc/meminfo; echo ==; \
        swapon --show=NAME,TYPE,SIZE,USED,PRIO --bytes --noheadings --raw";
    let text = launched(&["-m", "128M", "--memory-swap", "192M"], script)?;
    let [swaps, meminfo, swapon] = text.split("==\n").collect::<Vec<_>>()[..] else {
        crate::case::fail!("three parts in {text:?}")
    };
    let expected = host_meminfo()?.get("SwapTotal").min(65_536);
    let shown = swaps_line(swaps)?;
    check_eq!(shown.map_or(0, |(size, _)| size), expected, "Size in swaps of -m 128M --memory-swap 192M");
    let total = value(meminfo, "SwapTotal")?.trim_end_matches(" kB").trim().to_owned();
    check_eq!(total, expected.to_string(), "SwapTotal of meminfo");
    match shown {
        Some((_, used)) => {
            let line = format!("none virtual {} {} -2\n", expected * 1024, used * 1024);
            check_eq!(swapon, line, "swapon --show");
        }
        None => check_eq!(swapon, "", "swapon --show without swap"),
    }
    let none = launched(&["-m", "128M", "--memory-swap", "128M"], "cat /proc/swaps; swapon --show")?;
    check_eq!(none, format!("{HEADER}\n"), "swaps without any swap");
    Ok(())
}

/// The program that eats, held by a pipe until the container ends.
fn eat(shell: &mut Shell, mib: u64) -> Outcome {
    shell.run(&format!(
        "mkfifo /run/keep; (sleep 1000 >/run/keep) & {} tool eat {mib} </run/keep >/run/said &",
        programs::OWN_INSIDE
    ))?;
    shell.run("until grep -q ready /run/said; do sleep 0.05; done")?;
    Ok(())
}

fn swapped_out() -> Outcome {
    let mut shell = Shell::launch(&["-m", "64M", "--memory-swap", "192M"])?;
    eat(&mut shell, 100)?;
    let text = shell.run("cat /proc/swaps; echo ==; cat /proc/meminfo; echo ==; cat /proc/vmstat")?;
    let [swaps, meminfo, vmstat] = text.split("==\n").collect::<Vec<_>>()[..] else {
        crate::case::fail!("three parts in {text:?}")
    };
    let (size, used) = swaps_line(swaps)?.doing("a line of swaps")?;
    let meminfo = Meminfo::parse(meminfo)?;
    check_eq!(size, meminfo.get("SwapTotal"), "Size against SwapTotal");
    let in_meminfo = meminfo.get("SwapTotal") - meminfo.get("SwapFree");
    // The shell and the two programs were between both readings.
    check_in!(used.abs_diff(in_meminfo), 0..=2048, "used of swaps {used} against meminfo's {in_meminfo}");
    check_in!(used, 30_000..=110_000, "swap in use after 100 of 64 MiB were eaten");
    let reclaimed = number(vmstat, "pgsteal_kswapd")? + number(vmstat, "pgsteal_direct")?;
    check_in!(reclaimed, 5_000..=1_000_000, "pages that vmstat says were reclaimed");
    Ok(())
}

fn vmstat_keys() -> Outcome {
    let text = launched(&["-m", "64M"], "cat /proc/vmstat; echo ==; cat /proc/meminfo")?;
    let (vmstat, meminfo) = text.split_once("==\n").doing("two parts")?;
    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect()
    };
    check_eq!(keys(vmstat), keys(&std::fs::read_to_string("/proc/vmstat")?), "keys of vmstat");
    let meminfo = Meminfo::parse(meminfo)?;
    let free = number(vmstat, "nr_free_pages")? * page()?;
    check_in!(free.abs_diff(meminfo.get("MemFree")), 0..=2048, "nr_free_pages against MemFree");
    let most = 65_536 / page()?;
    for line in vmstat.lines().filter(|line| line.starts_with("nr_") && !line.starts_with("nr_kernel_stack"))
    {
        let shown: u64 = line.split(' ').nth(1).doing(line)?.parse().doing(line)?;
        check!(shown <= most, "{line} in a container of {most} pages");
    }
    for key in ["pgpgin", "pgpgout", "pgalloc_normal", "numa_hit", "direct_map_level2_splits", "pgfree"] {
        check!(value(vmstat, key).is_err() || number(vmstat, key)? == 0, "{key} of the host in {vmstat}");
    }
    Ok(())
}

fn vmstat_moves() -> Outcome {
    let mut shell = Shell::launch(&["-m", "256M"])?;
    let before = shell.run("cat /proc/vmstat")?;
    eat(&mut shell, 100)?;
    let after = shell.run("cat /proc/vmstat")?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for line in before.lines() {
        let (key, old) = line.split_once(' ').doing(line)?;
        let (old, new): (u64, u64) = (old.parse()?, number(&after, key)?);
        if !key.starts_with("nr_") && new < old {
            down.push(key);
        }
        up.push((key, new.saturating_sub(old)));
    }
    check!(down.is_empty(), "counters went down: {down:?}");
    let more = |key: &str| up.iter().find(|(known, _)| *known == key).map_or(0, |(_, more)| *more);
    let pages = 102_400 / page()?;
    check_in!(
        more("nr_anon_pages"),
        pages * 95 / 100..=pages * 115 / 100,
        "nr_anon_pages after {pages} were eaten"
    );
    check_in!(more("pgfault"), 50..=pages * 3, "pgfault after {pages} pages were eaten");
    let less = number(&before, "nr_free_pages")?.saturating_sub(number(&after, "nr_free_pages")?);
    check_in!(less, pages * 95 / 100..=pages * 125 / 100, "nr_free_pages after {pages} were eaten");
    Ok(())
}

fn oom_kill() -> Outcome {
    let mut shell = Shell::launch(&["-m", "64M", "--memory-swap", "64M"])?;
    let kills = |shell: &mut Shell| number(&shell.run("cat /proc/vmstat")?, "oom_kill");
    check_eq!(kills(&mut shell)?, 0, "oom_kill of a new container");
    shell.run(&format!("{} tool eat 100 </dev/null >/dev/null 2>&1; true", programs::OWN_INSIDE))?;
    check_eq!(kills(&mut shell)?, 1, "oom_kill after one process ate too much");
    Ok(())
}

fn zone() -> Outcome {
    let script = "cat /proc/zoneinfo; echo ==; cat /proc/buddyinfo; echo ==; cat /proc/meminfo";
    let text = launched(&["-m", "128M", "--cpus", "1", "--cpuset-cpus", "1"], script)?;
    let [zoneinfo, buddyinfo, meminfo] = text.split("==\n").collect::<Vec<_>>()[..] else {
        crate::case::fail!("three parts in {text:?}")
    };
    let zones: Vec<&str> = zoneinfo.lines().filter(|line| line.starts_with("Node ")).collect();
    check_eq!(zones, ["Node 0, zone   Normal"], "zones");
    for key in ["spanned", "present", "managed"] {
        check_eq!(number(zoneinfo, key)? * page()?, 131_072, "{key}");
    }
    for key in ["min", "low", "high", "start_pfn", "numa_hit"] {
        check!(value(zoneinfo, key).is_err() || number(zoneinfo, key)? == 0, "{key} in {zoneinfo}");
    }
    let cpus: Vec<&str> = zoneinfo.lines().filter_map(|line| line.trim().strip_prefix("cpu: ")).collect();
    check_eq!(cpus, ["1"], "page sets");
    check_eq!(buddyinfo.lines().count(), 1, "lines of {buddyinfo:?}");
    let line = buddyinfo.strip_prefix("Node 0, zone   Normal ").doing("the zone in buddyinfo")?;
    let (mut free, mut size) = (0, 1);
    for word in line.split_whitespace() {
        free += word.parse::<u64>()? * size;
        size *= 2;
    }
    let meminfo = Meminfo::parse(meminfo)?;
    check_in!((free * page()?).abs_diff(meminfo.get("MemFree")), 0..=2048, "buddyinfo against MemFree");
    let shown = number(zoneinfo, "nr_free_pages")?;
    check_in!((shown * page()?).abs_diff(meminfo.get("MemFree")), 0..=2048, "zoneinfo against MemFree");
    let kernels = std::fs::read_to_string("/proc/buddyinfo")?;
    let columns = |line: &str| line.split_whitespace().count();
    check_eq!(columns(buddyinfo), columns(kernels.lines().next().doing("buddyinfo")?), "columns");
    Ok(())
}

fn read_by_programs() -> Outcome {
    let script = "vmstat -s -S K; echo ==; slabtop -o | head -n 8; echo ==; busybox cat /proc/zoneinfo | wc -l; wc -l </proc/zoneinfo; \
        echo ==; if [ -e /proc/modules ]; then busybox lsmod; fi";
    let text = launched(&["-m", "128M", "--memory-swap", "192M"], script)?;
    let [vmstat, slabtop, lines, lsmod] = text.split("==\n").collect::<Vec<_>>()[..] else {
        crate::case::fail!("four parts in {text:?}")
    };
    let of = |what: &str| -> Outcome<u64> {
        let line = vmstat.lines().find(|line| line.trim_end().ends_with(what)).doing(what)?;
        Ok(line.split_whitespace().next().doing(line)?.parse()?)
    };
    check_eq!(of("K total memory")?, 131_072, "vmstat -s");
    check_eq!(of("K total swap")?, host_meminfo()?.get("SwapTotal").min(65_536), "vmstat -s");
    check_eq!(of("K paged in")?, 0, "vmstat -s");
    check_eq!(of("K used swap")? + of("K free swap")?, of("K total swap")?, "vmstat -s");
    check!(slabtop.contains("Active / Total Objects"), "slabtop -o: {slabtop:?}");
    check!(slabtop.contains(": 0 / 0 ("), "slabtop -o shows objects: {slabtop:?}");
    let counts: Vec<&str> = lines.lines().collect();
    check!(counts.len() == 2 && counts[0].trim() == counts[1].trim(), "busybox cat and wc: {counts:?}");
    let host = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let listed: Vec<String> = names(lsmod).into_iter().filter(|name| name != "Module").collect();
    check_eq!(listed, names(&host), "modules that lsmod lists");
    Ok(())
}

fn kernel_files() -> Outcome {
    let script = "cat /proc/partitions; echo ==; cat /proc/cgroups; echo ==; cd /proc/sys/fs; cat file-nr inode-nr inode-state dentry-state aio-nr; \
        echo ==; cat /proc/slabinfo; echo ==; cat /proc/modules 2>/dev/null || true";
    let text = launched(&["-m", "64M"], script)?;
    let [partitions, cgroups, fs, slabinfo, modules] = text.split("==\n").collect::<Vec<_>>()[..] else {
        crate::case::fail!("five parts in {text:?}")
    };
    check_eq!(partitions, "major minor  #blocks  name\n\n", "partitions");
    let host = std::fs::read_to_string("/proc/cgroups")?;
    check_eq!(cgroups.lines().count(), host.lines().count(), "lines of cgroups");
    for (ours, kernels) in cgroups.lines().zip(host.lines()).skip(1) {
        let (ours, kernels): (Vec<&str>, Vec<&str>) =
            (ours.split('\t').collect(), kernels.split('\t').collect());
        check_eq!([ours[0], ours[1], ours[3]], [kernels[0], kernels[1], kernels[3]], "row of cgroups");
        check_eq!(ours[2], "1", "num_cgroups of {}", ours[0]);
    }
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/{name}"));
    let third = |text: String| text.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let expected = format!(
        "0\t0\t{}\n0\t0\n0\t0\t0\t0\t0\t0\t0\n0\t0\t{}\t0\t0\t0\n0\n",
        third(read("file-nr")?),
        third(read("dentry-state")?)
    );
    check_eq!(fs, expected, "counters below sys/fs");
    check_eq!(slabinfo.lines().count(), 2, "lines of slabinfo: {slabinfo}");
    for line in modules.lines() {
        check!(line.ends_with(" 0 - Live 0x0000000000000000"), "line of modules: {line}");
    }
    Ok(())
}

const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

fn boot_id() -> Outcome {
    let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let (mut one, mut other) = (Shell::launch(&["-m", "64M"])?, Shell::launch(&["-m", "64M"])?);
    let read = |shell: &mut Shell| shell.run("cat /proc/sys/kernel/random/boot_id");
    let id = read(&mut one)?;
    check_eq!((id.len(), &id[14..15]), (37, "4"), "form of {id:?}");
    check!("89ab".contains(&id[19..20]), "variant of {id:?}");
    check_eq!(read(&mut one)?, id, "the same container read again");
    check_eq!(one.run("setsid sh -c 'cat /proc/sys/kernel/random/boot_id'")?, id, "another process of it");
    let named = shared("containers")?.join(one.name()).join(BOOT_ID);
    check_eq!(std::fs::read_to_string(&named).doing(named.display())?, id, "read from the host");
    let second = read(&mut other)?;
    check!(second != id && second != host && id != host, "three ids: {id:?} {second:?} {host:?}");
    Ok(())
}

/// Read by the reader's group, from two daemons one after the other.
fn boot_id_survives() -> Outcome {
    let group = Group::create("boots")?;
    let read = |daemon: &Daemon| -> Outcome<String> {
        let mut command = std::process::Command::new("cat");
        command.arg(daemon.mount().join(BOOT_ID));
        in_group(&mut command, &group)?;
        crate::output::run(&mut command)?.ok().doing("boot_id in a group")
    };
    let daemon = Daemon::start(fresh_mount_point("boots"))?;
    let before = read(&daemon)?;
    daemon.stop()?;
    let daemon = Daemon::start(fresh_mount_point("boots"))?;
    check_eq!(read(&daemon)?, before, "boot_id from the next daemon");
    daemon.stop()
}

fn host_reads() -> Outcome {
    let root = Group::existing("/")?;
    let read = |path: &str| -> Outcome<String> {
        let mut command = std::process::Command::new("cat");
        command.arg(shared(path)?);
        in_group(&mut command, &root)?;
        crate::output::run(&mut command)?.ok().doing(path)
    };
    let host = |path: &str| std::fs::read_to_string(format!("/{path}")).doing(path);
    for path in [BOOT_ID, "proc/swaps", "proc/partitions", "proc/cgroups"] {
        check_eq!(read(path)?, host(path)?, "{path}");
    }
    check_eq!(read("proc/zoneinfo")?.lines().count(), host("proc/zoneinfo")?.lines().count(), "zoneinfo");
    check_eq!(read("proc/slabinfo")?.lines().count(), 2, "lines of slabinfo");
    if std::path::Path::new("/proc/modules").exists() {
        for line in read("proc/modules")?.lines() {
            check!(line.contains(" 0x0000000000000000"), "an address in {line}");
        }
    }
    Ok(())
}
