//! Launches one container for a table, runs the programs in it one after another, and judges what they printed.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::facts::{Facts, host_written_kb, now};
use super::record::Record;
use super::table::{Container, Program};
use crate::case::{Doing, Outcome, check, check_eq, fail};
use crate::parse::host_meminfo;
use crate::shell::launch;

/// Seconds for one program.
const PROGRAM: u32 = 60;
/// For all of a table; the deadline of a case is longer.
const ALL: Duration = Duration::from_secs(230);
/// In front of what the script says about itself.
const MARK: &str = "====clients";

/// What one program left.
struct Printed {
    text: String,
    code: i32,
    /// Seconds of the wall clock at its beginning and end.
    at: (f64, f64),
}

/// Runs a table in a container; where CPUs are numbered from 0, only the programs for which that makes a difference.
pub fn run(programs: &[Program], container: Container) -> Outcome {
    let programs: Vec<&Program> = programs
        .iter()
        .filter(|program| container != Container::Compact || program.goes_by_numbers())
        .collect();
    let mut facts = Facts::gather(container)?;
    let ended = Arc::new(AtomicBool::new(false));
    let seen = {
        let ended = Arc::clone(&ended);
        std::thread::spawn(move || watch_host(&ended))
    };
    let mut command = launch(&facts.arguments())?;
    let output = crate::output::run_within(command.args(["sh", "-c", &script(&programs)]), ALL);
    ended.store(true, Ordering::Relaxed);
    facts.host_written_kb.1 = host_written_kb()?;
    facts.host_free_kb = seen.join().ok().doing("the host's free memory")??;
    let output = output?;
    check_eq!(output.code, 0, "exit code of the container, which said {}{}", output.stdout, output.stderr);
    let printed = sections(&output.stdout, &mut facts.load)?;
    check_eq!(printed.len(), programs.len(), "programs that ran");
    judge(&programs, &printed, &mut facts)
}

/// Until told to end: the lowest free memory of the host, in kB.
fn watch_host(ended: &AtomicBool) -> Outcome<u64> {
    let mut free = u64::MAX;
    loop {
        let last = ended.load(Ordering::Relaxed);
        free = free.min(host_meminfo()?.get("MemFree"));
        if last {
            return Ok(free);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every program in a shell of its own, between two marks that also say the time and the container's load.
fn script(programs: &[&Program]) -> String {
    let mut script = format!(
        "mkdir /tmp/clients && cd /tmp/clients || exit 1
        mark() {{ read -r load rest </proc/loadavg; echo; echo {MARK} $* $(date +%s.%N) $load; }}\n"
    );
    for program in programs {
        let _ = write!(
            script,
            "cat >ask <<'CLIENTS'\n{}\nCLIENTS\nmark begin 0\ntimeout {PROGRAM} sh ./ask </dev/null 2>&1\nmark end $?\n",
            program.script
        );
    }
    script
}

/// Takes the output apart at the marks; widens the range of loads.
fn sections(output: &str, load: &mut (f64, f64)) -> Outcome<Vec<Printed>> {
    let mut all = Vec::new();
    let mut text = String::new();
    let mut began = 0.0;
    *load = (f64::MAX, 0.0);
    for line in output.lines() {
        let Some(mark) = line.strip_prefix(MARK) else {
            text += line;
            text.push('\n');
            continue;
        };
        let words: Vec<&str> = mark.split_whitespace().collect();
        let [what, code, at, now] = words[..] else { fail!("mark {line:?}") };
        let (at, now): (f64, f64) = (at.parse().doing(line)?, now.parse().doing(line)?);
        *load = (load.0.min(now), load.1.max(now));
        if what == "end" {
            // The empty line in front of the mark is the mark's.
            text.truncate(text.len().saturating_sub(1));
            all.push(Printed { text: text.clone(), code: code.parse()?, at: (began, at) });
        }
        began = at;
        text.clear();
    }
    Ok(all)
}

/// Every answer against what is right, or known to be wrong.
fn judge(programs: &[&Program], printed: &[Printed], facts: &mut Facts) -> Outcome {
    let mut record = Record::open()?;
    let mut wrong = String::new();
    let mut rows = 0;
    facts.running = printed.first().map_or(facts.launched, |printed| printed.at.0);
    for (program, printed) in programs.iter().zip(printed) {
        facts.judged = printed.at;
        for row in program.rows {
            rows += 1;
            let verdict = if facts.v2 { row.v2 } else { row.v1 };
            let want = verdict.expects(row.want, facts.container);
            let answer = (row.take)(&printed.text);
            if let Some(answer) = answer.as_deref().filter(|answer| want.meets(answer, facts)) {
                record.add(program, row, facts, printed.at.1 - printed.at.0, answer)?;
                continue;
            }
            let _ = writeln!(
                wrong,
                "{}, {}: got {}, want {} (right: {}; verdict: {})",
                program.name,
                row.asked,
                answer.as_deref().unwrap_or("no answer"),
                want.here(facts),
                row.want.here(facts),
                verdict.words(),
            );
            if answer.is_none() {
                let _ = writeln!(wrong, "  exit code {}, printed: {:?}", printed.code, printed.text);
            }
        }
    }
    check!(wrong.is_empty(), "of {rows} answers wrong:\n{wrong}");
    check!(now()? - facts.launched < ALL.as_secs_f64(), "the table takes too long");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_taken_apart() {
        let text = format!("\n{MARK} begin 0 1.5 0.10\na\n\nb\n\n{MARK} end 3 2.5 0.30\n");
        let mut load = (0.0, 0.0);
        let all = sections(&text, &mut load).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].text.as_str(), all[0].code, all[0].at), ("a\n\nb\n", 3, (1.5, 2.5)));
        assert_eq!(load, (0.1, 0.3));
    }
}
