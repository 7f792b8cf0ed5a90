//! Programs that are asked since when the machine runs, and how loaded it is.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::facts::{AGE, LAUNCHED, LOAD};
use super::run::run;
use super::table::Verdict::Right;
use super::table::Want::Number;
use super::table::{Container, Program, Row, SYSINFO};
use super::take::{after, last, line, word};
use crate::case::{Doing, Outcome, fail};
use crate::programs;

/// Where no file is read, but the time namespace makes the answer right.
const TIME_NAMESPACE: &str = "sysinfo(2) and the clocks go by the time namespace";

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "cat",
        package: "coreutils",
        script: "cat /proc/loadavg /proc/uptime",
        rows: &[
            Row::new(
                "load in /proc/loadavg",
                |text| line(text, 0)?.split(' ').next().map(str::to_owned),
                LOW_LOAD,
            ),
            Row::new("/proc/uptime, s", |text| line(text, 1)?.split(' ').next().map(str::to_owned), AGE),
        ],
    },
    Program {
        name: "uptime",
        package: "procps",
        script: "uptime; date -d \"$(uptime -s)\" +%s",
        rows: &[
            Row::new("up, minutes", minutes, MINUTES),
            Row::new("load", |text| after(text, "load average:"), LOAD),
            Row::new("uptime -s, s", |text| line(text, 1), LAUNCHED),
        ],
    },
    Program {
        name: "w",
        package: "procps",
        script: "w",
        rows: &[
            Row::new("up, minutes", minutes, MINUTES),
            Row::new("load", |text| after(text, "load average:"), LOAD),
        ],
    },
    Program {
        name: "top (load and time)",
        package: "procps",
        script: "top -b -n 1",
        rows: &[
            Row::new("up, minutes", minutes, MINUTES),
            Row::new("load", |text| after(text, "load average:"), LOAD),
        ],
    },
    Program {
        name: "tload",
        package: "procps",
        script: "timeout 1 tload -d 1",
        rows: &[Row::new("load", load_of_tload, LOAD)],
    },
    Program {
        name: "ps (time)",
        package: "procps",
        script: "ps -o etimes= -p 1; date -d \"$(ps -o lstart= -p 1)\" +%s; ps -o pcpu= -p $$",
        rows: &[
            Row::new("etimes of process 1", |text| line(text, 0), AGE),
            Row::new("lstart of process 1, s", |text| line(text, 1), LAUNCHED),
        ],
    },
    Program {
        name: "sar (load)",
        package: "sysstat",
        script: "sar -q LOAD 1 1",
        rows: &[Row::new("ldavg-1", |text| last(text, 3), LOAD)],
    },
    Program {
        name: "busybox uptime",
        package: "busybox",
        script: "busybox uptime",
        rows: &[
            Row::new("up, minutes", minutes, MINUTES).but(Right(TIME_NAMESPACE)),
            Row::new("load", |text| after(text, "load average:"), LOAD).but(Right(SYSINFO)),
        ],
    },
    Program {
        name: "busybox top (load)",
        package: "busybox",
        script: "busybox top -b -n 1",
        rows: &[Row::new("load", |text| word(text, "Load average:", 2), LOAD)],
    },
    Program {
        name: "CPython (load and time)",
        package: "python3",
        script: "/usr/bin/python3 -c 'import os, time
print(os.getloadavg()[0], time.clock_gettime(time.CLOCK_BOOTTIME), sep=\"\\n\")'",
        rows: &[
            Row::new("os.getloadavg", |text| line(text, 0), LOAD).but(Right(SYSINFO)),
            Row::new("time.CLOCK_BOOTTIME, s", |text| line(text, 1), AGE).but(Right(TIME_NAMESPACE)),
        ],
    },
    Program {
        name: "psutil (time)",
        package: "python3-psutil",
        script: "/usr/bin/python3 -c 'import psutil
print(psutil.boot_time(), psutil.Process(1).create_time(), sep=\"\\n\")'",
        rows: &[
            Row::new("boot_time", |text| line(text, 0), LAUNCHED),
            Row::new("create_time of process 1", |text| line(text, 1), LAUNCHED),
        ],
    },
    Program {
        name: "node (load and time)",
        package: "nodejs",
        script: "node -e 'const os = require(\"os\"); console.log([os.loadavg()[0], os.uptime()].join(\"\\n\"))'",
        rows: &[
            Row::new("os.loadavg", |text| line(text, 0), LOAD),
            Row::new("os.uptime, s", |text| line(text, 1), AGE),
        ],
    },
];

/// Next to nothing runs in the container; a dozen tasks wait on the host.
const LOW_LOAD: super::table::Want = Number("0 to 1", |_| 0.0..=1.0);

const MINUTES: super::table::Want = Number("the container's age", |facts| {
    let age = facts.age();
    (age.start() / 60.0).floor()..=age.end() / 60.0
});

/// `up 3 min,`.
fn minutes(text: &str) -> Option<String> {
    let rest = text.split_once(" up ")?.1;
    rest.trim_start().split_once(" min").map(|(minutes, _)| minutes.to_owned())
}

/// It draws a graph; the load stands in the corner.
fn load_of_tload(text: &str) -> Option<String> {
    let screen = super::take::screen(text);
    let (first, _) = screen.split_once(',')?;
    first.split_whitespace().last().map(str::to_owned)
}

/// Runs the table while tasks of the host wait for a disk, as the kernel counts them: that is in no container's load.
pub fn run_beside_a_waiting_host() -> Outcome {
    let mut waiting = Waiting::start()?;
    waiting.until_the_host_is_loaded()?;
    run(PROGRAMS, Container::Quota)
}

/// Tasks in uninterruptible sleep, outside of every container; they use no CPU time.
struct Waiting(Child);

impl Waiting {
    fn start() -> Outcome<Self> {
        let mut command = Command::new(programs::own()?);
        command.args(["tool", "wait-uninterruptibly", "12"]).stdin(Stdio::null());
        Ok(Self(command.spawn().doing("tasks that wait")?))
    }

    fn until_the_host_is_loaded(&mut self) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let text = std::fs::read_to_string("/proc/loadavg")?;
            if text.split(' ').next().and_then(|load| load.parse().ok()).is_some_and(|load: f64| load > 2.0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        fail!("the host's load does not rise though 12 tasks wait")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
