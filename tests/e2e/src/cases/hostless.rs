//! Nothing of the host: no number in a container is the host's but those that SEMANTICS.md lists.

use std::io::Write;
use std::process::{Command, Stdio};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, fail};
use crate::daemon;
use crate::hostless::{Comparison, Finding, Listed, files_below};
use crate::programs::{self, OWN_INSIDE};
use crate::shell::Shell;

pub const CASES: &[Row] = &[
    ("hostless_every_number_of_every_file", Nothing, every_number),
    ("hostless_the_comparison_sees_the_host", Nothing, sees_the_host),
];

/// Limits that no host has, and something in each counter.
const LIMITS: &[&str] =
    &["-m", "93M", "--memory-swap", "131M", "--cpus", "0.9", "--cpuset-cpus", "0", "--pids-limit", "77"];
const WORK: &str =
    "dd if=/dev/zero of=/tmp/x bs=64k count=170 2>/dev/null; sync /tmp/x; cat /tmp/x >/dev/null; true";

/// What makes the host another one between two moments: processes, CPU time, memory, pages written.
fn stir(megabytes: usize) -> Outcome {
    let own = programs::own()?;
    let mut eater = Command::new(&own)
        .args(["tool", "eat", &megabytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .doing("eat")?;
    let mut burning = Command::new(&own)
        .args(["tool", "burn", "--threads", "3", "--cpu-ms", "300"])
        .stdout(Stdio::null())
        .spawn()?;
    for _ in 0..20 {
        Command::new("true").status()?;
    }
    let mut file = tempfile()?;
    file.write_all(&vec![7; megabytes << 16])?;
    file.sync_all()?;
    burning.wait()?;
    drop(eater.stdin.take());
    eater.wait()?;
    Ok(())
}

/// A file without a name in the directory of the tests.
fn tempfile() -> Outcome<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().write(true).custom_flags(libc::O_TMPFILE).open("/var/tmp").doing("/var/tmp")
}

/// Three of each file.
fn said(findings: &[Finding]) -> String {
    let same = findings.chunk_by(|one, other| one.file == other.file);
    let some = same.flat_map(|of_file| {
        let more = of_file.len().saturating_sub(3);
        let lines = of_file.iter().take(3).map(|finding| format!("\n{finding}"));
        lines.chain((more > 0).then(|| format!("\n    and {more} more in that file")))
    });
    some.take(100).collect()
}

fn every_number() -> Outcome {
    let mut shell = Shell::launch(LIMITS)?;
    let tree = daemon::shared(&format!("containers/{}", shell.name()))?;
    let files = files_below(&tree)?;
    shell.run(WORK)?;
    shell.send(&format!("exec {OWN_INSIDE} tool answer"))?;
    let mut comparison = Comparison::default();
    for megabytes in [37, 61, 19] {
        comparison.moment(&files, |file| answer(&mut shell, file))?;
        stir(megabytes)?;
    }
    check!(comparison.files.contains("/proc/meminfo"), "files compared: {:?}", comparison.files);
    check!(comparison.numbers > 300, "only {} numbers", comparison.numbers);
    let findings = comparison.findings(&Listed::of_page()?);
    check!(findings.is_empty(), "{} numbers are the host's:{}", findings.len(), said(&findings));
    Ok(())
}

/// Asks `tool answer` in the shell's place for a file.
fn answer(shell: &mut Shell, file: &str) -> Outcome<Option<String>> {
    shell.send(file)?;
    let mut text = String::new();
    loop {
        let line = shell.line()?;
        match line.strip_prefix("==end ").map(str::trim) {
            Some("0==") => {
                text.pop();
                return Ok(Some(text));
            }
            Some(errno) => {
                // Some files of sysfs cannot be read by anybody.
                check!(std::fs::read(file).is_err(), "{file} inside: errno {errno}");
                return Ok(None);
            }
            None => text += &line,
        }
    }
}

/// The same comparison with the host's own files in the place of the container's: all that a container must not show is
/// found. So it is no empty list that the other case gives.
fn sees_the_host() -> Outcome {
    let shell = Shell::launch(LIMITS)?;
    let tree = daemon::shared(&format!("containers/{}", shell.name()))?;
    let files = files_below(&tree)?;
    let mut comparison = Comparison::default();
    for megabytes in [37, 61] {
        comparison.moment(&files, |file| Ok(std::fs::read_to_string(file).ok()))?;
        stir(megabytes)?;
    }
    let findings = comparison.findings(&Listed::of_page()?);
    for (file, row) in [
        ("/proc/meminfo", "MemTotal"),
        ("/proc/meminfo", "MemFree"),
        ("/proc/stat", "cpu"),
        ("/proc/stat", "ctxt"),
        ("/proc/stat", "btime"),
        ("/proc/uptime", ""),
    ] {
        if !findings.iter().any(|finding| finding.file == file && finding.row == row) {
            fail!("the host's {row:?} in {file} was not noticed");
        }
    }
    Ok(())
}
