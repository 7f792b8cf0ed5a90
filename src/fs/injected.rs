//! Faults on purpose, for the tests of what outlives a worker. Only in builds with debug assertions: there is nothing of
//! this in a release.
//!
//! The environment variable `OWNPROC_TEST_PANIC` of the daemon names a file, which each worker reads once, when it is
//! first asked for a read. Its lines, all of which count:
//!
//! ```text
//! panic read INO         panics at each read of this inode
//! hang read INO          never answers a read of this inode
//! slow read INO MILLIS   takes so long for a read of this inode
//! panic after MILLIS     panics at the first read so long after that first one
//! panic start            panics at the first read
//! ```
//!
//! No container can set the variable: it is that of the process that serves.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
enum What {
    Panic,
    Hang,
    Slow(Duration),
}

#[derive(Debug, Clone, Copy)]
enum When {
    Read(u64),
    After(Instant),
}

/// Strikes where a read of this inode is to fail.
pub fn strike(ino: u64) {
    static RULES: OnceLock<Vec<(What, When)>> = OnceLock::new();
    for (what, when) in RULES.get_or_init(read) {
        let now = match when {
            When::Read(it) => *it == ino,
            When::After(time) => Instant::now() >= *time,
        };
        match what {
            _ if !now => {}
            #[allow(clippy::panic)] // that is what it is for
            What::Panic => panic!("on purpose: {when:?}"),
            What::Slow(time) => std::thread::sleep(*time),
            What::Hang => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
        }
    }
}

fn read() -> Vec<(What, When)> {
    let text = std::env::var_os("OWNPROC_TEST_PANIC").and_then(|file| std::fs::read_to_string(file).ok());
    text.unwrap_or_default().lines().filter_map(rule).collect()
}

fn rule(line: &str) -> Option<(What, When)> {
    let now = Instant::now();
    Some(match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["panic", "read", ino] => (What::Panic, When::Read(ino.parse().ok()?)),
        ["hang", "read", ino] => (What::Hang, When::Read(ino.parse().ok()?)),
        ["slow", "read", ino, millis] => {
            (What::Slow(Duration::from_millis(millis.parse().ok()?)), When::Read(ino.parse().ok()?))
        }
        ["panic", "after", millis] => {
            (What::Panic, When::After(now + Duration::from_millis(millis.parse().ok()?)))
        }
        ["panic", "start"] => (What::Panic, When::After(now)),
        _ => return None,
    })
}
