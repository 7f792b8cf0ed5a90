//! Every way to read a file gives the same bytes, and sendfile(2) in one container never gives another's.

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Outcome, check, check_eq};
use crate::groups::Group;
use crate::programs::{self, OWN_INSIDE};
use crate::shell::Shell;

pub const CASES: &[Row] = &[
    ("bytes_same_for_every_program", Nothing, every_program),
    ("bytes_same_for_busybox", Nothing, busybox),
    ("bytes_sendfile_never_crosses_containers", Nothing, sendfile),
    ("bytes_any_block_size", Nothing, block_sizes),
];

/// cpuinfo: long, and nothing in it changes from one read to the next (but the clock: filtered).
const STEADY: &str = "grep -v MHz";

fn every_program() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1", "-m", "128M"])?;
    shell.run("cd /tmp; exec 2>&1; cat /proc/cpuinfo >want; test -s want")?;
    let ways = [
        "cp /proc/cpuinfo got",
        "cp --sparse=always /proc/cpuinfo got",
        "tail -n +1 /proc/cpuinfo >got",
        "tail -n 100000 /proc/cpuinfo >got",
        "tac /proc/cpuinfo | tac >got",
        "less /proc/cpuinfo >got",
        "dd if=/proc/cpuinfo of=got bs=512 status=none",
        "dd if=/proc/cpuinfo of=got bs=1M status=none",
        "head -c 1000000 /proc/cpuinfo >got",
        "sed -n p /proc/cpuinfo >got",
        "/usr/bin/python3 -c \"open('got','wb').write(open('/proc/cpuinfo','rb').read())\"",
        "/usr/bin/python3 -c \"import shutil; shutil.copyfile('/proc/cpuinfo','got')\"",
        "while IFS= read -r l; do printf '%s\\n' \"$l\"; done </proc/cpuinfo >got",
    ];
    for way in ways {
        shell.run(&format!("rm -f got; {way}; {STEADY} <want >w; {STEADY} <got >g; cmp w g"))?;
    }
    // The clock's digits may change between two reads, never their number.
    let counts = shell.run("wc -c </proc/cpuinfo; wc -c <want; wc -l </proc/cpuinfo; wc -l <want")?;
    let counts: Vec<&str> = counts.lines().collect();
    check!(counts[0] == counts[1] && counts[2] == counts[3], "wc of the file and of its copy: {counts:?}");
    shell.run("cat /sys/devices/system/cpu/online >want; cmp /sys/devices/system/cpu/online want")?;
    shell.run("cmp /sys/devices/system/cpu/online /sys/devices/system/cpu/present")?;
    Ok(())
}

fn busybox() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1", "-m", "128M"])?;
    shell.run("cd /tmp; cat /proc/cpuinfo >want; test -s want")?;
    for way in [
        "busybox cat /proc/cpuinfo >got",
        "busybox cp /proc/cpuinfo got",
        "busybox dd if=/proc/cpuinfo of=got 2>/dev/null",
        "busybox tail -n 100000 /proc/cpuinfo >got",
        "busybox head -n 100000 /proc/cpuinfo >got",
        "busybox cat /proc/cpuinfo | cat >got",
    ] {
        shell.run(&format!("rm -f got; {way}; {STEADY} <want >w; {STEADY} <got >g; cmp w g"))?;
    }
    check_eq!(
        shell.run("busybox wc -l </proc/cpuinfo")?.trim(),
        shell.run("wc -l <want")?.trim(),
        "busybox wc -l"
    );
    Ok(())
}

/// Two readers of one inode with different views: a page cache that they share would mix them.
fn sendfile() -> Outcome {
    let (small, large) = (Group::create("small")?, Group::create("large")?);
    small.set_memory(64)?;
    large.set_memory(128)?;
    let path = crate::daemon::shared("proc/meminfo")?;
    let own = programs::own()?;
    let mut readers = [(Shell::in_group(&small)?, "65536 kB"), (Shell::in_group(&large)?, "131072 kB")];
    for _ in 0..5 {
        for (reader, total) in &mut readers {
            for how in
                [format!("{own} tool sendfile {}", path.display()), format!("busybox cat {}", path.display())]
            {
                let text = reader.run(&how)?;
                let refused = text.starts_with("errno 22");
                check!(
                    refused || text.lines().next().is_some_and(|line| line.ends_with(&*total)),
                    "{how}: {text:?}, want {total}"
                );
            }
            check!(
                reader.read("meminfo")?.lines().next().is_some_and(|line| line.ends_with(&*total)),
                "read(2), want {total}"
            );
        }
    }
    let mut inside = Shell::launch(&["-m", "96M"])?;
    let text = inside.run(&format!("{OWN_INSIDE} tool sendfile /proc/meminfo"))?;
    check!(
        text.starts_with("errno 22") || text.contains("98304 kB"),
        "sendfile inside a container: {text:?}"
    );
    Ok(())
}

/// Pieces of any size come from one snapshot: put together they are a whole text.
fn block_sizes() -> Outcome {
    let mut shell = Shell::launch(&["-m", "128M", "--cpus", "1"])?;
    for size in [1, 7, 100, 1024, 4096, 65_536] {
        let text = shell.run(&format!("dd if=/proc/meminfo bs={size} status=none"))?;
        crate::parse::Meminfo::parse(&text)?.check_invariants()?;
        let text = shell.run(&format!("dd if=/proc/stat bs={size} status=none"))?;
        crate::parse::Stat::parse(&text)?;
    }
    Ok(())
}
